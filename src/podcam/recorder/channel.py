"""How the recorder's processes talk: JSON messages over a socket pair, with file descriptors where needed.

SOCK_SEQPACKET keeps messages whole, and reports the other side's death as an empty one, so that the writer
notices within one message that its supervisor is gone, however that died.
"""

import array
import json
import socket
from collections.abc import Sequence
from typing import Any, Self

Message = dict[str, Any]

_LARGEST_MESSAGE_BYTES = 1 << 20
_MOST_DESCRIPTORS = 16


class Channel:
    """One end of a socket pair. Sending never blocks for long: messages are few and small."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, 2 * _LARGEST_MESSAGE_BYTES)

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Two connected ends."""
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(left), cls(right)

    def fileno(self) -> int:
        """For a selector."""
        return self._socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> bool:
        """Send one message; False when nobody is there to receive it."""
        body = json.dumps(message, separators=(",", ":")).encode()
        rights = (
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        )
        try:
            self._socket.sendmsg([body], rights)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def receive(self) -> tuple[Message, list[int]] | None:
        """Wait for the next message and its descriptors; None when the other end is gone."""
        try:
            body, rights, _flags, _address = self._socket.recvmsg(
                _LARGEST_MESSAGE_BYTES, socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            return None
        if not body:
            return None
        descriptors = array.array("i")
        for level, kind, data in rights:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
        message: Message = json.loads(body)
        return message, list(descriptors)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()
