"""Podcam's recorder beside tcpdump and dumpcap, on the same traffic: packets, drops, CPU, memory, history.

usage: python bench/recorder.py [--quick] [--runs N] [--seconds S] [--folder DIR]

The load runs between two network namespaces joined by a veth pair, made anew for every run; the tools take
turns. What was to be captured is what the interface counted; captured + dropped is held against that. CPU is
what all threads of all processes of a tool ran from just before the load until it had caught up
(/proc/PID/task/*/schedstat), memory the sum of their peak RSS with mapped rings; history follows from what
they gave to write(2). Needs root, tcpdump, dumpcap and ip.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_interface
from pathlib import Path
from typing import IO

from podcam.demo.namespaces import NetworkNamespace, join

_LOADS = Path(__file__).parent / "loads.py"
_SENDER, _RECEIVER = ip_interface("192.0.2.10/24"), ip_interface("192.0.2.20/24")
_BUFFER_MIB = 32
_DISABLE_IPV6 = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
_READY_WITHIN_S = 15.0
_CAUGHT_UP_WITHIN_S = 20.0
_CAUGHT_UP_AFTER_S = 1.25
"""tcpdump lets a quiet kernel block wait for 1 s before it reads it."""
_BUSY_NS_PER_S = 20_000_000
"""A tool that runs for less than this has caught up."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A recorder: how to start it in a folder, what it prints when it is ready, what it prints at the end."""

    name: str
    command: Callable[[Path], list[str]]
    ready: str
    totals: Callable[[str], tuple[int, int]]
    """From everything that it printed: packets captured, and dropped."""


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of traffic."""

    title: str
    name: str
    """In loads.py."""
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one tool under one load."""

    offered: int
    """Packets that the interface counted, both directions."""
    captured: int
    dropped: int
    cpu_s: float
    peak_rss_bytes: int
    written_bytes: int
    seconds: float
    sent: int
    """What the load itself counted: connections, datagrams, or bytes of the stream."""

    @property
    def drop_share(self) -> float:
        return self.dropped / self.offered

    @property
    def cpu_us_per_packet(self) -> float:
        return 1e6 * self.cpu_s / self.captured

    @property
    def history_s_per_mb(self) -> float:
        """How long this load may last until it has filled 1 MB, if nothing is dropped."""
        return 1e6 / (self.written_bytes / self.captured * self.offered / self.seconds)


def _tcpdump(*options: str) -> Tool:
    def totals(printed: str) -> tuple[int, int]:
        captured, dropped = (
            re.search(rf"(\d+) packets? {what}", printed) for what in ("captured", "dropped by kernel")
        )
        assert captured, printed
        assert dropped, printed
        return int(captured[1]), int(dropped[1])

    return Tool(
        "tcpdump",
        lambda folder: [
            *("tcpdump", "-n", "-Z", "root", "-i", "eth0", "-C", "100", "-W", "10"),
            *("-w", f"{folder}/ring.pcap", *options),
        ],
        "listening on",
        totals,
    )


def _dumpcap(*options: str) -> Tool:
    def totals(printed: str) -> tuple[int, int]:
        found = re.search(r"received/dropped on interface '?eth0'?: (\d+)/(\d+)", printed)
        assert found, printed
        return int(found[1]), int(found[2])

    return Tool(
        "dumpcap",
        lambda folder: [
            *("dumpcap", "-q", "-i", "eth0", "-b", "filesize:100000", "-b", "files:10"),
            *("-w", f"{folder}/ring.pcapng", *options),
        ],
        "File: ",
        totals,
    )


def _podcam(name: str, *options: str) -> Tool:
    def totals(printed: str) -> tuple[int, int]:
        stopped = next(line for line in printed.splitlines() if '"stopped"' in line)
        event = json.loads(stopped)
        return event["packets"], event["dropped"]

    return Tool(
        name,
        lambda folder: [
            *(sys.executable, "-m", "podcam", "record", "--json", "--dir", str(folder), "--ring", "10x100MB"),
            *options,
        ],
        '"started"',
        totals,
    )


