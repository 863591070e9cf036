"""What a recorder that runs as root may change, where another user writes into the same volume."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from podcam.wrap.confinement import write_only_below

_NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="another user's links take root to make")


def _confined(folder: Path, code: str) -> object:
    """What `code` comes to, in a process that is held to the folder."""
    program = (
        "import json, os, sys\n"
        "from pathlib import Path\n"
        "from podcam.errors import PodcamError\n"
        "from podcam.wrap.capabilities import DAC_OVERRIDE, confine_to\n"
        "from podcam.wrap.confinement import write_only_below\n"
        "confine_to({DAC_OVERRIDE})\n"
        "folder = Path(sys.argv[1])\n"
        "try:\n    held = write_only_below(folder)\n"
        "except PodcamError as error:\n    print(json.dumps(str(error)))\n    sys.exit()\n"
        "def refused(function):\n"
        "    try:\n        function()\n"
        "    except PermissionError:\n        return True\n"
        "    return False\n"
        f"print(json.dumps([held, {code}]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True, timeout=30
    )
    told: object = json.loads(done.stdout)
    return told


def _held() -> bool:
    pid = os.fork()
    if pid == 0:
        os._exit(int(write_only_below(Path("/proc/self"))))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    if not _held():
        pytest.skip("the kernel has no Landlock of Linux 5.19")
    tmp_path.joinpath("others").mkdir()
    tmp_path.joinpath("others/precious").write_text("precious")
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    return volume


def _link(place: Path, target: Path) -> None:
    place.symlink_to(target)
    os.lchown(place, _NOBODY, _NOBODY)


def test_a_link_in_its_folder_leads_a_recorder_to_no_file_of_others(volume: Path) -> None:
    others = volume.parent / "others"
    _link(volume / "lock", others / "precious")
    _link(volume / "points", others)
    told = _confined(
        volume,
        "refused(lambda: os.open(folder / 'lock', os.O_RDWR)),"
        "refused(lambda: os.truncate(folder / 'lock', 0)),"
        "refused((folder / 'points' / 'new').mkdir),"
        "refused((folder / 'points' / 'precious').unlink)",
    )
    assert told == [True, True, True, True, True]
    assert [path.name for path in others.iterdir()] == ["precious"]
    assert (others / "precious").read_text() == "precious"


def test_in_its_folder_it_does_what_it_needs(volume: Path) -> None:
    told = _confined(
        volume / "new" / "folder",
        "(folder / 'ring').mkdir(),"
        "(folder / 'clip').mkdir(),"
        "(folder / 'ring' / 'a').write_text('abc'),"
        "(folder / 'clip' / 'a').hardlink_to(folder / 'ring' / 'a'),"
        "os.truncate(folder / 'ring' / 'a', 1),"
        "(folder / 'ring' / 'a').rename(folder / 'clip' / 'b').name,"
        "open(os.devnull, 'r+').close()",
    )
    assert told == [True, None, None, 3, None, None, "b", None]
    assert (volume / "new/folder/clip/a").read_text() == "a"


def test_another_users_link_on_the_way_to_its_folder_is_not_followed(volume: Path) -> None:
    _link(volume / "link", volume.parent / "others")
    assert "a link of user 65534" in str(_confined(volume / "link" / "podcam", "0"))
    assert not (volume.parent / "others/podcam").exists()


def test_roots_own_links_are_followed(volume: Path) -> None:
    (volume / "link").symlink_to("../others/..")
    assert _confined(volume / "link" / "podcam", "(folder / 'a').write_text('a')") == [True, 1]
    assert (volume.parent / "podcam/a").exists()


def test_an_app_of_another_user_cannot_have_its_recorder_write_elsewhere(volume: Path) -> None:
    precious = volume.parent / "others/precious"
    _link(volume / "lock", precious)
    _link(volume / ".status.json", precious)
    wrap = [sys.executable, "-m", "podcam", "wrap", "--user", "65534", "--dir", str(volume), "--required"]
    done = subprocess.run(
        [*wrap, "--", "true"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode != 0
    assert f"cannot open {volume}/lock" in done.stderr
    assert precious.read_text() == "precious"
