"""Verdicts as packet comments: on the right frames, and nothing else changed."""

import gzip
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from conversations import OK, Talk, diagnosis, good, reset_in_startup, row, startup_reset_verdict
from frames import ethernet, ipv4, tcp
from kernel_blocks import Sent, block
from podcam.errors import CaptureFileError, UsageError
from podcam.model.diagnosis import Diagnosis
from podcam.model.point import Interface, Point
from podcam.pcap import Option, RawBlock, read_blocks
from podcam.report import annotate
from podcam.ring import SegmentWriter, Source

FAILED = reset_in_startup(Talk(first_frame=1))
VERDICT = startup_reset_verdict(FAILED)
PACKETS = [ethernet(ipv4(tcp(51544, 5432, payload=b"x" * length), 6)) for length in range(7)]
NOW = 1_700_000_000_123_456_789

COMMENTS = {
    4: ["Podcam: reset-during-startup, evidence 1 of 3: StartupMessage, 53 bytes"],
    5: ["Podcam: reset-during-startup, evidence 2 of 3: the server acknowledges it"],
    6: [
        "Podcam: reset-during-startup, evidence 3 of 3: the server resets",
        f"Podcam: {VERDICT.id}, fault server, phase startup. 10.1.2.3:51544 → db.example (10.0.0.5:5432). "
        + VERDICT.summary,
        f"Podcam: the packets cannot tell apart: {VERDICT.candidates[0]}; {VERDICT.candidates[1]}",
    ],
}


def diagnosed(path: Path) -> Diagnosis:
    """A diagnosis of this file whose evidence lies in the frames 4, 5 and 6."""
    found = diagnosis(row(FAILED, VERDICT), row(good(Talk(id=1)), OK))
    return replace(found, captures=(replace(found.captures[0], path=str(path), packets=len(PACKETS)),))


def pcap(order: str = "<") -> bytes:
    head = struct.pack(f"{order}IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    records = (struct.pack(f"{order}4I", 7, at, len(p), len(p) + 9) + p for at, p in enumerate(PACKETS))
    return head + b"".join(records)


def pcapng(order: str = "<", options: bytes = b"", *, simple: bool = False) -> bytes:
    """A section and an interface, then the packets; between them blocks that are no packets."""

    def made(kind: int, body: bytes) -> bytes:
        padding = -len(body) % 4
        length = 12 + len(body) + padding
        return (
            struct.pack(f"{order}II", kind, length) + body + bytes(padding) + struct.pack(f"{order}I", length)
        )

    def packet(at: int, data: bytes) -> bytes:
        if simple:
            return made(3, struct.pack(f"{order}I", len(data)) + data)
        head = struct.pack(f"{order}5I", 0, 5, at, len(data), len(data) + 9)
        return made(6, head + data + bytes(-len(data) % 4) + options)

    blocks = [
        made(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1)),
        made(1, struct.pack(f"{order}HHI", 1, 0, 0)),
        *(packet(at, data) for at, data in enumerate(PACKETS[:3])),
        made(0x0BAD, struct.pack(f"{order}I", 32473) + b"a custom block"),
        *(packet(at, data) for at, data in enumerate(PACKETS[3:], 3)),
        made(5, struct.pack(f"{order}3I", 0, 5, 9)),
    ]
    return b"".join(blocks)


def frames(path: Path) -> Iterator[RawBlock]:
    with path.open("rb") as file:
        yield from (found for found in read_blocks(file) if found.is_frame)


def comments(path: Path) -> dict[int, list[str]]:
    found = {
        number: [value.decode() for code, value in frame.options() if code == Option.COMMENT]
        for number, frame in enumerate(frames(path), 1)
    }
    return {number: texts for number, texts in found.items() if texts}


def without_comments(frame: RawBlock) -> tuple[bytes, list[tuple[int, bytes]]]:
    rest = [option for option in frame.options() if option[0] != Option.COMMENT]
    return frame.content[8 : frame.options_at], rest


def captured(frame: RawBlock) -> bytes:
    (length,) = struct.unpack_from(f"{frame.order}I", frame.content, 20)
    return frame.content[28 : 28 + length]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [bytes, gzip.compress, zstandard.compress])
def test_pcap(tmp_path: Path, order: str, packed: type[bytes]) -> None:
    source, target = tmp_path / "in.pcap", tmp_path / "out.pcapng"
    source.write_bytes(packed(pcap(order)))
    assert annotate(diagnosed(source), target) == 3
    assert comments(target) == COMMENTS
    assert [captured(frame) for frame in frames(target)] == PACKETS
    for at, frame in enumerate(frames(target)):
        high, low, _, length = struct.unpack_from("<4I", frame.content, 12)
        assert ((high << 32) + low, length) == (7_000_000_000 + at * 1000, len(PACKETS[at]) + 9)


