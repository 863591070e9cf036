"""How the connections between a client and a server usually end.

A health check that is closed by the server each time is no failure; the same end between an application and
its database, after a hundred that went otherwise, is one. So habits belong to the pair of client address and
server: the kubelet's do not hide, and are not hidden by, those of the pods.
"""

from collections import OrderedDict

from podcam.trigger.rules import Habit, Usual


class _Pair:
    __slots__ = ("ended", "ends")

    def __init__(self) -> None:
        self.ended = 0
        self.ends: dict[Habit, int] = {}


class Habits:
    """Counts of ended connections per pair, for the pairs that were heard of last.

    A pair is any bytes that name client address and server; `max_pairs` bounds the memory.
    """

    def __init__(self, max_pairs: int) -> None:
        self._max_pairs = max_pairs
        self._pairs: OrderedDict[bytes, _Pair] = OrderedDict()

    def ended_well(self, pair: bytes) -> None:
        """Count a connection that ended as most do."""
        self._pair(pair).ended += 1

    def is_failure(self, pair: bytes, usual: Usual) -> bool:
        """Whether this end is rare enough between the pair; counts it."""
        known = self._pair(pair)
        times = known.ends.get(usual.habit, 0)
        rare = usual.at_first if known.ended < usual.ended else times < usual.share * known.ended
        known.ended += 1
        known.ends[usual.habit] = times + 1
        return rare

    def _pair(self, pair: bytes) -> _Pair:
        known = self._pairs.get(pair)
        if known is None:
            known = self._pairs[pair] = _Pair()
            if len(self._pairs) > self._max_pairs:
                self._pairs.popitem(last=False)
        else:
            self._pairs.move_to_end(pair)
        return known
