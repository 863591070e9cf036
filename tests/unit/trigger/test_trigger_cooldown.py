"""What becomes of failures: a clip, a part of one, or a number."""

from itertools import pairwise

from podcam.model.failure import Failure
from podcam.model.point import Endpoint, Window
from podcam.model.verdict import FailureClass
from podcam.trigger import Counted, Extended, Keeper, Opened, Rate

S = 1_000_000_000
T = 1_763_863_200 * S


def failure(
    seconds: float,
    *,
    server: str = "10.0.0.2",
    kind: FailureClass = FailureClass.RESET_EARLY,
    start: float | None = None,
) -> Failure:
    start_ns = None if start is None else T + round(start * S)
    return Failure(
        T + round(seconds * S), kind, Endpoint("10.0.0.1", 4000), Endpoint(server, 5432), "server", start_ns
    )


def keeper() -> Keeper:
    return Keeper(before_ns=60 * S, after_ns=10 * S)


def fail(keeper: Keeper, seconds: float, **settings: str) -> object:
    keeper.due(T + round(seconds * S))
    return keeper.failure(failure(seconds, **settings), T + round(seconds * S))  # type: ignore[arg-type]


def test_a_failure_opens_a_clip_that_ends_after_its_window() -> None:
    kept = keeper()
    assert kept.failure(failure(0), T) == Opened(1, Window(T - 60 * S, T + 10 * S))
    assert kept.due(T + 9 * S) == []
    (clip,) = kept.due(T + 10 * S)
    assert (clip.number, clip.failures, len(clip.triggers)) == (1, 1, 1)
    assert kept.open == ()


def test_failures_of_an_open_clip_join_it() -> None:
    kept = keeper()
    kept.failure(failure(0), T)
    assert fail(kept, 5, server="10.0.0.3") == Extended(1, Window(T - 60 * S, T + 15 * S))
    (clip,) = kept.due(T + 15 * S)
    assert clip.failures == 2


def test_a_window_reaches_back_to_the_beginning_of_the_connection() -> None:
    kept = Keeper(before_ns=5 * S, after_ns=1 * S)
    assert kept.failure(failure(0, start=-20), T) == Opened(1, Window(T - 20 * S, T + 1 * S))
    other = Keeper(before_ns=5 * S, after_ns=1 * S)
    assert other.failure(failure(0, start=-3000), T) == Opened(1, Window(T - 5 * S, T + 1 * S))


def test_a_storm_makes_few_clips_further_and_further_apart() -> None:
    kept = keeper()
    opened: list[float] = []
    closed = []
    for tenth in range(8 * 3600 * 10):
        now_ns = T + tenth * S // 10
        closed += kept.due(now_ns)
        if isinstance(kept.failure(failure(tenth / 10), now_ns), Opened):
            opened.append(tenth / 10)
    assert len(opened) <= 30
    assert all(clip.window.end_ns - clip.window.start_ns <= 600 * S for clip in closed)
    assert all(len(clip.triggers) <= 100 < clip.failures for clip in closed)
    gaps = [later - earlier for earlier, later in pairwise(opened)]
    assert gaps == sorted(gaps)


def test_the_cooldown_is_per_server_and_class() -> None:
    kept = keeper()
    kept.failure(failure(0), T)
    assert fail(kept, 11) == Counted("cooldown")
    assert isinstance(fail(kept, 12, server="10.0.0.3"), Opened)
    kept.due(T + 30 * S)
    assert isinstance(fail(kept, 31, kind=FailureClass.REFUSED), Opened)
    kept.due(T + 50 * S)
    assert fail(kept, 69) == Counted("cooldown")
    assert isinstance(fail(kept, 71), Opened)


