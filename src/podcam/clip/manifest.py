"""The manifest of a clip: what was kept, when, why, and from where. `docs/clips.md` describes the JSON."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from podcam import __version__
from podcam.errors import ClipError, SegmentError
from podcam.model.failure import Failure, ServerCounts, counts_from_json, failure_from_json
from podcam.model.point import Gap, Interface, Point, Window, gap_from_json
from podcam.ring import Totals, sync

SCHEMA: Final = "podcam.clip/1"
MANIFEST: Final = "manifest.json"

_LONGEST_NAME: Final = 600
"""More than Kubernetes allows for a namespace, a name and their kind, or DNS for a name."""

OPEN: Final = "open"
"""The window lies open, or its segments are still being kept."""
COMPLETE: Final = "complete"


@dataclass(frozen=True, slots=True)
class ClipPart:
    """What a clip holds of one point."""

    point: Point
    folder: str
    """Relative to the clip's."""
    segments: tuple[str, ...]
    """File names, in the order in which they were recorded."""
    totals: Totals
    """Of the segments, which reach beyond the window."""
    how: str = "link"
    """`link` or `copy`"""
    interfaces: tuple[Interface, ...] = ()
    filter: Mapping[str, Any] | None = None
    comparisons: tuple[Window, ...] = ()
    """Where good connections lie that were kept beside the window, to compare with."""
    servers: tuple[ServerCounts, ...] = ()
    """What became of the connections to each server since the detector began."""
    warnings: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    """Where nothing was recorded within its windows, in the order of time."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A clip as its folder describes it."""

    id: str
    reason: str
    """A sentence for people: what failed first, or what a person gave."""
    created_ns: int
    window: Window
    state: str = OPEN
    triggers: tuple[Failure, ...] = ()
    parts: tuple[ClipPart, ...] = ()
    warnings: tuple[str, ...] = ()
    podcam: str = __version__
    recording: str | None = None
    """What was recorded, as the recorder names it; None on a machine with one recording."""
    points: tuple[str, ...] | None = None
    """The ids of the points that were asked for; None for all of the recording."""
    interrupted: bool = False
    """Whether its recorder ended before its window did: its end may be missing."""
    names: Mapping[str, str] = field(default_factory=dict)
    """By address, what people call who has it: "pod default/web-7d", "service default/db", a host's name."""

    def windows_of(self, part: ClipPart) -> tuple[Window, ...]:
        """The stretches of time whose packets belong to the clip; its segments hold more."""
        return (self.window, *part.comparisons)

    def to_json(self) -> dict[str, Any]:
        """As `manifest.json` has it."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Manifest":
        """Reads what `to_json` gave, after its way through JSON.

        Raises:
            KeyError, TypeError, ValueError: the object is not a manifest.
        """
        if body["schema"] != SCHEMA:
            raise ValueError(f"its schema is {body['schema']}, not {SCHEMA}")
        return cls(
            id=body["id"],
            reason=body["reason"],
            created_ns=body["created_ns"],
            window=Window(**body["window"]),
            state=body["state"],
            triggers=tuple(map(failure_from_json, body["triggers"])),
            parts=tuple(map(_part, body["parts"])),
            warnings=tuple(body["warnings"]),
            podcam=body["podcam"],
            recording=None if body.get("recording") is None else str(body["recording"]),
            points=None if body.get("points") is None else tuple(map(str, body["points"])),
            interrupted=bool(body.get("interrupted")),
            names={str(ip_address(address)): _name(name) for address, name in body.get("names", {}).items()},
        )


def _part(body: Mapping[str, Any]) -> ClipPart:
    return ClipPart(
        point=Point(**body["point"]),
        folder=_plain(body["folder"]),
        segments=tuple(map(_plain, body["segments"])),
        totals=Totals(**body["totals"]),
        how=body["how"],
        interfaces=tuple(Interface(**interface) for interface in body["interfaces"]),
        filter=body["filter"],
        comparisons=tuple(Window(**window) for window in body["comparisons"]),
        servers=tuple(map(counts_from_json, body["servers"])),
        warnings=tuple(body["warnings"]),
        gaps=tuple(map(gap_from_json, body.get("gaps", ()))),
    )


def _name(name: object) -> str:
    """What somebody may be called in every format that carries names."""
    return str(name).encode(errors="replace").decode().replace("\0", " ")[:_LONGEST_NAME]


def _plain(name: str) -> str:
    """A clip may come from somebody else: what it names lies within it."""
    if name != Path(name).name or name == "..":
        raise ValueError(f"{name!r} is no plain name")
    return name


def read_manifest(clip: Path) -> Manifest:
    """The manifest of a clip's folder.

    Raises:
        ClipError: there is none, or it cannot be read.
    """
    path = clip / MANIFEST
    try:
        return Manifest.from_json(json.loads(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        raise ClipError(f"{clip} is not a clip: it has no {MANIFEST}") from None
    except OSError as error:
        raise ClipError(f"cannot read {path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ClipError(f"{path} is not a manifest of a clip: {why}") from error


def write_manifest(clip: Path, manifest: Manifest) -> None:
    """Replaces the manifest of a clip's folder, so that a reader sees the old or the new one whole.

    Raises:
        ClipError: it cannot be written.
    """
    hidden = clip / f".{MANIFEST}"
    try:
        with os.fdopen(
            os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w"
        ) as file:
            json.dump(manifest.to_json(), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        hidden.rename(clip / MANIFEST)
        sync([clip])
    except OSError as error:
        raise ClipError(f"cannot write the manifest of {clip}: {error.strerror}") from error
    except SegmentError as error:
        raise ClipError(str(error)) from error
