"""The API server takes what is right, fills in what is left out, and refuses the rest with a sentence."""

import base64
import json
from typing import Any

import pytest

from e2e.cluster import Cluster, Object

pytestmark = pytest.mark.usefixtures("installed")

KEY = base64.b64encode(bytes(32)).decode()
PODS = {"pods": ["web-0"]}
RECORDED = {"recording": "web", "last": "60s"}
WINDOW = {"start": "2026-01-31T08:00:00.25Z", "end": "2026-01-31T08:01:00.123456789Z"}


def recording(spec: Object, name: str = "web") -> Object:
    return {
        "apiVersion": "podcam.dev/v1alpha1",
        "kind": "Recording",
        "metadata": {"name": name},
        "spec": spec,
    }


def clip(spec: Object, name: str = "web-1") -> Object:
    return {"apiVersion": "podcam.dev/v1alpha1", "kind": "Clip", "metadata": {"name": name}, "spec": spec}


def grant(spec: Object, name: str = "mine") -> Object:
    return {
        "apiVersion": "podcam.dev/v1alpha1",
        "kind": "PacketGrant",
        "metadata": {"name": name},
        "spec": spec,
    }


def expressions(**expression: Any) -> Object:
    return {"selector": {"matchExpressions": [expression]}}


def hosts(*names: str) -> Object:
    return {**PODS, "hosts": list(names)}


def ring(**size: Any) -> Object:
    return {**PODS, "ring": size}


def triggers(**settings: Any) -> Object:
    return {**PODS, "triggers": settings}


ACCEPTED = [
    recording({"selector": {"matchLabels": {"app": "web"}}}),
    recording(expressions(key="tier", operator="In", values=["a", "b"])),
    recording(expressions(key="podcam.dev/skip", operator="DoesNotExist")),
    recording({**PODS, "target": {"kind": "Deployment", "name": "web"}}),
    recording({**PODS, "ports": [1, 5432, 65535]}),
    recording(
        hosts("db.example", "db.example.", "_sip.x", "a", "10.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32")
    ),
    recording({**hosts("db.example"), "narrow": True}),
    recording({**PODS, "interfaces": ["eth0", "lo"], "payload": 0, "snaplen": 128}),
    recording(ring(segments=2, segmentSize="1M")),
    recording(ring(segments=10000, segmentSize="64Mi")),
    recording(triggers(classes=[], before="1h30m", after="500ms", clipsPerHour=1)),
    recording(triggers(classes=["reset", "refused"])),
    recording({**PODS, "scope": "pod", "retention": "720h", "hostNetwork": True}),
    recording(PODS, name="w" * 63),
    clip(RECORDED),
    clip(
        {"recording": "web", "window": WINDOW, "reason": "users complain", "pods": ["web-0"], "nodes": ["n1"]}
    ),
    clip(
        RECORDED
        | {
            "trigger": {
                "class": "reset-early",
                "pod": "web-0",
                "node": "n1",
                "time": WINDOW["start"],
                "client": {"ip": "10.1.2.3", "port": 40000},
                "server": {"ip": "2001:db8::1", "port": 5432},
            }
        }
    ),
    grant({"clip": "web-1", "publicKey": KEY}),
]

TIME = "say a time as 500ms, 90s, 10m or 1h30m"
HOST = "a host is a name (db.example), an address or a network (10.0.0.0/8)"
WHICH_PODS = "say which pods, either by spec.selector or by spec.pods, and not by both"
SIZE = "say a segment's size as 25M, 1G or 32Mi"
WHICH_PACKETS = "say which packets, either by spec.window or by spec.last"

