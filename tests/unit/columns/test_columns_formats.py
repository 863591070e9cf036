"""Files of every kind give the same packets; what is no capture, or not whole, is told in one line."""

import gzip
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard

from podcam.columns import CaptureColumns, open_captures
from podcam.errors import CaptureFileError
from traces import (
    ACK,
    MS,
    PSH,
    START_NS,
    Talk,
    enhanced,
    ethernet,
    interface,
    option,
    pcapng_block,
    section,
    write_pcap,
)

TALK = Talk().open()
TALK.client(PSH | ACK, b"hello")
PACKETS = list(TALK.packets)
AGAIN = TALK.client(PSH | ACK, b"again")


def read(path: Path) -> CaptureColumns:
    return open_captures([path])[0]


def times(capture: CaptureColumns) -> list[int]:
    return [int(time_ns) for time_ns in capture.packets["time_ns"]]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("magic", "extra"), [(0xA1B2C3D4, b""), (0xA1B23C4D, b""), (0xA1B2CD34, struct.pack("<IHBB", 3, 8, 0, 0))]
)
def test_pcap_in_all_its_forms(tmp_path: Path, order: str, magic: int, extra: bytes) -> None:
    capture = read(write_pcap(tmp_path / "a.pcap", PACKETS, magic=magic, order=order, extra=extra))
    assert times(capture) == [time_ns for time_ns, _ in PACKETS]
    assert capture.summary.link_types == (101,)
    assert capture.summary.warnings == ()
    assert capture.conversation(0).packets[-1].payload == b"hello"


def test_nanoseconds_are_kept(tmp_path: Path) -> None:
    capture = read(write_pcap(tmp_path / "a.pcap", [(START_NS + 7, PACKETS[0][1])]))
    assert times(capture) == [START_NS + 7]


