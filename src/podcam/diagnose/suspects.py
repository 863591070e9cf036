"""Signs that a side's RST was not sent by that side's host (Weaver, Sommer and Paxson, NDSS 2009).

None of them proves it: normal resets often have another TTL or IP-ID than the packets before. Two together
are told, as an inconsistency.
"""

from podcam.diagnose.transcript import Ending, Manner, Transcript
from podcam.model.connection import Packet

_ENOUGH_SIGNS = 2
_RECENT = 8
"""Packets whose IP-ID a forged RST may copy."""


def other_sender(seen: Transcript, ending: Ending) -> tuple[str, ...]:
    """A candidate cause, when at least two signs speak for it."""
    if ending.manner is not Manner.RST:
        return ()
    reset = ending.packet
    own = [packet for packet in seen.packets_of(ending.side) if packet is not reset]
    others = seen.packets_of(ending.side.other)[-_RECENT:]
    signs = [*_odd_ttl(reset, own), *_copied_ip_id(reset, own, others)]
    if len(signs) < _ENOUGH_SIGNS:
        return ()
    return (f"the RST is inconsistent with the {ending.side}'s other packets: {', '.join(signs)}",)


def _odd_ttl(reset: Packet, own: list[Packet]) -> list[str]:
    usual = {packet.ttl for packet in own}
    if not usual or reset.ttl in usual:
        return []
    return [f"TTL {reset.ttl} against {', '.join(str(ttl) for ttl in sorted(usual))}"]


def _copied_ip_id(reset: Packet, own: list[Packet], others: list[Packet]) -> list[str]:
    if reset.ip_id == 0 or reset.ip_id not in {packet.ip_id for packet in others}:
        return []
    if any(abs(packet.ip_id - reset.ip_id) <= _RECENT for packet in own):
        return []
    return ["its IP-ID is that of a packet of the other side"]
