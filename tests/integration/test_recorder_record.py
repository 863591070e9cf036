"""`podcam record` on real packets: what it keeps, beside tcpdump, through filters and full disks."""

import os
import shutil
import signal
import socket
import struct
import subprocess
from collections import Counter
from pathlib import Path

import pytest

import network_lab as lab
from numbered_datagrams import NUMBER, PORT, NumberedLoad, copies_in
from podcam.capture import Namespace, geometry
from podcam.capture.filters import FilterTooLongError
from podcam.recorder import PointSettings, RecordingSettings
from podcam.recorder.points import WatchedPoint
from podcam.ring import SegmentReader, segments_in
from recorders import podcam, recording, ring_of
from waiting import wait_until

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))


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
    assert copies_in(ring_of(tmp_path, here))[0] == 3


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
                    wait_until(lambda: copies_in(ring)[sent - 1])  # noqa: B023 - called at once
                sent += _send_numbers(sender, range(sent, sent + 500))
            recorder.stop()
            totals = next(e for e in recorder.of_kind("stopped") if e["point"] == busy.name)
        assert before == 3 << 20
        assert copies_in(ring) == Counter(range(sent))
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
        numbers = copies_in(ring_of(disk, here))
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


def test_the_clock_of_packets_is_that_of_events(here: Namespace, tmp_path: Path) -> None:
    with recording("--netns", here.name, "--dir", tmp_path, "--on", "none") as recorder:
        started_ns = recorder.wait_for_kind("started")["time_ns"]
        with socket.socket() as unused:
            unused.close()
        lab.exchange(here, here, "127.0.0.1", 5432)
        stopped = recorder.stop()
    assert started_ns <= stopped["oldest_ns"] <= stopped["time_ns"]
