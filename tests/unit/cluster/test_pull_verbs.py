"""`kubectl podcam pull` and `diagnose`: what they print, write and return."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clip_cluster import ClipCluster, clip_cluster
from podcam.cli import kubectl
from podcam.cli.kubectl import diagnose, pull
from podcam.cli.kubectl.access import Cluster
from podcam.cluster import Kubectl
from served_clips import keep_clip, packet

CACHE = "podcam/clips/shop_broken_0a1b2c3d"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClipCluster]:
    clips = {
        "node-1": keep_clip(tmp_path / "1", "shop_broken", "node-1", {"web-1": [[packet(1), packet(3)]]}),
        "node-2": keep_clip(tmp_path / "2", "shop_broken", "node-2", {"web-2": [[packet(2)]]}),
    }
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with clip_cluster(clips) as cluster:

        @contextmanager
        def reached(args: argparse.Namespace) -> Iterator[Cluster]:
            yield Cluster(cluster.api, Kubectl(), args.namespace)

        monkeypatch.setattr(pull, "cluster", reached)
        yield cluster


def test_pull_writes_one_pcapng_and_says_where(
    cluster: ClipCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kubectl.main(["pull", "broken", "-n", "shop"]) == 0
    out, err = capsys.readouterr()
    assert out == "broken-shop-20231114-221320Z.pcapng\n"
    assert [path.name for path in (tmp_path / "here").iterdir()] == [out.strip()]
    assert err.splitlines()[0].startswith("2 pods, ")
    assert err.splitlines()[0].endswith(f"{tmp_path}/cache/{CACHE}")
    assert err.splitlines()[1] == "3 packets written, 0 lost while recording"


def test_pull_into_a_file_and_again(
    cluster: ClipCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for told in ("fetched", "all of it was here"):
        assert kubectl.main(["pull", "clip.podcam.dev/broken", "-n", "shop", "-o", "out.pcapng"]) == 0
        out, err = capsys.readouterr()
        assert (out, told in err) == ("out.pcapng\n", True)


def test_pull_to_standard_output(cluster: ClipCluster, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert kubectl.main(["pull", "broken", "-n", "shop", "-o", "-"]) == 0
    assert capfdbinary.readouterr().out[:4] == b"\x0a\x0d\x0d\x0a"


def test_missing_part_is_told_and_the_rest_is_written(
    cluster: ClipCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.status = {"state": "Incomplete", "parts": {"node-2": {"state": "Removed", "message": "no room"}}}
    assert kubectl.main(["pull", "broken", "-n", "shop", "-o", "out.pcapng"]) == 1
    out, err = capsys.readouterr()
    assert "the part of node node-2 is missing: no room" in err
    assert (tmp_path / "here" / "out.pcapng").exists()
    assert out == "out.pcapng\n"


def test_right_to_read_is_missing(
    cluster: ClipCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.may_read = False
    for verb in (["pull", "broken", "-o", "out.pcapng"], ["diagnose", "broken"]):
        assert kubectl.main([*verb, "-n", "shop"]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert "podcam-packet-reader" in err
    assert list((tmp_path / "here").iterdir()) == []


def test_clip_that_is_still_being_kept_is_waited_for(
    cluster: ClipCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.status = {"state": "Freezing", "partsComplete": "1/2"}
    asked: list[float] = []

    def states(*_: object, timeout_seconds: float) -> Iterator[dict[str, Any]]:
        asked.append(timeout_seconds)
        yield cluster.clip_body(state="Freezing")
        yield cluster.clip_body(state="Complete")
        pytest.fail("it went on waiting")

    monkeypatch.setattr(pull, "states", states)
    assert kubectl.main(["pull", "broken", "-n", "shop", "-o", "out.pcapng", "--timeout", "20s"]) == 0
    assert asked == [20.0]
    assert "clip broken is still being kept: 1/2 parts are there" in capsys.readouterr().err


def test_clip_that_goes_away_while_it_is_waited_for(
    cluster: ClipCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.status = {"state": "Freezing"}
    monkeypatch.setattr(pull, "states", lambda *_, timeout_seconds: iter([None]))
    assert kubectl.main(["pull", "broken", "-n", "shop"]) == 1
    assert "clip broken was deleted meanwhile" in capsys.readouterr().err


def test_not_waiting_takes_what_is_there(cluster: ClipCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.status = {"state": "Freezing", "parts": {"node-2": {"state": "Freezing"}}}
    assert kubectl.main(["pull", "broken", "-n", "shop", "-o", "out.pcapng", "--timeout", "0s"]) == 1
    assert "the part of node node-2 is missing: it is still being kept" in capsys.readouterr().err


def test_diagnose_is_that_of_the_fetched_clip(
    cluster: ClipCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kubectl.main(["diagnose", "broken", "-n", "shop", "--json", "--annotate", "told.pcapng"]) == 0
    (capture,) = json.loads(capsys.readouterr().out)["captures"]
    assert (capture["packets"], capture["path"]) == (3, f"{tmp_path}/cache/{CACHE}")
    assert (tmp_path / "here" / "told.pcapng").exists()
    assert cluster.grants == {}


def test_diagnose_calls_the_clip_by_its_name(
    cluster: ClipCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kubectl.main(["diagnose", "broken", "-n", "shop"]) == 0
    assert capsys.readouterr().out.startswith("shop/broken  3 packets, ")


@pytest.mark.parametrize(
    ("sidecar", "namespace", "command"),
    [
        (None, None, "kubectl podcam pull broken"),
        (None, "shop", "kubectl podcam pull broken -n shop"),
        ("pod/web-1", "shop", "kubectl podcam pull --sidecar pod/web-1 broken -n shop"),
    ],
)
def test_what_writes_the_file_of_what_is_diagnosed(
    sidecar: str | None, namespace: str | None, command: str
) -> None:
    assert (
        diagnose._pull_command(argparse.Namespace(sidecar=sidecar, namespace=namespace), "broken") == command
    )
