"""What is installed, rendered by kubectl of the files that this package carries."""

import shutil
from pathlib import Path

import pytest

from podcam.cluster import Kubectl, is_resource_definition, overlays, render, to_text
from podcam.cluster.manifests import image_fields
from podcam.errors import KubernetesError, UsageError

with_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None,
    reason="kubectl is not on the PATH: https://kubernetes.io/docs/tasks/tools/",
)


@with_kubectl
def test_the_base_holds_everything_in_order() -> None:
    objects = render(Kubectl())
    kinds = [each["kind"] for each in objects]
    assert kinds.index("Namespace") < kinds.index("DaemonSet")
    assert sorted(each["metadata"]["name"] for each in filter(is_resource_definition, objects)) == [
        "clips.podcam.dev",
        "packetgrants.podcam.dev",
        "recordings.podcam.dev",
    ]


@with_kubectl
@pytest.mark.parametrize("overlay", [None, *overlays()])
@pytest.mark.parametrize(
    ("image", "pulled"),
    [
        ("registry.example:5000/tools/podcam:7", "registry.example:5000/tools/podcam:7"),
        ("podcam", "podcam:0.1.0"),
        ("a/b@sha256:" + "0" * 64, "a/b@sha256:" + "0" * 64),
    ],
)
def test_the_image_is_replaced_whatever_the_overlay(overlay: str | None, image: str, pulled: str) -> None:
    (agent,) = (
        each for each in render(Kubectl(), overlay=overlay, image=image) if each["kind"] == "DaemonSet"
    )
    (container,) = agent["spec"]["template"]["spec"]["containers"]
    assert container["image"].split(":0.1.0")[0] == pulled.split(":0.1.0", maxsplit=1)[0]


def test_there_is_an_overlay_for_openshift() -> None:
    assert "openshift" in overlays()


@pytest.mark.parametrize("image", ["", "a/", "a:", ":1", "a@md5:1", "a b"])
def test_what_is_no_image(image: str) -> None:
    with pytest.raises(UsageError, match="not an image"):
        image_fields(image)


def test_a_stream_of_documents() -> None:
    assert to_text([{"b": 1, "a": ["x"]}, {"c": None}]) == "b: 1\na:\n- x\n---\nc: null\n"


@with_kubectl
def test_a_complaint_of_kubectl_is_told() -> None:
    with pytest.raises(KubernetesError, match=r"^kubectl kustomize: .*nowhere"):
        Kubectl().run("kustomize", "/nowhere")


def test_without_kubectl_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="no kubectl on the PATH"):
        Kubectl().run("version")


@with_kubectl
def test_the_namespace_of_a_context(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts:\n"
        "- {name: a, context: {cluster: c, user: u, namespace: shop}}\n"
        "- {name: b, context: {cluster: c, user: u}}\n"
        "clusters: [{name: c, cluster: {server: 'https://c'}}]\nusers: [{name: u, user: {}}]\n"
    )
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    assert Kubectl().namespace() == "shop"
    assert Kubectl(["--context=b"]).namespace() == "default"
    with pytest.raises(KubernetesError, match=r"^kubectl config: cannot locate context other"):
        Kubectl(["--context=other"]).namespace()
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert Kubectl().namespace() == "default"
