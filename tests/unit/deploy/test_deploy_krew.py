"""What a release holds for krew, taken apart as krew does it."""

import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import podcam

_REPOSITORY = Path(__file__).parents[3]
_HOME = "https://podcam.example"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _made(tmp_path_factory.mktemp("release"))


def _made(folder: Path) -> Path:
    subprocess.run([_REPOSITORY / "scripts" / "krew-archive", _HOME, folder], check=True, timeout=60)
    return folder


def _platform(release: Path) -> dict[str, Any]:
    (platform,) = yaml.safe_load((release / "podcam.yaml").read_text())["spec"]["platforms"]
    assert isinstance(platform, dict)
    return platform


def _archive(release: Path) -> Path:
    return release / Path(_platform(release)["uri"]).name


def test_the_manifest_describes_the_archive(release: Path) -> None:
    manifest = yaml.safe_load((release / "podcam.yaml").read_text())
    platform = _platform(release)
    assert (manifest["metadata"]["name"], manifest["spec"]["homepage"]) == ("podcam", _HOME)
    assert manifest["spec"]["version"] == f"v{podcam.__version__}"
    assert platform["uri"].startswith(f"{_HOME}/releases/download/v{podcam.__version__}/")
    assert platform["sha256"] == hashlib.sha256(_archive(release).read_bytes()).hexdigest()
    rules = {
        rule["key"]: (rule["operator"], rule["values"]) for rule in platform["selector"]["matchExpressions"]
    }
    assert rules == {"os": ("In", ["linux", "darwin"]), "arch": ("In", ["amd64", "arm64"])}
    assert platform["files"] == [{"from": "*", "to": "."}]


def test_the_same_files_make_the_same_archive(release: Path, tmp_path: Path) -> None:
    assert _archive(_made(tmp_path)).read_bytes() == _archive(release).read_bytes()


def test_what_is_unpacked_runs_through_krews_link(release: Path, tmp_path: Path) -> None:
    store, links = tmp_path / "store", tmp_path / "bin"
    with tarfile.open(_archive(release)) as archive:
        assert not [name for name in archive.getnames() if "__pycache__" in name]
        archive.extractall(store, filter="data")
    links.mkdir()
    plugin = links / "kubectl-podcam"
    plugin.symlink_to(store / _platform(release)["bin"])

    environment = {**os.environ, "PODCAM_PYTHON": sys.executable}
    where = "import podcam, sys; sys.stdout.write(podcam.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", where],
        env={"PYTHONPATH": str(store)},
        capture_output=True,
        text=True,
        check=True,
    )
    done = subprocess.run(
        [plugin, "--help"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )

    assert found.stdout == str(store / "podcam" / "__init__.py")
    assert done.stdout.startswith("usage: kubectl podcam VERB"), done.stderr
    assert (store / "podcam" / "deploy" / "base" / "kustomization.yaml").exists()
    pinned = (store / "requirements.txt").read_text()
    assert pinned == (_REPOSITORY / "requirements" / "run.txt").read_text()


def test_the_plugin_needs_nothing_that_only_linux_has() -> None:
    verbs = "from podcam.cli.kubectl import VERBS; import importlib"
    each = "[importlib.import_module('podcam.cli.kubectl.' + verb) for verb in VERBS]"
    rooms = "import sys; print(*[name for name in sys.modules if name.startswith('podcam.capture')])"
    done = subprocess.run(
        [sys.executable, "-c", f"{verbs}; {each}; {rooms}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
