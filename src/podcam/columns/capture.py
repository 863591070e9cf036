"""What is read from one path: a file, a segment, a folder of segments, or a clip."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from podcam.clip import MANIFEST, PacketSet, open_packets
from podcam.columns.analyser import Analyser
from podcam.columns.connections import address_text
from podcam.columns.kernels.segments import QUOTED, QUOTED_PORTS
from podcam.columns.layout import MAX_CONNECTIONS, Rows, Table
from podcam.columns.mapping import MappedFiles
from podcam.columns.recordings import PartSource
from podcam.columns.sets import KernelSet, view
from podcam.columns.sources import NO_LINK_TYPE, Losses, PcapngSource, PcapSource, Source
from podcam.errors import CaptureFileError, ClipError, SegmentError
from podcam.model.connection import Conversation, IcmpError, Packet, TcpCounts, TcpEvent
from podcam.model.diagnosis import CaptureSummary
from podcam.model.point import Endpoint, Window
from podcam.ring import is_segment

MAX_CONVERSATION_PACKETS: Final = 50_000
"""Packets of one connection that `conversation` makes objects of: its first and its last half of that."""


class CaptureColumns:
    """The packets and connections of one capture.

    Attributes:
        summary: what the file holds; its warnings tell what could not be read.
        index: place among the captures of the call, as in `Conversation.capture`.
        first_id: id of the connection in row 0; the id of row n is n more.
        points: names of the points; `connections.table["point"]` indexes them.
        connections: one row per TCP connection and point.
        packets: one row per frame (`layout.PACKET`).
        kernels: those it was read with.
        names: by address, what people call who has it.
    """

    def __init__(
        self,
        analyser: Analyser,
        summary: CaptureSummary,
        index: int,
        first_id: int,
        sources: Sequence[Source],
    ) -> None:
        self.summary = summary
        self.index = index
        self.first_id = first_id
        self.points = summary.points
        self.connections = analyser.connections()
        self.packets: Table = analyser.packets
        self.kernels = analyser.kernels
        self.names = dict(sources[0].names)
        self._point_of_interface = [interface.point for interface in sources[0].interfaces]
        self._spans: dict[int, Window | None] = {}
        self._losses = {point: losses for source in sources for point, losses in source.losses.items()}
        self._analyser = analyser

    def endpoints(self, row: int) -> tuple[Endpoint, Endpoint]:
        """Client and server of a connection."""
        return self._endpoint(self.connections.client[row]), self._endpoint(self.connections.server[row])

    def losses(self, point: int) -> Losses:
        """What is known to be missing of a point's packets."""
        return self._losses.get(point, Losses())

    def recorded(self, point: int) -> Window | None:
        """From the first packet of a point to its last; None where there is none."""
        if point not in self._spans:
            interfaces = [n for n, name in enumerate(self._point_of_interface) if name == point]
            times = self.packets["time_ns"][np.isin(self.packets["interface"], interfaces)]
            self._spans[point] = Window(int(times.min()), int(times.max())) if len(times) else None
        return self._spans[point]

    def _endpoint(self, side: Rows) -> Endpoint:
        ip = address_text(side)
        return Endpoint(ip, int(side["port"]), self.names.get(ip))

    def conversation(self, row: int, max_packets: int = MAX_CONVERSATION_PACKETS) -> Conversation:
        """A connection with its packets, payload and events, ICMP errors that quote it included.

        Of a connection with more packets than `max_packets`, the first and the last half are given.
        """
        table = self.connections.table[row]
        client, server = self.connections.client[row], self.connections.server[row]
        client_end, server_end = self.endpoints(row)
        return Conversation(
            id=self.first_id + row,
            capture=self.index,
            point=self.points[table["point"]],
            tcp_stream=int(table["stream"]),
            client=client_end,
            server=server_end,
            packets=tuple(self._packets_of(row, max_packets)),
            syn_seen=bool(table["syn_seen"]),
            capture_first_ns=self.summary.first_ns or 0,
            capture_last_ns=self.summary.last_ns or 0,
            capture_dropped=bool(self.summary.dropped),
            gaps=self.losses(int(table["point"])).gaps,
            counts=self.counts(row),
            client_packets=int(client["packets"]),
            server_packets=int(server["packets"]),
            client_bytes=int(client["bytes"]),
            server_bytes=int(server["bytes"]),
        )

    def counts(self, row: int) -> TcpCounts:
        """How often each event of `tcp.analysis` happened, on both sides."""
        sides = (self.connections.client[row], self.connections.server[row])
        handshake_ns = int(self.connections.table["handshake_ns"][row])

        def total(name: str) -> int:
            return sum(int(side[name]) for side in sides)

        return TcpCounts(
            retransmissions=total("retransmissions"),
            fast_retransmissions=total("fast_retransmissions"),
            out_of_order=total("out_of_order"),
            duplicate_acks=total("duplicate_acks"),
            zero_windows=total("zero_windows"),
            lost_segments=total("lost_segments"),
            handshake_ns=None if handshake_ns < 0 else handshake_ns,
        )

    def _packets_of(self, row: int, most: int) -> Iterator[Packet]:
        rows = np.array(self._rows_of(row, most), np.int64)
        client, view = _end(self.connections.client[row]), self._analyser.view
        times, events = self.packets["time_ns"][rows].tolist(), self.packets["events"][rows].tolist()
        segments = self._analyser.segments_of(rows)
        for packet_row, time_ns, event, segment in zip(rows.tolist(), times, events, segments, strict=True):
            icmp = None
            if segment["kind"] in {QUOTED, QUOTED_PORTS}:
                icmp = IcmpError(
                    version=int(segment["icmp_version"]),
                    type=int(segment["icmp_type"]),
                    code=int(segment["icmp_code"]),
                    sender=address_text(segment, "icmp"),
                )
            at = int(segment["payload_at"])
            yield Packet(
                frame=packet_row + 1,
                time_ns=time_ns,
                from_client=_end(segment, "source_") == client,
                flags=int(segment["flags"]),
                seq=int(segment["seq"]),
                ack=int(segment["ack"]),
                window=int(segment["window"]),
                ttl=int(segment["ttl"]),
                ip_id=int(segment["ip_id"]),
                payload_bytes=max(int(segment["payload_bytes"]), 0),
                payload=bytes(view[at : at + int(segment["payload_captured"])]),
                events=TcpEvent(event),
                icmp=icmp,
            )

    def _rows_of(self, row: int, most: int) -> list[int]:
        """The first and the last packets of a connection, `most` altogether."""
        following = self.packets["next"]
        packet_row = int(self.connections.table["first_packet"][row])
        first: list[int] = []
        last: deque[int] = deque(maxlen=most - most // 2)
        while packet_row >= 0:
            (first if len(first) < most // 2 else last).append(packet_row)
            packet_row = int(following[packet_row])
        return [*first, *last]


def _end(row: Rows, prefix: str = "") -> tuple[int, int, int]:
    """Address and port of a side, or (with a prefix) of a segment."""
    high, low = ("address_high", "address_low") if not prefix else (f"{prefix}high", f"{prefix}low")
    return int(row[f"{prefix}port"]), int(row[low]), int(row[high])


def open_captures(
    paths: Sequence[str | Path],
    *,
    progress: Callable[[float], None] | None = None,
    kernels: KernelSet | None = None,
    max_connections: int = MAX_CONNECTIONS,
) -> list[CaptureColumns]:
    """Read captures: pcap, pcapng (gzip and zstd too), Podcam segments, folders of segments, and clips.

    `progress` is called with the fraction done, now and then. `kernels` fixes the kernels, which otherwise go
    by the size of a capture.

    Raises:
        CaptureFileError: a path is not there, cannot be read, is empty, or is no capture. A capture that is
            cut or garbled in places is read as far as it goes, and `summary.warnings` says so.
    """
    captures: list[CaptureColumns] = []
    for path in paths:
        first_id = captures[-1].first_id + len(captures[-1].connections) if captures else 0
        captures.append(
            _open_capture(Path(path), len(captures), first_id, progress, kernels, max_connections)
        )
    return captures


def _open_capture(
    path: Path,
    index: int,
    first_id: int,
    progress: Callable[[float], None] | None,
    kernels: KernelSet | None,
    max_connections: int,
) -> CaptureColumns:
    recording = _recording_at(path)
    if recording:
        segments = [segment for part in recording.parts for segment in part.segments]
        files = MappedFiles(segments, may_miss=True)  # a recorder may evict what was there a moment ago
    else:
        files = MappedFiles([path])
    analyser = Analyser(files, kernels, max_connections)
    tell = (lambda: progress(analyser.fraction)) if progress else None
    if recording:
        parts = [PartSource(recording, number, files) for number in range(len(recording.parts))]
        analyser.read_parts(parts, tell)
        sources: Sequence[Source] = parts
    else:
        source = _file_source(path, files)
        analyser.read(source, tell)
        sources = [source]
    return CaptureColumns(analyser, _summary(path, analyser, sources, files), index, first_id, sources)


def _recording_at(path: Path) -> PacketSet | None:
    """The clip, ring or segment at a path; None for other files."""
    try:
        if path.is_dir() or path.name == MANIFEST:
            return open_packets(path)
        if path.exists() and not path.is_file():
            return None  # a pipe: what is read here is gone
        with path.open("rb") as file:
            return open_packets(path) if is_segment(file.read(4)) else None
    except OSError as error:
        raise CaptureFileError(f"cannot read {path}: {error.strerror}") from error
    except (ClipError, SegmentError) as error:
        raise CaptureFileError(str(error)) from error


def _file_source(path: Path, files: MappedFiles) -> Source:
    data, end = view(files.data), files.sizes[0]
    start = bytes(data[: min(end, 24)])
    if not start:
        raise CaptureFileError(f"{path} is empty")
    if PcapSource.matches(start):
        if end < PcapSource.header_bytes:
            raise CaptureFileError(f"{path} is cut within the header of a pcap file")
        return PcapSource(data, end, path.name)
    if PcapngSource.matches(start):
        return PcapngSource(data, end, path.name)
    raise CaptureFileError(f"{path} is neither a pcap or pcapng file nor a segment or clip of Podcam")


def _summary(path: Path, analyser: Analyser, sources: Sequence[Source], files: MappedFiles) -> CaptureSummary:
    packets, interfaces = analyser.packets, sources[0].interfaces
    link_types = {interfaces[number].link_type for number in np.unique(packets["interface"])}
    drops = [source.dropped for source in sources if source.dropped is not None]
    return CaptureSummary(
        path=str(path),
        packets=len(packets),
        bytes=int(packets["original"].sum(dtype=np.int64)),
        first_ns=int(packets["time_ns"].min()) if len(packets) else None,
        last_ns=int(packets["time_ns"].max()) if len(packets) else None,
        link_types=tuple(sorted(link_types - {NO_LINK_TYPE})),
        points=tuple(sources[0].points),
        dropped=sum(drops) if drops else None,
        warnings=(*files.warnings, *(warning for source in sources for warning in source.warnings)),
    )
