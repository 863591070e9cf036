"""The client of the API server: what it asks, what it makes of refusals, by whose token."""

import json
from pathlib import Path

import pytest

from kube_server import KubeServer, named, refused
from podcam.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    KubernetesError,
    NotFoundError,
    UnreachableError,
    UsageError,
)
from podcam.kube import CLIPS, Api, path_of
from podcam.kube.roads import TokenFile

PATH = path_of(CLIPS, "shop", "c")


def test_requests_say_what_the_api_server_expects(server: KubeServer, api: Api) -> None:
    server.answers(*[named("c")] * 6)
    assert api.get(PATH, {"a": "b c"}) == named("c")
    api.create(path_of(CLIPS, "shop"), {"spec": {}}, manager="podcam", dry_run=True)
    api.merge_patch(PATH, {"metadata": {"labels": {"a": None}}})
    api.apply(PATH, {"status": {"é": 1}}, manager="podcam-agent-n", subresource="status")
    api.apply(PATH, {"spec": {}}, manager="podcam-merge", force=True)
    api.delete(PATH, propagationPolicy="Background")
    asked = [
        (r.method.value, r.url.path, dict(r.params), r.headers.get("Content-Type"), r.data)
        for r in server.asked
    ]
    applied = "application/apply-patch+yaml"
    assert asked[:2] == [
        ("GET", PATH, {"a": "b c"}, None, None),
        (
            "POST",
            "/apis/podcam.dev/v1alpha1/namespaces/shop/clips",
            {"fieldManager": "podcam", "dryRun": "All"},
            "application/json",
            {"spec": {}},
        ),
    ]
    assert asked[2][3:] == ("application/merge-patch+json", {"metadata": {"labels": {"a": None}}})
    assert asked[3][1:4] == (f"{PATH}/status", {"fieldManager": "podcam-agent-n", "force": "false"}, applied)
    assert json.loads(server.asked[3].body) == {"status": {"é": 1}}
    assert asked[4][1:4] == (PATH, {"fieldManager": "podcam-merge", "force": "true"}, applied)
    assert asked[5][0] == "DELETE"
    assert asked[5][4] == {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    assert all(r.headers["User-Agent"].startswith("podcam/") for r in server.asked)


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (refused(403, "x is forbidden: User cannot", "Forbidden"), ForbiddenError),
        (refused(404, 'clips "c" not found', "NotFound", name="c"), NotFoundError),
        (refused(409, "exists", "AlreadyExists"), ConflictError),
        (refused(422, "Invalid value", "Invalid"), InvalidError),
        (refused(503, "not ready"), KubernetesError),
        (b"<html>a router's page</html>", UnreachableError),
        ([1, 2], UnreachableError),
    ],
)
def test_a_refusal_is_raised_as_what_it_is(
    server: KubeServer, api: Api, refusal: object, kind: type[KubernetesError]
) -> None:
    server.answers(refusal)
    with pytest.raises(kind) as told:
        api.create(path_of(CLIPS, "shop"), {})
    assert type(told.value) is kind


def test_what_is_no_address_of_an_api_server_is_told() -> None:
    for url in ("10.0.0.1:6443", "ftp://x", "https://"):
        with pytest.raises(UsageError, match="is not the address of an API server"):
            Api.at(url)


def test_a_name_that_does_not_resolve_is_told() -> None:
    with (
        Api.at("http://no-such-host.invalid") as api,
        pytest.raises(UnreachableError, match="cannot be reached"),
    ):
        api.get(PATH)


def test_the_token_is_read_again_when_it_changes(server: KubeServer, tmp_path: Path) -> None:
    """As the kubelet changes it: it swaps a link to the folder."""
    account = tmp_path / "account"
    account.mkdir()

    def swap(token: str) -> None:
        folder = tmp_path / token
        folder.mkdir()
        (folder / "token").write_text(token + "\n")
        link = tmp_path / "new"
        link.symlink_to(folder)
        link.rename(account / "..data")

    swap("one")
    (account / "token").symlink_to("..data/token")
    server.answers(*[named("c")] * 3)
    with Api.at(server.url, token=TokenFile(account / "token")) as api:
        api.get(PATH)
        api.get(PATH)
        swap("two")
        api.get(PATH)
        (account / "..data").unlink()
        with pytest.raises(UnreachableError, match=r"token .* cannot be read"):
            api.get(PATH)
    assert [r.headers["Authorization"] for r in server.asked] == ["Bearer one", "Bearer one", "Bearer two"]


def test_an_empty_token_is_not_sent(server: KubeServer, tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    with (
        Api.at(server.url, token=TokenFile(tmp_path / "token")) as api,
        pytest.raises(UnreachableError, match="empty"),
    ):
        api.get(PATH)
    assert not server.asked
