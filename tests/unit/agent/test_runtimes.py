"""The handlers of runtime classes: asked once for each, and never a reason to wait."""

import pytest

from agents import PaperApi, PaperWrites, paper_log
from podcam.agent.runtimes import Runtimes
from podcam.errors import ForbiddenError, KubernetesError, NotFoundError, UnreachableError

PATH = "/apis/node.k8s.io/v1/runtimeclasses/strict"


class Asking:
    """Runtimes, and what they asked."""

    def __init__(self) -> None:
        self.api = PaperApi()
        self.writes = PaperWrites(self.api)
        self.known = 0
        self.log, self.lines = paper_log()
        self.runtimes = Runtimes(self.writes, lambda function: function(), self.log)

    def look_up(self) -> None:
        self.runtimes.look_up("strict", self._known)

    def _known(self) -> None:
        self.known += 1


def test_a_class_is_asked_for_once() -> None:
    asking = Asking()
    asking.api.objects[PATH] = {"handler": "kata-qemu"}
    for _ in range(3):
        asking.look_up()
        asking.writes.send()
    assert asking.runtimes.handlers == {"strict": "kata-qemu"}
    assert [(verb, path) for verb, path, _ in asking.api.requests] == [("get", PATH)]
    assert asking.known == 1


@pytest.mark.parametrize("error", [NotFoundError("none", status=404), ForbiddenError("no", status=403)])
def test_one_that_cannot_be_read_is_judged_by_its_name(error: KubernetesError) -> None:
    asking = Asking()
    asking.api.fails = error
    asking.look_up()
    asking.writes.send()
    assert not asking.writes.waiting
    assert asking.runtimes.handlers == {}
    assert "judged by its name" in asking.lines.getvalue()


def test_while_the_api_server_is_away_the_question_waits() -> None:
    asking = Asking()
    asking.api.fails = UnreachableError("away")
    asking.look_up()
    asking.writes.send()
    assert asking.runtimes.handlers == {}
    asking.api.fails = None
    asking.api.objects[PATH] = {"handler": "runsc"}
    asking.writes.send()
    assert asking.runtimes.handlers == {"strict": "runsc"}