REFUSED = [
    (recording({"ports": [5432]}), WHICH_PODS),
    (recording({**PODS, "selector": {"matchLabels": {"app": "web"}}}), WHICH_PODS),
    (recording({"selector": {}}), "an empty selector would record every pod of the namespace"),
    (
        recording({"selector": {"matchLabels": {}}}),
        "an empty selector would record every pod of the namespace",
    ),
    (recording({"pods": []}), "spec.pods in body should have at least 1 items"),
    (recording({"pods": ["Web_0"]}), "a pod's name has small letters, digits, dots and dashes only"),
    (recording({"pods": ["web-0", "web-0"]}), "Duplicate value"),
    (recording(expressions(key="tier", operator="In")), "In and NotIn need values"),
    (
        recording(expressions(key="tier", operator="Exists", values=["a"])),
        "Exists and DoesNotExist take none",
    ),
    (recording(expressions(key="tier", operator="Is")), 'supported values: "In", "NotIn", "Exists"'),
    (recording({**PODS, "target": {"kind": "Deployment"}}), "spec.target.name: Required value"),
    (recording({**PODS, "ports": [0]}), "should be greater than or equal to 1"),
    (recording({**PODS, "ports": [65536]}), "should be less than or equal to 65535"),
    (recording({**PODS, "ports": [5432, 5432]}), "Duplicate value: 5432"),
    (recording({**PODS, "ports": ["postgres"]}), "must be of type integer"),
    (recording({**PODS, "ports": list(range(1, 66))}), "must have at most 64 items"),
    (recording(hosts("db example")), HOST),
    (recording(hosts("10.0.0.300")), HOST),
    (recording(hosts("10.0.0.0/33")), HOST),
    (recording(hosts("2001:db8::/200")), HOST),
    (recording(hosts("2001:zz::1")), HOST),
    (recording(hosts("*.example")), HOST),
    (recording({**PODS, "narrow": True}), "so it needs spec.hosts"),
    (recording({**PODS, "interfaces": ["eth 0"]}), "an interface's name has neither spaces nor slashes"),
    (recording({**PODS, "payload": -1}), "should be greater than or equal to 0"),
    (recording({**PODS, "snaplen": 10}), "should be greater than or equal to 64"),
    (recording(ring(segments=1)), "should be greater than or equal to 2"),
    (recording(ring(segmentSize="25MB")), SIZE),
    (recording(ring(segmentSize="0M")), SIZE),
    (
        recording(ring(segmentSize="10k")),
        "a segment has to hold some of the kernel's blocks, so it needs 1M at least",
    ),
    (recording(ring(segments=1001, segmentSize="1G")), "a ring of more than 1000G per pod is refused"),
    (
        recording(triggers(classes=["dns-failed"])),
        'Unsupported value: "dns-failed": supported values: "refused"',
    ),
    (recording(triggers(before="60")), TIME),
    (recording(triggers(before="25h")), "a clip reaches back 24h at most"),
    (recording(triggers(after="a while")), TIME),
    (recording(triggers(after="2h")), "a clip waits 1h at most for what comes after the failure"),
    (recording(triggers(clipsPerHour=0)), "should be greater than or equal to 1"),
    (recording({**PODS, "scope": "node"}), 'supported values: "pod", "recording"'),
    (recording({**PODS, "retention": "1d"}), TIME),
    (recording({**PODS, "retention": "721h"}), "rings of ended pods are kept for 720h (30 days) at most"),
    (recording({**PODS, "port": 5432}), 'unknown field "spec.port"'),
    (recording(PODS, name="w" * 64), "so it may have 63 characters at most"),
    (clip({"last": "60s"}), "spec.recording: Required value"),
    (clip({"recording": "web"}), WHICH_PACKETS),
    (clip(RECORDED | {"window": WINDOW}), WHICH_PACKETS),
    (clip({"recording": "web", "last": "soon"}), TIME),
    (clip({"recording": "web", "last": "0s"}), "a clip reaches back more than nothing and 24h at most"),
    (clip({"recording": "web", "last": "48h"}), "a clip reaches back more than nothing and 24h at most"),
    (
        clip({"recording": "web", "window": {"start": WINDOW["end"], "end": WINDOW["start"]}}),
        "the window ends before it starts",
    ),
    (
        clip({"recording": "web", "window": {"start": WINDOW["start"], "end": "2026-02-02T08:00:00Z"}}),
        "a window is 25h long at most",
    ),
    (clip({"recording": "web", "window": {"start": "8:00", "end": "8:01"}}), "must be of type date-time"),
    (clip(RECORDED | {"reason": "x" * 1025}), "may not be more than 1024 bytes"),
    (clip(RECORDED | {"trigger": {"class": "reset"}}), "spec.trigger.pod: Required value"),
    (clip(RECORDED, name="w" * 64), "so it may have 63 characters at most"),
    (grant({"clip": "web-1"}), "spec.publicKey: Required value"),
    (grant({"publicKey": KEY}), "spec.clip: Required value"),
    (grant({"clip": "web-1", "publicKey": KEY[:-2]}), "a key is 32 bytes in base64, which are 44 characters"),
    (grant({"clip": "web-1", "publicKey": KEY}, name="w" * 129), "may have 128 characters at most"),
]