EQUAL_BUFFERS = [
    _tcpdump("-B", str(_BUFFER_MIB * 1024)),
    _dumpcap("-B", str(_BUFFER_MIB)),
    _podcam("podcam, no trigger", "--on", "none", "--memory", f"{_BUFFER_MIB}MiB"),
    _podcam("podcam, trigger", "--memory", f"{_BUFFER_MIB}MiB"),
]
DEFAULTS = [_tcpdump(), _dumpcap(), _podcam("podcam, no trigger", "--on", "none"), _podcam("podcam, trigger")]


class _Running:
    """A process whose output goes to a file, with its descendants."""

    def __init__(self, namespace: NetworkNamespace, command: list[str], output: Path) -> None:
        self._output = output
        with output.open("w") as file:
            self._process = namespace.call(
                lambda: subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
            )

    def wait_until_it_prints(self, text: str) -> None:
        end = time.monotonic() + _READY_WITHIN_S
        while text not in self.printed:
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self._process.args!r} did not print {text!r}: {self.printed}")
            time.sleep(0.02)

    @property
    def printed(self) -> str:
        return self._output.read_text()

    def cpu_ns(self) -> int:
        """On a CPU so far, user and system: the first number of schedstat (Documentation/scheduler)."""
        return sum(
            int(file.read_text().split()[0])
            for folder in self._folders()
            for file in folder.glob("task/*/schedstat")
        )

    def peak_rss_bytes(self) -> int:
        return 1024 * self._sum("status", r"VmHWM:\s+(\d+) kB")

    def written_bytes(self) -> int:
        return self._sum("io", r"wchar: (\d+)")

    def wait_until_caught_up(self) -> None:
        end = time.monotonic() + _CAUGHT_UP_WITHIN_S
        busy = True
        while busy:
            if time.monotonic() > end:
                raise RuntimeError(
                    f"{self._process.args!r} is still busy {_CAUGHT_UP_WITHIN_S:g} s after the load"
                )
            before = self.cpu_ns()
            time.sleep(_CAUGHT_UP_AFTER_S)
            busy = self.cpu_ns() - before > _BUSY_NS_PER_S * _CAUGHT_UP_AFTER_S

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _sum(self, file: str, pattern: str) -> int:
        texts = [(folder / file).read_text() for folder in self._folders()]
        return sum(int(number) for text in texts for number in re.findall(pattern, text))

    def _folders(self) -> list[Path]:
        """/proc/PID of the process and all its descendants (proc_pid_task_children(5))."""
        found = [Path(f"/proc/{self._process.pid}")]
        for folder in found:
            for children in folder.glob("task/*/children"):
                found += [Path(f"/proc/{pid}") for pid in children.read_text().split()]
        return found


def measure(tool: Tool, load: Load, seconds: float, scratch: Path) -> Result:
    """One run in namespaces and a folder of its own."""
    with contextlib.ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(dir=scratch)))
        sender, receiver = cleanup.enter_context(_wire(small_packets=load.name == "datagrams"))
        sink = _Running(
            receiver, [sys.executable, str(_LOADS), "sink", str(_RECEIVER.ip)], folder / "sink.out"
        )
        cleanup.callback(sink.kill)
        sink.wait_until_it_prints("ready")
        with _ready_load(sender, load, seconds) as source:
            ring = folder / "ring"
            ring.mkdir()
            recorder = _Running(receiver, tool.command(ring), folder / "recorder.out")
            cleanup.callback(recorder.kill)
            recorder.wait_until_it_prints(tool.ready)
            offered, cpu, written = _packets(receiver), recorder.cpu_ns(), recorder.written_bytes()
            assert source.stdin
            assert source.stdout
            source.stdin.write("go\n")
            source.stdin.flush()
            done = json.loads(source.stdout.readline())
        recorder.wait_until_caught_up()
        cpu, written = recorder.cpu_ns() - cpu, recorder.written_bytes() - written
        peak = recorder.peak_rss_bytes()
        offered = _packets(receiver) - offered
        recorder.interrupt()
        captured, dropped = tool.totals(recorder.printed)
    return Result(offered, captured, dropped, cpu / 1e9, peak, written, done["seconds"], done["sent"])


