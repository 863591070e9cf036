"""What the API server was last heard to say of one kind of objects."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from podcam.agent.guard import Guard
from podcam.errors import InvalidObjectError
from podcam.kube import Change, Changed, Deleted, Listed, Object

T = TypeVar("T")


class Collection(Generic[T]):
    """The objects of one kind, by `NAMESPACE/NAME` (`NAME` where the kind has no namespaces).

    Args:
        parse: makes a value of an object.
        guard: calls who subscribes: nothing that one of them does keeps others from being told.
        with_status: whether what stands in their status matters, and is kept.
        remembered: as much of an object as is worth to be remembered; None: nothing is.
    """

    def __init__(
        self,
        parse: Callable[[Mapping[str, Any]], T],
        guard: Guard,
        *,
        with_status: bool = False,
        remembered: Callable[[Mapping[str, Any]], Object] | None = None,
    ) -> None:
        self.complete = False
        """Whether all there is was heard of once."""
        self.known = False
        """Whether it was, or was recalled."""
        self.unread: dict[str, Object] = {}
        """Objects that are there, but in a state that cannot be read."""
        self._parse = parse
        self._guard = guard
        self._with_status = with_status
        self._remembered = remembered
        self._values: dict[str, T] = {}
        self._uids: dict[str, str] = {}
        self._statuses: dict[str, Mapping[str, Any]] = {}
        self._bodies: dict[str, Object] = {}
        self._changed: list[Callable[[str, T], None]] = []
        self._redefined: list[Callable[[str, T], None]] = []
        self._removed: list[Callable[[str], None]] = []
        self._listed: list[Callable[[], None]] = []
        self._unreadable: list[Callable[[str, InvalidObjectError], None]] = []

    def subscribe(
        self,
        *,
        changed: Callable[[str, T], None] | None = None,
        redefined: Callable[[str, T], None] | None = None,
        removed: Callable[[str], None] | None = None,
        listed: Callable[[], None] | None = None,
        unreadable: Callable[[str, InvalidObjectError], None] | None = None,
    ) -> None:
        """Be told of what is heard from now on; who subscribed first is told first.

        Args:
            changed: takes each object that is new or has changed. One that was deleted and made anew between
                two looks is told of as both.
            redefined: the same, but for those of which the status alone is another, which is what agents
                write all the time.
            removed: takes the key of each that is gone.
            listed: called when everything there is has been heard: at the start, and after the watch was
                lost.
            unreadable: takes the key of an object that is none, and why.
        """
        if changed is not None:
            self._changed.append(changed)
        if redefined is not None:
            self._redefined.append(redefined)
        if removed is not None:
            self._removed.append(removed)
        if listed is not None:
            self._listed.append(listed)
        if unreadable is not None:
            self._unreadable.append(unreadable)

    def __getitem__(self, key: str) -> T:
        return self._values[key]

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str) -> T | None:
        """The object of this name, if there is one."""
        return self._values.get(key)

    def uid(self, key: str) -> str | None:
        """The uid of the object of this name, if there is one."""
        return self._uids.get(key)

    def status(self, key: str) -> Mapping[str, Any]:
        """The `status` of an object as JSON; empty where it has none."""
        return self._statuses.get(key, {})

    def body(self, key: str) -> Object:
        """What is remembered of an object.

        Raises:
            KeyError: there is none.
        """
        return self._bodies[key]

    def items(self) -> list[tuple[str, T]]:
        """All of them, with their keys."""
        return list(self._values.items())

    def keys(self) -> list[str]:
        """The keys of all of them."""
        return list(self._values)

    def values(self) -> list[T]:
        """All of them."""
        return list(self._values.values())

    def recall(self, bodies: Iterable[Object]) -> None:
        """Take what there was at another time for what there is, until there is a list."""
        if not self.known:
            self.known = True
            for body in bodies:
                self._put(key_of(body), body)

    def take(self, change: Change) -> None:
        """Hear what a watch says."""
        match change:
            case Listed(objects):
                there = {key_of(body): body for body in objects}
                for key in (self._values.keys() | self.unread) - there.keys():
                    self._remove(key)
                first, self.complete, self.known = not self.complete, True, True
                for key, body in there.items():
                    self._put(key, body, news=first)
                self._tell("a list", self._listed)
            case Changed(body):
                self._put(key_of(body), body)
            case Deleted(body):
                self._remove(key_of(body))
            case _:
                pass  # the watch was lost: what was known stays, until it is listed again

    def _put(self, key: str, body: Mapping[str, Any], *, news: bool = False) -> None:
        uid = str(body["metadata"].get("uid"))
        try:
            value = self._parse(body)
        except InvalidObjectError as error:
            if self._uids.get(key, uid) != uid:
                self._remove(key)
            self.unread[key] = dict(body)  # what was last read of it holds
            self._tell(key, self._unreadable, key, error)
            return
        self.unread.pop(key, None)
        status = (body.get("status") or {}) if self._with_status else {}
        before = self._values.get(key)
        same = before == value and self._uids.get(key) == uid
        if same and self._statuses.get(key) == status and not news:
            return
        if before is not None and self._uids[key] != uid:
            self._remove(key)
            before = None
        self._values[key] = value
        if self._remembered is not None:
            self._bodies[key] = self._remembered(body)
        self._uids[key] = uid
        self._statuses[key] = status
        self._tell(key, self._changed, key, value)
        if before != value or news:
            self._tell(key, self._redefined, key, value)

    def _remove(self, key: str) -> None:
        there = self._values.pop(key, None) is not None
        self._statuses.pop(key, None)
        self._bodies.pop(key, None)
        self._uids.pop(key, None)
        self.unread.pop(key, None)
        if there:
            self._tell(key, self._removed, key)

    def _tell(self, what: str, subscribers: Iterable[Callable[..., None]], *arguments: Any) -> None:
        for subscriber in subscribers:
            self._guard(what, subscriber, *arguments)


def key_of(body: Mapping[str, Any]) -> str:
    """`NAMESPACE/NAME` of an object, `NAME` where its kind has no namespaces."""
    metadata = body["metadata"]
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])
