"""Following names: which addresses the DNS answers that were seen gave for the names a person typed.

Names narrow triggers, exports and reports; see docs/triggers.md.
"""

from collections.abc import Iterable

from podcam.wire.dns import Address, Alias, Answer, parse_answer
from podcam.wire.ip import address_text

_MAX_ADDRESSES = 4096
"""Addresses kept for all names together; the ones that were answered least recently go first."""
_MAX_ALIASES = 256


class FollowedNames:
    """The addresses of some names, learnt from DNS answers.

    A name also counts with a search domain behind it: one of `search` when that is known (resolv.conf(5));
    otherwise any for a name without a dot, and a cluster's (`….svc.…`) for others. CNAMEs are followed, also
    when their target is looked up on its own.
    """

    def __init__(self, names: Iterable[str], search: Iterable[str] | None = None) -> None:
        self._names = tuple(name.lower().rstrip(".") for name in names)
        self._search = None if search is None else tuple(domain.lower().strip(".") for domain in search)
        self._aliases: dict[str, str] = {}
        self._addresses: dict[str, tuple[str, int]] = {}

    @property
    def addresses(self) -> frozenset[str]:
        """All addresses known."""
        return frozenset(self._addresses)

    @property
    def by_name(self) -> dict[str, list[str]]:
        """All addresses known, by the followed name that had them last."""
        names: dict[str, list[str]] = {}
        for address, (name, _) in self._addresses.items():
            names.setdefault(name, []).append(address)
        return names

    def name_of(self, address: str) -> str | None:
        """The followed name that had this address last."""
        known = self._addresses.get(address)
        return None if known is None else known[0]

    def learn(self, message: bytes, now_ns: int) -> frozenset[str]:
        """Read a DNS answer that the point received, and return the addresses that are new."""
        answer = parse_answer(message)
        if not isinstance(answer, Answer):
            return frozenset()
        name = self._followed(answer.name)
        if name is None:
            return frozenset()
        same = {answer.name}
        new = set()
        for record in answer.records:
            if record.name not in same:
                continue
            if isinstance(record, Alias):
                same.add(record.target)
                self._alias(record.target, name)
            else:
                new.add(self._keep(record, name, now_ns))
        return frozenset(address for address in new if address is not None)

    def add(self, name: str, addresses: Iterable[str], now_ns: int) -> frozenset[str]:
        """Take addresses from an own lookup, and return those that are new."""
        before = self.addresses
        for address in addresses:
            self._put(address, name, now_ns)
        return self.addresses - before

    def forget(self, before_ns: int) -> frozenset[str]:
        """Drop the addresses that no answer has given since: their packets have left the ring."""
        old = frozenset(address for address, (_, seen_ns) in self._addresses.items() if seen_ns < before_ns)
        for address in old:
            del self._addresses[address]
        return old

    def _followed(self, question: str) -> str | None:
        for name in self._names:
            if question == name:
                return name
            if question.startswith(name + ".") and self._is_search(name, question[len(name) + 1 :]):
                return name
        return self._aliases.get(question)

    def _is_search(self, name: str, domain: str) -> bool:
        if self._search is not None:
            return domain in self._search
        return "." not in name or "svc" in domain.split(".")

    def _alias(self, target: str, name: str) -> None:
        self._aliases.pop(target, None)
        self._aliases[target] = name
        if len(self._aliases) > _MAX_ALIASES:
            del self._aliases[next(iter(self._aliases))]

    def _keep(self, record: Address, name: str, now_ns: int) -> str | None:
        address = address_text(record.address)
        return address if self._put(address, name, now_ns) else None

    def _put(self, address: str, name: str, now_ns: int) -> bool:
        new = self._addresses.pop(address, None) is None
        self._addresses[address] = (name, now_ns)
        if len(self._addresses) > _MAX_ADDRESSES:
            del self._addresses[next(iter(self._addresses))]
        return new
