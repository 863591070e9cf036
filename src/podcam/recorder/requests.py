"""What people ask of a running recorder, served beside everything else that it waits for."""

import functools
import selectors
from collections.abc import Callable
from pathlib import Path

from podcam.recorder.channel import Message
from podcam.recorder.control import ControlConnection, ControlServer

Answer = Callable[[Message], None]


class Requests:
    """The control socket in a selector: `serve` gets each request, and a function that answers it, once."""

    def __init__(
        self, folder: Path, selector: selectors.BaseSelector, serve: Callable[[Message, Answer], None]
    ) -> None:
        self._selector = selector
        self._serve = serve
        self._server = ControlServer(folder)
        selector.register(self._server, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Take no more."""
        self._server.close()

    def _accept(self) -> None:
        connection = self._server.accept()
        if connection is not None:
            listen = functools.partial(self._listen, connection)
            self._selector.register(connection, selectors.EVENT_READ, listen)

    def _listen(self, connection: ControlConnection) -> None:
        try:
            request = connection.request()
        except EOFError:
            self._selector.unregister(connection)
            connection.close()
            return
        if request is not None:
            self._selector.unregister(connection)
            self._serve(request, functools.partial(_answer, connection))


def _answer(connection: ControlConnection, message: Message) -> None:
    connection.answer(message)
    connection.close()
