"""`podcam clips`: list, pin and unpin the clips that were kept."""

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from podcam.cli.arguments import default_folder, folder, format_size
from podcam.clip import Clip, ClipStore, pin
from podcam.model.text import printable
from podcam.recorder.folder import RecorderFolder

_EXAMPLES = """\
examples:
  podcam clips                                      # the oldest first
  podcam clips --pin 20251123-0214                  # keep it whatever the budget for clips says
  podcam clips --json | jq -r '.clips[-1].path'     # where the latest lies
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.description = "List the clips that a recorder kept, or pin some so that they are never removed."
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "--dir", type=folder, metavar="DIR", help=f"the recorder's folder (default: {default_folder()})"
    )
    parser.add_argument(
        "--pin",
        action="append",
        default=[],
        metavar="CLIP",
        help="keep it whatever the budget says: an id, the start of one, or a path; repeatable",
    )
    parser.add_argument(
        "--unpin", action="append", default=[], metavar="CLIP", help="let it go with the others; repeatable"
    )
    parser.add_argument("--json", action="store_true", help="all that the manifests say, for machines")


def run(args: argparse.Namespace) -> int:
    """Pin and unpin, then list."""
    store = ClipStore(RecorderFolder(args.dir or default_folder()).clips)
    for name in args.pin:
        pin(store.find(name).path)
    for name in args.unpin:
        pin(store.find(name).path, pinned=False)
    clips = store.clips()
    for problem in store.unreadable():
        print(f"podcam: not listed: {printable(problem)}", file=sys.stderr)
    if args.json:
        print(json.dumps({"schema": "podcam.clips/1", "clips": [_entry(clip) for clip in clips]}, indent=1))
    elif clips:
        _print_table(clips)
        print(f"\nin {store.folder}", file=sys.stderr)
    else:
        print(f"no clips in {store.folder}", file=sys.stderr)
    return 0


def _entry(clip: Clip) -> dict[str, object]:
    return {
        "path": str(clip.path),
        "pinned": clip.pinned,
        "bytes": clip.bytes,
        "manifest": clip.manifest.to_json(),
    }


def _state(clip: Clip) -> Iterator[str]:
    yield clip.manifest.state
    if clip.pinned:
        yield "pinned"
    if any(part.gaps for part in clip.manifest.parts):
        yield "gaps"  # which ones, podcam diagnose and podcam export tell


def _print_table(clips: list[Clip]) -> None:
    rows = [
        (
            clip.manifest.id,
            datetime.fromtimestamp(clip.manifest.window.start_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            f"{(clip.manifest.window.end_ns - clip.manifest.window.start_ns) / 1e9:.0f}s",
            format_size(clip.bytes),
            " ".join(_state(clip)),
            printable(clip.manifest.reason),
        )
        for clip in clips
    ]
    rows.insert(0, ("CLIP", "FROM (UTC)", "LENGTH", "SIZE", "STATE", "REASON"))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:5], widths, strict=True)]
        print("  ".join([*cells, row[5]]).rstrip())
