import io

from podcam.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_long_work_is_told_now_and_then_and_leaves_no_trace() -> None:
    clock, terminal = Clock(), Terminal()
    with Progress("reading", terminal, clock) as progress:
        progress(0.1)
        clock.now_s += 1.5
        progress(0.25)
        progress(0.26)
        clock.now_s += 0.2
        progress(1.01)
    assert terminal.getvalue() == "\rreading: 25% \rreading: 100% \r\x1b[K"


def test_short_work_says_nothing() -> None:
    clock, terminal = Clock(), Terminal()
    with Progress("reading", terminal, clock) as progress:
        clock.now_s += 0.9
        progress(0.9)
    assert terminal.getvalue() == ""


def test_nothing_is_said_where_nobody_looks() -> None:
    clock, out = Clock(), io.StringIO()
    with Progress("reading", out, clock) as progress:
        clock.now_s += 10
        progress(0.5)
    assert out.getvalue() == ""
