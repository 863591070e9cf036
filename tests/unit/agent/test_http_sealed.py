"""What the agent's server gives to whom: sealed bytes to whoever names a grant, and nothing else."""

import http.client
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from kernel_blocks import Sent
from podcam.agent.http import GRANT_LIFE_NS, INDEX, AgentServer
from podcam.clip import OPEN, Manifest
from podcam.sealed import CHUNK_BYTES, PrivateKey, Resource, Seal, Unsealer, sealed_size
from served_clips import NOW, SECOND, FakeServed, grant_for, keep_clip, older, packet, serving
from waiting import wait_until

MARKER = b"SELECT secret FROM accounts"
AGENT, READER = PrivateKey.new(), PrivateKey.new()


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["error"])


def ask(server: AgentServer, path: str, method: str = "GET", **headers: str) -> Answer:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request(
            method, path, headers={name.replace("_", "-"): text for name, text in headers.items()}
        )
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())


def unsealed(answer: Answer, name: str, reader: PrivateKey = READER, uid: str = "uid-of-pull-1") -> bytes:
    resource = Resource(uid, name, answer.headers["ETag"].strip('"'))
    unsealer = Unsealer(Seal.by_reader(reader, AGENT.public, resource), len(answer.body))
    plain = unsealer.feed(answer.body)
    unsealer.finish()
    return plain


def segments() -> list[list[Sent]]:
    large = [packet(second, MARKER + os.urandom(60_000)) for second in range(5)]
    return [[packet(0, MARKER), packet(1)], large]


@pytest.fixture
def served(tmp_path: Path) -> FakeServed:
    served = FakeServed()
    served.clips["shop", "broken"] = keep_clip(
        tmp_path, "shop_broken", "node-1", {"web-1": segments(), "db-0": []}
    )
    served.allow(grant_for(READER))
    return served


@pytest.fixture
def server(served: FakeServed) -> Iterator[AgentServer]:
    with serving(served, AGENT) as server:
        yield server


def index_of(server: AgentServer) -> dict[str, Any]:
    body = json.loads(unsealed(ask(server, "/v1/grants/shop/pull-1/index"), INDEX))
    assert isinstance(body, dict)
    return body


def file_of(served: FakeServed, entry: Mapping[str, Any]) -> Path:
    return Path(served.clips["shop", "broken"] / entry["folder"] / entry["name"])


def test_index_names_the_files_and_holds_the_manifest(served: FakeServed, server: AgentServer) -> None:
    index = index_of(server)
    assert Manifest.from_json(index["manifest"]).id == "shop_broken"
    assert [entry["folder"] for entry in index["files"]] == ["web-1", "web-1"]
    for entry in index["files"]:
        status = file_of(served, entry).stat()
        assert (entry["bytes"], entry["modified_ns"]) == (status.st_size, status.st_mtime_ns)


def test_files_are_what_lies_on_disk(served: FakeServed, server: AgentServer) -> None:
    for number, entry in enumerate(index_of(server)["files"]):
        answer = ask(server, f"/v1/grants/shop/pull-1/files/{number}")
        assert answer.status == 200
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.headers["ETag"] == f'"{entry["version"]}"'
        assert unsealed(answer, f"{entry['folder']}/{entry['name']}") == file_of(served, entry).read_bytes()


def test_nothing_plain_leaves_the_node(served: FakeServed, server: AgentServer) -> None:
    whole = b"".join(
        ask(server, f"/v1/grants/shop/pull-1/{path}").body for path in ("index", "files/0", "files/1")
    )
    for plain in (MARKER, b"web-1", b"it broke", b"eth0"):
        assert plain not in whole
    # The marker is there: what was served is made of these files.
    assert all(MARKER in file_of(served, entry).read_bytes() for entry in index_of(server)["files"])


def test_same_bytes_after_a_restart_and_other_ones_for_another_grant(served: FakeServed) -> None:
    served.allow(grant_for(READER, name="pull-2"))
    bodies = []
    for _ in range(2):
        with serving(served, AGENT) as server:
            bodies.append([ask(server, f"/v1/grants/shop/pull-{grant}/files/1").body for grant in (1, 2)])
    assert bodies[0] == bodies[1]
    assert bodies[0][0] != bodies[0][1]


def test_index_has_a_key_of_its_own_each_time(server: AgentServer) -> None:
    first, second = (ask(server, "/v1/grants/shop/pull-1/index") for _ in range(2))
    assert first.headers["ETag"] != second.headers["ETag"]
    assert first.body[:64] != second.body[:64]


