"""What `podcam wrap` costs: the app's latency with and without it, and its recorder beside tcpdump.

usage: python bench/wrap.py [--quick] [--runs N] [--seconds S] [--folder DIR]

Latency: a small server in a network namespace of its own, alone and wrapped in turn, answers requests from a
namespace at the other end of a veth pair: a connection each, 200 a second, which tells how long one takes;
then as many as it can, which tells how many that are. Of the wrapped one: the memory of all that is beside
the app, shared pages once (the Pss of /proc/PID/smaps_rollup), and the CPU that it took.

Start and end: how long until the app's first output, and from its end to the end of all; by this Python, and
by one of `podcam bundle`.

Cost: `podcam wrap` and tcpdump take turns in one namespace, on the same traffic, as in recorder.py; what the
first process takes is counted with the recorder's. Needs root, tcpdump and ip.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_interface
from pathlib import Path

from podcam.demo.namespaces import NetworkNamespace, join
from podcam.wrap.bundle import make_bundle
from recorder import DEFAULTS, Load, Result, Tool, machine, measure, table

_CLIENT, _POD = ip_interface("192.0.2.10/24"), ip_interface("192.0.2.20/24")
_PORT = 8080
_PACED_PER_S = 200.0
_READY_WITHIN_S = 20.0
_REQUEST, _ANSWER = b"q" * 100, b"a" * 1000
_WRAP = (sys.executable, "-I", "-m", "podcam", "wrap", "--required", "--dir")
_LEAST_PACED = 20
_LIFE_S = 1


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the app, alone or wrapped."""

    waits_ms: list[float]
    """Of the paced requests, sorted."""
    per_s: float
    """Requests, as many as it can."""
    beside_mb: float = 0.0
    beside_cpu: float = 0.0
    """Percent of a core, over the whole turn."""

    def percentile(self, percent: float) -> float:
        """Of the paced requests' times, in milliseconds."""
        return self.waits_ms[min(len(self.waits_ms) - 1, int(len(self.waits_ms) * percent / 100))]


class WrappedRecorder:
    """`podcam wrap` as a tool of recorder.py: its app only waits, its totals stand in status.json."""

    def __init__(self) -> None:
        self._folder = Path()

    def tool(self) -> Tool:
        """It."""
        return Tool("podcam wrap", self._command, "recording", self._totals)

    def _command(self, folder: Path) -> list[str]:
        self._folder = folder
        return [*_WRAP, str(folder), "--", "sh", "-c", "echo recording; exec sleep 1000"]

    def _totals(self, _printed: str) -> tuple[int, int]:
        totals = json.loads((self._folder / "status.json").read_text())["totals"]
        return totals["packets"], totals["dropped"]


def serve() -> None:
    """The app: answers one request per connection."""
    with socket.create_server((str(_POD.ip), _PORT), backlog=256) as server:
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            with connection:
                received = 0
                while received < len(_REQUEST) and (data := connection.recv(4096)):
                    received += len(data)
                connection.sendall(_ANSWER)


def ask() -> float:
    """One request; the seconds that it took."""
    began = time.perf_counter()
    with socket.create_connection((str(_POD.ip), _PORT), timeout=10) as connection:
        connection.sendall(_REQUEST)
        received = 0
        while received < len(_ANSWER) and (data := connection.recv(4096)):
            received += len(data)
    return time.perf_counter() - began


def load(seconds: float) -> None:
    """The client: prints the times of the paced requests, and how many went when nothing held them back."""
    waits: list[float] = []
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or len(waits) < _LEAST_PACED:
        waits.append(ask())
        time.sleep(max(0.0, (len(waits) / _PACED_PER_S) - elapsed))
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        ask()
        count += 1
    print(json.dumps({"waits": waits, "per_s": count / (time.perf_counter() - start)}))


@contextlib.contextmanager
def _wire() -> Iterator[tuple[NetworkNamespace, NetworkNamespace]]:
    with (
        contextlib.closing(NetworkNamespace.create()) as client,
        contextlib.closing(NetworkNamespace.create()) as pod,
    ):
        join(client, pod, [(_CLIENT, _POD)])
        yield client, pod


@contextlib.contextmanager
def _app(pod: NetworkNamespace, prefix: list[str]) -> Iterator[subprocess.Popen[str]]:
    command = [*prefix, sys.executable, __file__, "serve"]
    process = pod.call(
        lambda: subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    )
    with process:
        assert process.stdout
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the app did not start")
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(_READY_WITHIN_S)


def take_turn(*, wrapped: bool, seconds: float, scratch: Path) -> Turn:
    """The app for a while, in namespaces and a folder of its own."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder, _wire() as (client, pod):
        prefix = [*_WRAP, folder, "--"] if wrapped else []
        with _app(pod, prefix) as app:
            beside = _beside(app.pid) if wrapped else []
            began, cpu = time.monotonic(), _cpu_ns(beside)
            command = [sys.executable, __file__, "load", str(seconds)]
            asked = client.call(partial(subprocess.run, command, stdout=subprocess.PIPE, check=True))
            percent = (_cpu_ns(beside) - cpu) / (time.monotonic() - began) / 1e7
            memory = sum(_pss_bytes(pid) for pid in beside) / 1e6
    told = json.loads(asked.stdout)
    return Turn(sorted(1e3 * wait for wait in told["waits"]), told["per_s"], memory, percent)


@dataclass(frozen=True, slots=True)
class Life:
    """One life of an app that does nothing for a while."""

    start_ms: float
    end_ms: float
    """Beyond the app's own."""


