"""kubectl itself, for what it does better than any API client: kubeconfigs, Kustomize, and applying."""

import subprocess
from collections.abc import Sequence

from podcam.errors import KubernetesError, UsageError

_NO_CONTEXT = "current-context must exist"
_PATIENCE_SECONDS = 120
"""Nothing that is asked of it here waits for anything but the API server."""


class Kubectl:
    """Runs kubectl with the flags that say which cluster, and as whom."""

    def __init__(self, options: Sequence[str] = ()) -> None:
        self.options = tuple(options)

    def run(self, *arguments: str, given: str | None = None) -> str:
        """What `kubectl ARGUMENTS` prints, `given` being its standard input.

        Raises KubernetesError with what it complains about, UsageError where there is no kubectl.
        """
        command = ["kubectl", *self.options, *arguments]
        try:
            done = subprocess.run(
                command,
                input=given,
                stdin=subprocess.DEVNULL if given is None else None,
                capture_output=True,
                text=True,
                timeout=_PATIENCE_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise UsageError(
                "there is no kubectl on the PATH: install it (https://kubernetes.io/docs/tasks/tools/), "
                "podcam reaches the cluster through it"
            ) from None
        except subprocess.TimeoutExpired:
            raise KubernetesError(
                f"`kubectl {' '.join(arguments)}` did not answer within {_PATIENCE_SECONDS} seconds: "
                "is the cluster reachable?"
            ) from None
        if done.returncode:
            complaint = done.stderr.strip().removeprefix("error: ") or f"exit code {done.returncode}"
            raise KubernetesError(f"kubectl {arguments[0]}: {complaint}")
        return done.stdout

    def namespace(self) -> str:
        """The namespace of the context; `default` without a context, as kubectl has it."""
        try:
            found = self.run("config", "view", "--minify", "--output", "jsonpath={..namespace}")
        except KubernetesError as error:
            if _NO_CONTEXT not in str(error):
                raise
            found = ""
        return found.strip() or "default"
