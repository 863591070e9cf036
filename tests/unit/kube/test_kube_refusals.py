import json
from typing import Any

import pytest

from podcam.errors import (
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    KubernetesError,
    NotFoundError,
    NotInstalledError,
    UnauthorizedError,
)
from podcam.kube import CLIPS, NAMESPACES, PODS, RECORDINGS, path_of
from podcam.kube.kinds import asked
from podcam.kube.refusals import refusal


def body(code: int, message: str, reason: str, **details: Any) -> bytes:
    status = {"kind": "Status", "apiVersion": "v1", "code": code, "message": message, "reason": reason}
    return json.dumps(status | {"details": details}).encode()


def test_paths_of_objects_and_of_all_of_a_kind() -> None:
    assert path_of(PODS) == "/api/v1/pods"
    assert path_of(PODS, "shop") == "/api/v1/namespaces/shop/pods"
    assert path_of(PODS, "shop", "web-1") == "/api/v1/namespaces/shop/pods/web-1"
    assert path_of(CLIPS, "shop", "c") == "/apis/podcam.dev/v1alpha1/namespaces/shop/clips/c"
    assert path_of(NAMESPACES, None, "shop") == "/api/v1/namespaces/shop"
    assert path_of(NAMESPACES, "ignored", "shop") == "/api/v1/namespaces/shop"


def test_a_name_cannot_lead_out_of_its_path() -> None:
    assert path_of(PODS, "shop", "a/../../b?x=1") == "/api/v1/namespaces/shop/pods/a%2F..%2F..%2Fb%3Fx%3D1"
    for name in ("", ".", ".."):
        with pytest.raises(ValueError, match="is not the name of an object"):
            path_of(PODS, "shop", name)


def test_an_object_of_a_namespaced_kind_lies_in_one() -> None:
    with pytest.raises(ValueError, match="a Pod lies in a namespace"):
        path_of(PODS, None, "web-1")


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("GET", "/api/v1/pods?limit=500", "list pods"),
        ("GET", "/api/v1/namespaces/shop/pods", "list pods in namespace shop"),
        ("GET", "/api/v1/namespaces/shop/pods/web%3A80/proxy", "get pods/web:80/proxy in namespace shop"),
        ("POST", path_of(RECORDINGS, "shop"), "create recordings.podcam.dev in namespace shop"),
        (
            "PATCH",
            path_of(CLIPS, "shop", "c") + "/status",
            "change clips.podcam.dev/c/status in namespace shop",
        ),
        ("DELETE", "/api/v1/namespaces/shop", "delete namespaces/shop"),
        ("GET", "/api/v1/namespaces", "list namespaces"),
        ("GET", "/version", "get /version"),
    ],
)
def test_a_request_is_told_in_words(method: str, path: str, words: str) -> None:
    assert asked(method, path) == words


FORBIDDEN = (
    'recordings.podcam.dev is forbidden: User "jane" cannot create resource "recordings" in API group '
    '"podcam.dev" in the namespace "shop"'
)


@pytest.mark.parametrize(
    ("code", "answer", "kind", "sentence"),
    [
        (401, body(401, "Unauthorized", "Unauthorized"), UnauthorizedError, "has expired"),
        (
            403,
            body(403, FORBIDDEN, "Forbidden"),
            ForbiddenError,
            'not allowed: User "jane" cannot create resource',
        ),
        (
            403,
            body(403, 'pods "x" is forbidden: violates PodSecurity "baseline"', "Forbidden"),
            ForbiddenError,
            'not allowed: pods "x" is forbidden: violates PodSecurity "baseline"',
        ),
        (
            403,
            b"Forbidden",
            ForbiddenError,
            "not allowed: create recordings.podcam.dev in namespace shop: Forbidden",
        ),
        (404, body(404, 'clips "c" not found', "NotFound", name="c"), NotFoundError, 'clips "c" not found'),
        (404, b"404 page not found\n", NotInstalledError, "run `kubectl podcam install`"),
        (409, body(409, "already exists", "AlreadyExists"), ConflictError, "already exists"),
        (410, body(410, "too old resource version", "Expired"), GoneError, "too old resource version"),
        (
            422,
            body(422, "spec.ports: Invalid value: 0", "Invalid"),
            InvalidError,
            "refuses it: spec.ports: Invalid",
        ),
        (400, body(400, "unknown field", "BadRequest"), InvalidError, "unknown field"),
        (
            500,
            b"",
            KubernetesError,
            "could not create recordings.podcam.dev in namespace shop: .*: status 500",
        ),
        (503, b"<html>\n  no\n</html>", KubernetesError, "<html> no </html>"),
        (500, b'{"kind": "Status", "apiVersion": "v1"}', KubernetesError, "status 500"),
        (502, b"[1, 2]", KubernetesError, r"\[1, 2\]"),
    ],
)
def test_a_refusal_becomes_the_error_that_fits(
    code: int, answer: bytes, kind: type[KubernetesError], sentence: str
) -> None:
    error = refusal("POST", path_of(RECORDINGS, "shop"), code, answer)
    assert type(error) is kind
    assert error.status == code
    with pytest.raises(kind, match=sentence):
        raise error


def test_another_groups_missing_kind_is_not_taken_for_podcams() -> None:
    error = refusal("GET", "/apis/route.openshift.io/v1/routes", 404, b"404 page not found")
    assert str(error) == "the API server does not know this kind of object: list routes.route.openshift.io"


def test_a_message_with_braces_is_told_as_it_is() -> None:
    error = refusal("POST", path_of(RECORDINGS, "shop"), 422, body(422, "value {x}: {0}", "Invalid"))
    assert "value {x}: {0}" in str(error)


def test_how_long_to_wait_is_known_from_header_or_details() -> None:
    path = path_of(PODS)
    assert refusal("GET", path, 429, b"slow", retry_after_seconds=7).retry_after_seconds == 7
    told = body(429, "slow", "TooManyRequests", retryAfterSeconds=3)
    assert refusal("GET", path, 429, told, retry_after_seconds=7).retry_after_seconds == 3
    assert refusal("GET", path, 429, b"slow").retry_after_seconds is None
