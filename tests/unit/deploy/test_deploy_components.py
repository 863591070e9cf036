"""The Kustomize components agree with each other, and with the code that they run."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import yaml

import podcam
from podcam.agent.http import PORT as AGENT_PORT
from podcam.cli import sidecar, wrap
from podcam.cluster.sidecar import LABEL, PORT, SERVE
from podcam.kube import parse_quantity
from podcam.wrap.bundle import bundle_command

_COMPONENTS = Path(podcam.__file__).parent / "deploy" / "components"
Object = dict[str, Any]


def load(path: str) -> Any:
    return yaml.safe_load((_COMPONENTS / path).read_text())


def parsed(verb: Any, argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return parser.parse_args(argv)


@pytest.fixture
def template() -> Object:
    found: Object = load("sidecar/workload.yaml")["spec"]["template"]
    return found


@pytest.mark.parametrize("component", ["sidecar", "sidecar-baseline"])
def test_a_cron_job_gets_what_other_workloads_get(component: str) -> None:
    workload = load(f"{component}/workload.yaml")["spec"]["template"]
    assert load(f"{component}/cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"] == workload


def test_the_sidecar_understands_its_arguments(template: Object) -> None:
    (container,) = template["spec"]["initContainers"]
    verb, *argv = container["args"]
    assert verb == "sidecar"
    args = parsed(sidecar, argv)
    assert args.serve == PORT == int(template["metadata"]["annotations"][SERVE]) == AGENT_PORT
    assert template["metadata"]["labels"] == {LABEL: "sidecar"}
    probe = container["startupProbe"]["exec"]["command"]
    assert probe[:4] == ["python3", "-m", "podcam", "sidecar"]
    check = parsed(sidecar, probe[4:])
    assert check.check
    assert check.dir == args.dir
    (mount,) = container["volumeMounts"]
    assert mount["mountPath"] == str(args.dir)


def test_ring_and_clips_fit_into_the_volume(template: Object) -> None:
    (container,) = template["spec"]["initContainers"]
    args = parsed(sidecar, container["args"][1:])
    most = args.ring.segments * args.ring.segment_bytes + args.clips
    (volume,) = template["spec"]["volumes"]
    limit = parse_quantity(volume["emptyDir"]["sizeLimit"])
    assert most * 1.2 < limit
    assert parse_quantity(container["resources"]["requests"]["ephemeral-storage"]) >= limit
    assert parse_quantity(container["resources"]["limits"]["ephemeral-storage"]) > 100 * limit


def test_the_command_that_wrap_puts_in_front() -> None:
    patches = load("wrap/command.yaml")
    assert {(patch["op"], patch["path"]) for patch in patches} == {
        ("add", "/spec/template/spec/containers/0/command/0")
    }
    command = [patch["value"] for patch in reversed(patches)]
    template = load("wrap/workload.yaml")["spec"]["template"]
    (maker,) = template["spec"]["initContainers"]
    assert maker["args"] == ["bundle", "/podcam"]
    start = list(bundle_command(Path("/podcam")))
    assert command[: len(start) + 1] == [*start, "wrap"]
    assert command[-1] == "--"
    args = parsed(wrap, command[len(start) + 1 : -1])
    assert args.serve == PORT == int(template["metadata"]["annotations"][SERVE])
    limits = {
        each["name"]: parse_quantity(each["emptyDir"]["sizeLimit"]) for each in template["spec"]["volumes"]
    }
    assert (args.ring.segments * args.ring.segment_bytes + args.clips) * 1.2 < limits["podcam-ring"]
    mounts = [
        target["fieldPaths"][0]
        for each in load("wrap/kustomization.yaml")["replacements"]
        for target in each["targets"]
    ]
    assert f"spec.template.spec.containers.0.volumeMounts.[mountPath={args.dir}].name" in mounts


def test_nobody_gets_a_recorder_who_is_not_labelled() -> None:
    for component in ("sidecar", "sidecar-baseline", "wrap"):
        body = load(f"{component}/kustomization.yaml")
        targets = [patch["target"] for patch in body["patches"]]
        targets += [target["select"] for each in body.get("replacements", ()) for target in each["targets"]]
        labels = {target["labelSelector"] for target in targets}
        own = "podcam.dev/record=wrap" if component == "wrap" else "podcam.dev/record=sidecar"
        assert labels <= {own, "track=canary,!podcam.dev/record"}
