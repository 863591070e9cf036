"""Pods, namespaces, recordings, clips and grants, read from JSON as the API server sends it."""

import base64
import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

import podcam
from podcam.errors import InvalidObjectError
from podcam.kube import (
    ClipObject,
    Grant,
    NamespaceLimits,
    PartStatus,
    Pod,
    Recording,
    parse_time,
)
from podcam.model.point import Endpoint, Window
from podcam.model.verdict import FailureClass

SECOND = 1_000_000_000
CREATED = "2026-11-23T12:00:00Z"
NOON = parse_time(CREATED)
KEY = bytes(range(32))
META = {
    "namespace": "shop",
    "name": "web",
    "uid": "8a413b9e-0326-4510-b6cd-49ddd8a81203",
    "creationTimestamp": CREATED,
    "generation": 3,
}
CRDS = Path(podcam.__file__).parent / "deploy" / "crds"


def recording(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    spec = (
        spec
        if "pods" in spec or "selector" in spec
        else {"selector": {"matchLabels": {"app": "web"}}, **spec}
    )
    return {"metadata": META, "spec": spec, "status": status or {}}


def clip(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    spec = spec if "last" in spec or "window" in spec else {"last": "60s", **spec}
    return {"metadata": META, "spec": {"recording": "web", **spec}, "status": status or {}}


def pod(
    spec: dict[str, Any] | None = None, status: dict[str, Any] | None = None, **meta: Any
) -> dict[str, Any]:
    return {"metadata": META | meta, "spec": spec or {}, "status": status or {}}


def defaulted(schema: dict[str, Any], body: Any) -> Any:
    """What the API server makes of an object: it fills the schema's defaults in."""
    body = copy.deepcopy(body)
    for name, part in schema.get("properties", {}).items():
        if isinstance(body, dict) and name not in body and "default" in part:
            body[name] = copy.deepcopy(part["default"])
        if isinstance(body, dict) and name in body:
            body[name] = defaulted(part, body[name])
    return body


def schema_of(plural: str) -> dict[str, Any]:
    definition = yaml.safe_load((CRDS / f"{plural}.yaml").read_text())
    schema: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def test_a_recordings_defaults_are_those_of_its_schema() -> None:
    filled = defaulted(schema_of("recordings"), recording())
    assert filled["spec"]["ring"] == {"segments": 10, "segmentSize": "25M"}
    assert Recording.parse(recording()) == Recording.parse(filled)


def test_a_clips_defaults_are_those_of_its_schema() -> None:
    filled = defaulted(schema_of("clips"), clip())
    assert "reason" in filled["spec"]
    assert ClipObject.parse(clip()) == ClipObject.parse(filled)


def test_a_recording_is_read_whole() -> None:
    read = Recording.parse(
        recording(
            target={"kind": "Deployment", "name": "web"},
            ports=[5432, 6432],
            hosts=["db.example", "10.0.0.0/8", "10.1.2.3", "fd00::1"],
            narrow=True,
            interfaces=["eth0"],
            payload=0,
            snaplen=128,
            ring={"segments": 4, "segmentSize": "32Mi"},
            triggers={
                "classes": ["refused", "reset"],
                "before": "1m30s",
                "after": "500ms",
                "clipsPerHour": 6,
            },
            scope="pod",
            retention="24h",
            hostNetwork=True,
        )
    )
    assert (read.namespace, read.name, read.uid, read.generation) == ("shop", "web", META["uid"], 3)
    assert read.created_ns == NOON
    assert read.target == ("Deployment", "web")
    assert read.ports == (5432, 6432)
    assert read.names == ("db.example",)
    assert [str(network) for network in read.networks] == ["10.0.0.0/8", "10.1.2.3/32", "fd00::1/128"]
    assert read.narrow
    assert read.host_network
    assert read.interfaces == ("eth0",)
    assert (read.payload_bytes, read.snaplen) == (0, 128)
    assert (read.ring_segments, read.ring_segment_bytes) == (4, 32 * 2**20)
    assert read.on == (FailureClass.REFUSED, FailureClass.RESET)
    assert (read.before_ns, read.after_ns, read.clips_per_hour) == (90 * SECOND, SECOND // 2, 6)
    assert (read.scope, read.retention_ns) == ("pod", 86_400 * SECOND)


def test_no_trigger_is_another_thing_than_the_usual_ones() -> None:
    assert Recording.parse(recording(triggers={})).on is None
    assert Recording.parse(recording(triggers={"classes": []})).on == ()


def test_a_recording_wants_pods_of_its_own_namespace_by_label_or_name() -> None:
    mine = Pod.parse(pod(labels={"app": "web"}))
    assert Recording.parse(recording()).wants(mine)
    assert not Recording.parse(recording()).wants(Pod.parse(pod(labels={"app": "web"}, namespace="other")))
    assert not Recording.parse(recording()).wants(Pod.parse(pod(labels={"app": "db"})))
    assert Recording.parse(recording(pods=["web"])).wants(mine)
    assert not Recording.parse(recording(pods=["web-1"])).wants(mine)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            {"pods": ["a"], "selector": {"matchLabels": {"a": "b"}}},
            "spec has to have either selector or pods",
        ),
        ({"pods": []}, "spec has to have either selector or pods"),
        ({"selector": "app=web"}, "spec.selector is not an object"),
        ({"selector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}, "spec.selector is wrong"),
        ({"ports": [0]}, "spec.ports holds 0, which is not a whole number from 1 to 65535"),
        ({"ports": [True]}, "spec.ports holds True"),
        ({"ports": 5432}, "spec.ports is 5432, and not a list"),
        ({"hosts": ["10.0.0.0/99"]}, "spec.hosts holds '10.0.0.0/99'"),
        ({"payload": -1}, "spec.payload is -1"),
        ({"narrow": "yes"}, "spec.narrow is 'yes', and not true or false"),
        ({"ring": {"segmentSize": "25MB"}}, "spec.ring.segmentSize is wrong: '25MB' is not a quantity"),
        ({"ring": []}, "spec.ring is not an object"),
        ({"triggers": {"before": "1 minute"}}, "spec.triggers.before is wrong"),
        ({"triggers": {"classes": ["late"]}}, "spec.triggers.classes is wrong: 'late'"),
        ({"retention": 3600}, "spec.retention is 3600, and not a string"),
        ({"scope": "node"}, "spec.scope is 'node', and not pod or recording"),
    ],
)
def test_a_wrong_recording_is_told_by_its_name_and_field(spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidObjectError) as told:
        Recording.parse(recording(**spec))
    assert str(told.value).startswith("Recording shop/web: ")
    assert sentence in str(told.value)


@pytest.mark.parametrize("body", [None, [], "x", {}, {"metadata": {"name": "web"}}])
def test_what_is_no_object_is_told(body: Any) -> None:
    with pytest.raises(InvalidObjectError, match="Recording"):
        Recording.parse(body)


def test_no_status_of_a_recording_keeps_its_spec_from_being_read() -> None:
    nonsense = {"nodes": {"../x": {"points": [{"since": "noon"}]}}, "conditions": "none"}
    assert Recording.parse(recording(status=nonsense)) == Recording.parse(recording())


def test_a_clip_counts_back_from_when_it_was_made() -> None:
    window = ClipObject.parse(clip(last="90s")).window
    assert window == Window(NOON - 90 * SECOND, NOON + SECOND)  # NOON was rounded down to its second


def test_a_clips_window_may_end_a_day_after_it_was_made() -> None:
    window = ClipObject.parse(clip(window={"start": CREATED, "end": "2026-11-24T13:00:00.9Z"})).window
    assert window.end_ns - NOON > 25 * 3600 * SECOND  # NOON was rounded down to its second


def test_a_clip_is_read_whole() -> None:
    read = ClipObject.parse(
        clip(
            window={"start": "2026-11-23T11:59:00.000000001Z", "end": CREATED},
            reason="refused",
            pods=["web-1"],
            nodes=["node-1", "node-2"],
            trigger={
                "class": "refused",
                "pod": "web-1",
                "node": "node-1",
                "time": CREATED,
                "client": {"ip": "10.0.0.1", "port": 40_000},
                "server": {"ip": "10.0.0.2", "port": 5432},
            },
            status={
                "state": "Incomplete",
                "partsComplete": "1/2",
                "missing": ["node-2"],
                "parts": {
                    "node-1": {
                        "state": "Complete",
                        "message": "all of it",
                        "agent": {"pod": "podcam-agent-x", "port": 9472},
                        "publicKey": base64.b64encode(KEY).decode(),
                    }
                },
            },
        )
    )
    assert read.window == Window(NOON - 60 * SECOND + 1, NOON)
    assert (read.recording, read.reason, read.pods) == ("web", "refused", ("web-1",))
    assert (read.expected_nodes, read.origin_node) == (("node-1", "node-2"), "node-1")
    assert read.trigger is not None
    assert read.trigger.server == Endpoint("10.0.0.2", 5432)
    assert (read.state, read.parts_complete, read.missing) == ("Incomplete", "1/2", ("node-2",))
    assert read.parts == {"node-1": PartStatus("Complete", "all of it", "podcam-agent-x", 9472, KEY)}


def test_a_clip_that_names_no_pods_or_nodes_is_about_all_of_them() -> None:
    read = ClipObject.parse(clip())
    assert read.pods is None
    assert read.expected_nodes is None
    assert read.origin_node is None


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"window": {"start": CREATED}}, "spec.window.end is missing"),
        ({"window": {"start": CREATED, "end": "2026-11-23T11:00:00Z"}}, "spec.window ends before it starts"),
        ({"window": {"start": "noon", "end": CREATED}}, "spec.window.start is wrong: 'noon' is not a time"),
        (
            {"window": {"start": CREATED, "end": "2026-11-24T13:00:01.000000001Z"}},
            "spec.window ends more than 25h after the clip was made",
        ),
        ({"last": "soon"}, "spec.last is wrong"),
        ({"recording": ""}, "spec.recording is missing"),
    ],
)
def test_a_wrong_clip_is_told(spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidObjectError, match=sentence):
        ClipObject.parse(clip(**spec))


