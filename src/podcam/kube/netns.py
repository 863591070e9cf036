"""From a pod to the network namespace that its runtime made for it, as seen on the pod's node.

Runtimes call CNI through libcni, which keeps the result of each call in /var/lib/cni/results: that says which
namespace belongs to which pod, needs no right over processes, and is there before the pod's first process.
Where no such results name a file, /proc/PID/cgroup tells which processes are the pod's, if all of the node's
can be seen (hostPID).
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from podcam.kube._inotify import (
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
    Inotify,
)
from podcam.kube.cgroups import pod_uid_of
from podcam.kube.core import Pod

_CACHE = Path("/var/lib/cni")
_RESULTS = _CACHE / "results"
_NAMED = Path("/run/netns")
_OWN = Path("/proc/self/ns/net")
_MOST_RESULT_BYTES = 1 << 20
_START_FIELD = 19
"""Of /proc/PID/stat, counted from after the command's name: starttime, proc_pid_stat(5)."""


class NotYet(Exception):  # noqa: N818 - a state of the pod, not an error
    """The pod's namespace is being made: its file is there, and no namespace behind it so far."""


@dataclass(frozen=True, slots=True)
class _Result:
    """A cached result of CNI: of one network of one sandbox."""

    uid: str
    """"" where the runtime did not say."""
    namespace: str
    name: str
    netns: str
    written_ns: int


@dataclass(frozen=True, slots=True)
class NamespaceChanges:
    """What happened to the files that the finder looks at."""

    appeared: frozenset[Path] = frozenset()
    """Namespaces; soon each is mounted, and known from a result."""
    gone: frozenset[Path] = frozenset()
    """Namespaces that ended: no packet comes from there any more."""
    results: bool = False
    """Some pod's result was written, or removed."""


class NamespaceFinder:
    """Finds the network namespaces of this node's pods.

    Args:
        host: where the node's folders are: `/` when they are mounted at their own places.
    """

    def __init__(self, host: Path = Path("/")) -> None:
        self._host = host
        self._results: dict[str, tuple[tuple[int, int, int], _Result | None]] = {}
        """By file: its stamp and what it says; None when it is no pod's."""

    def find(self, pod: Pod) -> Path | None:
        """The file that stands for the pod's network namespace; None while it has none that can be seen.

        A pod in the node's own network has one only where all of the node's processes can be seen.

        Raises:
            NotYet: its file is there, but no namespace is mounted on it so far.
        """
        results = self._read_results()
        mine = [result for result in results if _is_of(result, pod)]
        waiting = False
        for result in sorted(mine, key=lambda result: result.written_ns, reverse=True):
            path = self._seen_here(result.netns)
            with suppress(OSError):
                if path.stat().st_dev == _OWN.stat().st_dev:
                    return path
                waiting = True
        if waiting:
            raise NotYet
        if results and not pod.host_network:
            return None
        return self._by_process(pod.node_uid or pod.uid)

    def watch(self) -> "NamespaceWatch":
        """Be told when there is something new to find.

        Raises:
            OSError: the kernel gives no further inotify instance.
        """
        return NamespaceWatch(self._host)

    def _read_results(self) -> list[_Result]:
        """All pods' results; only files that are new are read."""
        known, self._results = self._results, {}
        try:
            entries = list(os.scandir(_below(self._host, _RESULTS)))
        except OSError:
            return []
        for entry in entries:
            with suppress(OSError):
                status = entry.stat()
                stamp = status.st_ino, status.st_mtime_ns, status.st_size
                before = known.get(entry.name)
                if before is not None and before[0] == stamp:
                    self._results[entry.name] = before
                else:
                    self._results[entry.name] = stamp, _read_result(Path(entry.path), status.st_mtime_ns)
        return [result for _, result in self._results.values() if result is not None]

    def _seen_here(self, netns: str) -> Path:
        """The runtime says /var/run, which is /run on the node, but need not be so here."""
        path = Path(netns)
        if path.is_relative_to("/var/run"):
            path = Path("/run") / path.relative_to("/var/run")
        return _below(self._host, path)

    def _by_process(self, uid: str) -> Path | None:
        """The namespace of the pod's first process: later ones may have made one of their own."""
        processes = _below(self._host, Path("/proc"))
        first: tuple[int, Path] | None = None
        for process in _processes(processes):
            with suppress(OSError, ValueError, IndexError):
                if pod_uid_of((process / "cgroup").read_text()) != uid:
                    continue
                started = int((process / "stat").read_text().rpartition(")")[2].split()[_START_FIELD])
                if first is None or started < first[0]:
                    first = started, process / "ns" / "net"
        return None if first is None else first[1]


class NamespaceWatch:
    """Tells when namespaces appear and go: put it into the loop by its `fileno`, then ask for `changes`."""

    def __init__(self, host: Path) -> None:
        self._named = _below(host, _NAMED)
        self._results = _below(host, _RESULTS)
        self._inotify = Inotify()
        self._watches: dict[int, Path] = {}
        self._add_folders()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """Ready to read when there are changes."""
        return self._inotify.fileno()

    def close(self) -> None:
        """Be told no more."""
        self._inotify.close()

    def changes(self) -> NamespaceChanges:
        """What happened since the last call; never blocks. Where events were lost, results count as new."""
        appeared: set[Path] = set()
        gone: set[Path] = set()
        results = False
        for event in self._inotify.events():
            folder = self._watches.get(event.watch)
            if event.mask & IN_Q_OVERFLOW or folder != self._named:
                results = True
            elif event.mask & IN_CREATE:
                appeared.add(folder / event.name)
                gone.discard(folder / event.name)
            elif event.mask & IN_DELETE:
                gone.add(folder / event.name)
                appeared.discard(folder / event.name)
        if results:
            self._add_folders()
        return NamespaceChanges(frozenset(appeared), frozenset(gone), results)

    def _add_folders(self) -> None:
        """Also those that did not exist before, or were made again."""
        written = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE
        for folder, mask in (
            (self._named, IN_CREATE | IN_DELETE),
            (self._results.parent, IN_CREATE | IN_MOVED_TO),
            (self._results, written),
        ):
            with suppress(OSError):
                self._watches[self._inotify.add(str(folder), mask)] = folder


def _below(host: Path, path: Path) -> Path:
    return host / path.relative_to("/")


def _is_of(result: _Result, pod: Pod) -> bool:
    if result.uid:
        return result.uid in {pod.uid, pod.node_uid}
    return (result.namespace, result.name) == (pod.namespace, pod.name)


def _processes(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        for entry in os.scandir(folder):
            if entry.name.isdigit():
                yield Path(entry.path)


def _read_result(path: Path, written_ns: int) -> _Result | None:
    """What a cached result says; None when it is no pod's, or not written to its end.

    Nor when it names a process (cri-dockerd does): its number may mean another one here.
    """
    with path.open("rb") as file:
        data = file.read(_MOST_RESULT_BYTES)
    try:
        body = json.loads(data)
        arguments = {str(name): str(value) for name, value in body.get("cniArgs") or ()}
        netns = body["netns"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(netns, str) or not netns.startswith(("/run/", "/var/run/")):
        return None
    if "K8S_POD_NAME" not in arguments:
        return None
    return _Result(
        uid=arguments.get("K8S_POD_UID", ""),
        namespace=arguments.get("K8S_POD_NAMESPACE", ""),
        name=arguments["K8S_POD_NAME"],
        netns=netns,
        written_ns=written_ns,
    )
