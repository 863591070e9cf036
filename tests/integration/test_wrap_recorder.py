"""The recorder beside an app: what it keeps, what it may, and what it does when it is harmed."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import network_lab as lab
from other_users import let_others_in
from pod_recorders import status_in
from podcam.capture import Namespace
from podcam.cli import main
from podcam.clip import ClipStore, Manifest, read_manifest
from podcam.recorder import RecorderFolder, resting_rings
from podcam.wrap.bundle import Bundle, make_bundle
from waiting import wait_until

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))

_WRAP = (sys.executable, "-I", "-m", "podcam", "wrap")
_CONVERSE = """
import socket, sys
with socket.create_server(("127.0.0.1", 0)) as server:
    for _ in range(50):
        with socket.create_connection(server.getsockname()) as client, server.accept()[0] as other:
            client.sendall(b"question"); other.recv(100); other.sendall(b"answer"); client.recv(100)
"""
_SEND_30_MB = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
other = server.accept()[0]
for _ in range(600):
    client.sendall(bytes(50000))
    other.recv(50000, socket.MSG_WAITALL)
"""
_NOBODY = 65534
_LITTLE = {"PATH": "/usr/bin:/bin"}


@pytest.fixture
def pod() -> Iterator[Namespace]:
    with lab.namespace() as where:
        yield where


class Wrapped:
    """An app under `podcam wrap` in a pod: by default a shell that waits for lines that say how to go on."""

    def __init__(
        self,
        pod: Namespace,
        folder: Path,
        *options: str,
        before: tuple[str, ...] = (),
        app: tuple[str, ...] = ("sh",),
    ) -> None:
        self.folder = folder
        command = [*before, *_WRAP, "--dir", str(folder), "--on", "none", *options]
        self._process = lab.inside(
            pod,
            lambda: subprocess.Popen(
                [*command, "--", *app],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            ),
        )
        self.pid = self._process.pid

    def runs(self, command: str) -> str:
        """What the app's shell answers to a command, of one line."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def converses(self) -> None:
        self.runs(f"{sys.executable} -c {shlex.quote(_CONVERSE)}; echo done")

    def ends(self, code: int = 0) -> list[str]:
        """What the recorder said, once the app has ended with this code, and all is over."""
        return self.has_ended(code, f"exit {code}\n")

    def has_ended(self, code: int, last_line: str = "") -> list[str]:
        """The same of an app that ends by itself."""
        said = self._process.communicate(last_line, timeout=60)[1]
        assert self._process.returncode == code, said
        return said.splitlines()

    def is_told_to_end(self) -> list[str]:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)  # before its standard input is closed, at which the app would end by itself
        said = self._process.communicate()[1]
        assert self._process.returncode == -signal.SIGTERM, said
        return said.splitlines()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    @property
    def status(self) -> dict[str, Any]:
        return status_in(self.folder)

    def wait_until_recorded(self) -> None:
        wait_until(lambda: self.status.get("state") == "recording", tell=lambda: self.status)

    @property
    def recorder(self) -> int:
        """The process beside the app's shell."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        (found,) = {*map(int, children)} - {int(self.runs("echo $$"))}
        return found

    def clip(self) -> Manifest:
        (clip,) = ClipStore(self.folder / "clips").clips()
        return read_manifest(clip.path)


@pytest.fixture
def wrapped(pod: Namespace, tmp_path: Path) -> Iterator[Callable[..., Wrapped]]:
    started: list[Wrapped] = []

    def start(*options: str, **others: tuple[str, ...]) -> Wrapped:
        started.append(Wrapped(pod, tmp_path / "ring", *options, **others))
        return started[-1]

    yield start
    for each in started:
        each.close()


def state_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


# --- what it keeps ---


def test_the_apps_end_is_kept_with_what_came_before(wrapped: Callable[..., Wrapped]) -> None:
    app = wrapped("--on", "exit")
    app.wait_until_recorded()
    app.converses()
    (said,) = app.ends(3)
    assert said.endswith("the app ended with exit code 3")
    (part,) = app.clip().parts
    assert part.totals.packets >= 50 * 9
    assert app.status["state"] == "ended"


