"""Clips, rings and segments as pcapng, as other tools expect it (draft-ietf-opsawg-pcapng)."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO, Final

from podcam import __version__
from podcam.clip.manifest import MANIFEST
from podcam.clip.missing import gap_sentence
from podcam.clip.parts import PacketSet, Part, PartPacket
from podcam.errors import ClipError, UsageError
from podcam.model.text import printable
from podcam.pcap import (
    Direction,
    InterfaceOption,
    LinkType,
    Option,
    OptionValue,
    PcapngWriter,
    Reception,
    SectionOption,
    custom,
    packet_flags,
)
from podcam.ring import STATUS_CSUM_NOT_READY, RecordedPacket, read_totals

_WITH_ETHERNET: Final = frozenset({1, 772})
"""ARPHRD_ETHER and ARPHRD_LOOPBACK: these begin with an Ethernet header. All else is written from IP on."""
_FLAGS: Final = (
    packet_flags(Direction.INBOUND, Reception.UNICAST),
    packet_flags(Direction.INBOUND, Reception.BROADCAST),
    packet_flags(Direction.INBOUND, Reception.MULTICAST),
    packet_flags(Direction.INBOUND, Reception.PROMISCUOUS),
    packet_flags(Direction.OUTBOUND),
)
"""By PACKET_HOST, BROADCAST, MULTICAST, OTHERHOST, OUTGOING of linux/if_packet.h"""
_FLAGS_CSUM_NOT_READY: Final = packet_flags(Direction.UNKNOWN, checksum_not_ready=True)
_MOST_TRIGGERS_TOLD: Final = 20
_MOST_GAPS_TOLD: Final = 100
"""An option's length has 16 bits."""
_PROGRESS_EVERY: Final = 10_000


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    packets: int
    dropped: int
    """Packets that the recorder lost in the segments it was made from."""
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Interface:
    """An interface that was described in the file, and what went through it."""

    number: int
    first_ns: int
    last_ns: int
    packets: int = 0


