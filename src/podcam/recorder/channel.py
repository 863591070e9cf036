"""How the recorder's processes talk: JSON messages over a socket pair, with file descriptors where needed.

SOCK_SEQPACKET keeps messages whole, and reports the other side's death as an empty one, so that the writer
notices within one message that its supervisor is gone, however that died.
"""

import array
import json
import select
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any, Self

Message = dict[str, Any]

_LARGEST_MESSAGE_BYTES = 1 << 20
_MOST_DESCRIPTORS = 16


class Channel:
    """One end of a socket pair."""

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
        """Send one message, wait for room if need be; False when nobody is there to receive it."""
        rights = (
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        )
        try:
            self._socket.sendmsg([_encode(message)], rights)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def offer(self, message: Message) -> bool:
        """Send one message if that is possible without waiting; False when the other side is behind.

        To a side that is gone it counts as sent: `receive` tells of that.
        """
        try:
            self._socket.send(_encode(message), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionResetError):
            return True
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

    def waits(self) -> bool:
        """Whether `receive` would not have to wait."""
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        return bool(poller.poll(0))

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


class Outbox:
    """Messages to a side that may be slow, in order, so that nobody waits for it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._waiting: deque[Message] = deque()

    def put(self, message: Message) -> None:
        """Send it, now or when the other side is ready; it is kept until then."""
        self._waiting.append(message)
        self.send_waiting()

    def offer(self, message: Message) -> bool:
        """Send it now or not at all; whether it was sent."""
        return self.send_waiting() and self._channel.offer(message)

    def send_waiting(self) -> bool:
        """Send what waits, as far as the other side takes it; whether all is sent."""
        while self._waiting and self._channel.offer(self._waiting[0]):
            self._waiting.popleft()
        return not self._waiting

    def finish(self) -> None:
        """Send what waits, however long that takes."""
        while self._waiting and self._channel.send(self._waiting.popleft()):
            pass


def _encode(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()
