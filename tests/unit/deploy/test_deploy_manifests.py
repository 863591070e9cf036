"""What is applied agrees with the code that runs it; what the API server makes of it, e2e shows."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import podcam
from podcam.agent.http import PORT
from podcam.kube import CLIPS, GRANTS, RECORDINGS, Kind, parse_duration, parse_quantity
from podcam.model.verdict import FailureClass

_REPOSITORY = Path(__file__).parents[3]
_DEPLOY = Path(podcam.__file__).parent / "deploy"

Object = dict[str, Any]


def _objects(path: str) -> list[Object]:
    return list(yaml.safe_load_all((_DEPLOY / path).read_text()))


def _schema(kind: Kind) -> Object:
    (definition,) = _objects(f"crds/{kind.plural}.yaml")
    (version,) = definition["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]
    assert isinstance(schema, dict)
    return schema


def _agent() -> Object:
    (daemons,) = _objects("base/agent.yaml")
    (container,) = daemons["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def test_the_folder_at_the_top_is_the_one_in_the_package() -> None:
    assert (_REPOSITORY / "deploy").resolve() == (_REPOSITORY / "src" / "podcam" / "deploy").resolve()


@pytest.mark.parametrize("kind", [RECORDINGS, CLIPS, GRANTS], ids=lambda kind: kind.plural)
def test_the_custom_resources_are_those_that_the_code_asks_for(kind: Kind) -> None:
    (definition,) = _objects(f"crds/{kind.plural}.yaml")
    spec = definition["spec"]
    assert definition["metadata"]["name"] == f"{kind.plural}.{kind.group}"
    assert (spec["group"], spec["names"]["plural"], spec["names"]["kind"]) == (
        kind.group,
        kind.plural,
        kind.kind,
    )
    assert [version["name"] for version in spec["versions"]] == [kind.version]
    assert (spec["scope"] == "Namespaced") is kind.namespaced


def test_a_failures_class_is_spelled_as_the_detector_does() -> None:
    classes = {failure.value for failure in FailureClass}
    on = _schema(RECORDINGS)["spec"]["properties"]["triggers"]["properties"]["classes"]
    assert set(on["items"]["enum"]) == classes
    assert on["maxItems"] == len(classes)
    trigger = _schema(CLIPS)["spec"]["properties"]["trigger"]
    assert set(trigger["properties"]["class"]["enum"]) == classes


def test_the_defaults_are_understood() -> None:
    spec = _schema(RECORDINGS)["spec"]["properties"]
    triggers = spec["triggers"]["properties"]
    assert [parse_duration(triggers[name]["default"]) for name in ("before", "after")] == [
        60 * 10**9,
        10 * 10**9,
    ]
    assert parse_duration(spec["retention"]["default"]) == 3600 * 10**9
    ring = spec["ring"]["properties"]
    assert parse_quantity(ring["segmentSize"]["default"]) * ring["segments"]["default"] == 250_000_000
    assert spec["ring"]["default"] == {name: part["default"] for name, part in ring.items()}


def test_the_agent_is_found_where_it_listens() -> None:
    agent = _agent()
    assert {port["name"]: port["containerPort"] for port in agent["ports"]} == {"http": PORT}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert agent[probe]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert agent["args"] == ["agent"]


def test_the_image_is_of_this_version() -> None:
    (kustomization,) = _objects("base/kustomization.yaml")
    assert kustomization["images"] == [{"name": _agent()["image"], "newTag": podcam.__version__}]


def test_every_object_says_that_it_is_podcams() -> None:
    found = [
        each
        for name in ("namespace", "roles", "agent-rights", "agent")
        for each in _objects(f"base/{name}.yaml")
    ]
    assert {each["metadata"]["labels"]["app.kubernetes.io/name"] for each in found} == {
        "podcam",
        "podcam-agent",
    }
