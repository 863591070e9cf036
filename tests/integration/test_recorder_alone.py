"""Recording stands on the standard library alone, so that it fits into anybody's image."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import network_lab as lab
import podcam

SOURCE = Path(podcam.__file__).parent.parent


def without_packages(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Podcam in an interpreter that sees no installed package: `-S` leaves site-packages out."""
    return subprocess.run(
        [sys.executable, "-S", "-m", "podcam", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )


def test_the_interpreter_of_this_test_sees_no_package() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import numpy"], capture_output=True, text=True, check=False
    )
    assert "No module named 'numpy'" in done.stderr


@pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))
def test_recording_keeping_and_exporting_need_no_package(tmp_path: Path) -> None:
    load = "import socket; [socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))]"
    with lab.namespace() as where:
        record = ("record", "--netns", where.name, "--dir", tmp_path, "--port", 9)
        command = ("ip", "netns", "exec", where.name, sys.executable, "-S", "-c", load)
        recorded = without_packages(*record, "--", *command)
        assert recorded.returncode == 0, recorded.stderr
    kept = without_packages("clip", "--dir", tmp_path, "--last", "60s")
    assert kept.returncode == 0, kept.stderr
    clip = kept.stdout.splitlines()[-1]
    assert Path(clip).name in without_packages("clips", "--dir", tmp_path).stdout
    exported = without_packages("export", clip, "-o", tmp_path / "clip.pcapng")
    assert exported.returncode == 0, exported.stderr
    assert "2 packets written" in exported.stderr  # the datagram, and the ICMP error that answers it


def test_diagnosing_says_which_package_it_needs(tmp_path: Path) -> None:
    done = without_packages("diagnose", tmp_path)
    assert done.returncode == 1
    assert "numpy" in done.stderr
    assert done.stderr.count("\n") == 1
