"""Seeing, recording and reading packets are three rights, each per namespace: asked with real tokens."""

import json
from collections.abc import Callable

import pytest

from e2e.cluster import SYSTEM, Cluster, Object
from e2e.users import OPERATOR, READER, VIEWER

pytestmark = pytest.mark.usefixtures("installed")

User = Callable[..., Cluster]

SEE = {(verb, kind) for verb in ("get", "list", "watch") for kind in ("recordings", "clips")}
RECORD = {
    (verb, kind) for verb in ("create", "update", "patch", "delete") for kind in ("recordings", "clips")
}
READ = {(verb, "packetgrants") for verb in ("create", "get", "list", "delete")}
NOBODY = {
    *((verb, f"{kind}/status") for verb in ("update", "patch") for kind in ("recordings", "clips")),
    *((verb, "packetgrants") for verb in ("update", "patch", "deletecollection")),
    ("get", "pods/proxy"),
}
"""Who writes a status says by which key a reader opens what it gets; so only agents do."""

EVERYTHING = SEE | RECORD | READ | NOBODY
GRANTED = {
    (VIEWER,): SEE,
    (OPERATOR,): SEE | RECORD,
    (READER,): SEE | READ,
    (OPERATOR, READER): SEE | RECORD | READ,
    (): set[tuple[str, str]](),
}


def allowed(user: Cluster, namespace: str) -> set[tuple[str, str]]:
    """What the API server lets this token do in the namespace, of everything that there is."""
    rules = _reviewed(user, namespace)
    return {(verb, kind) for verb, kind in EVERYTHING if any(_covers(rule, verb, kind) for rule in rules)}


def _reviewed(user: Cluster, namespace: str) -> list[Object]:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    told = user.kubectl("create", "--validate=false", "-o", "json", "-f", "-", given=json.dumps(review))
    rules: list[Object] = json.loads(told)["status"]["resourceRules"]
    return rules


def _covers(rule: Object, verb: str, kind: str) -> bool:
    group = "" if kind == "pods/proxy" else "podcam.dev"
    return (
        bool({verb, "*"} & set(rule["verbs"]))
        and bool({group, "*"} & set(rule["apiGroups"]))
        and bool({kind, "*"} & set(rule["resources"]))
    )


@pytest.mark.parametrize("roles", GRANTED, ids=lambda roles: "+".join(roles) or "outsider")
def test_a_role_gives_its_rights_in_its_namespace_and_nowhere_else(
    make_namespace: Callable[[], str], user: User, roles: tuple[str, ...]
) -> None:
    here, there = make_namespace(), make_namespace()
    somebody = user(here, "somebody", {here: roles})

    assert allowed(somebody, here) == GRANTED[roles]
    assert allowed(somebody, there) == set()
    # The API server's own answer, verb by verb, for what must not be.
    for where, verb, kind in [
        *((here, verb, kind) for verb, kind in READ - GRANTED[roles]),
        *((there, verb, kind) for verb, kind in READ | {("create", "recordings"), ("list", "clips")}),
    ]:
        done = somebody.run("auth", "can-i", verb, f"{kind}.podcam.dev", "-n", where)
        assert done.stdout.strip() == "no", (where, verb, kind)


def test_view_and_edit_see_and_record_and_not_even_an_admin_reads(namespace: str, user: User) -> None:
    assert allowed(user(namespace, "viewer", {namespace: ["view"]}), namespace) & (SEE | RECORD | READ) == SEE
    for role in ("edit", "admin"):
        somebody = user(namespace, f"{role}or", {namespace: [role]})
        assert allowed(somebody, namespace) & (SEE | RECORD | READ) == SEE | RECORD


def test_real_requests_are_refused_alike(
    cluster: Cluster, make_namespace: Callable[[], str], user: User
) -> None:
    a, b = make_namespace(), make_namespace()
    viewer = user(a, "viewer", {a: [VIEWER]})
    operator = user(a, "operator", {a: [OPERATOR]})
    recording = json.dumps(
        {
            "apiVersion": "podcam.dev/v1alpha1",
            "kind": "Recording",
            "metadata": {"name": "web"},
            "spec": {"pods": ["web-0"]},
        }
    )
    grant = json.dumps(
        {
            "apiVersion": "podcam.dev/v1alpha1",
            "kind": "PacketGrant",
            "metadata": {"name": "mine"},
            "spec": {"clip": "web-1", "publicKey": f"{'A' * 43}="},
        }
    )

    operator.kubectl("create", "-n", a, "-f", "-", given=recording)
    assert viewer.kubectl("get", "recordings", "-n", a, "-o", "name") == "recording.podcam.dev/web\n"
    assert "cannot create" in viewer.refusal("create", "-n", a, "-f", "-", given=recording)
    assert "cannot create" in operator.refusal("create", "-n", b, "-f", "-", given=recording)
    assert "cannot list" in operator.refusal("get", "clips", "-n", b)
    for somebody in (viewer, operator):
        assert "cannot create" in somebody.refusal("create", "-n", a, "-f", "-", given=grant)
    cluster.kubectl("create", "-n", a, "-f", "-", given=_clip())
    forged = _clip(parts={"n1": {"state": "Complete", "publicKey": f"{'B' * 43}="}})
    refused = operator.refusal(
        *("apply", "--server-side", "--validate=false", "--subresource=status", "-n", a, "-f", "-"),
        given=forged,
    )
    assert 'cannot patch resource "clips/status"' in refused


def test_whoever_is_known_to_the_cluster_may_knock_at_the_agents_and_do_nothing_else_there(
    namespace: str, user: User
) -> None:
    outsider = user(namespace, "outsider", {})
    for answer, verb, what in [
        ("yes", "get", "pods/proxy"),
        ("yes", "list", "pods"),
        ("no", "create", "pods/proxy"),
        ("no", "create", "pods/exec"),
        ("no", "create", "pods/portforward"),
        ("no", "get", "pods/log"),
        ("no", "get", "secrets"),
        ("no", "create", "pods"),
        ("no", "create", "serviceaccounts/token"),
    ]:
        # kubectl takes a subresource by a flag.
        resource, _, part = what.partition("/")
        flags = [f"--subresource={part}"] if part else []
        asked = outsider.run("auth", "can-i", verb, resource, *flags, "-n", SYSTEM)
        assert asked.stdout.strip() == answer, (verb, what)


def test_an_agent_has_no_more_rights_than_it_says(cluster: Cluster) -> None:
    role = cluster.get("clusterrole/podcam-agent")
    granted = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    writes = {found for found in granted if found[2] not in {"get", "list", "watch"}}
    assert writes == {
        ("podcam.dev", "clips", "create"),
        ("podcam.dev", "recordings/status", "patch"),
        ("podcam.dev", "clips/status", "patch"),
        ("podcam.dev", "packetgrants", "delete"),
        ("", "events", "create"),
    }
    reads = {found[1] for found in granted - writes}
    assert reads == {
        "recordings",
        "clips",
        "packetgrants",
        "pods",
        "namespaces",
        "services",
        "runtimeclasses",
    }


def _clip(**status: Object) -> str:
    return json.dumps(
        {
            "apiVersion": "podcam.dev/v1alpha1",
            "kind": "Clip",
            "metadata": {"name": "web-1"},
            "spec": {"recording": "web", "last": "60s"},
            "status": status,
        }
    )