def test_a_grant_is_read() -> None:
    read = Grant.parse({"metadata": META, "spec": {"clip": "c", "publicKey": base64.b64encode(KEY).decode()}})
    assert read == Grant("shop", "web", str(META["uid"]), "c", KEY, NOON)


@pytest.mark.parametrize("key", ["", "AAAA", "#" * 44, base64.b64encode(KEY + b"x").decode(), None])
def test_a_grant_without_a_proper_key_is_told(key: str | None) -> None:
    with pytest.raises(InvalidObjectError, match=r"PacketGrant shop/web: spec\.publicKey is"):
        Grant.parse({"metadata": META, "spec": {"clip": "c", "publicKey": key}})


def test_a_pod_is_read() -> None:
    read = Pod.parse(
        pod(
            {"nodeName": "node-1", "runtimeClassName": "gvisor", "hostNetwork": True},
            {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
            labels={"app": "web"},
            deletionTimestamp=CREATED,
        )
    )
    assert (read.namespace, read.name, read.node, read.labels) == ("shop", "web", "node-1", {"app": "web"})
    assert (read.runtime_class, read.host_network, read.phase) == ("gvisor", True, "Running")
    assert (read.ip, read.ips) == ("10.0.0.1", ("10.0.0.1", "fd00::1"))
    assert (read.deleting, read.finished, read.created_ns) == (True, False, NOON)


def test_a_pod_that_was_only_just_made_has_little() -> None:
    read = Pod.parse(pod())
    assert (read.node, read.phase, read.ip, read.ips) == ("", "Pending", None, ())
    assert not read.deleting
    assert not read.finished
    assert read.node_uid == read.uid


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_whose_containers_have_all_ended_is_finished(phase: str) -> None:
    assert Pod.parse(pod(status={"phase": phase})).finished


def test_a_static_pod_has_another_uid_on_its_node() -> None:
    assert Pod.parse(pod(annotations={"kubernetes.io/config.hash": "abc"})).node_uid == "abc"


@pytest.mark.parametrize(
    ("annotations", "limits"),
    [
        ({}, (None, False)),
        ({"podcam.dev/max-payload": "0"}, (0, False)),
        ({"podcam.dev/max-payload": "64", "podcam.dev/allow-host-network": "true"}, (64, True)),
        ({"podcam.dev/allow-host-network": "false"}, (None, False)),
    ],
)
def test_a_namespace_sets_limits(annotations: dict[str, str], limits: tuple[int | None, bool]) -> None:
    read = NamespaceLimits.parse({"metadata": {"name": "shop", "annotations": annotations}})
    assert (read.max_payload_bytes, read.allow_host_network) == limits
    assert read.problems == ()


@pytest.mark.parametrize("text", ["64k", "-1", "", "none", "٣", "9" * 30])
def test_a_payload_limit_that_cannot_be_read_keeps_none(text: str) -> None:
    read = NamespaceLimits.parse(
        {"metadata": {"name": "shop", "annotations": {"podcam.dev/max-payload": text}}}
    )
    assert read.max_payload_bytes == 0
    assert "podcam.dev/max-payload is" in read.problems[0]


@pytest.mark.parametrize("text", ["True", "yes", "1", ""])
def test_host_network_is_allowed_by_true_alone(text: str) -> None:
    annotations = {"podcam.dev/allow-host-network": text}
    read = NamespaceLimits.parse({"metadata": {"name": "shop", "annotations": annotations}})
    assert not read.allow_host_network
    assert len(read.problems) == 1


@pytest.mark.parametrize("field", ["namespace", "name", "uid"])
@pytest.mark.parametrize("name", ["../../evil", "/etc", "..", "a/../b", "a\x1b[2J", "a\n", "a" * 254])
def test_what_is_no_name_gets_into_no_path(field: str, name: str) -> None:
    with pytest.raises(InvalidObjectError, match="no name of an object"):
        ClipObject.parse(clip() | {"metadata": META | {field: name}})


@pytest.mark.parametrize("node", ["../../../.ssh/x", "..", "/", "", "a\x1b]0;b", "a_b"])
def test_a_part_is_of_a_node(node: str) -> None:
    with pytest.raises(InvalidObjectError, match=r"status\.parts speaks of"):
        ClipObject.parse(clip({"parts": {node: {"state": "Complete"}}}))


@pytest.mark.parametrize("node", ["node-1", "ip-10-0-0-1.eu-central-1.compute.internal", "7"])
def test_nodes_have_all_names_that_kubernetes_takes(node: str) -> None:
    assert list(ClipObject.parse(clip({"parts": {node: {"state": "Complete"}}})).parts) == [node]
