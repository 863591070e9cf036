"""Clips that a person asks for: `podcam clip`, beside a running recorder and of a ring at rest."""

import concurrent.futures
import json
import socket
import subprocess
from pathlib import Path

import pytest

import network_lab as lab
from connections import PORT, Lab, good, listen
from kept_clips import clips_of, exported, shown
from numbered_datagrams import NumberedSender, numbers_in
from other_users import let_others_in
from podcam.capture import Namespace
from podcam.clip import open_clip
from podcam.recorder import ask_recorder
from recorders import PODCAM, podcam, recording

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all")


def test_a_running_recorder_answers_with_the_path_of_a_complete_clip(where: Lab, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40) / ("path" * 30)
    with (
        recording("--netns", where.pod.name, "--netns", where.database.name, "--dir", folder) as recorder,
        listen(where.database, "10.9.0.2") as listener,
    ):
        port = good(where.pod, listener, "10.9.0.2")
        done = podcam("clip", "--dir", folder, "--last", "1m", "--reason", "it felt slow")
        assert done.returncode == 0, done.stderr
        clip = open_clip(Path(done.stdout.splitlines()[-1]))
        assert clip.manifest.state == "complete"
        assert clip.manifest.reason == "it felt slow"
        assert {part.point.name for part in clip.manifest.parts} == {where.pod.name, where.database.name}
        assert {part.how for part in clip.manifest.parts} == {"link"}
        files = list(clip.path.rglob("*.seg"))
        assert files
        assert {path.stat().st_nlink for path in files} == {2}
        capture = exported(clip, tmp_path / "out.pcapng")
        assert len(shown(capture, f"tcp.port == {port}", "frame.number")) >= 2 * 9  # seen at both ends
        event = recorder.wait_for_kind("clip")
        assert (event["path"], event["reason"]) == (str(clip.path), "it felt slow")
        recorder.stop()


def test_what_happened_right_before_the_request_is_in_the_clip(
    here: Namespace, tmp_path: Path, sender: NumberedSender
) -> None:
    """The last packets lie in a block that the kernel has yet to hand over."""
    with recording("--netns", here.name, "--dir", tmp_path, "--on", "none") as recorder:
        for _ in range(3):
            sender.send(10)
            answer = ask_recorder(tmp_path, {"verb": "clip", "last_ns": 10**10, "reason": "now"})
            assert answer is not None
            assert numbers_in(Path(answer["clip"]) / here.name) == set(range(sender.sent))
        recorder.stop()


def test_several_ask_at_once_and_each_gets_a_clip(here: Namespace, tmp_path: Path) -> None:
    with recording("--netns", here.name, "--dir", tmp_path, "--on", "none") as recorder:
        lab.exchange(here, here, "127.0.0.1", PORT)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(podcam, "clip", "--dir", tmp_path) for _ in range(4)]
            paths = {future.result().stdout.strip() for future in asked}
        assert paths == {str(clip.path) for clip in clips_of(tmp_path)}
        assert len(paths) == 4
        for clip in clips_of(tmp_path):
            assert clip.manifest.state == "complete"
            assert clip.manifest.parts[0].totals.packets >= 8
        recorder.stop()


def test_a_clip_of_a_ring_at_rest_counts_back_from_its_last_packet(here: Namespace, tmp_path: Path) -> None:
    with recording("--netns", here.name, "--dir", tmp_path) as recorder:
        port = lab.exchange(here, here, "127.0.0.1", PORT)
        recorder.stop()
    done = podcam("clip", "--dir", tmp_path, "--last", "10s")
    assert done.returncode == 0, done.stderr
    assert "no recorder is running" in done.stderr
    clip = open_clip(Path(done.stdout.splitlines()[-1]))
    assert clip.manifest.state == "complete"
    assert all(path.stat().st_nlink == 2 for path in clip.path.rglob("*.seg"))
    capture = exported(clip, tmp_path / "out.pcapng")
    assert len(shown(capture, f"tcp.port == {port}", "frame.number")) >= 8


def test_where_nothing_was_recorded_the_error_says_what_to_do(tmp_path: Path) -> None:
    a_file = tmp_path / "file"
    a_file.touch()
    for folder in (tmp_path, tmp_path / "nothing", a_file):
        done = podcam("clip", "--dir", folder)
        assert done.returncode == 1, done
        assert done.stderr.count("\n") == 1
        assert str(folder) in done.stderr
        assert "podcam record" in done.stderr


@pytest.mark.parametrize("running", [True, False])
def test_another_user_is_told_that_the_recording_is_not_theirs(
    here: Namespace, tmp_path: Path, running: bool
) -> None:
    let_others_in(tmp_path)
    folder = tmp_path / "recorder"
    with recording("--netns", here.name, "--dir", folder, "--on", "none") as recorder:
        if not running:
            recorder.stop()
        done = subprocess.run(
            [*NOBODY, *PODCAM, "clip", "--dir", str(folder)],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
    if "No module named" in done.stderr or (
        "Permission denied" in done.stderr and "Traceback" in done.stderr
    ):
        pytest.skip("the interpreter of these tests may not be run by another user")
    assert done.returncode == 1, done
    assert done.stderr.count("\n") == 1
    assert "run as the user who records there" in done.stderr


def test_a_request_that_is_none_is_refused_and_does_no_harm(here: Namespace, tmp_path: Path) -> None:
    with recording("--netns", here.name, "--dir", tmp_path, "--on", "none") as recorder:
        for request in (b"\n", b"{}\n", b"[1]\n", b'{"verb":"clip","last_ns":"x","reason":1}\n', b"\xff\n"):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(10)
                sock.connect(str(tmp_path / "control.sock"))
                sock.sendall(request)
                answer = sock.makefile("rb").readline()
            assert answer == b"" or "error" in json.loads(answer)
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(str(tmp_path / "control.sock"))
            assert podcam("clip", "--dir", tmp_path).returncode == 0
        recorder.stop()
