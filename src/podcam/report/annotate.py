"""A copy of a capture with the verdicts as packet comments, for Wireshark.

Nothing else of the capture changes, neither the order of its frames nor their numbers.
"""

import contextlib
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from podcam import clip, pcap
from podcam.columns.mapping import MappedFiles
from podcam.errors import CaptureFileError, UsageError
from podcam.model.diagnosis import DiagnosedConnection, Diagnosis
from podcam.model.text import printable
from podcam.report.spelling import named

Comments = Mapping[int, Sequence[str]]
"""For a frame, the comments to put on it."""
Told = Callable[[int], None]
"""Told how many frames are done, now and then."""

_SECTION_MAGIC = b"\x0a\x0d\x0d\x0a"
_TELL_EVERY = 10_000


def annotate(diagnosis: Diagnosis, target: Path, progress: Callable[[float], None] | None = None) -> int:
    """Write a copy of the diagnosed capture to `target`; returns how many frames have a comment.

    A clip, ring or segment is exported as `podcam export` does it, a pcap file becomes pcapng, a compressed
    one is unpacked. A simple packet block has no options, so that no comment can be put on it.

    Args:
        diagnosis: of exactly one capture.
        target: a pcapng file, replaced if it is there; it appears when it is whole.
        progress: called with the fraction done, now and then.

    Raises:
        UsageError: the diagnosis is of several captures, or `target` is the capture itself, or of it.
        CaptureFileError: the capture cannot be read any more, or `target` cannot be written.
    """
    if len(diagnosis.captures) != 1:
        raise UsageError("--annotate copies one capture: give one path at a time")
    [capture] = diagnosis.captures
    source, packets = Path(capture.path), max(capture.packets, 1)
    comments = comments_of(diagnosis.connections)
    try:
        if target.exists() and _is_read_from(source, target):
            raise UsageError(f"--annotate would overwrite {source}: name another file")
        with clip.written_whole(target) as out:
            _copy(source, out, comments, lambda frame: progress(frame / packets) if progress else None)
    except OSError as error:
        raise CaptureFileError(f"cannot write {target}: {error.strerror or error}") from error
    return len(comments)


def _is_read_from(source: Path, target: Path) -> bool:
    if source.is_file() and target.samefile(source):
        return True
    return (source.is_dir() or source.name == clip.MANIFEST) and clip.is_read_from(
        clip.open_packets(source), target
    )


def comments_of(connections: Iterable[DiagnosedConnection]) -> Comments:
    """What to write on which frames: on each piece of evidence its note, on the last one the verdict too."""
    comments: defaultdict[int, list[str]] = defaultdict(list)
    for row in connections:
        verdict = row.verdict
        if not verdict.failed or not verdict.evidence:
            continue
        for at, proof in enumerate(verdict.evidence, 1):
            comments[proof.frame].append(
                f"Podcam: {verdict.id}, evidence {at} of {len(verdict.evidence)}: {proof.note}"
            )
        last = comments[verdict.evidence[-1].frame]
        ends = f" {named(row.client)} → {named(row.server)}." if row.client.name or row.server.name else ""
        last.append(
            f"Podcam: {verdict.id}, fault {verdict.fault}, phase {verdict.phase}.{ends} {verdict.summary}"
        )
        if verdict.candidates:
            last.append(f"Podcam: the packets cannot tell apart: {'; '.join(verdict.candidates)}")
    return {frame: [printable(comment) for comment in told] for frame, told in comments.items()}


def _copy(source: Path, out: BinaryIO, comments: Comments, told: Told) -> None:
    if source.is_file():
        with io.BufferedReader(_Unpacked(source)) as file:
            start = file.peek(4)[:4]
            copy = _copy_pcapng if start == _SECTION_MAGIC else _copy_pcap if pcap.is_pcap(start) else None
            if copy is not None:
                with contextlib.suppress(CaptureFileError):  # garbled from here on, as the diagnosis has said
                    copy(file, out, comments, told)
                return
    clip.write_pcapng(clip.open_packets(source), out, comments, progress=told)


class _Unpacked(io.RawIOBase):
    """A file as a diagnosis reads it: what it unpacks to, as far as it can be unpacked."""

    def __init__(self, path: Path) -> None:
        files = MappedFiles([path])
        self._left = files.data.data[: files.sizes[0]]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override] # Buffer is of 3.12
        target = memoryview(buffer)
        count = min(len(target), len(self._left))
        target[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


def _copy_pcapng(file: BinaryIO, out: BinaryIO, comments: Comments, told: Told) -> None:
    frame = 0
    for block in pcap.read_blocks(file):
        frame += block.is_frame
        mine = comments.get(frame) if block.is_packet else None
        out.write(_with_comments(block, mine) if mine else block.content)
        if frame % _TELL_EVERY == 0:
            told(frame)


def _with_comments(block: pcap.RawBlock, comments: Sequence[str]) -> bytes:
    if block.options_at is None:
        return block.content
    present = block.content[block.options_at : -4]
    added = pcap.options(((pcap.Option.COMMENT, comment) for comment in comments), block.order)
    if present:  # which has the end of the list, or needs none
        added = added[:-4]
    return pcap.block(block.kind, block.content[8 : block.options_at] + added + present, block.order)


def _copy_pcap(file: BinaryIO, out: BinaryIO, comments: Comments, told: Told) -> None:
    header, packets = pcap.read_pcap(file)
    writer = pcap.PcapngWriter(out)
    interface = writer.add_interface(header.link_type)
    for frame, packet in enumerate(packets, 1):
        writer.add_packet(interface, packet.time_ns, packet.data, packet.length, 0, comments.get(frame, ()))
        if frame % _TELL_EVERY == 0:
            told(frame)
