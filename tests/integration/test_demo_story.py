"""`podcam demo` from beginning to end, with tshark as a second opinion on the frames that it names."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.skipif(
        os.geteuid() != 0, reason="opens packet sockets and namespaces: run the tests as root"
    ),
    pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark: apt-get install tshark"),
]

_FAILED = 3


def _demo(folder: Path, *flags: str, under: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*under, sys.executable, "-m", "podcam", "demo", "--keep", str(folder), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _flagged(folder: Path) -> list[dict[str, Any]]:
    diagnosis = json.loads((folder / "diagnosis.json").read_text())
    return [row for row in diagnosis["connections"] if row["failed"]]


def _frames(folder: Path) -> dict[int, tuple[int, str, int, int]]:
    """By Wireshark's number: source port, flags as tshark writes them, payload bytes, tcp.stream."""
    fields = ["frame.number", "tcp.srcport", "tcp.flags.str", "tcp.len", "tcp.stream"]
    command = ["tshark", "-r", str(folder / "clip.pcapng"), "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = (line.split("\t") for line in lines)
    return {
        int(n): (int(port), flags.replace("·", ""), int(size), int(stream))
        for n, port, flags, size, stream in rows
    }


@pytest.mark.parametrize(
    "flags",
    [(), ("--ipv6", "--port", "6543"), ("--tls",)],
    ids=["ipv4", "ipv6 on another port", "tls"],
)
def test_the_story_ends_well_and_wireshark_agrees(tmp_path: Path, flags: tuple[str, ...]) -> None:
    done = _demo(tmp_path, *flags)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "The proxy's own log agrees" in done.stdout
    frames = _frames(tmp_path)
    logged = [json.loads(line) for line in (tmp_path / "proxy.jsonl").read_text().splitlines()]
    flagged = {row["client"]["port"]: row for row in _flagged(tmp_path)}
    assert sorted(flagged) == sorted(line["client_port"] for line in logged)
    assert len(flagged) == _FAILED
    for port, row in flagged.items():
        startup, *_, acknowledgement, reset = (frames[each["frame"]] for each in row["evidence"])
        stream = row["tcp_stream"]
        assert startup[0] == port
        assert startup[2] > 0
        assert acknowledgement == (row["server"]["port"], "A", 0, stream)
        assert reset == (row["server"]["port"], "AR", 0, stream)
        encrypted = any("encrypted record" in each["note"] for each in row["evidence"])
        assert encrypted == ("--tls" in flags)


@pytest.mark.parametrize(
    ("misbehaviour", "verdict"), [("close", "closed-during-startup"), ("silent", "startup-timeout")]
)
def test_other_ways_to_fail_a_startup(tmp_path: Path, misbehaviour: str, verdict: str) -> None:
    done = _demo(tmp_path, "--proxy", misbehaviour)

    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["verdict"] for row in _flagged(tmp_path)] == [verdict] * _FAILED


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv: apt-get install util-linux")
def test_plays_on_the_loopback_where_there_are_no_namespaces(tmp_path: Path) -> None:
    """As root in an ordinary container: NET_RAW, and no right to make namespaces."""
    # No port that the kernel gives to connections of others.
    done = _demo(tmp_path, "--port", "15432", under=("setpriv", "--bounding-set=-sys_admin,-net_admin"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "the loopback of this machine" in done.stdout
    assert len(_flagged(tmp_path)) == _FAILED


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv: apt-get install util-linux")
def test_says_what_to_do_where_nothing_is_allowed(tmp_path: Path) -> None:
    done = _demo(tmp_path, under=("setpriv", "--bounding-set=-all"))

    assert done.returncode == 1
    assert done.stderr.startswith("podcam: recording needs the right to open packet sockets")
    assert done.stderr.count("\n") == 1


def test_refuses_a_folder_that_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()

    done = _demo(tmp_path)

    assert done.returncode == 2
    assert done.stderr == f"podcam: {tmp_path} is not empty: give --keep a new folder\n"
