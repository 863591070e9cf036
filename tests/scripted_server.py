"""A server of plain sockets, which says and does with each connection what a test wants."""

import socket
import threading
from collections.abc import Callable

from kube_server import PATIENCE_SECONDS


class Script:
    """A server of plain sockets: `converse` gets every connection, and its number."""

    def __init__(self, converse: Callable[[socket.socket, int], None]) -> None:
        self._converse = converse
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self.connections = 0
        self._ending = False
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._ending:
                connection.close()
                return
            self.connections += 1
            thread = threading.Thread(target=self._talk, args=(connection, self.connections))
            thread.start()
            self._threads.append(thread)

    def _talk(self, connection: socket.socket, number: int) -> None:
        with connection:
            self._converse(connection, number)

    def __enter__(self) -> "Script":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        socket.create_connection(self.address).close()
        for thread in (self._thread, *self._threads):
            thread.join(PATIENCE_SECONDS)
        self._listener.close()


def request_on(connection: socket.socket) -> bytes:
    """The head of the next request; b"" when the client hung up."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65_536)
        if not piece:
            return b""
        data += piece
    return data
