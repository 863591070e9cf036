"""The first process of a container: starts the app, passes signals on, reaps, and ends as the app ended.

It stays beside the app instead of becoming it: a recorder that were the app's child would be its zombie one
day, and would be killed with process 1 before it could write what it has: pid_namespaces(7), credentials(7).
"""

import grp
import os
import pwd
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

from podcam.errors import UsageError

_RESET = (signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores these; the app is to find them as they were."""
_KEPT_BACK = {signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP}
_SI_KERNEL = 0x80
"""siginfo's code of a signal that a terminal sent to the whole foreground group: asm-generic/siginfo.h."""
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
"""As a shell reports them."""


class Companion(Protocol):
    """What runs beside the app, and must never be the reason why that ends."""

    def before_app(self) -> None:
        """The app is about to start. Raises PodcamError where it is not to."""

    def after_app(self) -> None:
        """The app has started."""

    def ended(self, pid: int, status: int) -> bool:
        """Take note that a process ended, with its wait status; whether it was the companion's."""

    def due_seconds(self) -> float | None:
        """In how many seconds `act` wants to be called; None for not at all."""

    def act(self) -> None:
        """Do what is due: start again what ended."""

    def app_ended(self, code: int, signalled_seconds: float | None) -> None:
        """Finish, in what is left of the time that the app was given to end, and return.

        Args:
            code: the app's exit code, 128 and the signal where one ended it.
            signalled_seconds: when SIGTERM came, on the monotonic clock.
        """


class Nobody:
    """No companion."""

    def before_app(self) -> None:
        """Nothing is to be started."""

    def after_app(self) -> None:
        """Nothing is to be started."""

    def ended(self, _pid: int, _status: int) -> bool:
        """It was an orphan."""
        return False

    def due_seconds(self) -> None:
        """Never."""

    def act(self) -> None:
        """Nothing is due."""

    def app_ended(self, _code: int, _signalled_seconds: float | None) -> None:
        """Nobody is told."""


@dataclass(frozen=True, slots=True)
class User:
    """Whom the app runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]

    @classmethod
    def named(cls, spec: str) -> "User":
        """`USER` or `USER:GROUP`, names or numbers, as Kubernetes and Docker spell it.

        The groups that the pod adds to every process, as its fsGroup, stay.

        Raises:
            UsageError: there is no such user or group.
        """
        user, _, group = spec.partition(":")
        entry = _user_entry(user)
        uid = entry.pw_uid if entry else int(user)
        gid = _gid_of(group) if group else entry.pw_gid if entry else 0
        own = os.getgrouplist(entry.pw_name, gid) if entry else []
        return cls(uid, gid, tuple(sorted({*own, *_groups_of_the_pod()})))


class FirstProcess:
    """Runs one app to its end.

    Args:
        argv: the app's command.
        environment: the app's own.
        user: whom it runs as; None for the user that this process has.
    """

    def __init__(
        self, argv: Sequence[str], environment: Mapping[bytes, bytes], user: User | None = None
    ) -> None:
        self._argv = list(argv)
        self._environment = environment
        self._user = user
        self._app = 0
        self._status: int | None = None
        self._signalled_seconds: float | None = None
        self._own_group = os.getpid() == os.getsid(0)
        """As the leader of a session it gives the app a group of its own, so that `kill 0` there means what
        it means without it; within somebody's job it stays in that job."""

    def run(self, companion: Companion) -> int:
        """Run the app; returns its exit code, 128 and the signal's number where one ended it."""
        watched = signal.valid_signals() - _KEPT_BACK | {signal.SIGCHLD}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
        companion.before_app()
        self._start_app(before)
        companion.after_app()
        while self._status is None:
            due = companion.due_seconds()
            got = signal.sigwaitinfo(watched) if due is None else signal.sigtimedwait(watched, max(0.0, due))
            if got is None:
                companion.act()
            elif got.si_signo != signal.SIGCHLD:
                self._pass_on(got)
            self._reap(companion)
        code = os.waitstatus_to_exitcode(self._status)
        code = 128 - code if code < 0 else code
        companion.app_ended(code, self._signalled_seconds)
        return code

    @property
    def ended_by(self) -> int | None:
        """The signal that ended the app, if one did."""
        return (
            os.WTERMSIG(self._status) if self._status is not None and os.WIFSIGNALED(self._status) else None
        )

    def _start_app(self, mask: set[signal.Signals] | set[int]) -> None:
        self._app = os.fork()
        if self._app == 0:
            self._become_app(mask)
        if self._own_group:
            with suppress(OSError):  # the app did so itself, or is another program by now
                os.setpgid(self._app, self._app)

    def _become_app(self, mask: set[signal.Signals] | set[int]) -> NoReturn:
        try:
            if self._own_group:
                os.setpgid(0, 0)
                _take_terminal()
            if self._user is not None:
                os.setgroups(self._user.groups)
                os.setresgid(*[self._user.gid] * 3)
                os.setresuid(*[self._user.uid] * 3)
            for number in _RESET:
                signal.signal(number, signal.SIG_DFL)
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.execvpe(self._argv[0], self._argv, self._environment)  # noqa: S606 - that is its purpose
        except FileNotFoundError as error:
            _give_up(f"{self._argv[0]}: {error.strerror}", _NOT_FOUND)
        except OSError as error:
            _give_up(f"{self._argv[0]}: {error.strerror}", _NOT_EXECUTABLE)

    def _pass_on(self, got: signal.struct_siginfo) -> None:
        if got.si_signo == signal.SIGTERM and self._signalled_seconds is None:
            self._signalled_seconds = time.monotonic()
        reached_by_terminal = got.si_code == _SI_KERNEL and not self._own_group
        if not reached_by_terminal:
            # It may have become another user's, by a set-user-id program: then only root can reach it.
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self._app, got.si_signo)

    def _reap(self, companion: Companion) -> None:
        """Take note of every process that ended: app, companion, and orphans, whose parent this is."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._app:
                self._status = status
            else:
                companion.ended(pid, status)


def original_environment() -> Mapping[bytes, bytes]:
    """What this process was given, from /proc/self/environ: the environment of the app.

    Python adds to its own (PEP 538), and in a start with file capabilities the C library's loader takes away
    what is unsafe for itself, as LD_PRELOAD, MALLOC_ARENA_MAX and TMPDIR are: ld.so(8), secure-execution
    mode.
    """
    place = Path("/proc/self/environ")
    try:
        found = place.read_bytes()
    except PermissionError:
        from podcam.wrap.capabilities import own_proc  # noqa: PLC0415 - other starts need not wait for it

        own_proc()
        found = place.read_bytes()
    pairs = (each.split(b"=", 1) for each in found.split(b"\0") if b"=" in each[1:])
    return {pair[0]: pair[1] for pair in pairs}


def end_as(code: int, ended_by: int | None) -> int:
    """End this process as the app ended: by the same signal where the kernel lets it.

    Process 1 of a container cannot be ended by a signal of its own: there, and for any other end, the exit
    code to end with is returned, and says 128 and the signal's number.
    """
    if ended_by is not None and os.getpid() != 1:
        with suppress(OSError, ValueError):
            import resource  # noqa: PLC0415 - for this rare end only: the app waits for nothing that is imported

            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        with suppress(OSError, ValueError):
            signal.signal(ended_by, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {ended_by})
        os.kill(os.getpid(), ended_by)
    return code


def _take_terminal() -> None:
    """Become the foreground group of the controlling terminal, where there is one: tcsetpgrp(3)."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    with suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            os.tcsetpgrp(terminal, os.getpgrp())
        finally:
            os.close(terminal)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _user_entry(user: str) -> pwd.struct_passwd | None:
    """None for a number that the image does not know."""
    try:
        return pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        if user.isdecimal():
            return None
    raise UsageError(f"--user {user}: there is no such user in this image: name a number, as in 1000:1000")


def _gid_of(group: str) -> int:
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise UsageError(
            f"--user: there is no group {group} in this image: name a number, as in 1000:1000"
        ) from None


def _groups_of_the_pod() -> set[int]:
    """What this process has beside what the image gives to its user."""
    try:
        own = pwd.getpwuid(os.getuid())
    except KeyError:
        return set(os.getgroups())
    return set(os.getgroups()) - set(os.getgrouplist(own.pw_name, own.pw_gid))


def _give_up(why: str, code: int) -> NoReturn:
    os.write(sys.stderr.fileno(), f"podcam wrap: {why}\n".encode())
    os._exit(code)
