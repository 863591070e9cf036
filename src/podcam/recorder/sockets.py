"""Opening and closing packet sockets beside one another.

The kernel waits until no packet is under way (`synchronize_net`) whenever a packet socket's ring is set up,
and when the socket is closed: 10 to 30 ms each on a busy machine (measured). Several that wait at once wait
once.
"""

import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

Socket = socket.socket
T = TypeVar("T")

_MOST_THREADS = 8
"""Opening 60 points takes 1.3 s one by one, 0.3 s with 4, 8 or 16 (measured)."""


def beside_one_another(calls: Sequence[Callable[[], T]]) -> list[T | BaseException]:
    """Make all calls, in a few threads: what each returned, or raised."""
    results: list[T | BaseException] = [RuntimeError()] * len(calls)
    numbers = iter(range(len(calls)))

    def work() -> None:
        for number in numbers:
            try:
                results[number] = calls[number]()
            except BaseException as error:  # noqa: BLE001 - handed over to the caller
                results[number] = error

    threads = [threading.Thread(target=work, name="open") for _ in range(1, min(len(calls), _MOST_THREADS))]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    return results


def open_together(openers: Sequence[Callable[[], Socket]]) -> list[Socket]:
    """Open sockets, one per opener; all of them, or none.

    Raises:
        PodcamError: what the first opener raised that could not open its own.
    """
    results = beside_one_another(openers)
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
