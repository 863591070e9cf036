"""`podcam record` as a program: the command that it runs, when it ends, and why it does not start."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import network_lab as lab
from recorders import PODCAM, podcam, recording

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))


def test_a_command_is_recorded_while_it_runs_and_gives_its_code(tmp_path: Path) -> None:
    for command, code in ((["true"], 0), (["sh", "-c", "exit 3"], 3), (["sh", "-c", "kill -9 $$"], 137)):
        with recording("--dir", tmp_path, "--interface", "lo", "--on", "none", "--", *command) as recorder:
            assert recorder.wait() == code


def test_a_command_ignores_no_signals_of_its_own(tmp_path: Path) -> None:
    command = ["sh", "-c", "kill -PIPE $$"]
    with recording("--dir", tmp_path, "--interface", "lo", "--on", "none", "--", *command) as recorder:
        assert recorder.wait() == 128 + signal.SIGPIPE


def test_recording_goes_on_while_a_command_that_was_told_to_end_does_so(tmp_path: Path) -> None:
    ready, end = tmp_path / "ready", tmp_path / "end"
    os.mkfifo(ready)
    os.mkfifo(end)
    command = ["sh", "-c", f"trap 'read _ <{end}; exit 7' TERM; echo >{ready}; while :; do sleep 0.1; done"]
    with recording("--dir", tmp_path, "--interface", "lo", "--on", "none", "--", *command) as recorder:
        assert ready.read_text() == "\n"
        recorder.process.send_signal(signal.SIGINT)
        told_ns = time.time_ns()
        recorder.wait_for(lambda event: event["event"] == "status" and event["time_ns"] > told_ns + 1e9)
        end.write_text("\n")
        assert recorder.wait() == 7


def test_a_recorder_under_nohup_goes_on_when_the_terminal_goes(tmp_path: Path) -> None:
    quiet = ("--dir", tmp_path, "--interface", "lo", "--on", "none")
    with recording(*quiet, before=["nohup"]) as recorder:
        recorder.process.send_signal(signal.SIGHUP)
        sent_ns = time.time_ns()
        recorder.wait_for(lambda event: event["event"] == "status" and event["time_ns"] > sent_ns + 1e9)
        recorder.stop()


def test_a_recorder_ends_when_its_time_is_over(tmp_path: Path) -> None:
    with recording("--dir", tmp_path, "--interface", "lo", "--for", "300ms") as recorder:
        assert recorder.wait() == 0
        assert recorder.of_kind("stopped")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--interface", "nosuch0"], 2, "nosuch0"),
        (["--netns", "nosuch"], 2, "nosuch"),
        (["--netns", "4194305"], 2, "4194305"),
        (["--netns", "/etc/hostname"], 2, "not a network namespace"),
        (["--host", "no.such.host.invalid"], 2, "no.such.host.invalid"),
        (["--host", "10.0.0.0/64"], 2, "10.0.0.0/64"),
        (["--bpf", "port port"], 2, "port port"),
        (["--ring", "4x100KB"], 2, "--ring"),
        (["--ring", "1x100MB"], 2, "--ring"),
        (["--ring", "0x0MB"], 2, "--ring"),
        (["--port", "70000"], 2, "70000"),
        (["--on", "nonsense"], 2, "nonsense"),
        (["--on", "lossy"], 2, "lossy"),
        (["--on", "none", "--on", "reset"], 2, "none"),
        (["--narrow"], 2, "--narrow"),
        (["--dir", "/proc/podcam"], 1, "/proc/podcam"),
        (["--dir", "/etc/hostname"], 2, "/etc/hostname"),
        (["--", "no-such-command"], 2, "no-such-command"),
        (["stray"], 2, "stray"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    arguments: list[str], code: int, told: str, tmp_path: Path
) -> None:
    folder = [] if "--dir" in arguments else ["--dir", tmp_path]
    done = podcam("record", *folder, *arguments)
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("podcam: ")


def test_without_rights_the_error_says_what_to_do(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    done = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *PODCAM, "record", "--dir", tmp_path / "d"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "CAP_NET_RAW" in done.stderr
    assert done.stderr.count("\n") == 1


def test_two_recorders_do_not_share_a_folder(tmp_path: Path) -> None:
    with recording("--dir", tmp_path, "--interface", "lo", "--on", "none") as recorder:
        done = podcam("record", "--dir", tmp_path, "--interface", "lo", "--for", "1s")
        assert done.returncode == 1
        assert str(recorder.process.pid) in done.stderr
        recorder.stop()
