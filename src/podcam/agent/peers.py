"""Whose addresses a clip speaks of: asked for when it is made, for those few addresses alone."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address

from podcam.agent.log import Log
from podcam.agent.writes import Outbox
from podcam.errors import KubernetesError, UnreachableError
from podcam.kube import PODS, SERVICES, Api, Pod, path_of

_MOST_ADDRESSES = 20
"""Of one clip."""
_MOST_KEPT = 4096
_KEPT_NS = 60 * 1_000_000_000
"""How long an answer holds: a pod's address may be another's a minute later."""


class Peers:
    """Looks up the pods and services that have an address.

    Args:
        writes: the thread that talks to the API server.
        call: runs a function in the agent's thread.
        log: for what cannot be asked.
        now_ns: the wall clock.
    """

    def __init__(
        self,
        writes: Outbox,
        call: Callable[[Callable[[], None]], None],
        log: Log,
        now_ns: Callable[[], int],
    ) -> None:
        self._writes = writes
        self._call = call
        self._log = log
        self._now_ns = now_ns
        self._known: OrderedDict[str, tuple[int, str | None]] = OrderedDict()
        self._pods: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        """The addresses of this node's pods, of those that are gone too, the one seen last at the end."""

    def seen(self, name: str, pod: Pod) -> None:
        """A pod of this node has these addresses: nobody has to be asked for them."""
        if pod.host_network or not pod.ips:
            return
        self._pods[name] = pod.ips
        self._pods.move_to_end(name)
        while len(self._pods) > _MOST_KEPT:
            self._pods.popitem(last=False)

    def look_up(
        self,
        clip: str,
        addresses: Iterable[str],
        pods: Iterable[str],
        done: Callable[[Mapping[str, str]], None],
    ) -> None:
        """Find out whose addresses these are; call `done` with what is known, once, in the agent's thread.

        Args:
            clip: for which clip: it asks once at a time.
            addresses: those that matter most first.
            pods: of this node, by `NAMESPACE/NAME`, whose own addresses are told too.
            done: takes names by address.
        """
        wanted = [address for address in addresses if not _everywhere(address)][:_MOST_ADDRESSES]
        own = self._own()
        wanted += [address for pod in pods for address in self._pods.get(pod, ())]
        fresh_ns = self._now_ns() - _KEPT_NS
        unknown = [
            address
            for address in wanted
            if address not in own and self._known.get(address, (0, None))[0] < fresh_ns
        ]
        if not unknown:
            done(self._names(wanted))
            return

        def send(api: Api) -> None:
            found: dict[str, str | None] = {}
            try:
                for address in unknown:
                    found[address] = _name_of(api, address)
            except UnreachableError:
                raise
            except KubernetesError as error:
                self._log.warning("the names of addresses cannot be asked for", why=error)
            self._call(lambda: self._found(found, wanted, done))

        self._writes.put(f"clips/{clip}/names", send)

    def _found(
        self,
        found: Mapping[str, str | None],
        wanted: Iterable[str],
        done: Callable[[Mapping[str, str]], None],
    ) -> None:
        now_ns = self._now_ns()
        for address, name in found.items():
            self._known.pop(address, None)
            self._known[address] = (now_ns, name)
        while len(self._known) > _MOST_KEPT:
            self._known.popitem(last=False)
        done(self._names(wanted))

    def _own(self) -> dict[str, str]:
        return {address: f"pod {name}" for name, addresses in self._pods.items() for address in addresses}

    def _names(self, wanted: Iterable[str]) -> dict[str, str]:
        own = self._own()
        names = {address: own.get(address) or self._known.get(address, (0, None))[1] for address in wanted}
        return {address: name for address, name in names.items() if name is not None}


def _everywhere(address: str) -> bool:
    """Loopback and link-local addresses are every node's."""
    parsed = ip_address(address.partition("%")[0])
    return parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified


def _name_of(api: Api, address: str) -> str | None:
    """`service NAMESPACE/NAME` or `pod NAMESPACE/NAME`; None when neither, or not one pod alone, has it."""
    services = api.get(path_of(SERVICES), {"fieldSelector": f"spec.clusterIP={address}", "limit": "1"})
    for service in services.get("items", ()):
        return f"service {service['metadata']['namespace']}/{service['metadata']['name']}"
    pods = api.get(path_of(PODS), {"fieldSelector": f"status.podIP={address}", "limit": "10"})
    running = [
        pod["metadata"]
        for pod in pods.get("items", ())
        if not pod["spec"].get("hostNetwork") and pod["status"].get("phase") not in {"Succeeded", "Failed"}
    ]
    return f"pod {running[0]['namespace']}/{running[0]['name']}" if len(running) == 1 else None