def test_of_an_app_that_ends_at_once_a_clip_is_kept_or_it_is_told_why_not(
    wrapped: Callable[..., Wrapped],
) -> None:
    app = wrapped("--on", "exit", app=("sh", "-c", "exit 3"))
    (said,) = app.has_ended(3)
    if ClipStore(app.folder / "clips").clips():
        assert said.endswith("the app ended with exit code 3")
    else:
        assert said == "podcam: no clip is kept of the app's end, which came before recording began"


@pytest.mark.parametrize(("code", "clips"), [(0, 0), (3, 1)])
def test_only_a_failure_is_kept_where_that_was_asked_for(
    code: int, clips: int, wrapped: Callable[..., Wrapped]
) -> None:
    app = wrapped("--on", "exit-failure")
    app.wait_until_recorded()
    app.ends(code)
    assert len(ClipStore(app.folder / "clips").clips()) == clips


def test_a_pod_that_is_deleted_keeps_its_end_within_its_grace_period(wrapped: Callable[..., Wrapped]) -> None:
    app = wrapped("--on", "exit", "--grace", "10s")
    app.wait_until_recorded()
    began = time.monotonic()
    (said,) = app.is_told_to_end()
    assert said.endswith("the app ended with exit code 143")
    assert time.monotonic() - began < 9


# --- what it may ---


def test_the_recorder_keeps_of_roots_rights_what_it_needs(wrapped: Callable[..., Wrapped]) -> None:
    app = wrapped()
    app.wait_until_recorded()
    state = state_of(app.recorder)
    assert int(state["CapPrm"], 16) == 1 << 13 | 1 << 1  # NET_RAW, DAC_OVERRIDE
    assert state["NoNewPrivs"] == "1"
    assert Path(f"/proc/{app.recorder}/oom_score_adj").read_text() == "1000\n"
    assert os.getpriority(os.PRIO_PROCESS, app.recorder) >= 10
    limits = Path(f"/proc/{app.recorder}/limits").read_text()
    assert f"Max data size             {48 * 2**20}" in limits
    assert app.ends() == []


# --- it is harmed ---


def test_a_recorder_that_is_killed_is_started_again_and_the_gap_is_known(
    wrapped: Callable[..., Wrapped],
) -> None:
    app = wrapped()
    app.wait_until_recorded()
    os.kill(app.recorder, signal.SIGKILL)
    wait_until(lambda: app.status.get("restarts") == 1 and app.status["state"] == "recording")
    assert app.status["why_restarted"] == "the recorder was killed by signal 9"
    (said,) = app.ends()
    assert said.endswith("was killed by signal 9; it is tried again in 1 s, the app goes on")
    (ring,) = resting_rings(RecorderFolder(app.folder)).values()
    (gap,) = ring.owner.gaps
    assert gap.until_ns - gap.since_ns > 500_000_000


def test_a_recorder_that_does_not_end_is_killed_before_the_pod_is(wrapped: Callable[..., Wrapped]) -> None:
    app = wrapped("--grace", "3s")
    app.wait_until_recorded()
    os.kill(app.recorder, signal.SIGSTOP)
    began = time.monotonic()
    (said,) = app.is_told_to_end()
    assert "did not end within the grace period" in said
    assert 1 < time.monotonic() - began < 20  # without --grace: 29


def test_a_ring_that_finds_no_room_gives_way_and_says_so(
    wrapped: Callable[..., Wrapped], tmp_path: Path
) -> None:
    folder = tmp_path / "ring"
    folder.mkdir()
    mount = f'mount -t tmpfs -o size=16m tmpfs {folder} && exec "$@"'
    app = wrapped("--ring", "8x4MB", "--clips", "4MB", before=("unshare", "-m", "sh", "-c", mount, "sh"))
    look = f"(cat {folder}/status.json 2>/dev/null || echo '{{}}') | tr -d '\\n'; echo"
    wait_until(lambda: json.loads(app.runs(look)).get("state") == "recording")
    app.runs(f"{sys.executable} -c {shlex.quote(_SEND_30_MB)}; echo done")
    wait_until(lambda: json.loads(app.runs(look))["totals"].get("ring_bytes", 0) > 4_000_000)
    said = app.ends()
    assert "has 16 MB, and ring and clips may take 36 MB" in said[0]
    assert len(said) == 1, said


