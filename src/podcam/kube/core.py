"""Pods and namespaces, Kubernetes' own objects, as far as Podcam looks at them. Pure.

Each `parse` takes an object as JSON holds it and raises InvalidObjectError, with a sentence, where it cannot
be read. Times are nanoseconds since 1970 UTC.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from podcam.kube.fields import object_fields
from podcam.kube.kinds import GROUP

MAX_PAYLOAD = f"{GROUP}/max-payload"
"""Annotation of a namespace: the most bytes of payload that may be kept of its pods' packets."""
ALLOW_HOST_NETWORK = f"{GROUP}/allow-host-network"
"""Annotation of a namespace: "true" lets its recordings take in pods in the node's own network."""

CONFIG_HASH = "kubernetes.io/config.hash"
"""Annotation of a static pod's image in the API: the uid that the kubelet itself uses for it."""

_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod, as far as recording it goes."""

    namespace: str
    name: str
    uid: str
    node: str
    """"" while it has none."""
    labels: Mapping[str, str]
    host_network: bool
    runtime_class: str | None
    phase: str
    ip: str | None
    ips: tuple[str, ...]
    deleting: bool
    finished: bool
    """All its containers have ended, and none will start again."""
    created_ns: int
    node_uid: str = ""
    """What its node calls it: another uid than the API server's for a static pod."""

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Read a Pod."""
        meta, fields = object_fields(body, "Pod")
        spec, status = fields.part("spec"), fields.part("status")
        phase = status.text("phase", "Pending")
        ips = tuple(filter(None, (each.text("ip", "") for each in status.parts("podIPs"))))
        ip = status.text_or_none("podIP") or None
        uid = meta.text("uid")
        return cls(
            namespace=meta.text("namespace"),
            name=meta.text("name"),
            uid=uid,
            node=spec.text("nodeName", ""),
            labels=meta.text_map("labels"),
            host_network=spec.flag("hostNetwork"),
            runtime_class=spec.text_or_none("runtimeClassName"),
            phase=phase,
            ip=ip,
            ips=ips or (() if ip is None else (ip,)),
            deleting=meta.text_or_none("deletionTimestamp") is not None,
            finished=phase in {"Succeeded", "Failed"},
            created_ns=meta.time_ns("creationTimestamp"),
            node_uid=meta.text_map("annotations").get(CONFIG_HASH, uid),
        )


@dataclass(frozen=True, slots=True)
class NamespaceLimits:
    """What a namespace lets recordings do, by its annotations; one that cannot be read allows nothing."""

    name: str
    max_payload_bytes: int | None = None
    """None: no limit."""
    allow_host_network: bool = False
    problems: tuple[str, ...] = ()
    """Sentences about annotations that cannot be read."""

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Read a Namespace."""
        meta, _ = object_fields(body, "Namespace")
        annotations = meta.text_map("annotations")
        problems = []
        text = annotations.get(MAX_PAYLOAD)
        if text is not None and not _NUMBER.fullmatch(text):
            problems.append(f"{MAX_PAYLOAD} is {text!r}, and not a number of bytes: taken as 0")
            text = "0"
        max_payload_bytes = None if text is None else int(text)
        text = annotations.get(ALLOW_HOST_NETWORK, "false")
        if text not in {"true", "false"}:
            problems.append(f'{ALLOW_HOST_NETWORK} is {text!r}, and not "true" or "false": taken as false')
        return cls(meta.text("name"), max_payload_bytes, text == "true", tuple(problems))
