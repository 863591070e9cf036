"""From an API server's refusal to an error with a sentence for people.

The body of a refusal is a `Status` object (k8s.io/apimachinery, meta/v1) when the API server itself refuses,
and plain text when no handler knew the path.
"""

import json
from collections.abc import Mapping
from typing import Any

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
from podcam.kube.kinds import GROUP, asked

_EXPIRED = "the token or certificate has expired, or belongs to another cluster"
_LEAVES: Mapping[int, tuple[type[KubernetesError], str]] = {
    400: (InvalidError, "the API server refuses it: {said}"),
    401: (UnauthorizedError, f"the API server does not accept who is asking (401): {_EXPIRED}"),
    403: (ForbiddenError, "not allowed: {said}"),
    404: (NotFoundError, "{said}"),
    409: (ConflictError, "{said}"),
    410: (GoneError, "{what}: {said}"),
    422: (InvalidError, "the API server refuses it: {said}"),
}
_OTHER = (KubernetesError, "the API server could not {what}: {said}")
_NOT_INSTALLED = "the custom resources are not installed in this cluster: run `kubectl podcam install`"
_NO_SUCH_KIND = "the API server does not know this kind of object: {what}"


def status_of(body: bytes) -> Mapping[str, Any] | None:
    """The Status object in a body, None when it is something else."""
    try:
        status = json.loads(body)
    except ValueError:
        return None
    if isinstance(status, dict) and status.get("kind") == "Status" and status.get("apiVersion") == "v1":
        return status
    return None


def refusal(
    method: str, path: str, code: int, body: bytes, *, retry_after_seconds: float | None = None
) -> KubernetesError:
    """The error for an answer with this HTTP status to this request."""
    what = asked(method, path)
    status = status_of(body)
    if status is None:
        text = " ".join(body[:500].decode(errors="replace").split())
        status = {"code": code, "message": f"{what}: {text or f'status {code}'}"}
    return refusal_of(status, what, code, retry_after_seconds=retry_after_seconds)


def refusal_of(
    status: Mapping[str, Any], what: str, code: int, *, retry_after_seconds: float | None = None
) -> KubernetesError:
    """The error for a Status object, as in the body of an answer or in an ERROR event of a watch.

    Args:
        status: the object.
        what: what was asked for, as `kinds.asked` says it.
        code: the HTTP status, for when the object has none.
        retry_after_seconds: as the header says; the object's own details take its place.
    """
    code = status["code"] if isinstance(status.get("code"), int) else code
    reason = str(status.get("reason") or "")
    said = str(status.get("message") or reason or f"status {code}")
    details = status.get("details")
    details = details if isinstance(details, dict) else {}
    seconds = details.get("retryAfterSeconds")
    if isinstance(seconds, int) and seconds > 0:
        retry_after_seconds = seconds
    leaf, sentence = _LEAVES.get(code, _OTHER)
    if code == 404 and not details.get("name"):
        leaf, sentence = NotInstalledError, _NOT_INSTALLED if f".{GROUP}" in what else _NO_SUCH_KIND
    message = sentence.format(what=what, said=_without_preamble(said))
    return leaf(message, status=code, reason=reason, retry_after_seconds=retry_after_seconds)


def _without_preamble(said: str) -> str:
    """`pods is forbidden: User "u" cannot list …` without what the rest says as well."""
    _, separator, rest = said.partition(" is forbidden: ")
    return rest if separator and rest.startswith("User ") else said
