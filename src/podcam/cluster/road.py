"""The road to what the agents keep: a grant of one's own, the API server's pod proxy, and an agent behind it.

`podcam.sealed` says why the grant opens what the road cannot keep apart.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from podcam.cluster.agents import LABELS, NAMESPACE, Agent, agent
from podcam.cluster.fetching import File, Index, PartError, Pause, index_of
from podcam.cluster.nodes import Node, node
from podcam.cluster.rights import PACKET_READER
from podcam.errors import (
    ForbiddenError,
    KubernetesError,
    NotFoundError,
    PodcamError,
    UnauthorizedError,
    UnreachableError,
)
from podcam.kube import GRANTS, NODES, PODS, Answer, Api, list_objects, path_of
from podcam.sealed import (
    CHUNK_BYTES,
    SEALED_CHUNK_BYTES,
    PrivateKey,
    Resource,
    Seal,
    SealedError,
    Unsealer,
    public_key_text,
    sealed_size,
)

_GRANT_SECONDS: Final = 2700.0
"""A grant opens what it does for an hour; a pull that takes longer makes another one before that is over."""
_PATIENCE_SECONDS: Final = 30.0
"""An agent that is being replaced comes back within half a minute."""
_PAUSES: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between the tries, as far as the patience goes."""
_DOCTOR: Final = "`kubectl podcam doctor` says why"
_MOST_INDEX_BYTES: Final = 256 << 20
_MOST_REFUSAL_BYTES: Final = 1 << 16
_NOT_YET: Final = frozenset({403, 503})
"""The agent has not heard of the grant yet, or cannot just now."""


Say = Callable[[str], None]
"""Takes what a person who waits should know."""


