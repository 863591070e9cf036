import os
import subprocess
import sys
from pathlib import Path

import pytest

from podcam.errors import PodcamError, RightsError, UsageError
from podcam.recorder.control import ControlServer, ask_recorder
from podcam.recorder.folder import RecorderFolder


def test_the_folders_are_their_owners_alone(tmp_path: Path) -> None:
    folder = RecorderFolder(tmp_path / "podcam")
    folder.create()
    for path in (folder.path, folder.points, folder.clips):
        assert path.stat().st_mode & 0o777 == 0o700


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--dir"):
        RecorderFolder(tmp_path / "file").create()
    with pytest.raises(UsageError, match="--dir"):
        RecorderFolder(tmp_path / "file" / "below").create()


def test_only_one_recorder_has_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podcam.recorder.folder._LOCK_PATIENCE_SECONDS", 0.0)
    folder = RecorderFolder(tmp_path)
    descriptor = folder.lock()
    with pytest.raises(PodcamError, match=f"process {os.getpid()}"):
        folder.lock()
    os.close(descriptor)
    os.close(folder.lock())


def test_a_lock_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(RightsError, match="--dir"):
        RecorderFolder(tmp_path).lock()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a small file system")
def test_a_full_disk_is_told_at_the_start(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "other").write_bytes(bytes(1 << 20))
        with pytest.raises(PodcamError, match="lock: No space left on device: make room there"):
            RecorderFolder(tmp_path).lock()
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


@pytest.mark.parametrize("name", ["host", "pod/../x", "..", ".hidden", "ä b", "a%2Fb"])
def test_a_point_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    ring = RecorderFolder(tmp_path).ring(name)
    assert ring.parent == tmp_path / "points"
    assert not ring.name.startswith(".")


def test_points_with_alike_names_have_rings_of_their_own(tmp_path: Path) -> None:
    folder = RecorderFolder(tmp_path)
    assert len({folder.ring(name) for name in ("a/b", "a%2Fb", "a_b", "a-b")}) == 4


def test_a_request_is_answered_however_long_the_path_is(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    server = ControlServer(folder)
    ask = (
        "import sys; from pathlib import Path; from podcam.recorder.control import ask_recorder;"
        "print(ask_recorder(Path(sys.argv[1]), {'verb': 'clip'}))"
    )
    with subprocess.Popen([sys.executable, "-c", ask, folder], stdout=subprocess.PIPE, text=True) as client:
        connection = None
        while connection is None:
            assert client.poll() is None
            connection = server.accept()
        request = None
        while request is None:
            request = connection.request()
        connection.answer({"clip": "here"})
        out, _ = client.communicate(timeout=20)
    assert request == {"verb": "clip"}
    assert out == "{'clip': 'here'}\n"
    connection.close()
    server.close()


def test_no_recorder_is_told_from_a_silent_one(tmp_path: Path) -> None:
    assert ask_recorder(tmp_path, {"verb": "clip"}) is None
    server = ControlServer(tmp_path)
    server.close()
    assert ask_recorder(tmp_path, {"verb": "clip"}) is None
