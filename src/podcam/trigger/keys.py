"""Keys of connections: client address, server address, client port, server port, as in the client's packets.

12 bytes for IPv4, 36 for IPv6: without options in between, IP and TCP headers have them in this order.
"""

from podcam.model.point import Endpoint
from podcam.wire.ip import address_text

_LOOPBACK_NETWORK = 127
_LOOPBACK = bytes(15) + b"\x01"


def reverse(key: bytes) -> bytes:
    """The key as it stands in packets of the other direction."""
    if len(key) == 12:
        return key[4:8] + key[:4] + key[10:] + key[8:10]
    return key[16:32] + key[:16] + key[34:] + key[32:34]


def client_address_of(key: bytes) -> bytes:
    """Address of the first side."""
    return key[:4] if len(key) == 12 else key[:16]


def client_of(key: bytes) -> bytes:
    """Address and port of the first side."""
    return client_address_of(key) + key[-4:-2]


def server_of(key: bytes) -> bytes:
    """Address and port of the second side."""
    return key[4:8] + key[10:] if len(key) == 12 else key[16:32] + key[34:]


def is_redirected(key: bytes) -> bool:
    """Whether its first side talks to the loopback's address from another one.

    That is what netfilter's REDIRECT makes of a connection on the client's own host. It is answered from the
    server's address.
    """
    if len(key) == 12:
        return key[4] == _LOOPBACK_NETWORK and key[0] != _LOOPBACK_NETWORK
    return key[16:32] == _LOOPBACK and key[:16] != _LOOPBACK


def pair_of(key: bytes) -> bytes:
    """The key without the client's port: the same for all connections between a client and a server."""
    return key[:8] + key[10:] if len(key) == 12 else key[:32] + key[34:]


def ends(key: bytes) -> tuple[Endpoint, Endpoint]:
    """The first and the second side."""
    size = (len(key) - 4) // 2
    return endpoint(key[:size], key[-4:-2]), endpoint(key[size:-4], key[-2:])


def endpoint(address: bytes, port: bytes) -> Endpoint:
    """An address of 4 or 16 bytes and a port, both in network byte order."""
    return Endpoint(address_text(address), int.from_bytes(port, "big"))