def _named(value: object) -> str | None:
    if isinstance(value, dict) and "kind" in value:
        return f"{value['kind']} {json.dumps(value['spec'])}"[:60]
    return None


@pytest.mark.parametrize("good", ACCEPTED, ids=_named)
def test_is_accepted(cluster: Cluster, good: Object) -> None:
    cluster.kubectl("create", "--dry-run=server", "-f", "-", given=json.dumps(good))


@pytest.mark.parametrize(("wrong", "sentence"), REFUSED, ids=_named)
def test_is_refused_with_a_sentence(cluster: Cluster, wrong: Object, sentence: str) -> None:
    assert sentence in cluster.refusal("create", "--dry-run=server", "-f", "-", given=json.dumps(wrong))


def test_what_is_left_out_is_filled_in(cluster: Cluster) -> None:
    web, kept = (
        json.loads(
            cluster.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", given=json.dumps(made))
        )["spec"]
        for made in (recording(PODS | {"ring": {"segments": 3}}), clip(RECORDED))
    )
    assert web == PODS | {
        "narrow": False,
        "ring": {"segments": 3, "segmentSize": "25M"},
        "triggers": {"before": "60s", "after": "10s", "clipsPerHour": 12},
        "scope": "recording",
        "retention": "1h",
        "hostNetwork": False,
    }
    assert kept == RECORDED | {"reason": "asked for"}


@pytest.mark.parametrize(
    ("first", "change", "sentence"),
    [
        (clip(RECORDED), {"last": "10s"}, "a clip cannot be changed once it is made"),
        (clip(RECORDED), {"nodes": ["n1"]}, "a clip cannot be changed once it is made"),
        (
            grant({"clip": "web-1", "publicKey": KEY}),
            {"clip": "other"},
            "a grant cannot be changed once it is made",
        ),
    ],
    ids=_named,
)
def test_what_is_made_stays_as_it_is(
    cluster: Cluster, namespace: str, first: Object, change: Object, sentence: str
) -> None:
    cluster.kubectl("create", "-n", namespace, "-f", "-", given=json.dumps(first))
    what = f"{first['kind']}/{first['metadata']['name']}"
    patch = json.dumps({"spec": change})
    assert sentence in cluster.refusal("patch", "-n", namespace, what, "--type=merge", "-p", patch)
    cluster.kubectl("label", "-n", namespace, what, "seen=yes")


def test_each_agent_keeps_its_own_entry_of_a_status(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "-n", namespace, "-f", "-", given=json.dumps(clip(RECORDED)))
    for node, state in (("n1", "Complete"), ("n2", "Nothing"), ("n1", "Removed")):
        status = {
            "parts": {node: {"state": state, "pods": [{"pod": "web-0", "packets": None, "dropped": 3}]}}
        }
        _apply_status(cluster, namespace, f"podcam-agent-{node}", status)
    parts = cluster.get("clip/web-1", "-n", namespace)["status"]["parts"]
    assert {node: part["state"] for node, part in parts.items()} == {"n1": "Removed", "n2": "Nothing"}


