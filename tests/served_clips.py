"""Clips as agents keep them, and an agent's server in front of them: no cluster, and no agent."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kernel_blocks import Sent, block
from podcam.agent.http import AgentServer
from podcam.clip import COMPLETE, ClipPart, Manifest, write_manifest
from podcam.kube import Grant
from podcam.model.point import Interface, Point, Window
from podcam.ring import Ring, Source
from podcam.sealed import PrivateKey
from podcam.serving import Limits

SECOND = 10**9
NOW = 1_700_000_000 * SECOND
EVER = Window(0, 2**62)
IPV4_UDP = bytes.fromhex("4500001f0000400040110000c0000201c0000202" + "30391234000b0000")
ETHERNET = bytes.fromhex("020000000002" + "020000000001" + "0800")


def packet(second: float, payload: bytes = b"abc") -> Sent:
    return Sent(NOW + int(second * SECOND), ETHERNET + IPV4_UDP + payload)


def keep_clip(
    folder: Path, name: str, node: str, pods: dict[str, list[list[Sent]]], state: str = COMPLETE
) -> Path:
    """A clip's folder as the agent of `node` keeps it; each list of packets becomes a segment of the pod."""
    clip = folder / name
    parts = []
    for pod, segments in pods.items():
        source = Source(Point(f"shop/{pod}", node), "boot", 1 << 20, (Interface(2, "eth0", 1),))
        ring = Ring(folder / "rings" / pod, source, limit_bytes=10**9, segment_bytes=10**8, now_ns=NOW)
        for packets in segments:
            ring.append([block([each]) for each in packets], now_ns=NOW)
            ring.roll(NOW)
        ring.close(NOW)
        part = ring.freeze(clip / pod, [EVER], NOW)
        parts.append(
            ClipPart(source.point, pod, tuple(part.segments), part.totals, interfaces=source.interfaces)
        )
    window = Window(NOW, NOW + 3600 * SECOND)
    write_manifest(clip, Manifest(name, "it broke", NOW, window, state, parts=tuple(parts)))
    return clip


class FakeServed:
    """What an agent would answer; all of it can be changed by the test."""

    def __init__(self) -> None:
        self.ill: str | None = None
        self.grants: dict[tuple[str, str], Grant] = {}
        self.clips: dict[tuple[str, str], Path] = {}
        self.waited: list[float] = []
        self.arrived = threading.Event()
        """A grant that is not there yet is waited for until this is set."""

    def health(self) -> str | None:
        return self.ill

    def metrics(self) -> str:
        return "podcam_points 3\n"

    def grant(self, namespace: str, name: str, wait_seconds: float) -> Grant | None:
        if (namespace, name) not in self.grants:
            self.waited.append(wait_seconds)
            if wait_seconds:
                self.arrived.wait(60)
        return self.grants.get((namespace, name))

    def clip_folder(self, namespace: str, clip: str) -> Path | None:
        return self.clips.get((namespace, clip))

    def allow(self, grant: Grant) -> Grant:
        self.grants[grant.namespace, grant.name] = grant
        return grant


def grant_for(
    reader: PrivateKey, clip: str = "broken", namespace: str = "shop", name: str = "pull-1"
) -> Grant:
    return Grant(
        namespace=namespace,
        name=name,
        uid=f"uid-of-{name}",
        clip=clip,
        public_key=reader.public,
        created_ns=NOW,
    )


@contextmanager
def serving(
    served: FakeServed, key: PrivateKey | None = None, *, now_ns: int = NOW, limits: Limits | None = None
) -> Iterator[AgentServer]:
    """An agent's server, at a port of its own."""
    server = AgentServer(
        served, key or PrivateKey.new(), address="127.0.0.1", port=0, limits=limits, now_ns=lambda: now_ns
    )
    server.start()
    try:
        yield server
    finally:
        served.arrived.set()
        server.close()


def older(grant: Grant, seconds: int) -> Grant:
    return replace(grant, created_ns=grant.created_ns - seconds * SECOND)