@contextlib.contextmanager
def _wire(*, small_packets: bool) -> Iterator[tuple[NetworkNamespace, NetworkNamespace]]:
    with (
        contextlib.closing(NetworkNamespace.create()) as a,
        contextlib.closing(NetworkNamespace.create()) as b,
    ):
        for namespace in (a, b):  # no packets but the load's
            namespace.call(partial(_DISABLE_IPV6.write_text, "1"))
        join(a, b, [(_SENDER, _RECEIVER)])
        if small_packets:
            a.call(partial(subprocess.run, ["ip", "link", "set", "eth0", "gso_max_segs", "1"], check=True))
        yield a, b


@contextlib.contextmanager
def _ready_load(sender: NetworkNamespace, load: Load, seconds: float) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(_LOADS), load.name, str(_RECEIVER.ip), str(seconds), str(load.rate)]
    process = sender.call(
        lambda: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    )
    with process:
        _expect(process.stdout, "ready\n")
        yield process


def _expect(stream: IO[str] | None, line: str) -> None:
    assert stream is not None
    if (got := stream.readline()) != line:
        raise RuntimeError(f"the load printed {got!r} instead of {line!r}")


def _packets(namespace: NetworkNamespace) -> int:
    """Received and sent by eth0 so far."""
    counters = namespace.call(Path("/proc/thread-self/net/dev").read_text)
    fields = next(line for line in counters.splitlines() if "eth0:" in line).split(":")[1].split()
    return int(fields[1]) + int(fields[9])


def rate_that_tcpdump_holds(seconds: float, scratch: Path, steps: int) -> float:
    """Datagrams per second that tcpdump, with the equal buffer, just holds: found by halving."""
    tcpdump = EQUAL_BUFFERS[0]
    full = measure(tcpdump, Load("", "datagrams"), seconds, scratch)
    low, high = 0.0, full.sent / full.seconds
    if full.dropped == 0:
        return high
    for _ in range(steps):
        middle = (low + high) / 2
        result = measure(tcpdump, Load("", "datagrams", middle), seconds, scratch)
        low, high = (low, middle) if result.dropped else (middle, high)
    return low


def table(load: Load, runs: dict[str, list[Result]]) -> str:
    """One markdown table: a row for each tool, median (smallest to largest) of its runs."""
    each = "connection" if load.name == "connections" else ""
    heads = ["tool", "packets", "dropped", "CPU s", "CPU µs/packet", *([f"CPU µs/{each}"] if each else [])]
    heads += ["peak RSS MB", "history s/MB", "sent = captured + dropped"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name, results in runs.items():
        cells = [
            name,
            _spread([r.offered for r in results], ",.0f"),
            _spread([100 * r.drop_share for r in results], ".2f") + " %",
            _spread([r.cpu_s for r in results], ".3f"),
            _spread([r.cpu_us_per_packet for r in results], ".2f"),
            *([_spread([1e6 * r.cpu_s / r.sent for r in results], ".1f")] if each else []),
            _spread([r.peak_rss_bytes / 1e6 for r in results], ".0f"),
            _spread([r.history_s_per_mb for r in results], ".4f"),
            _balance(results),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float], form: str) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return format(middle, form) if low == high else f"{middle:{form}} ({low:{form}} to {high:{form}})"