@pytest.mark.parametrize(
    ("made", "field", "entry"),
    [(clip(RECORDED), "parts", {"state": "Nothing"}), (recording(PODS), "nodes", {"ringBytes": 1})],
    ids=["clip", "recording"],
)
def test_the_last_agent_takes_its_entry_out_too(
    cluster: Cluster, namespace: str, made: Object, field: str, entry: Object
) -> None:
    cluster.kubectl("create", "-n", namespace, "-f", "-", given=json.dumps(made))
    for entries in ({"n1": entry}, {}):
        _apply_status(cluster, namespace, "podcam-agent-n1", {field: entries}, made)
    kind = f"{made['kind'].lower()}.podcam.dev"
    status = cluster.get(f"{kind}/{made['metadata']['name']}", "-n", namespace)["status"]
    assert "n1" not in status[field]


def test_kubectl_shows_what_one_wants_to_know(cluster: Cluster, namespace: str) -> None:
    spec = {"selector": {"matchLabels": {"app": "web"}}, "ports": [5432], "hosts": ["db.example"]}
    target = {"target": {"kind": "Deployment", "name": "web"}}
    for made in (recording(spec | target), clip(RECORDED | {"reason": "users complain"})):
        cluster.kubectl("create", "-n", namespace, "-f", "-", given=json.dumps(made))
    condition = {"type": "Recording", "status": "False", "reason": "SomePodsNotRecorded"}
    condition |= {"message": "web-1 waits", "lastTransitionTime": WINDOW["start"]}
    _apply_status(
        cluster, namespace, "podcam-merge", {"points": "2/3", "conditions": [condition]}, recording(spec)
    )
    _apply_status(
        cluster, namespace, "podcam-merge", {"state": "Incomplete", "partsComplete": "1/2", "missing": ["n2"]}
    )

    lines = cluster.kubectl("get", "recs", "-n", namespace, "-o", "wide").splitlines()
    assert lines[0].split() == ["NAME", "RECORDING", "POINTS", "TARGET", "PORTS", "HOSTS", "REASON", "AGE"]
    assert lines[1].split()[:-1] == [
        "web",
        "False",
        "2/3",
        "web",
        "[5432]",
        '["db.example"]',
        "web-1",
        "waits",
    ]
    lines = cluster.kubectl("get", "pclip", "-n", namespace, "-o", "wide").splitlines()
    assert lines[0].split() == ["NAME", "RECORDING", "REASON", "STATE", "PARTS", "MISSING", "AGE"]
    assert lines[1].split()[:-1] == ["web-1", "web", "users", "complain", "Incomplete", "1/2", '["n2"]']
    both = cluster.kubectl("get", "podcam", "-n", namespace, "-o", "name").split()
    assert both == ["clip.podcam.dev/web-1", "recording.podcam.dev/web"]


@pytest.fixture(params=["recordings", "clips", "packetgrants"])
def schema(request: pytest.FixtureRequest, cluster: Cluster) -> Object:
    found = cluster.get(f"crd/{request.param}.podcam.dev")["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert isinstance(found, dict)
    return found


def test_every_field_is_described(schema: Object) -> None:
    undescribed: list[str] = []

    def look(field: Object, path: str) -> None:
        for name, inner in field.get("properties", {}).items():
            if "description" not in inner:
                undescribed.append(f"{path}.{name}")
            look(inner, f"{path}.{name}")
        for inner in (field.get("items"), field.get("additionalProperties")):
            if isinstance(inner, dict):
                look(inner, f"{path}[]")

    for part in ("spec", "status"):
        look(schema["properties"].get(part, {}), part)
    assert undescribed == []


def _apply_status(
    cluster: Cluster,
    namespace: str,
    manager: str,
    status: Object,
    whose: Object | None = None,
) -> None:
    of = clip(RECORDED) if whose is None else whose
    body = {key: of[key] for key in ("apiVersion", "kind", "metadata")} | {"status": status}
    cluster.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--subresource=status"),
        *("--field-manager", manager, "-n", namespace, "-f", "-"),
        given=json.dumps(body),
    )
