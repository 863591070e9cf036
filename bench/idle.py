"""What many idle points cost one recorder with default settings, and how fast all their rings are frozen.

usage: python bench/idle.py [--quick] [--points N] [--seconds S] [--rounds N] [--folder DIR]

Turns with and without `podcam record` alternate on the same namespaces. CPU is what all threads of all its
processes ran (/proc/PID/task/*/schedstat), plus the softirq time of the machine (/proc/stat) that is more
than without: the lowest of all turns each, as whatever else the machine does only adds to it. Memory is the
sum of the processes' RSS, to which the mapped kernel rings belong. For the freeze, some datagrams are sent in
every namespace; its time is from the request on the control socket to the `clip` event. Needs root.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podcam.clip import open_clip
from podcam.demo.namespaces import NetworkNamespace
from podcam.recorder import ask_recorder
from recorder import machine

POINTS = 110
MOST_RSS_MB, MOST_CPU_PERCENT, MOST_FREEZE_S = 200, 0.5, 0.5
DATAGRAMS = 200
_SETTLED_AFTER_S = 13.0
"""Ten seconds after its start the recorder syncs the segments that it began."""
_START_WITHIN_S = 120.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Turn:
    """One stretch of idling. CPU and softirq in percent of a core."""

    cpu: float
    """Of the recorder's processes."""
    softirq: float
    """Of the machine."""
    rss_mb: float = 0.0


@dataclass(frozen=True, slots=True)
class Freeze:
    """One clip of all points."""

    seconds: float
    block_timeout_s: float
    points: int
    segments: int
    packets: int
    copied: int
    """Segments that are no hard links."""


class Recorder:
    """`podcam record --json` on all namespaces, and its events with the times at which they were read."""

    def __init__(self, namespaces: Sequence[NetworkNamespace], folder: Path) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "podcam", "record", "--json", "--dir", str(folder)]
        for namespace in namespaces:
            command += ["--netns", str(namespace.path)]
        self._events: list[tuple[float, dict[str, Any]]] = []
        self._news = threading.Condition()
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        started = self.wait_for("started", len(namespaces))
        self.block_timeout_s = started[0][1]["block_timeout_ms"] / 1000

    def wait_for(self, kind: str, count: int = 1) -> list[tuple[float, dict[str, Any]]]:
        """The events of that kind, when there are so many."""
        with self._news:
            found = [(at, event) for at, event in self._events if event["event"] == kind]
            while len(found) < count:
                if not self._news.wait(_START_WITHIN_S) or self._process.poll() is not None:
                    raise RuntimeError(f"the recorder did not tell of {kind!r}")
                found = [(at, event) for at, event in self._events if event["event"] == kind]
        return found

    def processes(self) -> list[int]:
        """The supervisor, and its children."""
        pid = self._process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def stop(self) -> None:
        """As Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)
        self._reader.join()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            with self._news:
                if event["event"] != "status":
                    self._events.append((time.monotonic(), event))
                self._news.notify_all()


def idle_turn(seconds: float, processes: Sequence[int] = ()) -> Turn:
    """Watch so long."""
    ran, irq, begun = _ran_s(processes), _softirq_s(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begun
    return Turn(
        100 * (_ran_s(processes) - ran) / took,
        100 * (_softirq_s() - irq) / took,
        sum(map(_rss_mb, processes)),
    )


def _ran_s(processes: Sequence[int]) -> float:
    nanoseconds = 0
    for pid in processes:
        for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            nanoseconds += int(stat.read_text().split()[0])
    return nanoseconds / 1e9


def _softirq_s() -> float:
    with Path("/proc/stat").open() as file:
        return int(file.readline().split()[7]) * _TICK_S


def _rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def freeze_all(recorder: Recorder, namespaces: Sequence[NetworkNamespace]) -> Freeze:
    """Send in every namespace, and keep all of it."""
    for namespace in namespaces:
        namespace.call(_send)
    clips = len([e for _, e in recorder.wait_for("clip", 0)])
    asked = time.monotonic()
    answer = ask_recorder(recorder.folder, {"verb": "clip", "last_ns": 60 * 10**9, "reason": "benchmark"})
    assert answer is not None
    told, event = recorder.wait_for("clip", clips + 1)[-1]
    clip = open_clip(Path(event["path"]))
    links = [path.stat().st_nlink for path in clip.path.rglob("*.seg")]
    return Freeze(
        told - asked,
        recorder.block_timeout_s,
        points=len(clip.manifest.parts),
        segments=len(links),
        packets=sum(part.totals.packets for part in clip.manifest.parts),
        copied=sum(links_of_it != 2 for links_of_it in links),
    )


def _send() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(DATAGRAMS):
                sender.sendto(bytes(500), receiver.getsockname())


@contextlib.contextmanager
def many_namespaces(count: int) -> Iterator[list[NetworkNamespace]]:
    """So many, each with its loopback."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(NetworkNamespace.create())) for _ in range(count)]


