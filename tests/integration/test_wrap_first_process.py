"""What an app sees when it is started by process 1 of ours, compared with being process 1 itself."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from waiting import wait_until

PREFIXES: dict[str, list[str]] = {"alone": []}
BOTH = pytest.mark.parametrize("how", ["alone", "wrapped"])

LOOKS = """
import json, os, resource, signal, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
json.dump({
    "argv": sys.argv[1:],
    "cwd": os.getcwd(),
    "environment": open("/proc/self/environ").read().split("\\0"),
    "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
    "limits": [resource.getrlimit(n) for n in range(16)],
    "niceness": os.getpriority(os.PRIO_PROCESS, 0),
    "oom": open("/proc/self/oom_score_adj").read(),
    "blocked": status["SigBlk"], "ignored": status["SigIgn"], "caught": status["SigCgt"],
    "capabilities": [status[n] for n in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")],
    "umask": status["Umask"],
    "descriptors": sorted(os.listdir("/proc/self/fd"))[:-1],
    "leads its group": os.getpgrp() == os.getpid(),
    "children": open(f"/proc/self/task/{os.getpid()}/children").read(),
    "stdin": sys.stdin.read(),
}, sys.stdout)
print("said on standard error", file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def wrapped(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("podcam")
    wrap = ["wrap", "--dir", str(folder), "--on", "none", "--grace", "5s", "--"]
    monkeypatch.setitem(PREFIXES, "wrapped", [sys.executable, "-I", "-m", "podcam", *wrap])


def run(how: str, *argv: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """As process 1 of a PID namespace, when the test may make one."""
    command = [*inside(), *PREFIXES[how], *argv]
    return subprocess.run(command, check=False, timeout=30, capture_output=True, **options)


def start(how: str, *argv: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen([*inside(), *PREFIXES[how], *argv], text=True, **options)


def inside() -> list[str]:
    """A PID namespace whose first process leads its session, as container runtimes make it."""
    if os.geteuid() != 0:
        return ["setsid", "--wait"]
    return ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", "setsid"]


def python(source: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(source)]


def seen(how: str, tmp_path: Path) -> dict[str, Any]:
    reading, writing = os.pipe()
    environment = {"PATH": os.environ["PATH"], "PODCAM_TEST": "a\nb", "LANG": "C", "TMPDIR": str(tmp_path)}
    ended = run(
        how, *python(LOOKS), "one", "", "two words",
        input=b"what was on standard input", env=environment, cwd=tmp_path, pass_fds=[writing],
    )  # fmt: skip
    os.close(reading)
    os.close(writing)
    assert ended.returncode == 0, ended.stderr
    of_the_app = [line for line in ended.stderr.splitlines() if not line.startswith(b"podcam: ")]
    assert of_the_app == [b"said on standard error"]
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_the_app_sees_the_same_with_and_without(tmp_path: Path) -> None:
    alone, wrapped = seen("alone", tmp_path), seen("wrapped", tmp_path)
    assert wrapped == alone
    assert alone["stdin"] == "what was on standard input"


@BOTH
@pytest.mark.parametrize("code", [0, 3, 137])
def test_exit_codes(how: str, code: int) -> None:
    assert run(how, "sh", "-c", f"exit {code}").returncode == code


def test_an_app_that_is_killed_ends_process_1_with_that_code() -> None:
    assert run("wrapped", "sh", "-c", "kill -KILL $$; sleep 60").returncode == 137
    assert run("wrapped", "sh", "-c", "kill -TERM $$; sleep 60").returncode == 143


def test_outside_of_a_container_the_signal_itself_is_passed_on() -> None:
    ended = subprocess.run([*PREFIXES["wrapped"], "sh", "-c", "kill -KILL $$"], timeout=30, check=False)
    assert ended.returncode == -signal.SIGKILL


def test_a_command_that_is_not_there_ends_as_in_a_shell(tmp_path: Path) -> None:
    assert run("wrapped", "no-such-command").returncode == 127
    plain = tmp_path / "plain"
    plain.write_text("no program")
    ended = run("wrapped", str(plain))
    assert ended.returncode == 126
    assert b"Permission denied" in ended.stderr


TELLS_SIGNALS = """
    import signal, sys
    def tell(number, frame):
        print(signal.Signals(number).name, flush=True)
        if number == signal.SIGTERM:
            sys.exit(5)
    for name in "TERM HUP INT QUIT USR1 USR2 WINCH CONT ALRM".split():
        signal.signal(signal.Signals["SIG" + name], tell)
    print("ready", flush=True)
    while True:
        signal.pause()
"""


@BOTH
def test_signals_reach_the_app_once_and_in_turn(how: str) -> None:
    names = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGCONT", "SIGALRM", "SIGTERM"]
    with start(how, *python(TELLS_SIGNALS), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        first = first_process_of(process)
        told = []
        for name in names:
            os.kill(first, signal.Signals[name])
            told.append(process.stdout.readline().strip())
        assert told == names
        assert process.wait(30) == 5
        assert process.stdout.read() == ""


@BOTH
def test_the_app_may_be_stopped_and_continued(how: str) -> None:
    with start(how, *python(TELLS_SIGNALS), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        app = first_process_of(process) if how == "alone" else app_of(first_process_of(process))
        os.kill(app, signal.SIGSTOP)
        wait_until(lambda: state_of(app) == "T")
        os.kill(app, signal.SIGCONT)
        assert process.stdout.readline() == "SIGCONT\n"
        os.kill(app, signal.SIGTERM)
        assert process.wait(30) == 5


@BOTH
def test_kill_0_means_the_apps_own_group(how: str) -> None:
    """A shell script's usual way to end all that it started."""
    slept = "until grep -q sleep /proc/$!/comm; do :; done"
    script = f"trap 'echo told' TERM; sleep 60 & {slept}; kill 0; wait; exit 9"
    ended = run(how, "sh", "-c", script)
    assert (ended.returncode, ended.stdout) == (9, b"told\n")


def test_orphans_are_reaped_for_an_app_that_reaps_none() -> None:
    script = """
        import os, time
        for _ in range(20):
            if os.fork() == 0:
                if os.fork() == 0:
                    os._exit(0)
                os._exit(0)
        def zombies():
            states = []
            for entry in os.listdir("/proc"):
                if entry.isdigit():
                    try:
                        words = open(f"/proc/{entry}/stat").read().rpartition(")")[2].split()
                    except (FileNotFoundError, ProcessLookupError):
                        continue
                    if words[0] == "Z" and words[1] != str(os.getpid()):
                        states.append(entry)
            return states
        deadline = time.monotonic() + 10
        while (left := zombies()) and time.monotonic() < deadline:
            time.sleep(0.01)
        print(left)
    """
    if os.geteuid() != 0:
        pytest.skip("takes root: a PID namespace of its own")
    assert run("wrapped", *python(script)).stdout == b"[]\n"


@BOTH
def test_a_terminal_is_the_apps(how: str) -> None:
    """It is in the foreground, may read, and gets what is typed as Ctrl-C."""
    script = """
        import os, signal, sys
        signal.signal(signal.SIGINT, lambda *_: (print("interrupted", flush=True), sys.exit(4)))
        print(sys.stdin.isatty(), os.tcgetpgrp(0) == os.getpgrp(), flush=True)
        print("read", input(), flush=True)
        signal.pause()
    """
    pid, terminal = pty.fork()
    if pid == 0:
        argv = [*PREFIXES[how], *python(script)]
        os.execvp(argv[0], argv)
    try:
        shown = read_until(terminal, b"True True")
        os.write(terminal, b"what is typed\n")
        shown = read_until(terminal, b"read what is typed")
        os.write(terminal, b"\x03")
        shown = read_until(terminal, b"interrupted")
        assert shown.count(b"interrupted") == 1
    finally:
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 4


def read_until(terminal: int, wanted: bytes) -> bytes:
    shown = b""
    while wanted not in shown:
        ready, _, _ = select.select([terminal], [], [], 20)
        assert ready, shown
        shown += os.read(terminal, 4096)
    return shown


def first_process_of(process: subprocess.Popen[str]) -> int:
    """The one that the container's runtime would signal."""
    wait_until(lambda: children_of(process.pid))
    return children_of(process.pid)[0]


def app_of(first: int) -> int:
    return min(children_of(first))


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
