"""The cluster that the flags name, reached through kubectl."""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from podcam.cli.kubectl.flags import kubectl_options
from podcam.cluster import Kubectl
from podcam.errors import UnreachableError
from podcam.kube import Api, KubectlProxy


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that can be asked."""

    api: Api
    kubectl: Kubectl
    namespace: str
    """The one that `-n` names, else the context's."""
    again: str = ""
    """What a further command needs to mean the same namespace: ` -n shop`, "" where it is the context's."""


@contextmanager
def cluster(args: argparse.Namespace) -> Iterator[Cluster]:
    """The cluster that the flags of `flags.add_access` name, for as long as the context is open.

    Raises KubernetesError where kubectl is missing, or the cluster cannot be reached.
    """
    namespace = namespace_of(args)
    kubectl = Kubectl(kubectl_options(args))
    with ExitStack() as stack:
        try:
            api = stack.enter_context(KubectlProxy(kubectl.options))
        except UnreachableError as error:
            raise UnreachableError(
                f"{error} (does `kubectl cluster-info` answer? --context and --kubeconfig name another)"
            ) from error
        yield Cluster(api, kubectl, namespace, f" -n {namespace}" if args.namespace else "")


def namespace_of(args: argparse.Namespace) -> str:
    """The namespace that `-n` names, else the context's; the cluster is not asked."""
    return str(args.namespace or Kubectl(kubectl_options(args)).namespace())