class Patience:
    """How long agents that are away are waited for, all together: many take no longer than one.

    What passes while agents answer does not count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.left_seconds = _PATIENCE_SECONDS

    def spend(self, since_seconds: float) -> float:
        """Count what has passed as waited; how much is left."""
        self.left_seconds = max(0.0, self.left_seconds - (self.clock() - since_seconds))
        return self.left_seconds


@dataclass(frozen=True, slots=True)
class _Held:
    key: PrivateKey
    name: str
    uid: str
    until_seconds: float


class Reader:
    """Who reads the packets of a clip: a key that nobody else has, and a PacketGrant for it.

    A context manager: the grant is deleted at its end. One that could not be is of no use to anybody without
    the key, and the agents delete it within the hour.

    Entering it raises ForbiddenError where the caller may not read packets.
    """

    def __init__(
        self, api: Api, namespace: str, clip: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.namespace = namespace
        self._api = api
        self._clip = clip
        self._clock = clock
        self._held: _Held | None = None

    def __enter__(self) -> Self:
        self.held()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def held(self) -> _Held:
        """The key and the grant's name, not too old to be of use for a while."""
        if self._held is not None and self._clock() < self._held.until_seconds:
            return self._held
        self._give_back()
        key = PrivateKey.new()
        name = f"pull-{secrets.token_hex(10)}"
        body = {
            "apiVersion": GRANTS.api_version,
            "kind": GRANTS.kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {"clip": self._clip, "publicKey": public_key_text(key.public)},
        }
        try:
            made = self._api.create(path_of(GRANTS, self.namespace), body)
        except ForbiddenError as error:
            raise ForbiddenError(
                f"packets of namespace {self.namespace} are for those who may create packetgrants there "
                f"(ClusterRole {PACKET_READER}): {error}",
                status=error.status,
                reason=error.reason,
            ) from error
        self._held = _Held(key, name, str(made["metadata"]["uid"]), self._clock() + _GRANT_SECONDS)
        return self._held

    def _give_back(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            with suppress(KubernetesError):
                self._api.delete(path_of(GRANTS, self.namespace, held.name))


class Road:
    """The road to the agent of one node, which may be replaced meanwhile.

    Args:
        api: the API server.
        reader: of the clip.
        node: whose agent.
        pod: where the agent said that it is.
        port: at which it serves there.
        agent_key: the agent's public key.
        patience: with an agent that is away at first; one that goes away later has its own.
        say: takes whom is waited for, and why.
        pause: between two tries.
    """

    def __init__(
        self,
        api: Api,
        reader: Reader,
        *,
        node: str,
        pod: str,
        port: int,
        agent_key: bytes,
        patience: Patience,
        say: Say,
        pause: Pause = time.sleep,
    ) -> None:
        self.pause = pause
        self._api = api
        self._reader = reader
        self._node = node
        self._pod = pod
        self._port = port
        self._agent_key = agent_key
        self._patience = patience
        self._say = say
        self._agent: Agent | None = None

    def index(self) -> Index:
        """What there is.

        Raises:
            PartError: the agent says that there is nothing, or what came is not from the agent.
            KubernetesError: there is no way to the agent.
        """
        self._find_agent()
        with self._asked("index") as (answer, seal):
            sealed = answer.read(_MOST_INDEX_BYTES)
        try:
            unsealer = Unsealer(seal("index", _version(answer)), len(sealed))
            plain = unsealer.feed(sealed)
            unsealer.finish()
            return index_of(json.loads(plain))
        except SealedError as error:
            raise PartError(
                f"its agent does not have the key that the clip's status shows: {error}"
            ) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PartError(f"what its agent sent is no index of a clip: {error!r}") from error

    def content(self, file: File, start: int) -> Iterator[bytes]:
        """The file's plain bytes from `start` on, a multiple of CHUNK_BYTES, each proven to be the agent's.

        Raises:
            PartError: the file is gone or another one, or what came is not from the agent.
            KubernetesError: there is no way to the agent, or it was cut: go on from where it was.
        """
        first = start // CHUNK_BYTES
        begin = first * SEALED_CHUNK_BYTES
        headers = {"Range": f"bytes={begin}-", "If-Range": f'"{file.version}"'} if first else {}
        with self._asked(f"files/{file.number}", headers) as (answer, seal):
            if _version(answer) != file.version:
                raise PartError(f"{file.folder}/{file.name} changed while it was read: pull again")
            if first and not answer.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
                raise PartError(
                    "something on the way to its agent does not pass on which bytes are asked for"
                )
            try:
                unsealer = Unsealer(
                    seal(f"{file.folder}/{file.name}", file.version), sealed_size(file.size), first
                )
                for piece in answer:
                    yield unsealer.feed(piece)
                unsealer.finish()
            except SealedError as error:
                raise PartError(f"{file.folder}/{file.name}: {error}") from error

    def prove(self, _file: File, _copy: Path) -> None:
        """Each chunk has been, when it came."""

    @contextmanager
    def _asked(
        self, what: str, headers: Mapping[str, str] | None = None
    ) -> Iterator[tuple[Answer, Callable[[str, str], Seal]]]:
        """The agent's answer, and the seals of what it holds, by name and version."""
        answer, held = self._answer(what, headers or {})
        with answer:
            yield (
                answer,
                lambda name, version: Seal.by_reader(
                    held.key, self._agent_key, Resource(held.uid, name, version)
                ),
            )

    def _answer(self, what: str, headers: Mapping[str, str]) -> tuple[Answer, _Held]:
        why: PodcamError | None = None
        for tries, pause_seconds in enumerate((*_PAUSES, 0.0)):
            why, began_seconds = None, self._patience.clock()
            if self._pod:
                held = self._reader.held()
                path = f"{path_of(PODS, NAMESPACE, f'{self._pod}:{self._port}')}/proxy"
                try:
                    answer = self._api.get_bytes(
                        f"{path}/v1/grants/{self._reader.namespace}/{held.name}/{what}", headers
                    )
                except (ForbiddenError, UnauthorizedError):
                    raise
                except KubernetesError as error:  # the pod is gone, or not there yet
                    why = error
                else:
                    if answer.status in {200, 206}:
                        self._patience = Patience(self._patience.clock)
                        return answer, held
                    why = PartError(_refusal(answer))
                    if answer.status not in _NOT_YET:
                        raise why
            left_seconds = self._patience.spend(began_seconds)
            if not (left_seconds and pause_seconds):
                break
            if not tries:
                self._say(f"{self._node}: {self._absence(why)}; trying for {left_seconds:.0f} s")
            began_seconds = self._patience.clock()
            self.pause(min(pause_seconds, left_seconds))
            self._patience.spend(began_seconds)
            self._find_agent()
        if isinstance(why, PartError | UnreachableError):
            raise why
        raise PartError(f"{self._absence(why)}; {_DOCTOR}") from why

    def _find_agent(self) -> None:
        """Which pod is the node's agent now: a restarted one has another name."""
        with suppress(KubernetesError):  # then the next try tells
            pods = list_objects(
                self._api,
                PODS,
                namespace=NAMESPACE,
                label_selector=LABELS,
                field_selector=f"spec.nodeName={self._node}",
            ).objects
            agents = sorted(map(agent, pods), key=lambda found: not found.ready)
            self._agent = agents[0] if agents else None
            self._pod = self._agent.pod if self._agent is not None and self._agent.ready else ""

    def _absence(self, error: PodcamError | None) -> str:
        """Why the agent does not answer, as far as the caller may know.

        Raises:
            PartError: it never will.
        """
        if isinstance(error, PartError | UnreachableError):
            return str(error)
        lost = self._agent is not None and self._agent.node_lost
        node = None if lost else self._look_at_node()
        if lost or (node is not None and not node.ready):
            return "the node is not ready"
        if self._pod:
            return f"its agent does not answer: {error}"
        if self._agent is None:
            return "the node has no agent"
        return f"its agent is not ready: {self._agent.why_not}"

    def _look_at_node(self) -> Node | None:
        try:
            return node(self._api.get(path_of(NODES, name=self._node)))
        except NotFoundError:
            raise PartError("there is no such node any more") from None
        except KubernetesError:  # nodes are not for everybody to see
            return None


def _version(answer: Answer) -> str:
    return answer.headers.get("ETag", "").strip('"')


def _refusal(answer: Answer) -> str:
    """The agent's own sentence."""
    with answer:
        body = answer.read(_MOST_REFUSAL_BYTES)
    try:
        return str(json.loads(body)["error"])
    except (ValueError, TypeError, KeyError):
        return f"its agent answers with status {answer.status}"