def report(with_it: list[Turn], without: list[Turn], freezes: list[Freeze]) -> bool:
    """Print the table and what was promised; whether all of that held."""
    print("| | CPU of its processes | softirq of the machine | RSS |\n|---|---|---|---|")
    for name, turns in (("recording", with_it), ("without", without)):
        cells = (
            f"{_spread([getattr(turn, figure) for turn in turns], form)} {unit}"
            for figure, form, unit in (("cpu", ".2f", "%"), ("softirq", ".2f", "%"), ("rss_mb", ".0f", "MB"))
        )
        print(f"| {name} | {' | '.join(cells)} |")
    print("\n| freeze | of it after the block timeout | points | segments | packets | copied |")
    print("|---|---|---|---|---|---|")
    for freeze in freezes:
        beyond = freeze.seconds - freeze.block_timeout_s
        print(
            f"| {freeze.seconds:.3f} s | {beyond:.3f} s | {freeze.points} | {freeze.segments} "
            f"| {freeze.packets:,} | {freeze.copied} |"
        )
    rss = max(turn.rss_mb for turn in with_it)
    softirq = min(turn.softirq for turn in with_it) - min(turn.softirq for turn in without)
    cpu_percent = statistics.median(turn.cpu for turn in with_it) + max(0.0, softirq)
    slowest = max(freeze.seconds - freeze.block_timeout_s for freeze in freezes)
    promises = {
        f"RSS at most {MOST_RSS_MB} MB: {rss:.0f}": rss <= MOST_RSS_MB,
        f"CPU and softirq under {MOST_CPU_PERCENT} % of a core: {cpu_percent:.2f}": cpu_percent
        < MOST_CPU_PERCENT,
        f"frozen within {MOST_FREEZE_S} s plus the block timeout: {slowest:.3f}": slowest <= MOST_FREEZE_S,
        "no bytes copied": not any(freeze.copied for freeze in freezes),
        f"{DATAGRAMS} packets of every point in every clip": all(
            freeze.packets >= DATAGRAMS * freeze.points for freeze in freezes
        ),
    }
    print()
    for promise, held in promises.items():
        print(f"- {'held' if held else 'NOT HELD'}: {promise}")
    return all(promises.values())


def _spread(values: Sequence[float], form: str) -> str:
    middle, low, high = (format(f(values), form) for f in (statistics.median, min, max))
    return middle if low == high else f"{middle} ({low} to {high})"


def main() -> int:
    """Measure all, print all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few points, one short round")
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the rings lie (default: a temporary folder)")
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("bench/idle.py needs root", file=sys.stderr)
        return 1
    if args.quick:
        args.points, args.seconds, args.rounds = 5, 1.0, 1
    settled_after_s = 1.0 if args.quick else _SETTLED_AFTER_S
    print(f"## {args.points} idle points, {args.rounds} rounds of {args.seconds:g} s\n\n{machine()}\n")
    with_it, without, freezes = [], [], []
    with (
        tempfile.TemporaryDirectory(prefix="podcam-bench-", dir=args.folder) as scratch,
        many_namespaces(args.points) as namespaces,
    ):
        for _ in range(args.rounds):
            without.append(idle_turn(args.seconds))
            recorder = Recorder(namespaces, Path(scratch))
            time.sleep(settled_after_s)
            with_it.append(idle_turn(args.seconds, recorder.processes()))
            freezes.append(freeze_all(recorder, namespaces))
            recorder.stop()
    report(with_it, without, freezes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
