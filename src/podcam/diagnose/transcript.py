"""A connection read once from its first packet to its last: what each side said, when, and in which frame.

Rules ask a transcript questions; nothing here judges.
"""

from bisect import bisect_left
from dataclasses import dataclass
from enum import StrEnum

from podcam.diagnose.dialogue import Dialogue
from podcam.diagnose.standing import Utterance
from podcam.model.connection import Conversation, Packet, TcpFlags
from podcam.model.diagnosis import Evidence
from podcam.wire.stream import Data, Piece, Reassembler, Side, Span

# Plain numbers: arithmetic with enums costs more than all else here.
_SYN, _ACK, _FIN, _RST = (int(flag) for flag in (TcpFlags.SYN, TcpFlags.ACK, TcpFlags.FIN, TcpFlags.RST))


class Manner(StrEnum):
    """How a side ends a connection."""

    FIN = "FIN"
    RST = "RST"


@dataclass(frozen=True, slots=True)
class Ending:
    """The first packet that ends the connection."""

    side: Side
    manner: Manner
    packet: Packet


@dataclass(frozen=True, slots=True)
class Segment:
    """Payload of one packet: stream offsets, the byte at `end` not included."""

    start: int
    end: int
    packet: Packet


class _Stream:
    """What one side sent, and what of it the other side acknowledged."""

    def __init__(self, first_seq: int) -> None:
        self.bytes = Reassembler(first_seq)
        self.segments: list[Segment] = []
        self.acked_offsets: list[int] = []
        self.acked_by: list[Packet] = []

    def acknowledge(self, packet: Packet) -> list[Piece]:
        offset = self.bytes.offset(packet.ack)
        if not self.acked_offsets or offset > self.acked_offsets[-1]:
            self.acked_offsets.append(offset)
            self.acked_by.append(packet)
        return self.bytes.acknowledged(packet.ack)


