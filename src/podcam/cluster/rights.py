"""What the caller may do: recording, listing clips and reading packets are three rights."""

from dataclasses import dataclass

from podcam.errors import ForbiddenError, NotFoundError
from podcam.kube import CLIPS, GRANTS, RECORDINGS, Api, Kind

PACKET_READER = "podcam-packet-reader"
"""The ClusterRole that is shipped for reading packets."""
OPERATOR = "podcam-operator"
"""The ClusterRole that is shipped for recording."""
VIEWER = "podcam-viewer"
"""The ClusterRole that is shipped for looking."""

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_SELF = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_ANONYMOUS = "system:anonymous"


def may(api: Api, verb: str, kind: Kind, namespace: str | None, *, subresource: str = "") -> bool:
    """Whether the caller may do this, as the API server decides it."""
    attributes = {"verb": verb, "group": kind.group, "resource": kind.plural, "subresource": subresource}
    if namespace is not None:
        attributes["namespace"] = namespace
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool(api.create(_REVIEWS, review).get("status", {}).get("allowed"))


@dataclass(frozen=True, slots=True)
class Rights:
    """What the caller may do in one namespace."""

    record: bool
    look: bool
    clip: bool
    read_packets: bool


def rights_in(api: Api, namespace: str) -> Rights:
    """Ask the API server for the caller's rights."""
    return Rights(
        record=may(api, "create", RECORDINGS, namespace),
        look=may(api, "list", RECORDINGS, namespace) and may(api, "list", CLIPS, namespace),
        clip=may(api, "create", CLIPS, namespace),
        read_packets=may(api, "create", GRANTS, namespace),
    )


def user_name(api: Api) -> str | None:
    """The caller's name to the API server; None where that does not tell (before 1.28), or for nobody."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        told = api.create(_SELF, review).get("status", {}).get("userInfo", {}).get("username")
    except (ForbiddenError, NotFoundError):
        return None
    return str(told) if told and told != _ANONYMOUS else None
