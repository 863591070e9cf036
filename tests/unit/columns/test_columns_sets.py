"""Which kernels are used when, and where compiled ones are kept."""

import subprocess
import sys
from pathlib import Path

import pytest

from podcam.columns import open_captures
from podcam.columns.sets import cache_folder, compiled
from traces import wild, write_pcap


def test_small_captures_need_no_compiler(tmp_path: Path) -> None:
    path = write_pcap(tmp_path / "a.pcap", wild(1, 100))
    program = (
        "import sys; from podcam.columns import open_captures; "
        f"open_captures([{str(path)!r}])[0].conversation(0); sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_large_captures_are_read_by_compiled_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packets = wild(1, 200)
    monkeypatch.setattr("podcam.columns.analyser.PLAIN_PACKETS", 50)
    (large,) = open_captures([write_pcap(tmp_path / "a.pcap", packets)])
    (small,) = open_captures([write_pcap(tmp_path / "b.pcap", packets[:49])])
    assert (large.kernels.compiled, small.kernels.compiled) == (True, False)


def test_cache_folder_is_where_caches_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = cache_folder.__wrapped__()
    assert folder is not None
    assert folder.is_relative_to(tmp_path)


def test_no_cache_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    assert cache_folder.__wrapped__() is None


def test_compiling_leaves_numba_as_it_was() -> None:
    import numba  # noqa: PLC0415

    before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    compiled.__wrapped__()
    assert before == numba.config.CACHE_DIR  # type: ignore[attr-defined]
