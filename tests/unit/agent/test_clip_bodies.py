"""What is asked of the API server for a clip on a node's disk."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import podcam
from agents import NOON, SECOND
from podcam.agent.clip_bodies import clip_body
from podcam.agent.naming import Name
from podcam.clip import Manifest
from podcam.model.point import Window

CRD = Path(podcam.__file__).parent / "deploy" / "crds" / "clips.yaml"


def spec(expected: int) -> dict[str, Any]:
    """Of a clip of a recording with pods on so many nodes, `node-0` among them."""
    manifest = Manifest("shop_c", "reset", NOON, Window(NOON, NOON + SECOND), recording="shop/checkout")
    nodes = (f"node-{number}" for number in range(expected))
    body: dict[str, Any] = clip_body(Name("shop", "c"), manifest, node="node-0", expected=nodes)["spec"]
    return body


@pytest.fixture(scope="module")
def most() -> int:
    """The nodes that the schema takes."""
    version = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["nodes"]
    limit: int = schema["maxItems"]
    return limit


def test_all_nodes_whose_parts_are_expected_are_named_as_far_as_the_schema_takes_them(most: int) -> None:
    assert spec(2)["nodes"] == ["node-0", "node-1"]
    assert len(spec(most)["nodes"]) == most


def test_more_nodes_than_the_schema_takes_are_left_to_the_recordings_status(most: int) -> None:
    assert "nodes" not in spec(most + 1)
