"""The Makefile explains itself."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_EXPLAINED = re.compile(r"^([^\s:#]+):.*  ## (.+)$", re.MULTILINE)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not on the PATH: apt-get install make")
def test_the_list_has_every_target_that_is_explained() -> None:
    told = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = [line.split(maxsplit=2)[1:] for line in told.splitlines() if line.startswith("  make ")]
    explained = [list(each) for each in _EXPLAINED.findall((ROOT / "Makefile").read_text())]
    assert listed == explained
    assert "e2e" in dict(explained)
