from pathlib import Path

import pytest

from podcam.errors import UsageError
from podcam.wrap.bundle import make_bundle


def test_a_folder_with_a_python_of_its_own_is_left_alone(tmp_path: Path) -> None:
    python = tmp_path / "bin/python3"
    python.parent.mkdir()
    python.write_text("somebody else's")
    with pytest.raises(UsageError, match="has a Python of its own"):
        make_bundle(tmp_path)
    assert python.read_text() == "somebody else's"
    assert [each.name for each in tmp_path.iterdir()] == ["bin"]
