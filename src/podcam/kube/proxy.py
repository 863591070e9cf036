"""The API server of whoever is at the keyboard, through `kubectl proxy`.

Kubeconfigs hold client certificates, tokens, exec plugins, proxies: kubectl knows them all. It serves on a
unix socket in a folder that only this user may enter, for as long as it is needed.
"""

import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from podcam.errors import ForbiddenError, UsageError
from podcam.kube.api import Api
from podcam.kube.child import KubectlChild

_SERVES = re.compile(rb"Starting to serve on .*\n")


class KubectlProxy:
    """Runs `kubectl proxy` as long as the context is open, and gives the Api behind it.

    Args:
        options: flags that say which cluster, and as whom: `["--context=prod", "--as=jane"]`.
        kubectl: the program.
    """

    def __init__(self, options: Sequence[str] = (), *, kubectl: str = "kubectl") -> None:
        self._kubectl = kubectl
        self._options = tuple(options)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._child: KubectlChild | None = None
        self._api: Api | None = None

    def __enter__(self) -> Api:
        """Start it, and ask the API server for its version.

        Raises:
            UsageError: there is no kubectl, or it does not like its flags or its kubeconfig.
            KubernetesError: the cluster cannot be reached, or does not know who asks.
        """
        try:
            return self._start()
        except BaseException:
            self._end()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self) -> Api:
        self._folder = tempfile.TemporaryDirectory(prefix="podcam-")  # mode 0700
        path = Path(self._folder.name, "api")
        # No path is to be rejected: a pod's proxy may well lead to one that looks like `exec`.
        arguments = [*self._options, "proxy", f"--unix-socket={path}", "--reject-paths=^$"]
        self._child = KubectlChild(
            arguments, _SERVES, complain=lambda said: UsageError(f"kubectl: {said}"), kubectl=self._kubectl
        )
        self._child.start()
        self._api = Api.at_socket(path)
        with suppress(ForbiddenError):  # it answers, and knows who asks
            self._api.get("/version")
        return self._api

    def _end(self) -> None:
        if self._api is not None:
            self._api.close()
        if self._child is not None:
            self._child.end()
        if self._folder is not None:
            self._folder.cleanup()
        self._api = self._child = self._folder = None
