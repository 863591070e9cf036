"""The control socket of a recorder: how `podcam clip` reaches the one that is running.

One JSON object per line each way. The socket lies in the recorder's folder (0700), so that who may read the
packets may keep them too, and nobody else.
"""

import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from podcam.errors import ClipError, RightsError
from podcam.recorder.channel import Message

_NAME = "control.sock"
_LONGEST_REQUEST_BYTES = 64 * 1024
_ANSWER_SECONDS = 30.0


class ControlServer:
    """Listens in `folder` and hands each whole request to its caller."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        with suppress(FileNotFoundError):
            self._path.unlink()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        _through_folder(folder, self._listener.bind)
        self._listener.listen(16)

    def fileno(self) -> int:
        """For a selector: readable when somebody connects."""
        return self._listener.fileno()

    def accept(self) -> "ControlConnection | None":
        """The next who connected, or None if there is nobody after all."""
        try:
            connection, _address = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        connection.setblocking(False)
        return ControlConnection(connection)

    def close(self) -> None:
        """Stop listening and take the socket's name away."""
        self._listener.close()
        with suppress(FileNotFoundError):
            self._path.unlink()


class ControlConnection:
    """One who asks.

    Never blocks the recorder: a request may come in pieces, and an answer is dropped if nobody reads it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._received = b""

    def fileno(self) -> int:
        """For a selector."""
        return self._socket.fileno()

    def request(self) -> Message | None:
        """The request once its line is whole, else None.

        Raises:
            EOFError: the other side left, or sent what is no request.
        """
        try:
            piece = self._socket.recv(_LONGEST_REQUEST_BYTES)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            piece = b""
        self._received += piece
        if b"\n" in self._received:
            try:
                request = json.loads(self._received)
            except ValueError:
                request = None
            if isinstance(request, dict):
                return request
            raise EOFError
        if not piece or len(self._received) > _LONGEST_REQUEST_BYTES:
            raise EOFError
        return None

    def answer(self, answer: Message) -> None:
        """Send one answer."""
        with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            self._socket.send(json.dumps(answer).encode() + b"\n")

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def ask_recorder(folder: Path, request: Message) -> Message | None:
    """Send `request` to the recorder of `folder` and wait for its answer; None when none is running.

    Raises:
        RightsError: the folder is somebody else's.
        ClipError: the recorder refused, or did not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_ANSWER_SECONDS)
        try:
            _through_folder(folder, sock.connect)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return None
        except PermissionError:
            raise RightsError(f"{folder}: not yours to ask: run as the user who records there") from None
        try:
            sock.sendall(json.dumps(request).encode() + b"\n")
            line = sock.makefile("rb").readline()
        except (TimeoutError, ConnectionError) as error:
            raise ClipError(f"the recorder of {folder} did not answer: {error}") from None
    if not line:
        raise ClipError(f"the recorder of {folder} ended before it answered: run the command again")
    answer: Message = json.loads(line)
    if "error" in answer:
        raise ClipError(str(answer["error"]))
    return answer


def _through_folder(folder: Path, use: Callable[[str], None]) -> None:
    """Bind or connect to the socket in `folder` by a path short enough for sockaddr_un (108 bytes)."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        use(f"/proc/self/fd/{descriptor}/{_NAME}")
    finally:
        os.close(descriptor)
