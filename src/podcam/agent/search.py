"""The DNS search domains of pods, told from the agent's own."""

from collections.abc import Iterable
from pathlib import Path

from podcam.recorder import ResolverConfig


def own_search_domains(config: Path = Path("/etc/resolv.conf")) -> tuple[str, ...]:
    """Those of this process; none where it has no such file."""
    try:
        return ResolverConfig.parse(config.read_text(encoding="utf-8", errors="replace")).search
    except OSError:
        return ()


def search_domains(namespace: str, own_search: Iterable[str], own_namespace: str) -> tuple[str, ...]:
    """The DNS search domains of a namespace's pods, told from the agent's own (resolv.conf(5)).

    The kubelet makes them of the pod's namespace, the cluster's domain and what the node has
    (https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/): only the first differs.
    """
    own = f"{own_namespace}.svc."
    return tuple(
        f"{namespace}.svc.{domain.removeprefix(own)}" if domain.startswith(own) else domain
        for domain in own_search
    )
