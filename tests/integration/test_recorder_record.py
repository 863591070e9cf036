"""`podcam record` on real packets: what it keeps, beside tcpdump, through restarts and deaths."""

import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

import network_lab as lab
from podcam.capture import Namespace, geometry
from podcam.capture.filters import FilterTooLongError
from podcam.recorder.points import WatchedPoint
from podcam.recorder.settings import PointSettings, RecordingSettings
from podcam.ring import SegmentReader, segments_in
from podcam.ring.segment import Metadata
from recorders import PODCAM, Event, RunningRecorder, podcam, recording
from waiting import wait_until

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))

PORT = 7000
NUMBER = struct.Struct("=Q")
MOST_AHEAD = 20_000
"""So many datagrams of 200 bytes fit into the kernel's ring of 32 MB several times over."""


@pytest.fixture
def here() -> Iterator[Namespace]:
    with lab.namespace() as namespace:
        yield namespace


class NumberedLoad:
    """A thread that sends numbered datagrams over loopback until told to stop.

    Where `written` says how many are written, it is never so far ahead that the kernel had to drop some.
    """

    def __init__(
        self,
        where: Namespace,
        *,
        size_bytes: int = 200,
        pause_s: float,
        written: Callable[[], int] | None = None,
    ) -> None:
        self.sent = 0
        self._socket = lab.udp_socket(where)
        self._sink = lab.udp_socket(where, port=PORT)  # without it, each datagram is answered by ICMP
        self._padding = bytes(size_bytes)
        self._stop = threading.Event()
        self._pause_s = pause_s
        self._written = written
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "NumberedLoad":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()
        self._sink.close()

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s):
            if self._written is not None and self.sent - self._written() > MOST_AHEAD:
                continue
            for _ in range(100):
                self._socket.sendto(NUMBER.pack(self.sent) + self._padding, ("127.0.0.1", PORT))
                self.sent += 1


def numbers_in(ring: Path) -> Counter[int]:
    """How often each numbered datagram lies in the segments of a folder."""
    found: Counter[int] = Counter()
    for path in segments_in(ring):
        reader = SegmentReader(path)
        for packet in reader.packets():
            udp = bytes(packet.data[34:50])
            if packet.hardware_type == 772 and len(udp) == 16 and udp[2:4] == PORT.to_bytes(2, "big"):
                found[NUMBER.unpack(udp[8:])[0]] += 1
    return found


def ring_of(folder: Path, namespace: Namespace) -> Path:
    return folder / "points" / namespace.name