def test_changed_file_is_sealed_with_another_key(served: FakeServed, server: AgentServer) -> None:
    """The nonce stands for the chunk's number: the same key must never seal another text."""
    path = file_of(served, index_of(server)["files"][0])
    before = ask(server, "/v1/grants/shop/pull-1/files/0")
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"X")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    after = ask(server, "/v1/grants/shop/pull-1/files/0")
    assert before.headers["ETag"] != after.headers["ETag"]
    assert before.body[64:128] != after.body[64:128]


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        (f"bytes={CHUNK_BYTES}-{CHUNK_BYTES + 99}", CHUNK_BYTES, CHUNK_BYTES + 100),
        ("bytes=100000-", 100_000, None),
        ("bytes=-7", -7, None),
        ("bytes=5-99999999", 5, None),
        ("bytes=-99999999", 0, None),
    ],
)
def test_ranges(server: AgentServer, asked: str, start: int, stop: int | None) -> None:
    whole = ask(server, "/v1/grants/shop/pull-1/files/1").body
    answer = ask(server, "/v1/grants/shop/pull-1/files/1", Range=asked)
    assert answer.status == 206
    assert answer.body == whole[start:stop]
    first = start % len(whole)
    assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(answer.body) - 1}/{len(whole)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "bytes=4-2", "bytes=-", "lines=1-2", "bytes=a-b"])
def test_ranges_that_are_no_single_one_give_all(server: AgentServer, asked: str) -> None:
    whole = ask(server, "/v1/grants/shop/pull-1/files/0").body
    answer = ask(server, "/v1/grants/shop/pull-1/files/0", Range=asked)
    assert (answer.status, answer.body) == (200, whole)


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0"])
def test_range_behind_the_end(served: FakeServed, server: AgentServer, asked: str) -> None:
    size = sealed_size(file_of(served, index_of(server)["files"][0]).stat().st_size)
    answer = ask(server, "/v1/grants/shop/pull-1/files/0", Range=asked)
    assert answer.status == 416
    assert answer.headers["Content-Range"] == f"bytes */{size}"


def test_range_of_another_version_gives_all(server: AgentServer) -> None:
    path = "/v1/grants/shop/pull-1/files/0"
    tag = ask(server, path).headers["ETag"]
    assert ask(server, path, Range="bytes=0-9", If_Range=tag).status == 206
    assert ask(server, path, Range="bytes=0-9", If_Range='"other"').status == 200


def test_head_has_the_head_alone(server: AgentServer) -> None:
    path = "/v1/grants/shop/pull-1/files/1"
    whole, head = ask(server, path), ask(server, path, "HEAD")
    assert head.body == b""
    assert {name: head.headers[name] for name in ("Content-Length", "ETag")} == {
        name: whole.headers[name] for name in ("Content-Length", "ETag")
    }
    assert ask(server, "/healthz", "HEAD").status == 200


def test_file_that_is_gone_keeps_its_number(served: FakeServed, server: AgentServer) -> None:
    first, second = index_of(server)["files"]
    file_of(served, first).unlink()
    gone, still = index_of(server)["files"]
    assert gone == {
        "folder": "web-1",
        "name": first["name"],
        "bytes": None,
        "modified_ns": None,
        "version": None,
    }
    assert still == second
    answer = ask(server, "/v1/grants/shop/pull-1/files/0")
    assert (answer.status, answer.error) == (404, "file 0 of clip broken is gone: No such file or directory")
    assert ask(server, "/v1/grants/shop/pull-1/files/1").status == 200


def test_link_out_of_the_clip_is_not_followed(
    served: FakeServed, server: AgentServer, tmp_path: Path
) -> None:
    path = file_of(served, index_of(server)["files"][0])
    (tmp_path / "secret").write_bytes(b"secret")
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    assert ask(server, "/v1/grants/shop/pull-1/files/0").status == 404


def test_number_that_there_is_none_of(server: AgentServer) -> None:
    answer = ask(server, "/v1/grants/shop/pull-1/files/2")
    assert (answer.status, answer.error) == (404, "this part of clip broken has 2 files, and none 2")


def test_no_grant(served: FakeServed, server: AgentServer) -> None:
    served.arrived.set()
    answer = ask(server, "/v1/grants/shop/other/index")
    assert (answer.status, answer.body.count(b"PacketGrant other")) == (403, 1)
    assert ask(server, "/v1/grants/bank/pull-1/files/0").status == 403
    assert served.waited == [3.0, 3.0]