def test_a_ring_whose_folder_is_gone_is_told_in_lines_not_in_tracebacks(
    wrapped: Callable[..., Wrapped],
) -> None:
    app = wrapped("--ring", "4x4MB", "--clips", "4MB")
    app.wait_until_recorded()
    shutil.rmtree(app.folder / "points")
    (app.folder / "points").touch()
    app.runs(f"{sys.executable} -c {shlex.quote(_SEND_30_MB)}; echo done")
    wait_until(lambda: app.status["state"] == "failed", tell=lambda: app.status)
    said = app.ends(3)
    assert all(line.startswith("podcam: ") for line in said), said
    assert any("Not a directory" in line for line in said), said


@pytest.mark.parametrize("required", [False, True])
def test_a_folder_that_cannot_be_written_is_told(required: bool, pod: Namespace) -> None:
    options = ["--required"] if required else []
    command = [
        *_WRAP,
        "--dir",
        "/proc/podcam",
        *options,
        "--",
        "sh",
        "-c",
        "echo the app runs; exit 3",
    ]
    ended = lab.inside(
        pod, lambda: subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    )
    (why,) = ended.stderr.splitlines()
    assert why.startswith("podcam: recording is required" if required else "podcam: not record")
    assert "cannot make /proc/podcam" in why
    assert (ended.returncode, ended.stdout) == ((1, "") if required else (3, "the app runs\n"))


@pytest.mark.parametrize("wrong", [["--prot", "5432"], ["--ring", "many"], ["--narrow"], ["--on", "nothing"]])
def test_options_that_are_wrong_are_told_and_the_app_runs(
    wrong: list[str], pod: Namespace, tmp_path: Path
) -> None:
    app = ["sh", "-c", 'echo the app runs "$@"; exit 3', "--", "--", "--help"]
    command = [*_WRAP, "--dir", str(tmp_path), *wrong, "--", *app]
    ended = lab.inside(
        pod, lambda: subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    )
    assert (ended.returncode, ended.stdout) == (3, "the app runs -- --help\n")
    (why,) = ended.stderr.splitlines()
    assert why.startswith("podcam: not record")


# --- the bundle ---


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """In a folder that everybody may enter."""
    folder = tmp_path_factory.mktemp("bundle")
    let_others_in(folder)
    made = make_bundle(folder)
    assert made.capable
    return made


@pytest.fixture
def folder_for_all(tmp_path: Path) -> Path:
    """A folder that everybody may write to."""
    let_others_in(tmp_path)
    tmp_path.chmod(0o777)
    return tmp_path


def as_nobody(bundle: Bundle, *podcam: str, environment: Mapping[str, str] = _LITTLE) -> list[str]:
    nobody = ["setpriv", "--reuid", str(_NOBODY), "--regid", str(_NOBODY), "--clear-groups", "env", "-i"]
    given = [f"{name}={value}" for name, value in environment.items()]
    return [*nobody, *given, *bundle.command, *podcam]


def test_a_bundle_records_for_a_user_and_leaves_the_environment_alone(
    bundle: Bundle, pod: Namespace, folder_for_all: Path
) -> None:
    """What the C library's loader takes away from a program with file capabilities reaches the app."""
    folder = folder_for_all / "ring"
    environment = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C",
        "TMPDIR": "/nowhere",
        "MALLOC_ARENA_MAX": "2",
        "LD_LIBRARY_PATH": "/nowhere",
        "LD_PRELOAD": "",
    }
    wait = f'until grep -qs \'"state": "recording"\' {folder}/status.json; do sleep 0.05; done'
    app = f"tr '\\0' '\\n' < /proc/$$/environ; grep CapPrm /proc/self/status; {wait}"
    wrap = ("wrap", "--dir", str(folder), "--on", "none", "--on", "exit", "--")
    command = as_nobody(bundle, *wrap, "/bin/sh", "-c", app, environment=environment)
    ended = lab.inside(
        pod, lambda: subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd="/")
    )
    assert ended.returncode == 0, ended.stderr
    *given, capabilities = ended.stdout.splitlines()
    assert sorted(given) == sorted(f"{name}={value}" for name, value in environment.items())
    assert capabilities.split() == ["CapPrm:", "0000000000000000"]
    (said,) = ended.stderr.splitlines()
    assert said.endswith("the app ended with exit code 0")


