"""Which packets a recording keeps."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network

DEFAULT_SNAPLEN = 262144


@dataclass(frozen=True, slots=True)
class Traffic:
    """The packets that a person chose. None leaves a thing open; an empty tuple matches nothing.

    A packet is kept when it came or went by one of `interfaces` (their indexes), one of its addresses lies in
    `hosts`, one of its TCP, UDP or SCTP ports is in `ports`, and `expression` (libpcap's language) holds.
    ICMP errors are kept whatever hosts and ports say, as they are evidence. Fragments without a
    transport header are kept when a host matches. Of TCP packets that go from another address to one of the
    loopback's, the headers are kept whatever hosts and ports say: that is what connections look like, in one
    direction, that are redirected to a proxy on their own host, as in a service mesh.

    `snaplen` cuts every packet to so many bytes; `payload` cuts TCP and UDP packets to so many bytes after
    their header. `own_only` leaves out what is addressed to another host (PACKET_OTHERHOST): a bridge floods
    such packets into every pod of its node when it has forgotten where an address is. `own_port` leaves out
    TCP on loopback from and to this port, over IPv4: there the recorder itself hands out what it recorded.
    """

    hosts: tuple[Network, ...] | None = None
    ports: tuple[int, ...] | None = None
    interfaces: tuple[int, ...] | None = None
    expression: str | None = None
    payload: int | None = None
    snaplen: int = DEFAULT_SNAPLEN
    own_only: bool = False
    own_port: int | None = None

    @property
    def narrows(self) -> bool:
        """Whether hosts or ports were chosen."""
        return self.hosts is not None or self.ports is not None
