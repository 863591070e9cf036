"""Requests to the API server: the newest per object, again and again until it answers."""

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from agents import PaperApi, paper_log
from podcam.agent.writes import Writes
from podcam.errors import ForbiddenError, KubernetesError, NotFoundError, NotInstalledError, UnreachableError
from podcam.kube import Api

PATIENCE_S = 20.0


class Sender:
    """Writes with a clock that runs fast, and what they sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.news = threading.Condition()
        self.answers: dict[str, list[Exception | None]] = {}
        self.log, self.lines = paper_log()
        looks = itertools.count(1)
        api = cast("Api", PaperApi())
        # Every look at the clock is much later than the one before: nobody has to wait for a pause to end.
        self.writes = Writes(api, self.log, now=lambda: 1000.0 * next(looks), jitter=lambda: 1.0)

    def with_real_clock(self) -> None:
        self.writes = Writes(cast("Api", PaperApi()), self.log)

    def sends(self, name: str) -> Callable[[Any], None]:
        def send(_api: Any) -> None:
            with self.news:
                answers = self.answers.get(name, [])
                answer = answers.pop(0) if answers else None
                self.sent.append(name)
                self.news.notify_all()
            if answer is not None:
                raise answer

        return send

    def put(self, key: str, name: str | None = None, **options: Any) -> None:
        self.writes.put(key, self.sends(name or key), **options)

    def wait_sent(self, *names: str) -> None:
        with self.news:
            assert self.news.wait_for(lambda: self.sent == list(names), PATIENCE_S), self.sent


@pytest.fixture
def sender() -> Iterator[Sender]:
    made = Sender()
    yield made
    made.writes.finish(PATIENCE_S)


def test_the_newest_of_an_object_goes_and_the_older_ones_do_not(sender: Sender) -> None:
    sender.put("a", "a1")
    sender.put("b", "b1")
    sender.put("a", "a2")
    sender.writes.start()
    sender.wait_sent("a2", "b1")


def test_what_waits_is_not_put_off_by_what_is_newer(sender: Sender) -> None:
    sender.put("a", "a1", delay_seconds=1)
    sender.put("b", "b1", delay_seconds=2)
    sender.put("a", "a2", delay_seconds=3)
    sender.writes.start()
    sender.wait_sent("a2", "b1")


def test_in_an_outage_only_the_latest_events_wait(sender: Sender) -> None:
    for number in range(1000):
        sender.put(f"event-{number}", insist=False)
    sender.put("status")
    assert sender.writes.waiting == 101
    sender.writes.start()
    sender.wait_sent(*(f"event-{number}" for number in range(900, 1000)), "status")


def test_an_api_server_that_is_away_is_asked_again_until_it_answers(sender: Sender) -> None:
    away = UnreachableError("connection refused")
    sender.answers["a"] = [away, away, None]
    sender.put("a")
    sender.writes.start()
    sender.wait_sent("a", "a", "a")
    assert sender.lines.getvalue().count("cannot be reached") == 1


def test_so_is_one_that_has_too_much_to_do(sender: Sender) -> None:
    sender.answers["a"] = [KubernetesError("too many requests", status=429), None]
    sender.put("a")
    sender.writes.start()
    sender.wait_sent("a", "a")


def test_what_is_refused_holds_nothing_else_up_and_is_tried_again(sender: Sender) -> None:
    sender.answers["a"] = [ForbiddenError("not allowed", status=403), None]
    sender.put("a")
    sender.put("b")
    sender.writes.start()
    sender.wait_sent("a", "b", "a")
    assert "not allowed" in sender.lines.getvalue()


def test_what_nobody_insists_on_is_refused_once(sender: Sender) -> None:
    sender.answers["a"] = [ForbiddenError("the namespace is being terminated", status=403)]
    sender.put("a", insist=False)
    sender.put("b", delay_seconds=5)
    sender.writes.start()
    sender.wait_sent("a", "b")


def test_there_is_nothing_to_say_of_an_object_that_is_gone(sender: Sender) -> None:
    sender.answers["a"] = [NotFoundError("no such clip", status=404)]
    sender.put("a")
    sender.put("b", delay_seconds=5)
    sender.writes.start()
    sender.wait_sent("a", "b")
    assert '"error"' not in sender.lines.getvalue()


def test_custom_resources_that_are_not_installed_may_come(sender: Sender) -> None:
    sender.answers["a"] = [NotInstalledError("no such kind", status=404), None]
    sender.put("a")
    sender.writes.start()
    sender.wait_sent("a", "a")


def test_a_defect_in_one_request_ends_no_other(sender: Sender) -> None:
    sender.answers["a"] = [ZeroDivisionError(), None]
    sender.put("a")
    sender.writes.start()
    sender.wait_sent("a", "a")
    assert "ZeroDivisionError" in sender.lines.getvalue()


def test_what_was_dropped_is_not_sent(sender: Sender) -> None:
    sender.put("a")
    sender.put("b")
    sender.writes.drop("a")
    sender.writes.start()
    sender.wait_sent("b")


def test_at_the_end_all_that_waits_goes_at_once(sender: Sender) -> None:
    sender.with_real_clock()
    sender.put("a", delay_seconds=3600)
    sender.writes.start()
    assert sender.writes.finish(PATIENCE_S)
    assert sender.sent == ["a"]


def test_at_the_end_nobody_insists(sender: Sender) -> None:
    sender.with_real_clock()
    sender.answers["a"] = [ForbiddenError("not allowed", status=403)] * 99
    sender.put("a", delay_seconds=3600)
    sender.writes.start()
    sender.writes.finish(PATIENCE_S)
    assert sender.sent == ["a"]


def test_what_the_api_server_cannot_do_holds_nothing_else_up(sender: Sender) -> None:
    sender.with_real_clock()
    sender.answers["bad"] = [KubernetesError("failed calling webhook", status=500)] * 999
    sender.put("bad")
    for number in range(20):
        sender.put(f"good-{number}", delay_seconds=0.01)
    sender.writes.start()
    with sender.news:
        assert sender.news.wait_for(lambda: sum("good" in name for name in sender.sent) == 20, PATIENCE_S)
    assert sender.sent.count("bad") <= 2
    sender.writes.drop("bad")


def test_what_the_api_server_could_not_do_is_tried_again(sender: Sender) -> None:
    sender.answers["a"] = [KubernetesError("etcdserver: request timed out", status=500), None]
    sender.put("a")
    sender.writes.start()
    sender.wait_sent("a", "a")


def test_what_takes_the_place_of_what_failed_is_held_as_long(sender: Sender) -> None:
    """Else an object whose status changes all the time would be tried all the time."""
    sender.with_real_clock()
    sender.answers["a"] = [KubernetesError("failed calling webhook", status=500)] * 4
    sender.put("a")
    sender.writes.start()
    with sender.news:
        assert sender.news.wait_for(lambda: len(sender.sent) == 4, PATIENCE_S)
    sender.put("a", "newer")
    sender.put("b")
    with sender.news:
        assert sender.news.wait_for(lambda: "b" in sender.sent, PATIENCE_S)
        assert "newer" not in sender.sent
        assert sender.news.wait_for(lambda: "newer" in sender.sent, PATIENCE_S)


def test_what_was_dropped_under_way_is_not_sent_again(sender: Sender) -> None:
    under_way, dropped = threading.Event(), threading.Event()

    def create(_api: Any) -> None:
        under_way.set()
        dropped.wait(PATIENCE_S)
        raise UnreachableError("no answer in time")

    sender.writes.put("create", create)
    sender.writes.start()
    assert under_way.wait(PATIENCE_S)
    assert sender.writes.waiting == 1
    sender.writes.drop("create")
    dropped.set()
    sender.put("next")
    sender.wait_sent("next")
    assert sender.writes.waiting == 0


def test_years_of_refusals_end_nothing(sender: Sender) -> None:
    sender.answers["a"] = [ForbiddenError("not allowed", status=403)] * 1100
    sender.put("a")
    sender.writes.start()
    with sender.news:
        assert sender.news.wait_for(lambda: len(sender.sent) == 1101, PATIENCE_S)