OPTIONS = {
    "none": b"",
    "flags": struct.pack("<HHIHH", 2, 4, 1, 0, 0),
    "flags, without an end": struct.pack("<HHI", 2, 4, 1),
    "a comment already": struct.pack("<HH4sHH", 1, 4, b"mine", 0, 0),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("packed", [bytes, gzip.compress, zstandard.compress])
def test_pcapng(tmp_path: Path, options: bytes, packed: type[bytes]) -> None:
    source, target, plain = (tmp_path / name for name in ("in.pcapng", "out.pcapng", "plain.pcapng"))
    plain.write_bytes(pcapng(options=options))
    source.write_bytes(packed(plain.read_bytes()))
    annotate(diagnosed(source), target)
    told = comments(target)
    if b"mine" in options:
        assert all(told.pop(at) == ["mine"] for at in (1, 2, 3, 7, 8))
        told = {at: texts[:-1] for at, texts in told.items()}
    # Frame 4 is the custom block, which Wireshark numbers too and which cannot hold a comment.
    assert told == {at: texts for at, texts in COMMENTS.items() if at != 4}
    assert list(map(without_comments, frames(target))) == list(map(without_comments, frames(plain)))


def test_pcapng_of_the_other_byte_order(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    source.write_bytes(pcapng(">"))
    annotate(diagnosed(source), target)
    assert comments(target) == {at: texts for at, texts in COMMENTS.items() if at != 4}


def test_what_cannot_hold_a_comment_is_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    source.write_bytes(pcapng(simple=True))
    annotate(diagnosed(source), target)
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("packed", [bytes, gzip.compress])
@pytest.mark.parametrize("whole", [pcap(), pcapng()], ids=["pcap", "pcapng"])
def test_a_capture_that_is_cut_is_copied_as_far_as_it_goes(
    tmp_path: Path, whole: bytes, packed: type[bytes]
) -> None:
    source, target = tmp_path / "in", tmp_path / "out.pcapng"
    source.write_bytes(packed(whole)[:-8] if packed is gzip.compress else whole[:-50])
    annotate(diagnosed(source), target)
    assert 4 <= len(list(frames(target))) <= len(PACKETS) + 1


def test_a_segment_is_exported(tmp_path: Path) -> None:
    made = Source(Point("web-0", "node-a"), "boot", 4096, (Interface(2, "eth0", 1),))
    writer = SegmentWriter(tmp_path, made, sequence=1, created_ns=NOW)
    writer.append([block([Sent(NOW + at, data) for at, data in enumerate(PACKETS)])], written_ns=NOW)
    writer.close(NOW)
    target = tmp_path / "out.pcapng"
    for source in (writer.path, tmp_path):
        annotate(diagnosed(source), target)
        assert comments(target) == COMMENTS
        assert [captured(frame) for frame in frames(target)] == PACKETS
    before = writer.path.read_bytes()
    with pytest.raises(UsageError, match="would overwrite"):
        annotate(diagnosed(tmp_path), writer.path)
    assert writer.path.read_bytes() == before


def test_a_long_comment_is_cut(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pcap", tmp_path / "out.pcapng"
    source.write_bytes(pcap())
    found = diagnosed(source)
    long = replace(VERDICT, summary="ü" * 100_000)
    annotate(replace(found, connections=(row(FAILED, long),)), target)
    assert 8_000 < len(comments(target)[6][1].encode()) <= 16_384


def test_progress_is_told(tmp_path: Path) -> None:
    source = tmp_path / "in.pcap"
    source.write_bytes(pcap()[:24] + pcap()[24:] * 2000)
    told: list[float] = []
    found = diagnosed(source)
    found = replace(found, captures=(replace(found.captures[0], packets=2000 * len(PACKETS)),))
    annotate(found, tmp_path / "out.pcapng", told.append)
    assert told == [pytest.approx(10_000 / 14_000)]


def test_what_cannot_be_done_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    source = tmp_path / "in.pcap"
    source.write_bytes(pcap())
    found = diagnosed(source)
    with pytest.raises(UsageError, match="would overwrite"):
        annotate(found, source)
    with pytest.raises(CaptureFileError, match=r"cannot write .*No such file"):
        annotate(found, tmp_path / "nowhere" / "out.pcapng")
    with pytest.raises(CaptureFileError, match=r"cannot write .*Not a directory"):
        annotate(found, source / "out.pcapng")
    with pytest.raises(UsageError, match="one path at a time"):
        annotate(replace(found, captures=found.captures * 2), tmp_path / "out.pcapng")
    assert sorted(tmp_path.iterdir()) == [source]
    assert source.read_bytes() == pcap()


@pytest.mark.skipif(not shutil.which("tshark"), reason="needs tshark (apt-get install tshark)")
@pytest.mark.parametrize("content", [pcap(), pcapng()], ids=["pcap", "pcapng"])
def test_wireshark_shows_the_comments_on_the_same_frames(tmp_path: Path, content: bytes) -> None:
    source, target = tmp_path / "in", tmp_path / "out.pcapng"
    source.write_bytes(content)
    annotate(diagnosed(source), target)
    fields = ["-T", "fields", "-E", "aggregator=|", "-e", "frame.number", "-e", "frame.comment"]
    done = subprocess.run(["tshark", "-n", "-r", target, *fields], capture_output=True, text=True, check=True)
    shown = dict(line.split("\t") for line in done.stdout.splitlines())
    expected = {str(at): "|".join(texts) for at, texts in comments(target).items()}
    assert {at: text for at, text in shown.items() if text} == expected
    assert len(shown) == len(list(frames(target)))
