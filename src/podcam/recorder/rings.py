"""The rings in a recorder's folder: whose they are, when they were last written, when they were not.

A ring's folder tells in `point.json`, so that it is known when its point is no longer recorded, or the
recorder was started again:

    {"id": "shop/checkout/web-7d", "name": "shop/web-7d", "recording": "shop/checkout", "node": "node-1",
     "gaps": [{"since_ns": 1, "until_ns": 2, "reason": "the recorder was not running"}]}
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from podcam.errors import SegmentError
from podcam.model.point import Gap
from podcam.recorder.folder import RecorderFolder
from podcam.ring import SegmentReader, segments_in

_OWNER = "point.json"
_MOST_GAPS = 100


@dataclass(frozen=True, slots=True)
class Owner:
    """The point whose ring it is."""

    id: str
    name: str
    recording: str
    node: str
    gaps: tuple[Gap, ...] = ()
    """When the ring was not written, the latest."""


@dataclass(frozen=True, slots=True)
class RestingRing:
    """A ring on disk."""

    owner: Owner
    path: Path
    last_ns: int
    """When it was last written."""
    closed: bool
    """Whether it was ended, rather than that its recorder was killed."""
    bytes: int


def resting_rings(folder: RecorderFolder) -> dict[str, RestingRing]:
    """The rings that lie in a recorder's folder, by the ids of their points, those of live ones included.

    Raises:
        RightsError, SegmentError: the folder may not be read.
    """
    rings = filter(None, map(resting_ring, folder.rings()))
    return {ring.owner.id: ring for ring in rings}


def resting_ring(path: Path) -> RestingRing | None:
    """The ring in this folder; None where there is none, or it has no segment.

    Raises:
        RightsError, SegmentError: the folder may not be read.
    """
    last: Path | None = None
    last_ns = total_bytes = 0
    for segment in segments_in(path):
        with suppress(FileNotFoundError):
            status = segment.stat()
            last, last_ns, total_bytes = segment, status.st_mtime_ns, total_bytes + status.st_size
    if last is None:
        return None
    return RestingRing(_read_owner(path), path, last_ns, _is_closed(last), total_bytes)


def write_owner(path: Path, owner: Owner) -> None:
    """Let the ring's folder, which is made if need be, tell whose it is.

    Raises:
        OSError: it cannot be written.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    hidden = path / f".{_OWNER}"
    hidden.write_text(json.dumps(asdict(owner)), encoding="utf-8")
    hidden.chmod(0o600)
    hidden.rename(path / _OWNER)


def with_gap(gaps: Iterable[Gap], gap: Gap) -> tuple[Gap, ...]:
    """The gaps of a ring with one more, the earliest left out where there are too many."""
    return (*gaps, gap)[-_MOST_GAPS:]


def _is_closed(segment: Path) -> bool:
    try:
        return SegmentReader(segment).is_closed
    except SegmentError:
        return False


def _read_owner(path: Path) -> Owner:
    """Rings of a recorder that wrote no `point.json` are known by their folder alone."""
    try:
        body: dict[str, Any] = json.loads((path / _OWNER).read_bytes())
        return Owner(
            id=str(body["id"]),
            name=str(body["name"]),
            recording=str(body["recording"]),
            node=str(body["node"]),
            gaps=tuple(Gap(int(g["since_ns"]), int(g["until_ns"]), str(g["reason"])) for g in body["gaps"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        name = RecorderFolder.point_of(path)
        return Owner(name, name, "", "")