def test_snap_length_cuts_payload_and_not_its_length(tmp_path: Path) -> None:
    capture = read(write_pcap(tmp_path / "a.pcap", PACKETS, snap_length=42))
    packet = capture.conversation(0).packets[-1]
    assert (packet.payload, packet.payload_bytes) == (b"he", 5)


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_with_sections_and_interfaces(tmp_path: Path, order: str) -> None:
    millis = option(9, b"\x03", order)
    binary = option(9, b"\x94")  # 2**-20 s
    shifted = option(9, b"\x09") + option(14, struct.pack("<q", 100))
    packet = PACKETS[0][1]
    path = tmp_path / "a.pcapng"
    path.write_bytes(
        section(order)
        + interface(order=order)
        + interface(1, options=millis, order=order)
        + enhanced(0, START_NS // 1000 + 5, packet, order=order)
        + enhanced(1, START_NS // MS + 6, ethernet(PACKETS[2][1]), order=order)
        + section("<")
        + interface(options=binary)
        + interface(options=shifted)
        + enhanced(0, (START_NS // 10**9 << 20) + (1 << 19), PACKETS[3][1])
        + enhanced(1, 23, AGAIN)
    )
    capture = read(path)
    assert times(capture) == [START_NS + 5000, START_NS + 6 * MS, START_NS + 500 * MS, 100 * 10**9 + 23]
    assert capture.summary.link_types == (1, 101)
    assert capture.conversation(0).client_packets == 4


def test_resolutions_finer_than_nanoseconds(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    pico, fine = option(9, b"\x0c"), option(9, b"\xa8")  # 10**-12 s, 2**-40 s
    path.write_bytes(
        section()
        + interface(options=pico)
        + interface(options=fine)
        + enhanced(0, 3_000_000_007_999, PACKETS[0][1])
        + enhanced(1, (3 << 40) + (1 << 38), PACKETS[0][1])
    )
    assert times(read(path)) == [3_000_000_007, 3_250_000_000]


def test_simple_and_obsolete_packet_blocks(tmp_path: Path) -> None:
    packet = PACKETS[-1][1]
    simple = pcapng_block(3, struct.pack("<I", len(packet)) + packet[:43])
    high, low = divmod(START_NS // 1000, 1 << 32)
    obsolete = pcapng_block(2, struct.pack("<HH4I", 0, 5, high, low, len(packet), len(packet)) + packet)
    path = tmp_path / "a.pcapng"
    path.write_bytes(section() + interface(snap_length=43) + simple + obsolete)
    capture = read(path)
    assert times(capture) == [0, START_NS]
    assert [len(packet.payload) for packet in capture.conversation(0).packets] == [3, 5]


def test_blocks_that_wireshark_numbers_take_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    custom = pcapng_block(0xBAD, struct.pack("<I", 32473) + b"data")
    names = pcapng_block(4, bytes(4))
    path.write_bytes(section() + custom + interface() + names + enhanced(0, 1, PACKETS[0][1]))
    capture = read(path)
    assert capture.summary.packets == 2
    assert capture.conversation(0).packets[0].frame == 2
    assert capture.summary.link_types == (101,)


def test_statistics_tell_drops(tmp_path: Path) -> None:
    def statistics(dropped: int) -> bytes:
        return pcapng_block(5, bytes(12) + option(5, struct.pack("<Q", dropped)))

    path = tmp_path / "a.pcapng"
    path.write_bytes(
        section() + interface() + statistics(3) + statistics(4) + section() + interface() + statistics(1)
    )
    assert read(path).summary.dropped == 5
    assert read(write_pcap(tmp_path / "a.pcap", PACKETS)).summary.dropped is None


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_compressed(tmp_path: Path, pack: object) -> None:
    plain = write_pcap(tmp_path / "a.pcap", PACKETS).read_bytes()
    path = tmp_path / "a.pcap.packed"
    path.write_bytes(pack(plain[:60]) + pack(plain[60:]))  # type: ignore[operator]
    assert times(read(path)) == [time_ns for time_ns, _ in PACKETS]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_pipe(tmp_path: Path, pack: object) -> None:
    content = pack(write_pcap(tmp_path / "a.pcap", PACKETS).read_bytes())  # type: ignore[operator]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        pool.submit(pipe.write_bytes, content)
        assert times(read(pipe)) == [time_ns for time_ns, _ in PACKETS]


def test_more_interfaces_than_can_be_numbered(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    packet = PACKETS[0][1]
    path.write_bytes(
        section() + interface() * 65_537 + enhanced(65_535, 1, packet) + enhanced(65_536, 2, packet)
    )
    capture = read(path)
    assert capture.summary.packets == 1
    assert "garbled" in capture.summary.warnings[0]


def test_cut_compressed_file_gives_what_is_left(tmp_path: Path) -> None:
    noise = [
        (START_NS + n, PACKETS[0][1] + bytes((n * n) % 251 for n in range(n, n + 900))) for n in range(200)
    ]
    packed = gzip.compress(write_pcap(tmp_path / "a.pcap", noise).read_bytes())
    path = tmp_path / "a.pcap.gz"
    path.write_bytes(packed[: len(packed) - 20])
    capture = read(path)
    assert 0 < capture.summary.packets <= 200
    assert any("cut or damaged" in warning for warning in capture.summary.warnings)


@pytest.mark.parametrize("cut", [1, 5, 50])
def test_cut_pcap_tells_where(tmp_path: Path, cut: int) -> None:
    whole = write_pcap(tmp_path / "a.pcap", PACKETS).read_bytes()
    (tmp_path / "a.pcap").write_bytes(whole[:-cut])
    capture = read(tmp_path / "a.pcap")
    assert capture.summary.packets == len(PACKETS) - 1
    assert "is cut" in capture.summary.warnings[0]


@pytest.mark.parametrize("cut", [1, 11, 40])
def test_cut_pcapng_tells_where(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.pcapng"
    whole = section() + interface() + b"".join(enhanced(0, 1, data) for _, data in PACKETS)
    path.write_bytes(whole[:-cut])
    capture = read(path)
    assert capture.summary.packets == len(PACKETS) - 1
    assert "is cut" in capture.summary.warnings[0]


def test_garbled_records_end_the_reading(tmp_path: Path) -> None:
    path = write_pcap(tmp_path / "a.pcap", PACKETS)
    path.write_bytes(path.read_bytes() + b"\xff" * 64)
    capture = read(path)
    assert capture.summary.packets == len(PACKETS)
    assert "garbled" in capture.summary.warnings[0]


def test_packet_of_unknown_interface_is_garbled(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    path.write_bytes(section() + interface() + enhanced(0, 1, PACKETS[0][1]) + enhanced(1, 2, PACKETS[1][1]))
    capture = read(path)
    assert capture.summary.packets == 1
    assert "garbled" in capture.summary.warnings[0]


def test_capture_without_packets_is_read(tmp_path: Path) -> None:
    summary = read(write_pcap(tmp_path / "a.pcap", [])).summary
    assert (summary.packets, summary.first_ns, summary.last_ns, summary.link_types) == (0, None, None, ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is a text", "is neither a pcap"),
        (bytes.fromhex("d4c3b2a1") + b"\2\0\4\0", "is cut within the header"),
        (bytes.fromhex("0a0d0d0a"), "is neither a pcap"),
        (gzip.compress(b"text", mtime=0), "is neither a pcap"),
        (b"\x1f\x8bnot gzip at all", "cannot unpack"),
        (b"\x28\xb5\x2f\xfdnot zstd", "cannot unpack"),
    ],
)
def test_what_is_no_capture_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(content)
    with pytest.raises(CaptureFileError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_foreign_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(CaptureFileError, match="No such file"):
        read(tmp_path / "none.pcap")
    with pytest.raises(CaptureFileError, match="neither a clip nor segments"):
        read(tmp_path)


def test_ids_run_through_all_captures(tmp_path: Path) -> None:
    first = write_pcap(tmp_path / "a.pcap", PACKETS)
    second = write_pcap(tmp_path / "b.pcap", PACKETS)
    captures = open_captures([first, second])
    assert [capture.conversation(0).id for capture in captures] == [0, 1]
    assert [capture.conversation(0).capture for capture in captures] == [0, 1]
    assert [capture.points for capture in captures] == [("a.pcap",), ("b.pcap",)]


def test_progress_rises_to_the_end(tmp_path: Path) -> None:
    told: list[float] = []
    open_captures([write_pcap(tmp_path / "a.pcap", PACKETS * 100)], progress=told.append)
    assert told == sorted(told)
    assert 0.9 < told[-1] <= 1
