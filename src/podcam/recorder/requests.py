"""What people ask of a running recorder, served beside everything else that it waits for."""

import functools
from collections.abc import Callable
from pathlib import Path

from podcam.recorder.channel import Message
from podcam.recorder.control import ControlConnection, ControlServer
from podcam.recorder.loop import Loop

Answer = Callable[[Message], None]


class Requests:
    """The control socket in a loop: `serve` gets each request, and a function that answers it, once."""

    def __init__(self, folder: Path, loop: Loop, serve: Callable[[Message, Answer], None]) -> None:
        self._loop = loop
        self._serve = serve
        self._server = ControlServer(folder)
        loop.listen(self._server, self._accept)

    def close(self) -> None:
        """Take no more."""
        self._loop.unlisten(self._server)
        self._server.close()

    def _accept(self) -> None:
        connection = self._server.accept()
        if connection is not None:
            self._loop.listen(connection, functools.partial(self._listen, connection))

    def _listen(self, connection: ControlConnection) -> None:
        try:
            request = connection.request()
        except EOFError:
            self._loop.unlisten(connection)
            connection.close()
            return
        if request is not None:
            self._loop.unlisten(connection)
            self._serve(request, functools.partial(_answer, connection))


def _answer(connection: ControlConnection, message: Message) -> None:
    connection.answer(message)
    connection.close()
