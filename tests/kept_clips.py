"""The clips of a running recorder, and what tshark shows of them."""

import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from podcam.clip import Clip, ClipStore, export, open_clip, open_packets
from recorders import RunningRecorder, told


def completed(recorder: RunningRecorder, number: int = 1, timeout_s: float = 30) -> Clip:
    """The clip that was completed as the `number`th."""
    recorder.wait_for(partial(told, recorder, "complete", number), timeout_s)
    return open_clip(Path(recorder.of_kind("complete")[number - 1]["path"]))


def clips_of(folder: Path) -> list[Clip]:
    return ClipStore(folder / "clips").clips()


def shown(capture: Path, display_filter: str, *fields: str) -> list[list[str]]:
    """What tshark shows of a file."""
    if shutil.which("tshark") is None:
        pytest.skip("tshark is missing: apt-get install tshark")
    command = ["tshark", "-r", str(capture), "-Y", display_filter, "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


def exported(clip: Clip, to: Path) -> Path:
    export(open_packets(clip.path), to)
    return to