def test_a_ring_holds_what_tcpdump_saw(here: Namespace, tmp_path: Path) -> None:
    if shutil.which("tcpdump") is None or shutil.which("tshark") is None:
        pytest.skip("tcpdump or tshark is missing: apt-get install tcpdump tshark")
    pcap = tmp_path / "tcpdump.pcap"
    beside = subprocess.Popen(
        [
            "ip",
            "netns",
            "exec",
            here.name,
            "tcpdump",
            "-U",
            "--immediate-mode",
            "-i",
            "lo",
            "-w",
            pcap,
            "--nano",
            "-B",
            "8192",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert beside.stderr is not None
    while "listening on" not in beside.stderr.readline():
        assert beside.poll() is None
    with recording("--netns", here.name, "--dir", tmp_path / "d", "--on", "none") as recorder:
        for address in ("127.0.0.1", "::1"):
            lab.exchange(here, here, address, 5432, b"x" * 100_000)
        totals = recorder.stop()
    # tcpdump drops what it has not read when it is told to end
    wait_until(lambda: _packets_in_pcap(pcap) >= totals["packets"])
    beside.send_signal(signal.SIGINT)
    beside.communicate(timeout=20)
    exported = tmp_path / "out.pcapng"
    assert podcam("export", ring_of(tmp_path / "d", here), "-o", exported).returncode == 0
    ours, theirs = (_as_tshark_reads(path) for path in (exported, pcap))
    assert len(ours) == totals["packets"] > 20
    assert totals["dropped"] == 0
    # tcpdump stamps the outgoing and the incoming copy of a loopback packet apart; it keeps one of them.
    assert Counter(ours) == Counter(theirs)


def _packets_in_pcap(path: Path) -> int:
    data, offset, count = path.read_bytes(), 24, 0
    while offset + 16 <= len(data):
        offset += 16 + int.from_bytes(data[offset + 8 : offset + 12], "little")
        count += offset <= len(data)
    return count


def _as_tshark_reads(path: Path) -> list[str]:
    fields = [
        "frame.len",
        "ip.src",
        "ipv6.src",
        "tcp.srcport",
        "tcp.seq_raw",
        "tcp.ack_raw",
        "tcp.flags",
        "tcp.len",
    ]
    columns = [argument for field in fields for argument in ("-e", field)]
    done = subprocess.run(
        ["tshark", "-n", "-r", path, "-T", "fields", *columns], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_a_recorder_goes_on_after_what_is_there(here: Namespace, tmp_path: Path) -> None:
    for _ in range(3):
        with (
            recording("--netns", here.name, "--dir", tmp_path, "--on", "none") as recorder,
            lab.udp_socket(here) as sender,
            lab.udp_socket(here, port=PORT),
        ):
            _send_numbers(sender, range(1000))
            recorder.wait_for_packets(1000)
            recorder.stop()
    segments = segments_in(ring_of(tmp_path, here))
    assert len(segments) == 3
    assert numbers_in(ring_of(tmp_path, here))[0] == 3


@contextmanager
def killed_under_load(here: Namespace, folder: Path, after_packets: int) -> Iterator[NumberedLoad]:
    """A recorder that is killed with all its processes while packets come."""
    with (
        recording("--netns", here.name, "--dir", folder, "--on", "none", "--ring", "6x2MB") as recorder,
        NumberedLoad(here, pause_s=0.002, written=recorder.packets) as load,
    ):
        recorder.wait_for_packets(after_packets)
        recorder.kill_all()
        load.stop()
        yield load


@pytest.mark.parametrize("after_packets", [1, 3_000, 20_000])
def test_sigkill_leaves_whole_segments_and_nothing_missing_before_the_last_block(
    here: Namespace, tmp_path: Path, after_packets: int
) -> None:
    for kills in (1, 2):
        with killed_under_load(here, tmp_path, after_packets) as load:
            ring = ring_of(tmp_path, here)
            last = segments_in(ring)[-1]
            problems = [problem for path in segments_in(ring) for problem in _problems(path)]
            assert len(problems) <= kills  # at most the block that was being written
            assert sum(path.stat().st_size for path in segments_in(ring)) <= 12_000_000
            numbers = sorted(numbers_in(last.parent))
            newest = [number for number in numbers if number < load.sent]
            assert newest
    with recording("--netns", here.name, "--dir", tmp_path, "--on", "none", "--ring", "6x2MB") as recorder:
        recorder.stop()


def _problems(path: Path) -> list[str]:
    reader = SegmentReader(path)
    for _ in reader.packets():
        pass
    return reader.problems


def test_what_was_written_before_sigkill_has_no_gap(here: Namespace, tmp_path: Path) -> None:
    with killed_under_load(here, tmp_path, 10_000):
        numbers = sorted(numbers_in(ring_of(tmp_path, here)))
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert len(numbers) >= 10_000


def test_a_killed_writer_is_replaced_and_no_packet_is_lost_or_doubled(
    here: Namespace, tmp_path: Path
) -> None:
    with (
        recording("--netns", here.name, "--dir", tmp_path, "--on", "none") as recorder,
        NumberedLoad(here, pause_s=0.002, written=recorder.packets) as load,
    ):
        for round_number in range(3):
            recorder.wait_for_packets(recorder.packets() + 1000)
            os.kill(recorder.child("writer"), signal.SIGKILL)
            recorder.wait_for(partial(_was_restarted, recorder, round_number + 1))
        load.stop()
        totals = recorder.stop()
    assert totals["dropped"] == 0
    numbers = numbers_in(ring_of(tmp_path, here))
    # A block that was written, but not yet given back to the kernel, is written once more.
    assert sorted(numbers) == list(range(load.sent))
    records = [r for path in segments_in(ring_of(tmp_path, here)) for r in SegmentReader(path).records()]
    assert sum(isinstance(record, Metadata) and record.kind == "gap" for record in records) == 3


def _was_restarted(recorder: RunningRecorder, times: int, _event: Event) -> bool:
    return sum("was started again" in event["text"] for event in recorder.of_kind("warning")) >= times


def test_kernel_rings_grow_when_they_fill_and_lose_or_double_nothing(tmp_path: Path) -> None:
    with lab.namespace() as busy, lab.namespace() as quiet, lab.namespace() as calm:
        spaces = [argument for ns in (busy, quiet, calm) for argument in ("--netns", ns.name)]
        with recording(*spaces, "--dir", tmp_path, "--on", "none", "--memory", "5MiB") as recorder:
            writer = recorder.child("writer")
            ring = ring_of(tmp_path, busy)
            before = _mapped_bytes(writer)
            with lab.udp_socket(busy) as sender, lab.udp_socket(busy, port=PORT):
                sent = _send_numbers(sender, range(500))
                recorder.wait_for_packets(500)
                # Held for a moment, the writer finds its ring of 1 MB, which takes 900, more than half full.
                os.kill(writer, signal.SIGSTOP)
                wait_until(lambda: _state_of(writer) == "T")
                sent += _send_numbers(sender, range(sent, sent + 550))
                os.kill(writer, signal.SIGCONT)
                while _mapped_bytes(writer) == before:
                    assert sent < 100_000, "the ring did not grow"
                    sent += _send_numbers(sender, range(sent, sent + 20))
                    wait_until(lambda: numbers_in(ring)[sent - 1])  # noqa: B023 - called at once
                sent += _send_numbers(sender, range(sent, sent + 500))
            recorder.stop()
            totals = next(e for e in recorder.of_kind("stopped") if e["point"] == busy.name)
        assert before == 3 << 20
        assert numbers_in(ring) == Counter(range(sent))
        assert totals["dropped"] == 0


def _send_numbers(sender: socket.socket, numbers: range) -> int:
    for number in numbers:
        sender.sendto(NUMBER.pack(number) + bytes(1000), ("127.0.0.1", PORT))
    return len(numbers)


def _state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _mapped_bytes(pid: int) -> int:
    """What packet rings take of a process's address space."""
    total = 0
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if "socket:" in line:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            total += end - start
    return total


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


def test_only_packets_of_the_chosen_ports_and_hosts_are_kept(here: Namespace, tmp_path: Path) -> None:
    with recording(
        "--netns", here.name, "--dir", tmp_path, "--port", 5432, "--host", "127.0.0.1"
    ) as recorder:
        lab.exchange(here, here, "127.0.0.1", 5432)
        lab.exchange(here, here, "127.0.0.1", 5433)
        lab.exchange(here, here, "::1", 5432)
        recorder.stop()
    ports = {
        struct.unpack_from(">HH", packet.data, 34)
        for path in segments_in(ring_of(tmp_path, here))
        for packet in SegmentReader(path).packets()
    }
    assert ports
    assert all(5432 in pair for pair in ports)


def test_a_user_filter_is_combined_with_the_others(here: Namespace, tmp_path: Path) -> None:
    with recording(
        "--netns", here.name, "--dir", tmp_path, "--port", 5432, "--bpf", "tcp[tcpflags] & tcp-syn != 0"
    ) as recorder:
        lab.exchange(here, here, "127.0.0.1", 5432)
        lab.exchange(here, here, "127.0.0.1", 5433)
        totals = recorder.stop()
    assert totals["packets"] == 2


def test_payload_is_cut_where_asked(here: Namespace, tmp_path: Path) -> None:
    with recording("--netns", here.name, "--dir", tmp_path, "--port", 5432, "--payload", 8) as recorder:
        lab.exchange(here, here, "127.0.0.1", 5432, b"y" * 1000)
        recorder.stop()
    for path in segments_in(ring_of(tmp_path, here)):
        for packet in SegmentReader(path).packets():
            header = 34 + (packet.data[46] >> 4) * 4
            assert len(packet.data) <= header + 8


def test_over_the_write_budget_headers_are_kept_and_it_is_told(here: Namespace, tmp_path: Path) -> None:
    with (
        recording(
            "--netns", here.name, "--dir", tmp_path, "--on", "none", "--write-budget", "100KB/s"
        ) as recorder,
        NumberedLoad(here, size_bytes=1200, pause_s=0.01) as load,
    ):
        recorder.wait_for(lambda e: e["event"] == "filter" and e["cut_by_write_budget"])
        warning = recorder.wait_for_kind("warning")
        assert "write budget" in warning["text"]
        before = load.sent
        wait_until(lambda: load.sent >= before + 1000)
        load.stop()
        recorder.stop()
    lengths = [
        len(packet.data)
        for path in segments_in(ring_of(tmp_path, here))
        for packet in SegmentReader(path).packets()
    ]
    assert max(lengths) > 1200
    assert lengths[-1] == 14 + 20 + 8 + 64


def test_a_cut_that_the_kernel_refuses_is_not_claimed(
    here: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise FilterTooLongError("too long")

    settings = PointSettings(here.name, here.name, "", here)
    point = WatchedPoint(settings, RecordingSettings(), frozenset(), geometry(1 << 20), control_frames=0)
    monkeypatch.setattr("podcam.recorder.points.attach", refuse)
    with pytest.raises(FilterTooLongError):
        point.cut_payload(cut=True)
    assert point.filter()["cut_by_write_budget"] is False
    point.close()


def test_a_full_disk_makes_the_ring_smaller_and_it_grows_back(here: Namespace, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk], check=True)
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(7_000_000))
        with (
            recording("--netns", here.name, "--dir", disk, "--on", "none", "--ring", "4x2MB") as recorder,
            NumberedLoad(here, size_bytes=1200, pause_s=0.001),
        ):
            recorder.wait_for(lambda e: e["event"] == "warning" and "disk is full" in e["text"])
            ballast.unlink()
            recorder.wait_for(lambda e: e["event"] == "warning" and "has room again" in e["text"])
            recorder.stop()
        numbers = numbers_in(ring_of(disk, here))
        assert numbers
        assert set(numbers.values()) == {1}
    finally:
        subprocess.run(["umount", disk], check=True)


def test_interfaces_that_come_later_are_recorded_and_named(here: Namespace, tmp_path: Path) -> None:
    with (
        lab.namespace() as other,
        recording("--netns", here.name, "--dir", tmp_path, "--port", 5432) as recorder,
    ):
        lab.join(here, other, name="late0")
        recorder.wait_for(lambda e: e["event"] == "filter" and len(recorder.of_kind("filter")) > 1)
        lab.exchange(here, other, "10.9.0.2", 5432)
        recorder.stop()
    names = set()
    for path in segments_in(ring_of(tmp_path, here)):
        reader = SegmentReader(path)
        for packet in reader.packets():
            names.add(reader.interfaces[packet.interface].name)
    assert names == {"late0"}


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


def test_a_folder_stays_locked_until_the_writer_of_a_killed_recorder_has_ended(tmp_path: Path) -> None:
    arguments = ("--dir", tmp_path, "--interface", "lo", "--on", "none", "--for", "1s")
    with recording("--dir", tmp_path, "--interface", "lo", "--on", "none") as recorder:
        writer = recorder.child("writer")
        os.kill(writer, signal.SIGSTOP)
        try:
            os.kill(recorder.process.pid, signal.SIGKILL)
            recorder.process.wait()
            done = podcam("record", *arguments)
            assert (done.returncode, str(recorder.process.pid) in done.stderr) == (1, True)
        finally:
            os.kill(writer, signal.SIGCONT)
        recorder.wait_until_gone()
        assert podcam("record", *arguments).returncode == 0


def test_the_clock_of_packets_is_that_of_events(here: Namespace, tmp_path: Path) -> None:
    with recording("--netns", here.name, "--dir", tmp_path, "--on", "none") as recorder:
        started_ns = recorder.wait_for_kind("started")["time_ns"]
        with socket.socket() as unused:
            unused.close()
        lab.exchange(here, here, "127.0.0.1", 5432)
        stopped = recorder.stop()
    assert started_ns <= stopped["oldest_ns"] <= stopped["time_ns"]
