"""What the HTTP server's threads may ask of the agent's thread."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from podcam.agent.clips import Clips
from podcam.agent.grants import Grants
from podcam.agent.naming import Name
from podcam.kube import Grant

T = TypeVar("T")

_ANSWER_SECONDS = 5.0
_STANDSTILL_SECONDS = 30.0
"""A loop that stood still for so long records nothing new."""


class ServedAgent:
    """An agent as its HTTP server sees it.

    Args:
        call: runs a function in the agent's thread.
        beat: when that thread was last seen alive, on the monotonic clock.
        monotonic: that clock, in seconds.
        figures: the metrics' text, made in the agent's thread.
        grants: who may read.
        clips: what there is to read.
    """

    def __init__(
        self,
        call: Callable[[Callable[[], None]], None],
        beat: Callable[[], float],
        monotonic: Callable[[], float],
        figures: Callable[[], str],
        grants: Grants,
        clips: Clips,
    ) -> None:
        self._call = call
        self._beat = beat
        self._monotonic = monotonic
        self._figures = figures
        self._grants = grants
        self._clips = clips

    def health(self) -> str | None:
        """Why recording cannot go on, None when it can. The API server being away is no illness."""
        still = self._monotonic() - self._beat()
        if still > _STANDSTILL_SECONDS:
            return f"the agent has stood still for {still:.0f} s"
        return None

    def metrics(self) -> str:
        """In Prometheus' text format; empty when the agent does not answer in time."""
        return self._ask(self._figures, "")

    def grant(self, namespace: str, name: str, wait_seconds: float) -> Grant | None:
        """The grant of this name, if it comes within that time."""
        return self._grants.find(namespace, name, wait_seconds)

    def clip_folder(self, namespace: str, clip: str) -> Path | None:
        """Where this node's part of a clip lies, None when it has none."""
        return self._ask(lambda: self._clips.path_of(Name(namespace, clip)), None)

    def _ask(self, question: Callable[[], T], otherwise: T) -> T:
        answers: list[T] = []
        answered = threading.Event()

        def answer() -> None:
            try:
                answers.append(question())
            finally:
                answered.set()

        self._call(answer)
        answered.wait(_ANSWER_SECONDS)
        return answers[0] if answers else otherwise