def _balance(results: list[Result]) -> str:
    """Whether the books balance in every run, and by how many packets they do not."""
    off = [r.captured + r.dropped - r.offered for r in results]
    return "yes" if not any(off) else f"off by {', '.join(f'{n:+d}' for n in off if n)}"


def promises(load: Load, runs: dict[str, list[Result]]) -> list[str]:
    """What the design promises of this load, with equal buffers, and whether it was held."""

    def median(tool: str, value: Callable[[Result], float]) -> float:
        return statistics.median(value(result) for result in runs[tool])

    ours, with_trigger = "podcam, no trigger", "podcam, trigger"
    lost, theirs = (median(tool, lambda r: r.drop_share) for tool in (ours, "tcpdump"))
    cpu = {tool: median(tool, lambda r: r.cpu_us_per_packet) for tool in runs}
    told = [
        (f"drops at most a fifth of tcpdump's: {lost:.2%} of {theirs:.2%}", lost <= theirs / 5),
        (
            f"CPU per packet without trigger below tcpdump's and dumpcap's: {cpu[ours]:.2f} µs",
            cpu[ours] < min(cpu["tcpdump"], cpu["dumpcap"]),
        ),
    ]
    if load.name == "connections":
        times = median(with_trigger, lambda r: r.cpu_s) / median("tcpdump", lambda r: r.cpu_s)
        told.append((f"CPU with trigger at most three times tcpdump's: {times:.1f} times", times <= 3))
    return [f"- {'held' if is_held else 'NOT HELD'}: {what}" for what, is_held in told]


def machine() -> str:
    """What the figures are from: processors, kernel, commit, tools."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    commit = _first_line(["git", "-C", str(_LOADS.parent), "describe", "--always", "--dirty"])
    versions = ", ".join(_first_line([tool, "--version"]) for tool in ("tcpdump", "dumpcap"))
    return (
        f"{os.cpu_count()} x {model[1] if model else platform.machine()}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {versions}, commit {commit or 'unknown'}"
    )


def _first_line(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.partition("\n")[0]


def main() -> int:
    """Measure all, print all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one short run of everything")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of load in each run")
    parser.add_argument(
        "--folder", type=Path, help="where the rings are written (default: a temporary folder)"
    )
    args = parser.parse_args()
    missing = [tool for tool in ("tcpdump", "dumpcap", "ip") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        print(f"bench/recorder.py needs root{''.join(f' and {tool}' for tool in missing)}", file=sys.stderr)
        return 1
    runs, seconds, steps = (1, 0.5, 2) if args.quick else (args.runs, args.seconds, 7)
    with tempfile.TemporaryDirectory(prefix="podcam-bench-", dir=args.folder) as scratch:
        _compare(runs, seconds, steps, Path(scratch))
    return 0


def _compare(runs: int, seconds: float, steps: int, scratch: Path) -> None:
    print(f"## Recorder, {runs} alternating runs of {seconds:g} s each\n\n{machine()}\n", flush=True)
    held = rate_that_tcpdump_holds(seconds, scratch, steps)
    loads = [
        Load("One TCP stream at full speed", "stream"),
        Load(f"UDP, 64 bytes, {held:,.0f} packets/s: what tcpdump just holds", "datagrams", held),
        Load("UDP, 64 bytes, at full speed", "datagrams"),
        Load("A mix of 1,000 short TCP connections per second", "connections", 1000.0),
    ]
    for buffers, tools in (
        (f"{_BUFFER_MIB} MiB of kernel buffer", EQUAL_BUFFERS),
        ("default buffers", DEFAULTS),
    ):
        for load in loads:
            results: dict[str, list[Result]] = {tool.name: [] for tool in tools}
            for _ in range(runs):
                for tool in tools:
                    results[tool.name].append(measure(tool, load, seconds, scratch))
            print(f"### {load.title}; {buffers}\n\n{table(load, results)}\n", flush=True)
            if tools is EQUAL_BUFFERS:
                print("\n".join(promises(load, results)) + "\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
