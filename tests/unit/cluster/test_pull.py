"""Pulling a clip: all parts, one file; what is cut goes on; what is missing is told."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clip_cluster import ClipCluster, Fault, Request, clip_cluster
from kernel_blocks import Sent
from podcam.clip import COMPLETE, export, open_packets, read_manifest, write_manifest
from podcam.cluster.fetching import _SYNC_BYTES, Missing, Pulled, cache_folder, file_name
from podcam.cluster.pull import folder_of, pull
from podcam.cluster.road import Reader
from podcam.errors import ClipError, ForbiddenError
from podcam.kube import Grant
from podcam.sealed import CHUNK_BYTES, SEALED_CHUNK_BYTES, PrivateKey, public_key_text
from served_clips import NOW, SECOND, keep_clip, packet


def large(size: int, *at: float) -> list[Sent]:
    return [packet(second, os.urandom(size)) for second in at]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClipCluster]:
    """Two nodes; pod `web-1` ran on both, one after the other."""
    clips = {
        "node-1": keep_clip(
            tmp_path / "1",
            "shop_broken",
            "node-1",
            {"web-1": [large(50_000, 1, 3, 5), [packet(7)]], "db-0": [[packet(2)]]},
        ),
        "node-2": keep_clip(tmp_path / "2", "shop_broken", "node-2", {"web-1": [large(300_000, 4, 6)]}),
    }
    with clip_cluster(clips) as cluster:
        yield cluster


class Pauses:
    """Takes the place of sleeping."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def pulled(cluster: ClipCluster, cache: Path, **status: Any) -> Pulled:
    return pull(cluster.api, cluster.clip(**status), cache, tell=lambda done, total: None, pause=Pauses())


def all_segments(folder: Path) -> list[bytes]:
    """What the nodes of the fixture keep."""
    return segments_of(folder / "1" / "shop_broken", folder / "2" / "shop_broken")


def segments_of(*folders: Path) -> list[bytes]:
    return sorted(path.read_bytes() for folder in folders for path in folder.rglob("*.seg"))


def cut(*most_bytes: int, then_all: bool) -> Fault:
    """Cuts the answers with a file after so many bytes each; then sends `then_all`, or nothing of them."""
    sizes = iter(most_bytes)

    def fault(request: Request, node: str, path: str) -> bool:
        if "/files/" not in path:
            return False
        request.forward(node, path, most_bytes=next(sizes, None if then_all else 0))
        return True

    return fault


def test_one_clip_of_all_parts(cluster: ClipCluster, tmp_path: Path) -> None:
    done = pulled(cluster, tmp_path / "cache")
    assert done.missing == ()
    folders = ["node-1_web-1", "node-1_db-0", "node-2_web-1"]
    assert [part.folder for part in done.manifest.parts] == folders
    assert segments_of(done.folder) == all_segments(tmp_path)
    manifest = read_manifest(done.folder)
    assert manifest == done.manifest
    assert (manifest.id, manifest.reason, manifest.state) == ("broken", "reset by the server", COMPLETE)
    assert manifest.recording == "shop/web"
    times = [item.packet.time_ns for item in open_packets(done.folder).packets()]
    assert [(time - NOW) / SECOND for time in times] == [1, 2, 3, 4, 5, 6, 7]


def test_one_pcapng_with_a_block_per_pod_and_interface(cluster: ClipCluster, tmp_path: Path) -> None:
    done = pulled(cluster, tmp_path / "cache")
    target = tmp_path / "out.pcapng"
    assert export(open_packets(done.folder), target).packets == 7
    whole = target.read_bytes()
    for name in (
        b"eth0 of shop/web-1 on node-1",
        b"eth0 of shop/db-0 on node-1",
        b"eth0 of shop/web-1 on node-2",
    ):
        assert whole.count(name) == 1
    assert whole.count(b"podcam.interface/1") == 3


def test_a_node_whose_recorder_was_interrupted_is_named(cluster: ClipCluster, tmp_path: Path) -> None:
    kept = tmp_path / "1" / "shop_broken"
    write_manifest(kept, replace(read_manifest(kept), interrupted=True))
    done = pulled(cluster, tmp_path / "cache")
    assert export(open_packets(done.folder), tmp_path / "out.pcapng").warnings == (
        "the recorder of node node-1 ended before the clip's window did: the clip's end may be missing",
    )


