import os
import signal
import threading

import pytest

from podcam.recorder.loop import Loop


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_a_readable_descriptor_is_told_until_nobody_listens() -> None:
    loop, told = Loop(), []
    reading, writing = os.pipe()
    loop.listen(reading, lambda: told.append(os.read(reading, 1)))
    os.write(writing, b"ab")
    loop.run_once(1)
    assert (told, loop.listens(reading)) == ([b"a"], True)
    loop.unlisten(reading)
    loop.run_once(0)
    assert (told, loop.listens(reading)) == ([b"a"], False)
    os.close(reading)
    os.close(writing)
    loop.close()


def test_what_one_closed_is_not_told_to_the_next() -> None:
    loop, told = Loop(), []
    pipes = [os.pipe(), os.pipe()]

    def react(number: int) -> None:
        told.append(number)
        loop.unlisten(pipes[1 - number][0])

    for number, (reading, writing) in enumerate(pipes):
        loop.listen(reading, lambda number=number: react(number))  # type: ignore[misc]
        os.write(writing, b"a")
    loop.run_once(1)
    assert len(told) == 1
    for pipe in pipes:
        for descriptor in pipe:
            os.close(descriptor)
    loop.close()


def test_calls_of_another_thread_wake_it_and_come_in_order() -> None:
    loop = Loop()
    told: list[tuple[int, int]] = []

    def say(number: int) -> None:
        told.append((number, threading.get_ident()))

    def call_all() -> None:
        for number in range(100):
            loop.call(lambda number=number: say(number))  # type: ignore[misc]

    thread = threading.Thread(target=call_all)
    thread.start()
    while len(told) < 100:
        loop.run_once(10)  # and does not sleep that long
    thread.join()
    assert told == [(number, threading.get_ident()) for number in range(100)]
    loop.close()


def test_signals_are_told_by_their_numbers_and_end_nothing() -> None:
    before = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGUSR2)
    loop, told = Loop(), list[bytes]()
    try:
        loop.listen_for_signals((signal.SIGUSR1, signal.SIGUSR2), told.append)
        signal.raise_signal(signal.SIGUSR2)
        signal.raise_signal(signal.SIGUSR1)
        loop.run_once(10)
        assert told == [bytes((signal.SIGUSR2, signal.SIGUSR1))]
        loop.close()
        signal.raise_signal(signal.SIGUSR1)  # nobody hears it, and it goes nowhere
        assert len(told) == 1
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGUSR1, before[0])
        signal.signal(signal.SIGUSR2, before[1])


def test_a_call_that_raises_leaves_the_others_for_the_next_time() -> None:
    loop, told = Loop(), []

    def fail() -> None:
        raise ValueError("told to")

    loop.call(fail)
    loop.call(lambda: told.append(1))
    with pytest.raises(ValueError, match="told to"):
        loop.run_once(10)
    loop.run_once(10)
    assert told == [1]
    loop.close()


def test_a_call_from_a_call_has_its_turn_after_what_is_readable() -> None:
    loop, told = Loop(), []
    loop.call(lambda: loop.call(lambda: told.append(1)))
    loop.run_once(10)
    assert told == []
    loop.run_once(10)
    assert told == [1]
    loop.close()


def test_timers_come_in_the_order_of_their_times() -> None:
    clock = Clock()
    loop, told = Loop(clock), []
    for seconds in (3.0, 1.0, 2.0):
        loop.later(seconds, lambda seconds=seconds: told.append(seconds))  # type: ignore[misc]
    cancelled = loop.later(1.5, lambda: told.append(0.0))
    cancelled.cancel()
    loop.run_once(0)
    assert told == []
    clock.seconds += 2.0
    loop.run_once(10)
    assert told == [1.0, 2.0]
    clock.seconds += 1.0
    loop.run_once(10)
    assert told == [1.0, 2.0, 3.0]
    loop.close()


def test_a_timer_may_set_itself_again() -> None:
    clock = Clock()
    loop, told = Loop(clock), []

    def tick() -> None:
        told.append(clock.seconds)
        loop.later(0.0, tick)

    loop.later(0.0, tick)
    loop.run_once(10)
    loop.run_once(10)
    assert 2 <= len(told) < 5
    loop.close()


def test_who_calls_after_the_end_is_not_heard() -> None:
    loop = Loop()
    loop.close()
    loop.call(lambda: None)
