"""A port of a pod's loopback address, through `kubectl port-forward`."""

import re
from collections.abc import Sequence
from types import TracebackType

from podcam.errors import ForbiddenError, KubernetesError, NotFoundError, PodcamError, UnreachableError
from podcam.kube.api import Api
from podcam.kube.child import KubectlChild
from podcam.kube.roads import UrlRoad

_SERVES = re.compile(rb"Forwarding from 127\.0\.0\.1:(\d+) -> \d+\s")
_SAYS_SECONDS = 0.5
_IDLE = re.compile(rb"Forwarding from |Handling connection for |error: lost connection to pod")
_REASON = re.compile(
    r"an error occurred forwarding [^:]*: (?:error forwarding port .*?: )?(.*?)\"?$", re.MULTILINE
)
"""As in client-go's portforward.go, in a line that klog writes."""


class KubectlForward:
    """Runs `kubectl port-forward` as long as the context is open, and gives what speaks HTTP there.

    It listens at a port of this machine's loopback address that was free: others who may use this machine can
    reach it as long.

    Args:
        options: flags that say which cluster, and as whom.
        namespace: of the pod.
        pod: its name.
        port: of the pod's loopback address.
        kubectl: the program.
        patience_seconds: how long it may take until it forwards, and until an answer comes; None for as long
            as a login, and an answer of the API server, may.
    """

    def __init__(
        self,
        options: Sequence[str],
        namespace: str,
        pod: str,
        port: int,
        *,
        kubectl: str = "kubectl",
        patience_seconds: float | None = None,
    ) -> None:
        self._child = KubectlChild(
            [
                *options,
                "port-forward",
                f"--namespace={namespace}",
                "--address=127.0.0.1",
                f"pod/{pod}",
                f":{port}",
            ],
            _SERVES,
            idle=_IDLE,
            complain=_error,
            kubectl=kubectl,
            start_seconds=patience_seconds,
        )
        self._patience_seconds = patience_seconds
        self._api: Api | None = None

    def __enter__(self) -> Api:
        """Start it.

        Raises:
            UsageError: there is no kubectl.
            KubernetesError: there is no such pod, it does not run, the caller may not.
        """
        try:
            served = self._child.start()
        except BaseException:
            self._child.end()
            raise
        road = UrlRoad(f"http://127.0.0.1:{int(served[1])}")
        patience = self._patience_seconds
        self._api = Api(road) if patience is None else Api(road, answer_seconds=patience)
        return self._api

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._api is not None:
            self._api.close()
            self._api = None
        self._child.end()

    @property
    def running(self) -> bool:
        """Whether it forwards; it ends by itself when the pod does."""
        return self._child.running

    def trouble(self) -> str | None:
        """Why the last connection came to nothing, where kubectl says so soon."""
        self._child.has_logged.wait(_SAYS_SECONDS)
        found = _REASON.findall(self._child.logged.decode(errors="replace"))
        return str(found[-1]).strip() if found else None


def _error(said: str) -> PodcamError:
    text = said.removeprefix("Error from server ")
    if text.startswith("(Forbidden)"):
        return ForbiddenError(text.removeprefix("(Forbidden): "), status=403, reason="Forbidden")
    if text.startswith("(NotFound)"):
        return NotFoundError(text.removeprefix("(NotFound): "), status=404, reason="NotFound")
    if "pod is not running" in text:
        return KubernetesError(text)
    return UnreachableError(f"kubectl port-forward: {text}")