def test_grant_is_given_back(cluster: ClipCluster, tmp_path: Path) -> None:
    pulled(cluster, tmp_path / "cache")
    assert len(cluster.made) == 1
    assert cluster.grants == {}


def test_grant_is_given_back_when_it_is_interrupted(cluster: ClipCluster, tmp_path: Path) -> None:
    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(cluster.api, cluster.clip(), tmp_path / "cache", tell=interrupted)
    assert (len(cluster.made), cluster.grants) == (1, {})


def test_only_the_owner_can_read_what_came(cluster: ClipCluster, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        done = pulled(cluster, tmp_path / "home" / "cache")
    finally:
        os.umask(before)
    assert (tmp_path / "home" / "cache").stat().st_mode & 0o777 == 0o700
    for path in [done.folder, *done.folder.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_progress_ends_with_all_of_it(cluster: ClipCluster, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    done = pull(
        cluster.api, cluster.clip(), tmp_path / "cache", tell=lambda *at: told.append(at), pause=Pauses()
    )
    size = sum(map(len, segments_of(done.folder)))
    assert told[-1] == (size, size)
    assert done.fetched_bytes == size
    assert {total for _, total in told} == {size}
    assert sorted(told) == told


def test_second_pull_asks_nobody(cluster: ClipCluster, tmp_path: Path) -> None:
    first = pulled(cluster, tmp_path / "cache")
    cluster.asked.clear()
    second = pulled(cluster, tmp_path / "cache")
    assert (second.folder, second.manifest, second.fetched_bytes) == (first.folder, first.manifest, 0)
    assert (cluster.asked, len(cluster.made)) == ([], 1)


def test_cut_connection_goes_on_where_it_was(cluster: ClipCluster, tmp_path: Path) -> None:
    cluster.fault = cut(2 * SEALED_CHUNK_BYTES + 1000, 1000, then_all=True)
    done = pulled(cluster, tmp_path / "cache")
    assert segments_of(done.folder) == all_segments(tmp_path)
    ranges = [asked for _, asked in cluster.asked if asked]
    assert ranges == [f"bytes={2 * SEALED_CHUNK_BYTES}-"] * 2
    size = sum(map(len, segments_of(done.folder)))
    assert done.fetched_bytes == size  # and nothing came twice


def test_connection_that_is_always_cut_is_given_up(cluster: ClipCluster, tmp_path: Path) -> None:
    cluster.fault = cut(then_all=False)
    with pytest.raises(
        ClipError, match=r"nothing of clip broken can be had: node-1: the API server .* broke off"
    ):
        pulled(cluster, tmp_path / "cache")


def test_killed_pull_goes_on_with_a_grant_of_its_own(tmp_path: Path) -> None:
    packets = large(250_000, *range(1, 121))
    clip = keep_clip(tmp_path / "1", "shop_broken", "node-1", {"web-1": [packets]})
    size = sum(map(len, segments_of(clip)))
    assert size > _SYNC_BYTES + 2 * CHUNK_BYTES

    class KilledError(BaseException):
        pass

    def killed(done: int, total: int) -> None:
        if done > _SYNC_BYTES + CHUNK_BYTES:
            raise KilledError

    with clip_cluster({"node-1": clip}) as cluster:
        with pytest.raises(KilledError), without_last_words():
            pull(cluster.api, cluster.clip(), tmp_path / "cache", tell=killed)
        done = pulled(cluster, tmp_path / "cache")
        assert _SYNC_BYTES <= size - done.fetched_bytes < _SYNC_BYTES + (1 << 20)
        assert segments_of(done.folder) == segments_of(clip)
        assert [path.name for path in done.folder.glob("node-1_web-1/.*")] == []
        assert len(set(cluster.made)) == 2


@contextmanager
def without_last_words() -> Iterator[None]:
    """SIGKILL leaves no time to write down what has come."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("podcam.cluster.fetching._Partial.__exit__", lambda self, *error: self._out.close())
        yield


def test_what_a_power_cut_may_have_cost_is_not_trusted(tmp_path: Path) -> None:
    """Bytes behind what was synced may be anything then."""
    clip = keep_clip(tmp_path / "1", "shop_broken", "node-1", {"web-1": [large(50_000, 1, 2, 3, 4, 5)]})
    (segment,) = clip.rglob("*.seg")
    with clip_cluster({"node-1": clip}) as cluster:
        cluster.fault = cut(2 * SEALED_CHUNK_BYTES + 500, then_all=False)
        with pytest.raises(ClipError):
            pulled(cluster, tmp_path / "cache")
        cluster.fault = None
        (partial,) = (tmp_path / "cache").rglob(f".{segment.name}.*")
        on_disk = int(partial.suffix[1:])
        assert on_disk == partial.stat().st_size == 2 * CHUNK_BYTES
        partial = partial.rename(partial.with_suffix(f".{CHUNK_BYTES}"))
        with partial.open("r+b") as file:
            file.seek(CHUNK_BYTES)
            file.write(bytes(CHUNK_BYTES))
        done = pulled(cluster, tmp_path / "cache")
        assert segments_of(done.folder) == [segment.read_bytes()]
        assert done.fetched_bytes == segment.stat().st_size - CHUNK_BYTES


def test_partial_of_another_version_is_not_gone_on_with(tmp_path: Path) -> None:
    clip = keep_clip(tmp_path / "1", "shop_broken", "node-1", {"web-1": [large(50_000, 1, 2, 3, 4, 5)]})
    (segment,) = clip.rglob("*.seg")
    with clip_cluster({"node-1": clip}) as cluster:
        cluster.fault = cut(2 * SEALED_CHUNK_BYTES + 500, then_all=False)
        with pytest.raises(ClipError):
            pulled(cluster, tmp_path / "cache")
        cluster.fault = None
        status = segment.stat()
        os.utime(segment, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        done = pulled(cluster, tmp_path / "cache")
        assert done.fetched_bytes == status.st_size
        assert [path.name for path in done.folder.rglob(f".{segment.name}*")] == []


def test_agent_that_was_restarted_is_found_by_its_node(cluster: ClipCluster, tmp_path: Path) -> None:
    cluster.nodes["node-1"].pod = "agent-new"
    done = pulled(cluster, tmp_path / "cache")
    assert done.missing == ()
    assert len(done.manifest.parts) == 3


def test_agent_that_comes_back_while_it_is_waited_for(cluster: ClipCluster, tmp_path: Path) -> None:
    node = cluster.nodes["node-1"]
    node.pod, node.ready = "agent-new", False
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        node.ready = len(pauses) >= 3

    done = pull(cluster.api, cluster.clip(), tmp_path / "cache", tell=lambda done, total: None, pause=pause)
    assert done.missing == ()
    assert pauses == [0.5, 1.0, 2.0]


def test_agent_that_stays_away(cluster: ClipCluster, tmp_path: Path) -> None:
    cluster.nodes["node-1"].pod, cluster.nodes["node-1"].ready = "agent-new", False
    done = pulled(cluster, tmp_path / "cache")
    assert [part.folder for part in done.manifest.parts] == ["node-2_web-1"]
    ((node, why),) = [(part.node, part.why) for part in done.missing]
    assert node == "node-1"
    assert why == ("its agent is not ready: it is running; `kubectl podcam doctor` says why")
    assert done.manifest.warnings == (f"the part of node node-1 is missing: {why}",)


class Waiting:
    """A clock that goes on by waiting alone, and what is told meanwhile."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.said: list[tuple[float, str]] = []

    def pause(self, seconds: float) -> None:
        self.seconds += seconds

    def pull(self, cluster: ClipCluster, cache: Path) -> Pulled:
        return pull(
            cluster.api,
            cluster.clip(),
            cache,
            tell=lambda done, total: None,
            say=lambda text: self.said.append((self.seconds, text)),
            pause=self.pause,
            clock=lambda: self.seconds,
        )


@pytest.mark.parametrize(
    ("state", "pod", "case"),
    [
        ("NotReady", "agent-of-node-1", "the node is not ready"),
        ("Ready", "", "the node has no agent"),
        ("NotReady", "", "the node is not ready"),
        ("Secret", "", "the node has no agent"),
        ("Secret", "agent-of-node-1", "the node is not ready"),
        ("Ready", "agent-of-node-1", "its agent is not ready: it is running"),
    ],
)
def test_who_waits_is_told_for_whom_and_at_the_end_why_in_vain(
    cluster: ClipCluster, tmp_path: Path, state: str, pod: str, case: str
) -> None:
    node, waiting = cluster.nodes["node-1"], Waiting()
    node.state, node.pod, node.ready = state, pod, False
    done = waiting.pull(cluster, tmp_path / "cache")
    assert waiting.said == [(0.0, f"node-1: {case}; trying for 30 s")]
    assert waiting.seconds == 30.0
    assert done.missing == (Missing("node-1", f"{case}; `kubectl podcam doctor` says why"),)


def test_an_agent_that_is_ready_and_cannot_be_reached(cluster: ClipCluster, tmp_path: Path) -> None:
    def refuse(request: Request, node: str, path: str) -> bool:
        if node == "node-1":
            request.refuse(503, "ServiceUnavailable", "dial tcp 10.244.1.5:9472: no route to host")
        return node == "node-1"

    cluster.fault, waiting = refuse, Waiting()
    done = waiting.pull(cluster, tmp_path / "cache")
    ((moment, said),) = waiting.said
    assert moment == 0.0
    assert said.startswith("node-1: its agent does not answer: ")
    assert said.endswith("no route to host; trying for 30 s")
    assert done.missing[0].why.endswith("no route to host; `kubectl podcam doctor` says why")


def test_many_agents_that_are_away_take_no_longer_than_one(cluster: ClipCluster, tmp_path: Path) -> None:
    for node in cluster.nodes.values():
        node.pod = ""
    waiting = Waiting()
    with pytest.raises(ClipError, match=r"node-1: the node has no agent; .*; node-2: the node has no agent;"):
        waiting.pull(cluster, tmp_path / "cache")
    assert waiting.seconds == 30.0
    assert [text.partition(":")[0] for _, text in waiting.said] == ["node-1"]


def test_an_agent_that_goes_away_while_it_sends_is_waited_for_anew(
    cluster: ClipCluster, tmp_path: Path
) -> None:
    """Though all patience with those that were away at first went to the other node's."""
    cluster.nodes["node-1"].pod = ""
    node, waiting = cluster.nodes["node-2"], Waiting()

    def leave(request: Request, name: str, path: str) -> bool:
        if "/files/" not in path or waiting.seconds > 30:
            return False
        node.ready = False
        request.refuse(503, "ServiceUnavailable", "connection refused")
        return True

    def pause(seconds: float) -> None:
        waiting.seconds += seconds
        node.ready = waiting.seconds >= 40 or waiting.seconds <= 30

    waiting.pause = pause  # type: ignore[method-assign]
    cluster.fault = leave
    done = waiting.pull(cluster, tmp_path / "cache")
    assert [part.node for part in done.missing] == ["node-1"]
    assert [text.partition(";")[2] for _, text in waiting.said] == [" trying for 30 s"] * 2


def test_a_node_that_is_gone_is_not_waited_for(cluster: ClipCluster, tmp_path: Path) -> None:
    cluster.nodes["node-1"].pod, cluster.nodes["node-1"].state = "", "Gone"
    waiting = Waiting()
    done = waiting.pull(cluster, tmp_path / "cache")
    assert (waiting.seconds, waiting.said) == (0.0, [])
    assert done.missing == (Missing("node-1", "there is no such node any more"),)


def test_missing_part_comes_with_the_next_pull(cluster: ClipCluster, tmp_path: Path) -> None:
    cluster.nodes["node-1"].pod, cluster.nodes["node-1"].ready = "agent-new", False
    pulled(cluster, tmp_path / "cache")
    cluster.nodes["node-1"].ready = True
    done = pulled(cluster, tmp_path / "cache")
    assert (len(done.manifest.parts), done.missing, done.manifest.warnings) == (3, (), ())


def test_grant_that_agents_hear_of_late(cluster: ClipCluster, tmp_path: Path) -> None:
    def lose() -> None:
        for node in cluster.nodes.values():
            node.served.grants.clear()

    cluster.after_create = lose
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        for node in cluster.nodes.values():
            for body in cluster.grants.values():
                node.served.allow(Grant.parse(body))

    done = pull(cluster.api, cluster.clip(), tmp_path / "cache", tell=lambda done, total: None, pause=pause)
    assert (done.missing, pauses) == ((), [0.5])


def test_states_of_parts_that_cannot_be_had(cluster: ClipCluster, tmp_path: Path) -> None:
    parts = {
        "node-3": {"state": "Failed", "message": "no ring could be linked"},
        "node-4": {"state": "Removed"},
        "node-5": {"state": "Nothing"},
        "node-6": {"state": "Freezing"},
        "node-7": {"state": "Complete", "agent": {"pod": "agent", "port": 9472}},
    }
    done = pulled(cluster, tmp_path / "cache", parts=parts, missing=["node-8"])
    assert len(done.manifest.parts) == 3
    assert {part.node: part.why.partition(":")[0] for part in done.missing} == {
        "node-3": "no ring could be linked",
        "node-4": "its part is removed",
        "node-6": "it is still being kept",
        "node-7": "its agent shows no key",
        "node-8": "its agent has not reported",
    }


def test_nothing_at_all(cluster: ClipCluster, tmp_path: Path) -> None:
    parts = {"node-1": {"state": "Nothing"}, "node-2": {"state": "Nothing"}}
    with pytest.raises(ClipError, match="nothing of clip broken can be had: no ring reached into its window"):
        pulled(cluster, tmp_path / "cache", parts=parts)
    assert cluster.made == []


def test_agent_keeps_nothing_any_more(cluster: ClipCluster, tmp_path: Path) -> None:
    cluster.nodes["node-2"].served.clips.clear()
    done = pulled(cluster, tmp_path / "cache")
    assert done.missing == (Missing("node-2", "this node keeps nothing of clip broken"),)


def test_segment_that_is_gone_is_told(cluster: ClipCluster, tmp_path: Path) -> None:
    first = min((tmp_path / "1" / "shop_broken" / "web-1").iterdir())
    first.unlink()
    done = pulled(cluster, tmp_path / "cache")
    assert done.missing == ()
    assert done.manifest.warnings == (f"web-1/{first.name} was gone when the clip was pulled",)
    assert len(list(open_packets(done.folder).packets())) == 4


def test_agent_with_another_key(cluster: ClipCluster, tmp_path: Path) -> None:
    """What is not sealed by the agent that the status names is not taken, whoever sent it."""
    clip = cluster.clip()
    other = replace(clip.parts["node-2"], public_key=PrivateKey.new().public)
    clip = replace(clip, parts={**clip.parts, "node-2": other})
    done = pull(cluster.api, clip, tmp_path / "cache", tell=lambda done, total: None, pause=Pauses())
    ((node, why),) = [(part.node, part.why) for part in done.missing]
    assert node == "node-2"
    assert why.startswith("its agent does not have the key that the clip's status shows")


def test_bytes_that_were_changed_on_the_way_are_not_kept(cluster: ClipCluster, tmp_path: Path) -> None:
    def spoil(request: Request, node: str, path: str) -> bool:
        if node != "node-2" or "/files/" not in path:
            return False
        request.forward(
            node, path, change=lambda body: body[:66_000] + bytes([body[66_000] ^ 1]) + body[66_001:]
        )
        return True

    cluster.fault = spoil
    done = pulled(cluster, tmp_path / "cache")
    ((node, why),) = [(part.node, part.why) for part in done.missing]
    assert node == "node-2"
    assert "chunk 1 is not as the agent sealed it" in why
    assert list(done.folder.glob("node-2_web-1/*.seg")) == []


def test_file_that_changed_since_the_index(cluster: ClipCluster, tmp_path: Path) -> None:
    path = next((tmp_path / "2" / "shop_broken" / "web-1").iterdir())

    def touch(request: Request, node: str, at: str) -> bool:
        if node == "node-2" and "/files/" in at:
            os.utime(path, ns=(0, 1))
        return False

    cluster.fault = touch
    done = pulled(cluster, tmp_path / "cache")
    ((node, why),) = [(part.node, part.why) for part in done.missing]
    assert (node, why) == ("node-2", f"web-1/{path.name} changed while it was read: pull again")


@pytest.mark.parametrize("name", ["../../../outside", "..", "a/b", ""])
def test_names_of_an_agent_lead_nowhere_else(
    cluster: ClipCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """An agent that was taken over can seal what it likes; it does not reach the reader's other files."""
    before = json.dumps

    def forged(body: Any, **how: Any) -> str:
        if isinstance(body, dict) and body.get("files"):
            body["files"][0]["folder"] = body["manifest"]["parts"][0]["folder"] = name
        return before(body, **how)

    monkeypatch.setattr("podcam.agent.http.json.dumps", forged)
    with pytest.raises(ClipError, match="what its agent sent is no index of a clip"):
        pulled(cluster, tmp_path / "cache")
    assert [path for path in tmp_path.iterdir() if path.name not in {"1", "2", "cache"}] == []


def test_who_may_not_read_is_told_what_it_takes(cluster: ClipCluster, tmp_path: Path) -> None:
    cluster.may_read = False
    with pytest.raises(
        ForbiddenError, match=r"packets of namespace shop are for those .*podcam-packet-reader.*eve"
    ):
        pulled(cluster, tmp_path / "cache")
    assert cluster.asked == []


def test_two_pulls_of_one_clip_at_a_time(cluster: ClipCluster, tmp_path: Path) -> None:
    def second(done: int, total: int) -> None:
        with pytest.raises(ClipError, match="another pull of the same clip"):
            pulled(cluster, tmp_path / "cache")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pull(cluster.api, cluster.clip(), tmp_path / "cache", tell=second)


def test_cache_that_cannot_be_written(cluster: ClipCluster, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(ClipError, match=r"cannot keep clip broken in .*cache"):
        pulled(cluster, tmp_path / "cache")


def test_grant_is_renewed_before_it_is_too_old(cluster: ClipCluster) -> None:
    now = [0.0]
    with Reader(cluster.api, "shop", "broken", clock=lambda: now[0]) as reader:
        first = reader.held()
        now[0] = 2699.0
        assert reader.held() is first
        now[0] = 2701.0
        second = reader.held()
        assert second.name != first.name
        assert second.key.public != first.key.public
        assert list(cluster.grants) == [second.name]
        assert cluster.grants[second.name]["spec"] == {
            "clip": "broken",
            "publicKey": public_key_text(second.key.public),
        }
    assert cluster.grants == {}


def test_file_names_are_safe_everywhere(cluster: ClipCluster) -> None:
    clip = cluster.clip()
    assert file_name(clip.name, "shop", clip.created_ns) == "broken-shop-20231114-221320Z.pcapng"
    assert file_name("con.aux", "shop", clip.created_ns) == "con-aux-shop-20231114-221320Z.pcapng"
    assert len(file_name("a" * 253, "b" * 63, clip.created_ns)) < 255


def test_cache_is_where_the_desktop_has_it(tmp_path: Path) -> None:
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "podcam" / "clips"
    assert (
        cache_folder({})
        == cache_folder({"XDG_CACHE_HOME": "relative"})
        == Path.home() / ".cache/podcam/clips"
    )


def test_folders_of_two_nodes_are_never_one() -> None:
    assert folder_of("a", "b_c") != folder_of("a-b", "c")
    long = [folder_of("n" * 253, f"{'p' * 200}{number}") for number in range(2)]
    assert len(set(long)) == 2
    assert max(map(len, long)) < 256


def test_what_passes_while_agents_answer_is_not_waited(cluster: ClipCluster, tmp_path: Path) -> None:
    """An update of the agents reaches the nodes one after another."""
    waiting, away = Waiting(), {"node-1", "node-2"}

    def come_back(request: Request, node: str, path: str) -> bool:
        if node not in away:
            waiting.seconds += 31.0  # a slow one
            return False
        away.discard(node)
        request.refuse(503, "ServiceUnavailable", "not just now")
        return True

    cluster.fault = come_back
    assert waiting.pull(cluster, tmp_path / "cache").missing == ()
    assert len(waiting.said) == 2