def test_the_cooldown_is_short_again_after_a_quiet_time() -> None:
    kept = keeper()
    kept.failure(failure(0), T)  # until 10, then 60 s
    assert isinstance(fail(kept, 71), Opened)  # until 81, then 120 s
    assert fail(kept, 200) == Counted("cooldown")
    assert isinstance(fail(kept, 1000), Opened)  # until 1010, then 60 s
    assert fail(kept, 1069) == Counted("cooldown")
    assert isinstance(fail(kept, 1071), Opened)


def test_who_asks_always_gets_a_clip_of_their_own() -> None:
    kept = keeper()
    kept.failure(failure(0), T)
    window = Window(T - 30 * S, T)
    assert kept.asked(window, T) == Opened(2, window)
    assert kept.asked(window, T) == Opened(3, window)
    assert [clip.number for clip in kept.due(T)] == [2, 3]
    assert [clip.number for clip in kept.open] == [1]
    assert fail(kept, 5) == Extended(1, Window(T - 60 * S, T + 15 * S))


def test_a_clock_that_is_set_back_ends_clips_and_cooldowns() -> None:
    kept = keeper()
    kept.failure(failure(0), T)
    kept.due(T + 1 * S)
    assert [clip.number for clip in kept.due(T - 3600 * S)] == [1]
    kept.due(T - 3599 * S)
    assert kept.failure(failure(-3599), T - 3599 * S) == Counted("cooldown")
    assert isinstance(kept.failure(failure(-3500), T - 3500 * S), Opened)


# --- clips of other recorders, clips per hour ---


def test_failures_extend_a_clip_that_another_recorder_made() -> None:
    kept = keeper()
    theirs = kept.joined(Window(T - 60 * S, T + 10 * S), T)
    assert fail(kept, 5) == Extended(theirs.clip, Window(T - 60 * S, T + 15 * S))
    (clip,) = kept.due(T + 15 * S)
    assert [trigger.time_ns for trigger in clip.triggers] == [T + 5 * S]
    assert isinstance(fail(kept, 20), Counted)  # in the cooldown of that clip
    assert isinstance(fail(kept, 20, server="10.0.0.9"), Opened)


def test_a_joined_clip_leaves_the_failures_to_the_one_that_is_open() -> None:
    kept = keeper()
    own = kept.failure(failure(0), T)
    theirs = kept.joined(Window(T, T + 30 * S), T + S)
    assert isinstance(own, Opened)
    assert fail(kept, 5) == Extended(own.clip, Window(T - 60 * S, T + 15 * S))
    assert [clip.number for clip in kept.open] == [own.clip, theirs.clip]


def test_an_open_clip_is_widened_by_who_asks_for_more() -> None:
    kept = keeper()
    asked = kept.asked(Window(T - S, T + S), T)
    assert kept.widen(asked.clip, Window(T, T + 5 * S)) == Window(T - S, T + 5 * S)
    assert kept.due(T + 2 * S) == []
    kept.due(T + 5 * S)
    assert kept.widen(asked.clip, Window(T, T + 9 * S)) is None


def test_an_hour_has_so_many_clips_and_joined_ones_count() -> None:
    rate = Rate(2)
    kept = [Keeper(rate=rate, after_ns=S), Keeper(rate=rate, after_ns=S)]
    assert isinstance(fail(kept[0], 0), Opened)
    kept[1].joined(Window(T, T + S), T + S)
    why = fail(kept[0], 10, server="10.0.0.3")
    assert isinstance(why, Counted)
    assert "2 clips" in why.why
    kept[1].asked(Window(T, T + S), T + 20 * S)  # who asks gets it
    assert isinstance(fail(kept[0], 3599, server="10.0.0.3"), Counted)
    assert isinstance(fail(kept[0], 3600, server="10.0.0.3"), Opened)


def test_the_hour_begins_anew_when_the_clock_is_set_back() -> None:
    kept = Keeper(rate=Rate(1), after_ns=S)
    assert isinstance(fail(kept, 0), Opened)
    assert isinstance(fail(kept, 10, server="10.0.0.3"), Counted)
    assert isinstance(fail(kept, -7200, server="10.0.0.3"), Opened)