def test_grant_that_comes_while_it_is_waited_for(served: FakeServed, server: AgentServer) -> None:
    late = served.grants.pop(("shop", "pull-1"))
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(ask, server, "/v1/grants/shop/pull-1/index")
        wait_until(lambda: served.waited)
        served.allow(late)
        served.arrived.set()
        assert answer.result().status == 200


def test_grant_of_another_namespace_opens_no_clip_of_that_name_here(
    served: FakeServed, server: AgentServer
) -> None:
    """Who may make grants in `bank` has no clip of `shop`, whatever he writes into them."""
    served.allow(grant_for(READER, namespace="bank"))
    answer = ask(server, "/v1/grants/bank/pull-1/index")
    assert (answer.status, answer.error) == (404, "this node keeps nothing of clip broken")


def test_expired_grant(served: FakeServed, server: AgentServer) -> None:
    life = GRANT_LIFE_NS // SECOND
    served.allow(older(grant_for(READER), life))
    assert ask(server, "/v1/grants/shop/pull-1/index").status == 200
    served.allow(older(grant_for(READER), life + 1))
    answer = ask(server, "/v1/grants/shop/pull-1/files/0")
    assert (answer.status, answer.error) == (
        403,
        "the PacketGrant pull-1 is more than an hour old: make another",
    )


def test_grant_with_a_key_that_shares_nothing_secret(served: FakeServed, server: AgentServer) -> None:
    served.allow(replace(grant_for(READER), public_key=bytes(32)))
    answer = ask(server, "/v1/grants/shop/pull-1/files/0")
    assert answer.status == 403
    assert "no public key that can be sealed for" in answer.error


def test_clip_that_is_still_being_kept(served: FakeServed, tmp_path: Path) -> None:
    served.clips["shop", "broken"] = keep_clip(tmp_path, "shop_open", "node-1", {"a": segments()}, state=OPEN)
    with serving(served, AGENT, now_ns=NOW + 3590 * SECOND) as server:
        for path in ("index", "files/0"):
            answer = ask(server, f"/v1/grants/shop/pull-1/{path}")
            assert answer.status == 409
            assert answer.error == "clip broken is still being kept, until 23:13:20 UTC: ask again then"
            assert answer.headers["Retry-After"] == "10"


def test_clip_without_its_manifest(served: FakeServed, server: AgentServer) -> None:
    (served.clips["shop", "broken"] / "manifest.json").unlink()
    answer = ask(server, "/v1/grants/shop/pull-1/index")
    assert (answer.status, answer.error) == (503, "what is kept here of clip broken cannot be read")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/grants",
        "/v1/grants/shop/pull-1",
        "/v1/grants/shop/pull-1/",
        "/v1/grants/shop/pull-1/files/",
        "/v1/grants/shop/pull-1/files/-1",
        "/v1/grants/shop/pull-1/files/../index",
        "/v1/grants/shop/pull-1/files/0/../../index",
        "/v1/grants/shop/pull-1/files/%30",
        "/v1/grants/shop/pull-1/files/manifest.json",
        "/v1/grants/shop/..%2f..%2fetc/index",
        "/v1/grants/../shop/index",
        "/v1/grants/SHOP/pull-1/index",
        "/v1/grants/shop/" + "a" * 254 + "/index",
        "/v1/grants/shop/pull-1/files/" + "9" * 5000,
        "http://other/v1/grants/shop/pull-1/index",
        "/metrics/../v1/grants/shop/pull-1/index",
    ],
)
def test_paths_that_are_none(served: FakeServed, server: AgentServer, path: str) -> None:
    answer = ask(server, path)
    assert (answer.status, answer.error) == (404, "there is nothing here: this is an agent of Podcam")
    assert served.waited == []


def test_agent_is_not_slowed_down_by_a_query(server: AgentServer) -> None:
    assert ask(server, "/v1/grants/shop/pull-1/index?timeout=3s").status == 200


def test_file_that_changes_while_it_is_sent_is_broken_off(
    served: FakeServed, server: AgentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_of(served, index_of(server)["files"][1])
    pread = os.pread

    def growing(descriptor: int, size: int, at: int) -> bytes:
        if at:
            with path.open("ab") as file:
                file.write(b"more")
        return pread(descriptor, size, at)

    monkeypatch.setattr("podcam.serving.clip_files.os.pread", growing)
    with pytest.raises(http.client.IncompleteRead) as cut:
        ask(server, "/v1/grants/shop/pull-1/files/1")
    assert len(cut.value.partial) == CHUNK_BYTES + 16
