"""The names that the user typed: which addresses they have, and the filters that hold them."""

from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_network

from podcam.capture import Network
from podcam.errors import CaptureError
from podcam.recorder.points import WatchedPoint
from podcam.recorder.settings import TrafficSettings


class Following:
    """The addresses of the followed names, and those that they had before: the ring has packets of them.

    Args:
        traffic: the names, and whether the kernel's filters follow them.
        resolved: the addresses by name, as far as they were found before recording began.
        now_ns: when that was.
        warn: takes the id of a point whose filter could not follow, and why.
    """

    def __init__(
        self,
        traffic: TrafficSettings,
        resolved: Mapping[str, Iterable[str]],
        now_ns: int,
        warn: Callable[[str, str], None],
    ) -> None:
        self.names = {name: tuple(addresses) for name, addresses in resolved.items()}
        self._traffic = traffic
        self._warn = warn
        self._learned_ns = dict.fromkeys(_by_address(self.names), now_ns)
        self._too_long: set[str] = set()
        """Points whose filter does not hold them all, as was told."""

    @property
    def hosts(self) -> frozenset[Network]:
        """All hosts that were asked for, as networks."""
        return frozenset(self._traffic.networks).union(map(ip_network, _by_address(self.names)))

    def moved(
        self, names: Mapping[str, Iterable[str]], learned_ns: int, points: Iterable[WatchedPoint]
    ) -> tuple[list[WatchedPoint], list[WatchedPoint]]:
        """The names have these addresses, or had them lately: let the filters hold them.

        Where a filter would become too long for the kernel, the one before stays.

        Returns:
            The points with another filter than before, and those whose filter lacks addresses.
        """
        self.names = {name: tuple(addresses) for name, addresses in names.items()}
        by_address = _by_address(self.names)
        self._learned_ns = {address: self._learned_ns.get(address, learned_ns) for address in by_address}
        if not self._traffic.filter_follows_names:
            return [], []
        hosts = self.hosts
        swapped, behind = [], []
        for point in points:
            try:
                if point.follow(hosts, by_address, self._learned_ns):
                    swapped.append(point)
                self._too_long.discard(point.id)
            except CaptureError as error:
                behind.append(point)
                if point.id not in self._too_long:
                    self._too_long.add(point.id)
                    self._warn(point.id, f"{error}: the filter stays as it was")
        return swapped, behind


def _by_address(names: Mapping[str, Iterable[str]]) -> dict[str, str]:
    return {address: name for name, addresses in names.items() for address in addresses}
