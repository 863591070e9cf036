"""Opening and closing packet sockets beside one another.

The kernel waits until no packet is under way (`synchronize_net`) whenever a packet socket's ring is set up,
and when the socket is closed: 10 to 30 ms each on a busy machine (measured). Several that wait at once wait
once.
"""

import socket
import threading
from collections.abc import Callable, Iterable, Sequence

Socket = socket.socket


def open_together(openers: Sequence[Callable[[], Socket]]) -> list[Socket]:
    """Open sockets, one per opener; all of them, or none.

    Raises:
        PodcamError: what the first opener raised that could not open its own.
    """
    results: list[Socket | BaseException] = [OSError()] * len(openers)

    def open_one(number: int) -> None:
        try:
            results[number] = openers[number]()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            results[number] = error

    threads = [
        threading.Thread(target=open_one, args=(number,), name="open") for number in range(1, len(openers))
    ]
    for thread in threads:
        thread.start()
    open_one(0)
    for thread in threads:
        thread.join()
    opened = [result for result in results if isinstance(result, Socket)]
    failed = [result for result in results if isinstance(result, BaseException)]
    if failed:
        close_soon(opened)
        raise failed[0]
    return opened


def close_soon(sockets: Iterable[Socket]) -> None:
    """Close sockets that nobody uses any more, in a thread that waits for it."""
    threading.Thread(target=_close, args=(list(sockets),), name="close", daemon=True).start()


def _close(sockets: list[Socket]) -> None:
    for sock in sockets:
        sock.close()