def live(prefix: list[str]) -> Life:
    """Start an app, and time it."""
    began = time.perf_counter()
    command = [*prefix, "sh", "-c", f"echo; sleep {_LIFE_S}"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        started = time.perf_counter()
        process.wait()
    ended = time.perf_counter()
    return Life(1e3 * (started - began), 1e3 * (ended - started - _LIFE_S))


def lives(runs: int, scratch: Path) -> str:
    """A row for each way to start it: medians (smallest to largest)."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        bundle = make_bundle(Path(folder, "bundle"))
        wrap = ("wrap", "--dir", f"{folder}/ring", "--on", "none", "--")
        prefixes = {
            "alone": [],
            "wrapped, by this Python": [sys.executable, "-I", "-m", "podcam", *wrap],
            f"wrapped, by a bundle of {bundle.bytes / 1e6:.0f} MB": [*bundle.command, *wrap],
        }
        taken: dict[str, list[Life]] = {name: [] for name in prefixes}
        with contextlib.closing(NetworkNamespace.create()) as pod:
            for _ in range(runs):
                for name, prefix in prefixes.items():
                    taken[name].append(pod.call(partial(live, prefix)))
    lines = ["| app | first output after ms | end later by ms |", "|---|---|---|"]
    for name, found in taken.items():
        cells = [
            f"{statistics.median(each):.0f} ({min(each):.0f} to {max(each):.0f})"
            for each in ([life.start_ms for life in found], [life.end_ms for life in found])
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _beside(first: int) -> list[int]:
    """The first process, and all below it but the app, which runs this file."""
    found = [first]
    for pid in found:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            found += filter(_is_beside, map(int, children.read_text().split()))
    return found


def _is_beside(pid: int) -> bool:
    return __file__.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:2]


def _cpu_ns(pids: list[int]) -> int:
    files = [file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(file.read_text().split()[0]) for file in files)


def _pss_bytes(pid: int) -> int:
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found
    return 1024 * int(found[1])


def latency_table(turns: dict[str, list[Turn]]) -> str:
    """A row for each, medians (smallest to largest) of its turns, and the ratio of the medians."""
    columns: list[tuple[str, str, Callable[[Turn], float]]] = [
        ("p50 ms", ".3f", lambda turn: turn.percentile(50)),
        ("p99 ms", ".3f", lambda turn: turn.percentile(99)),
        ("requests/s", ",.0f", lambda turn: turn.per_s),
        ("CPU beside, % of a core", ".1f", lambda turn: turn.beside_cpu),
        ("memory beside, MB", ".0f", lambda turn: turn.beside_mb),
    ]
    lines = [f"| app | {' | '.join(title for title, _, _ in columns)} |", "|---" * (len(columns) + 1) + "|"]
    medians: dict[str, list[float]] = {}
    for name, taken in turns.items():
        values = [[value(turn) for turn in taken] for _, _, value in columns]
        medians[name] = [statistics.median(each) for each in values]
        cells = [
            f"{statistics.median(each):{form}} ({min(each):{form}} to {max(each):{form}})"
            for each, (_, form, _) in zip(values, columns, strict=True)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    ratios = [f"{b / a:.2f}" if a else "" for a, b in zip(*medians.values(), strict=True)]
    return "\n".join([*lines, f"| ratio | {' | '.join(ratios)} |"])


def main() -> int:
    """Measure all, print all."""
    if sys.argv[1:2] == ["serve"]:
        serve()
    if sys.argv[1:2] == ["load"]:
        load(float(sys.argv[2]))
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short run of everything")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each kind of load in each run")
    parser.add_argument(
        "--folder", type=Path, help="where the rings are written (default: a temporary folder)"
    )
    args = parser.parse_args()
    missing = [tool for tool in ("tcpdump", "ip") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        print(f"bench/wrap.py needs root{''.join(f' and {tool}' for tool in missing)}", file=sys.stderr)
        return 1
    runs, seconds = (1, 0.5) if args.quick else (args.runs, args.seconds)
    with tempfile.TemporaryDirectory(prefix="podcam-bench-", dir=args.folder) as scratch:
        _compare(runs, seconds, Path(scratch))
    return 0


def _compare(runs: int, seconds: float, scratch: Path) -> None:
    print(f"## `podcam wrap`, {runs} alternating runs of {seconds:g} s each\n\n{machine()}\n", flush=True)
    turns: dict[str, list[Turn]] = {"alone": [], "wrapped": []}
    for _ in range(runs):
        for name, taken in turns.items():
            taken.append(take_turn(wrapped=name == "wrapped", seconds=seconds, scratch=scratch))
    print(f"### An app's requests, a connection each\n\n{latency_table(turns)}\n", flush=True)
    print(f"### Start and end\n\n{lives(2 * runs, scratch)}\n", flush=True)
    tools = [DEFAULTS[0], WrappedRecorder().tool()]
    for traffic in (
        Load("A mix of 1,000 short TCP connections per second", "connections", 1000.0),
        Load("UDP, 64 bytes, 20,000 packets/s", "datagrams", 20_000.0),
    ):
        results: dict[str, list[Result]] = {tool.name: [] for tool in tools}
        for _ in range(runs):
            for tool in tools:
                results[tool.name].append(measure(tool, traffic, seconds, scratch))
        print(f"### {traffic.title}; default buffers\n\n{table(traffic, results)}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
