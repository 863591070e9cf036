"""Podcam's analyser beside tshark, on the same capture of database traffic: time, packets per second, memory.

usage: python bench/analyser.py [--quick] [--runs N] [--packets N] [--folder DIR]

The capture holds connections like those of `pgbench -C -S`. The tools take turns, each as a process of its
own from start to end, with the file in the page cache and the kernels compiled (the first run, which compiles
them, is shown by itself). `podcam diagnose` does more than tshark is asked for, it judges every connection;
it runs once.
"""

import argparse
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from traffic import PACKETS_PER_CONNECTION, write_capture

TIMES_FASTER = 10
MOST_RSS_BYTES = 1_000_000_000
_ANALYSE = "import sys; from podcam.columns import open_captures; open_captures(sys.argv[1:])"


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that reads a capture whose path is its last argument."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one tool."""

    seconds: float
    cpu_s: float
    peak_rss_bytes: int


TSHARK = Tool("tshark -q -z conv,tcp", ("tshark", "-n", "-q", "-z", "conv,tcp", "-r"))
ANALYSER = Tool("Podcam: packets to connections", (sys.executable, "-c", _ANALYSE))
DIAGNOSIS = Tool(
    "podcam diagnose --json", (str(Path(sys.executable).with_name("podcam")), "diagnose", "--json")
)


def measure(tool: Tool, capture: Path, cache: Path) -> Run:
    """Run a tool to its end."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    start = time.perf_counter()
    process = subprocess.Popen(
        [*tool.command, str(capture)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{tool.name} failed with exit code {process.returncode}")
    return Run(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def table(packets: int, results: dict[str, list[Run]]) -> str:
    """A row per tool: medians, and the range of the times."""
    lines = [
        "| tool | seconds, median (range) | CPU s | packets/s | times tshark | peak RSS |",
        "|---|---|---|---|---|---|",
    ]
    slow = _median(results[TSHARK.name])
    for name, runs in results.items():
        seconds = [run.seconds for run in runs]
        lines.append(
            f"| {name} | {_median(runs):.2f} ({min(seconds):.2f} to {max(seconds):.2f}) "
            f"| {statistics.median(run.cpu_s for run in runs):.2f} | {packets / _median(runs):,.0f} "
            f"| {slow / _median(runs):.1f} | {max(run.peak_rss_bytes for run in runs) / 1e6:,.0f} MB |"
        )
    return "\n".join(lines)


def promises(results: dict[str, list[Run]]) -> list[str]:
    """What the design promises, and whether it held."""
    faster = _median(results[TSHARK.name]) / _median(results[ANALYSER.name])
    peak = max(run.peak_rss_bytes for run in results[ANALYSER.name])
    return [
        f"- {TIMES_FASTER} times tshark or more: {_held(faster >= TIMES_FASTER)} ({faster:.1f})",
        f"- within {MOST_RSS_BYTES / 1e9:g} GB: {_held(peak <= MOST_RSS_BYTES)} ({peak / 1e6:,.0f} MB)",
    ]


def _held(condition: bool) -> str:
    return "held" if condition else "NOT HELD"


def _median(runs: Sequence[Run]) -> float:
    return statistics.median(run.seconds for run in runs)


def machine() -> str:
    """What the numbers were measured on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    commit = _first_line(["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"])
    return (
        f"{os.cpu_count()} x {model[1] if model else platform.machine()}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {_first_line(['tshark', '--version'])}, "
        f"commit {commit or 'unknown'}"
    )


def _first_line(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.partition("\n")[0]


def _compare(packets: int, runs: int, folder: Path) -> None:
    capture, cache = folder / "capture.pcap", folder / "cache"
    packets = write_capture(capture, packets)
    print(
        f"## Analyser, {runs} alternating runs\n\n{machine()}\n\n{packets:,} packets, "
        f"{capture.stat().st_size / 1e6:,.0f} MB, {packets // PACKETS_PER_CONNECTION:,} connections; "
        f"{capture.stat().st_size // packets} bytes per packet\n",
        flush=True,
    )
    first = measure(ANALYSER, capture, cache)
    results: dict[str, list[Run]] = {TSHARK.name: [], ANALYSER.name: []}
    for _ in range(runs):
        for tool in (TSHARK, ANALYSER):
            results[tool.name].append(measure(tool, capture, cache))
    results[DIAGNOSIS.name] = [measure(DIAGNOSIS, capture, cache)]
    print(f"{table(packets, results)}\n\nFirst run, with compiling: {first.seconds:.1f} s\n")
    print("\n".join(promises(results)), flush=True)


def main() -> int:
    """Measure all, print all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one run over a small capture")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--packets", type=int, default=5_000_000)
    parser.add_argument("--folder", type=Path, help="where the capture is made (default: a temporary folder)")
    args = parser.parse_args()
    if shutil.which("tshark") is None:
        print("bench/analyser.py needs tshark: apt-get install tshark", file=sys.stderr)
        return 1
    packets, runs = (200_000, 1) if args.quick else (args.packets, args.runs)
    with tempfile.TemporaryDirectory(prefix="podcam-bench-", dir=args.folder) as folder:
        _compare(packets, runs, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