class Transcript:
    """One connection, packet by packet.

    Attributes:
        syns, syn_acks: the packets that open it, repeated ones included.
        completed: the client's packet that completes the handshake.
        ending: the first FIN or RST, unless its sender went on sending afterwards.
        other_end_missing: whether the other side had sent a FIN before it, which was not captured.
        icmp_errors: errors that quote packets of the connection.
        standing: how the two sides' dialogue stood when the connection ended, or the capture did.
        heads: the first bytes of each side.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.syns: list[Packet] = []
        self.syn_acks: list[Packet] = []
        self.resets: list[Packet] = []
        self.icmp_errors: list[Packet] = []
        self.completed: Packet | None = None
        self.ending: Ending | None = None
        self.other_end_missing = False
        self._streams: dict[Side, _Stream] = {}
        self._packets = tuple(packet for packet in conversation.packets if packet.icmp is None)
        self._syn_acks_to_come = [p for p in self._packets if p.has(_SYN | _ACK) and not p.from_client]
        self._last_data = self._last_data_packets()
        self._dialogue = Dialogue(from_start=conversation.syn_seen)
        self._said: dict[Side, int] = {}
        for packet in conversation.packets:
            if packet.icmp is not None:
                self.icmp_errors.append(packet)
            else:
                self._read(packet)
        self._close_streams()
        self.standing = self._dialogue.standing()
        self.heads = self._dialogue.heads

    # -- reading ------------------------------------------------------------------------------------------

    def _read(self, packet: Packet) -> None:
        side = Side.CLIENT if packet.from_client else Side.SERVER
        if packet.has(_SYN):
            self._read_syn(side, packet)
        if packet.has(_ACK):
            self._acknowledge(side, packet)
        if packet.has(_RST):
            self.resets.append(packet)
        else:
            self._read_payload(side, packet)
        if self.ending is None:
            self._look_for_ending(side, packet)

    def _read_syn(self, side: Side, packet: Packet) -> None:
        opened_by_server = side is Side.SERVER
        (self.syn_acks if opened_by_server else self.syns).append(packet)
        if side not in self._streams:
            self._streams[side] = _Stream((packet.seq + 1) & 0xFFFFFFFF)

    def _acknowledge(self, side: Side, packet: Packet) -> None:
        """An ACK of one side speaks of the other side's stream."""
        if packet.has(_RST) and side.other not in self._streams:
            return
        stream = self._streams.setdefault(side.other, _Stream(packet.ack))
        self._hear(side.other, stream.acknowledge(packet))
        if (
            self.completed is None
            and side is Side.CLIENT
            and self.syn_acks
            and not packet.flags & (_SYN | _RST)
            and stream.bytes.offset(packet.ack) >= 0
        ):
            self.completed = packet

    def _read_payload(self, side: Side, packet: Packet) -> None:
        if packet.payload_bytes == 0:
            return
        seq = packet.seq + 1 if packet.has(_SYN) else packet.seq
        stream = self._streams.setdefault(side, _Stream(packet.seq))
        start = stream.bytes.offset(seq & 0xFFFFFFFF)
        stream.segments.append(Segment(start, start + packet.payload_bytes, packet))
        self._hear(side, stream.bytes.segment(seq & 0xFFFFFFFF, packet.payload, packet.payload_bytes))

    def _hear(self, side: Side, pieces: list[Piece]) -> None:
        """Hand bytes to the dialogue, as long as the connection has not ended."""
        if self.ending is not None:
            return
        for piece in pieces:
            self._said[side] = self._streams[side].bytes.next_offset
            if isinstance(piece, Data):
                self._dialogue.hear(side, piece.data)
            else:
                self._dialogue.miss(side, piece.length)

    def _close_streams(self) -> None:
        """What still waits for missing bytes, and what was acknowledged but never captured, is known now."""
        if self.ending is not None:
            return
        for side, stream in self._streams.items():
            self._hear(side, stream.bytes.finish())
            missing = (stream.acked_offsets[-1] if stream.acked_offsets else 0) - stream.bytes.next_offset
            if missing > 1:  # one may be a FIN that was not captured
                self._hear(side, stream.bytes.skip(missing))

    def _look_for_ending(self, side: Side, packet: Packet) -> None:
        if packet.has(_RST) and not self._went_on_after(side, packet):
            ending = Ending(side, Manner.RST, packet)
        elif packet.has(_FIN):
            ending = Ending(side, Manner.FIN, packet)
        else:
            return
        if packet.flags & (_FIN | _ACK):  # an RST without ACK need not know where its side stands
            self._hear_up_to(side, packet)
        self._close_streams()
        self.ending = ending
        self.other_end_missing = self._acknowledges_unseen_fin(side, packet)

    def _acknowledges_unseen_fin(self, side: Side, packet: Packet) -> bool:
        """Whether a packet acknowledges one byte more than the other side was seen to send."""
        stream = self._streams.get(side.other)
        if stream is None or not packet.has(_ACK):
            return False
        return stream.bytes.offset(packet.ack) == stream.bytes.next_offset + 1

    def _hear_up_to(self, side: Side, last: Packet) -> None:
        """A side's last packet tells by its sequence number how much the side had sent, captured or not."""
        stream = self._streams.setdefault(side, _Stream(last.seq))
        self._hear(side, stream.bytes.finish())
        end = stream.bytes.offset(last.seq) + (0 if last.has(_RST) else last.payload_bytes)
        self._hear(side, stream.bytes.skip(end - stream.bytes.next_offset))

    def _last_data_packets(self) -> dict[Side, Packet]:
        last: dict[Side, Packet] = {}
        for packet in self._packets:
            if packet.payload_bytes and not packet.has(_RST):
                last[Side.CLIENT if packet.from_client else Side.SERVER] = packet
        return last

    def _went_on_after(self, side: Side, reset: Packet) -> bool:
        """Whether the sender sent new data, or a SYN-ACK, behind an RST: then it was not the sender's."""
        if side is Side.SERVER and any(packet.frame > reset.frame for packet in self._syn_acks_to_come):
            return True
        last = self._last_data.get(side)
        if last is None or last.frame < reset.frame:
            return False
        return 0 < (last.seq + last.payload_bytes - reset.seq) % (1 << 32) < 1 << 31

    # -- questions ----------------------------------------------------------------------------------------

    @property
    def established(self) -> bool:
        """Whether both sides took part: a completed handshake, or data or ACKs of the server without one."""
        if self.completed is not None:
            return True
        return any(
            not packet.from_client and not packet.flags & (_SYN | _RST) for packet in self._packets
        ) or (not self.conversation.syn_seen)

    @property
    def end_ns(self) -> int:
        """When it ended, or when the capture did."""
        return self.ending.packet.time_ns if self.ending else self.conversation.capture_last_ns

    def sent(self, side: Side) -> list[Segment]:
        """The segments with payload of one side, retransmissions included, in the order of the file."""
        return self._streams[side].segments if side in self._streams else []

    def bytes_sent(self, side: Side) -> int:
        """How many payload bytes a side sent before the ending, each counted once."""
        return self._said.get(side, 0)

    def sent_after_ending(self, side: Side) -> Segment | None:
        """The first new data that a side sent after the ending."""
        said = self.bytes_sent(side)
        later = (s for s in self.sent(side) if self._is_after_ending(s.packet) and s.end > said)
        return next(later, None)

    def first_packet_of(self, span: Span) -> Packet | None:
        """The packet that first carried the first byte of a span."""
        return next((s.packet for s in self.sent(span.side) if s.start <= span.start < s.end), None)

    def acknowledgement(self, span: Span) -> Packet | None:
        """The first packet of the other side that acknowledges all of a span."""
        stream = self._streams.get(span.side)
        if stream is None:
            return None
        at = bisect_left(stream.acked_offsets, span.end)
        return stream.acked_by[at] if at < len(stream.acked_by) else None

    def retransmissions(self, span: Span) -> list[Packet]:
        """The packets that carried a span's first byte again."""
        carriers = [s.packet for s in self.sent(span.side) if s.start <= span.start < s.end]
        return carriers[1:]

    def quiet_since(self, side: Side) -> int | None:
        """Time of the last packet of a side; None when it sent none."""
        from_client = side is Side.CLIENT
        return next((p.time_ns for p in reversed(self._packets) if p.from_client is from_client), None)

    def packets_of(self, side: Side) -> list[Packet]:
        """What a side sent, ICMP errors left out."""
        return [packet for packet in self._packets if packet.from_client is (side is Side.CLIENT)]

    def evidence(self, packet: Packet, note: str) -> Evidence:
        """A frame and what it proves."""
        return Evidence(self.conversation.capture, packet.frame, packet.time_ns, note)

    def said(self, utterance: Utterance | None, note: str | None = None) -> tuple[Evidence, ...]:
        """The frame in which something was said; nothing when it was not, or not captured."""
        packet = self.first_packet_of(utterance.span) if utterance else None
        if utterance is None or packet is None:
            return ()
        return (self.evidence(packet, note or utterance.what),)

    def acknowledged(self, utterance: Utterance | None) -> tuple[Evidence, ...]:
        """The frame that acknowledges something; nothing when none does, or only the ending itself."""
        packet = self.acknowledgement(utterance.span) if utterance else None
        if utterance is None or packet is None or self._is_after_ending(packet) or self._is_ending(packet):
            return ()
        return (self.evidence(packet, f"ACK of the {utterance.what}"),)

    def ended(self) -> tuple[Evidence, ...]:
        """The frame that ends the connection."""
        ending = self.ending
        if ending is None:
            return ()
        return (self.evidence(ending.packet, f"{ending.manner} of the {ending.side}"),)

    def last_data_before(self, packet: Packet) -> Packet | None:
        """The last packet with payload, of either side, before a packet."""
        before = (s.packet for side in Side for s in self.sent(side) if s.packet.frame < packet.frame)
        return max(before, key=lambda carrier: carrier.frame, default=None)

    def _is_ending(self, packet: Packet) -> bool:
        return self.ending is not None and packet is self.ending.packet

    def _is_after_ending(self, packet: Packet) -> bool:
        return self.ending is not None and packet.frame > self.ending.packet.frame
