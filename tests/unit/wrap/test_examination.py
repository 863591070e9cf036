import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from podcam.cli import main
from podcam.wrap import examination
from podcam.wrap.examination import examine


def test_every_remedy_belongs_to_a_finding_and_says_something(tmp_path: Path) -> None:
    findings = {each.subject: each for each in examine(tmp_path / "not" / "yet")}
    assert findings["hard links"].remedy is None
    assert str(tmp_path) in findings["folder"].found
    assert not list(tmp_path.iterdir()), "looking leaves nothing behind"
    assert all(each.found for each in findings.values())


def test_a_user_without_rights_is_told_every_way_and_why_it_does_not_work() -> None:
    command = ["setpriv", "--reuid", "65534", "--clear-groups", "--bounding-set", "-net_raw"]
    asked = [*command, sys.executable, "-m", "podcam", "doctor", "--json", "--dir", "/proc/podcam"]
    try:
        ended = subprocess.run(asked, capture_output=True, check=False, timeout=60, cwd="/")
    except FileNotFoundError:
        pytest.skip("needs setpriv (util-linux)")
    if b"setpriv" in ended.stderr or b"Permission denied" in ended.stderr:
        pytest.skip("takes root, and a Python that everybody may run")
    assert ended.returncode == 1, ended.stderr
    findings = {each["subject"]: each for each in json.loads(ended.stdout)["findings"]}
    assert "may not be written" in findings["folder"]["found"]
    assert "--dir" in findings["folder"]["remedy"]
    for way in ("root", "file", "sudo"):
        assert findings[f"way: {way}"]["remedy"]


def test_what_is_not_installed_is_got_from_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "_ANALYSIS", ("podcam_has_no_such_package",))
    finding = examination._analysis()
    assert finding.found == "not installed: podcam_has_no_such_package"
    assert "`pip install .`" in (finding.remedy or "")


def test_a_folder_that_may_not_be_written_is_to_be_named_by_its_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: mode == os.F_OK)
    (finding,) = examination._folder(tmp_path)
    assert finding.found.endswith(f"{tmp_path} may not be written")
    assert finding.remedy == "name the folder that is recorded into, or one of your own, with --dir"


def test_doctor_prints_a_line_per_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--dir", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok    hard links") for line in lines)