def export(
    source: PacketSet,
    target: Path,
    *,
    comments: Mapping[int, Sequence[str]] | None = None,
    all_ethernet: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Exported:
    """Writes a pcapng file, which appears under its name when it is whole.

    Args:
        source: what `open_packets` gave.
        target: replaced if it is there.
        comments: per frame, counted from 1 as Wireshark does, the comments to put on it.
        all_ethernet: gives packets of interfaces without a link layer an Ethernet header with zero addresses:
            libpcap's tools want one link type.
        progress: called now and then with the number of packets written.

    Raises:
        UsageError: the file is one of those that are read.
        ClipError: the file cannot be written.
    """
    try:
        if is_read_from(source, target):
            raise UsageError(f"{target} is what would be exported: name another file with -o")
        with written_whole(target) as file:
            return write_pcapng(source, file, comments or {}, all_ethernet=all_ethernet, progress=progress)
    except OSError as error:
        raise ClipError(f"cannot write {target}: {error.strerror}") from error


def is_read_from(source: PacketSet, target: Path) -> bool:
    """Whether this file is one of those that the packets are read from, by this name or another one."""
    paths = [source.path, source.path / MANIFEST, *(path for part in source.parts for path in part.segments)]
    return target.exists() and any(target.samefile(path) for path in paths if path.exists())


@contextmanager
def written_whole(target: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name once it is written, and not at all if it cannot be.

    What is no file (a pipe, a device) is written to, and never replaced.
    """
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    hidden = target.with_name(f".{target.name}.part")
    try:
        with hidden.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        hidden.rename(target)
    except BaseException:
        with suppress(OSError):
            hidden.unlink()
        raise


def write_pcapng(
    source: PacketSet,
    file: BinaryIO,
    comments: Mapping[int, Sequence[str]],
    *,
    all_ethernet: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Exported:
    """As `export`, into an open file."""
    drops = [_dropped(part) for part in source.parts]
    writer = PcapngWriter(file, list(_section_options(source, drops)))
    if names := source.names:
        writer.add_names({address: [printable(name)] for address, name in names.items()})
    gaps_told = [0] * len(source.parts)
    interfaces: dict[tuple[int, int, int], _Interface] = {}
    frame = 0
    for frame, item in enumerate(source.packets(), 1):  # its last value is the count
        packet = item.packet
        key = (item.part, packet.interface, packet.hardware_type)
        interface = interfaces.get(key)
        if interface is None:
            number = _describe(writer, source, item, all_ethernet=all_ethernet)
            interface = interfaces[key] = _Interface(number, packet.time_ns, packet.time_ns)
        interface.packets += 1
        interface.last_ns = packet.time_ns
        data, length = packet.data, packet.length
        if packet.hardware_type not in _WITH_ETHERNET:
            data, length = _from_ip(packet, all_ethernet=all_ethernet)
        flags = _FLAGS[packet.packet_type] if packet.packet_type < len(_FLAGS) else 0
        if packet.status & STATUS_CSUM_NOT_READY:
            flags |= _FLAGS_CSUM_NOT_READY
        told = comments.get(frame, ())
        part = source.parts[item.part]
        if gaps_told[item.part] < len(part.gaps):
            behind = _gaps_before(packet, part, gaps_told[item.part])
            gaps_told[item.part] += len(behind)
            told = (*behind, *told)
        writer.add_packet(interface.number, packet.time_ns, data, length, flags, told)
        if progress and frame % _PROGRESS_EVERY == 0:
            progress(frame)
    if progress:
        progress(frame)
    _write_statistics(writer, interfaces, drops)
    return Exported(frame, sum(drops), tuple(problem for part in source.parts for problem in part.problems))


def _gaps_before(packet: RecordedPacket, part: Part, told: int) -> list[str]:
    """What to write on the first packet behind gaps, of which the first `told` are told already."""
    return [
        printable(f"Podcam: {gap_sentence(part.point.name, gap)}")
        for gap in takewhile(lambda gap: gap.until_ns <= packet.time_ns, part.gaps[told:])
    ]


def _describe(writer: PcapngWriter, source: PacketSet, item: PartPacket, *, all_ethernet: bool) -> int:
    part, interface = source.parts[item.part], item.interface
    point = part.point
    has_ethernet = all_ethernet or interface.hardware_type in _WITH_ETHERNET
    data = {
        "schema": "podcam.interface/1",
        "point": point.name,
        "node": point.node,
        "interface": interface.name,
        "index": interface.index,
        "hardware_type": interface.hardware_type,
        "gaps": [asdict(gap) for gap in part.gaps[:_MOST_GAPS_TOLD]],
    }
    values: list[OptionValue] = [
        (InterfaceOption.NAME, f"{point.name}/{interface.name}"),
        (InterfaceOption.DESCRIPTION, f"{interface.name} of {point.name} on {point.node}"),
        custom(json.dumps(data)),
    ]
    return writer.add_interface(LinkType.ETHERNET if has_ethernet else LinkType.RAW, values)


def _from_ip(packet: RecordedPacket, *, all_ethernet: bool) -> tuple[bytes | memoryview, int]:
    """The packet without its link layer, or with one of Ethernet in its place; and its length."""
    data, length = packet.data[packet.link_bytes :], packet.length - packet.link_bytes
    if not all_ethernet:
        return data, length
    ethertype = b"\x86\xdd" if data[:1] and data[0] >> 4 == 6 else b"\x08\x00"
    return bytes(12) + ethertype + data, length + 14


def _section_options(source: PacketSet, drops: Sequence[int]) -> Iterator[OptionValue]:
    system = os.uname()
    yield Option.COMMENT, "\n".join(map(printable, _section_comment(source, drops)))
    yield SectionOption.OS, f"{system.sysname} {system.release}"
    yield SectionOption.APPLICATION, f"Podcam {__version__}"
    clip = source.manifest
    if clip:
        window = {"start_ns": clip.window.start_ns, "end_ns": clip.window.end_ns}
        yield custom(json.dumps({"schema": "podcam.export/1", "clip": clip.id, "window": window}))


def _section_comment(source: PacketSet, drops: Sequence[int]) -> Iterator[str]:
    clip = source.manifest
    if clip:
        yield f"Podcam clip {clip.id}: {clip.reason}"
        yield f"Window: {_utc(clip.window.start_ns)} to {_utc(clip.window.end_ns)}"
        yield from (failure.sentence() for failure in clip.triggers[:_MOST_TRIGGERS_TOLD])
        if len(clip.triggers) > _MOST_TRIGGERS_TOLD:
            yield f"and {len(clip.triggers) - _MOST_TRIGGERS_TOLD} more failures"
        yield from clip.warnings
    else:
        yield f"Podcam recording {source.path.name}"
    for part, dropped in zip(source.parts, drops, strict=True):
        yield f"{part.point.name} on {part.point.node}: {dropped} packets were lost while recording"
        yield from part.problems


def _utc(time_ns: int) -> str:
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{nanoseconds:09} UTC"


def _dropped(part: Part) -> int:
    if part.dropped is not None:
        return part.dropped
    return sum(read_totals(path).dropped for path in part.segments)


def _write_statistics(
    writer: PcapngWriter, interfaces: Mapping[tuple[int, int, int], _Interface], drops: Sequence[int]
) -> None:
    told: set[int] = set()
    for (part, _, _), interface in interfaces.items():
        # The kernel counts drops per socket, that is per point: told once, by its first interface.
        dropped = None if part in told else drops[part]
        told.add(part)
        writer.add_statistics(
            interface.number,
            interface.last_ns,
            received=interface.packets,
            dropped=dropped,
            first_ns=interface.first_ns,
            last_ns=interface.last_ns,
        )
