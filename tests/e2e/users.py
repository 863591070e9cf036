"""Users of a test: service accounts with real tokens, and the roles that a test gives them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.cluster import Cluster

VIEWER, OPERATOR, READER = "podcam-viewer", "podcam-operator", "podcam-packet-reader"


def make_user(
    cluster: Cluster, folder: Path, namespace: str, name: str, roles: Mapping[str, Sequence[str]]
) -> Cluster:
    """The cluster as a new user, who has `roles` (cluster roles, by the namespace that they hold in).

    Its kubeconfig is in `folder`; the token is one that the API server gives out for the account.
    """
    user = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace},
    }
    bindings = [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": f"{name}-{role}", "namespace": where},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [user],
        }
        for where, granted in roles.items()
        for role in granted
    ]
    cluster.apply(account, *bindings)
    token = cluster.kubectl("create", "token", name, "-n", namespace, "--duration", "1h").strip()
    config = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    config["users"] = [{"name": name, "user": {"token": token}}]
    (context,) = config["contexts"]
    context["context"] |= {"user": name, "namespace": namespace}
    kubeconfig = folder / f"{namespace}-{name}.kubeconfig"
    kubeconfig.write_text(json.dumps(config))
    kubeconfig.chmod(0o600)
    return cluster.with_kubeconfig(kubeconfig)