def test_a_bundle_is_made_again_in_the_same_place(bundle: Bundle) -> None:
    again = make_bundle(bundle.folder)
    assert (again.files, again.capable) == (bundle.files, True)


def test_the_verb_prints_what_goes_in_front_of_the_apps_command(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bundle", "--json", str(bundle.folder)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["command"] == list(bundle.command)
    assert (told["capable"], told["files"]) == (True, bundle.files)
    assert main(["bundle", str(bundle.folder)]) == 0
    size, capability, _, for_a_shell, for_a_manifest = capsys.readouterr().out.splitlines()
    assert size.startswith(f"{bundle.folder}: ")
    assert "NET_RAW" in capability
    assert shlex.split(for_a_shell) == [*bundle.command, "wrap", "--"] == json.loads(for_a_manifest)


def test_a_bundle_that_cannot_be_written_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "/proc/podcam"]) == 1
    assert "cannot write the recorder into /proc/podcam" in capsys.readouterr().err


def test_a_bundle_runs_in_an_empty_root(bundle: Bundle, tmp_path: Path) -> None:
    inside = tmp_path / str(bundle.folder).lstrip("/")
    shutil.copytree(bundle.folder, inside)
    enter = 'mkdir "$0/proc" && mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
    command = ["unshare", "-m", "sh", "-c", enter, str(tmp_path), *bundle.command, "record", "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "podcam record" in ended.stdout


def test_sudo_starts_the_recorder_by_the_line_that_is_asked_for_and_by_no_other(
    bundle: Bundle, pod: Namespace, folder_for_all: Path
) -> None:
    if shutil.which("sudo") is None:
        pytest.skip("needs sudo: apt-get install sudo")
    sudoers = folder_for_all / "sudoers"
    sudoers.mkdir()
    ring = folder_for_all / "ring"

    def run_as_nobody(command: list[str]) -> subprocess.CompletedProcess[str]:
        mount = f'mount --bind {sudoers} /etc/sudoers.d && exec "$@"'
        inside = ["unshare", "-m", "sh", "-c", mount, "sh", *command]
        return lab.inside(
            pod,
            lambda: subprocess.run(inside, capture_output=True, text=True, check=False, timeout=60, cwd="/"),
        )

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        wrap = ("wrap", "--on", "none", "--sudo", "--dir", str(ring), *options)
        return run_as_nobody(as_nobody(bundle, *wrap, "--", "sh", "-c", "exit 3"))

    def doctor_on_sudo() -> str:
        told = run_as_nobody(as_nobody(bundle, "doctor", "--json", "--dir", str(ring))).stdout
        (found,) = (each for each in json.loads(told)["findings"] if each["subject"] == "way: sudo")
        return str(found["found"])

    assert doctor_on_sudo() == "no"
    refused = run("--on", "exit")
    assert refused.returncode == 3
    (why,) = refused.stderr.splitlines()
    # How the line of an app that goes on ends: this one may have ended before.
    line = why.partition("/etc/sudoers.d/podcam does: ")[2].removesuffix("; the app goes on")
    assert line.startswith("nobody ALL=(root) NOPASSWD: ")
    (sudoers / "podcam").write_text(line + "\n")

    assert doctor_on_sudo() == "works"
    recorded = run("--on", "exit", "--required")
    assert recorded.returncode == 3
    (said,) = recorded.stderr.splitlines()
    assert said.endswith("the app ended with exit code 3")
    assert (ring / "status.json").stat().st_uid == 0

    other = run("--on", "exit", "--ring", "2x4MB")
    assert "sudo does not allow it" in other.stderr
