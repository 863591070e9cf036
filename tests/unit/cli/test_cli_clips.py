"""`podcam clips` and `podcam export`, on a recorder's folder made by hand."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from frames import ethernet, ipv4, tcp
from kernel_blocks import Sent, block
from podcam import cli
from podcam.cli import chosen
from podcam.clip import COMPLETE, ClipPart, ClipStore, Manifest, read_manifest, write_manifest
from podcam.model.point import Gap, Interface, Point, Window
from podcam.pcap import read_blocks
from podcam.ring import SegmentWriter, Source

NOW = 1_763_863_200_000_000_000  # 2025-11-23 02:00:00 UTC
POINT = Point("web-0", "node-a")
PACKET = ethernet(ipv4(tcp(51544, 5432), 6))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip of three packets, the last one behind the window."""
    window = Window(NOW - 60 * 10**9, NOW + 10 * 10**9)
    manifest = Manifest("", "web-0 was \x1b[31mreset", NOW, window)
    clip = ClipStore(tmp_path / "clips").create(manifest, "reset early")
    (clip.path / "web-0").mkdir()
    source = Source(POINT, "boot", 4096, (Interface(2, "eth0", 1),))
    writer = SegmentWriter(clip.path / "web-0", source, sequence=1, created_ns=NOW)
    times = (NOW, NOW + 1, NOW + 11 * 10**9)
    writer.append([block([Sent(time_ns, PACKET) for time_ns in times])], written_ns=NOW)
    writer.close(NOW)
    part = ClipPart(POINT, "web-0", (writer.path.name,), writer.totals)
    write_manifest(clip.path, Manifest(clip.manifest.id, manifest.reason, NOW, window, COMPLETE, (), (part,)))
    return clip.path


def test_the_list(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["clips", "--dir", str(clip.parents[1])]) == 0
    header, listed = capsys.readouterr().out.splitlines()
    assert header.split() == ["CLIP", "FROM", "(UTC)", "LENGTH", "SIZE", "STATE", "REASON"]
    assert listed.startswith("20251123-020000-reset-early  2025-11-23 01:59:00  70s     ")
    assert listed.endswith("  complete  web-0 was \\x1b[31mreset")


def test_a_narrow_terminal_cuts_nothing_of_the_list(
    clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.main(["clips", "--dir", str(clip.parents[1])]) == 0
    header, listed = capsys.readouterr().out.splitlines()
    assert header.endswith("  REASON")
    assert listed.endswith("  web-0 was \\x1b[31mreset")


def test_clips_with_gaps_say_so_and_exports_where(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = read_manifest(clip)
    gap = Gap(NOW - 10**9, NOW - 1, "the recorder was not \x1b[5mrunning")
    write_manifest(clip, replace(manifest, parts=(replace(manifest.parts[0], gaps=(gap,)),)))
    assert cli.main(["clips", "--dir", str(clip.parents[1])]) == 0
    assert "  complete gaps  web-0" in capsys.readouterr().out
    assert cli.main(["export", str(clip), "-o", str(clip.parent / "out.pcapng")]) == 0
    told = capsys.readouterr().err
    assert "podcam: nothing was recorded at web-0 from 2025-11-23 01:59:59.000 to 01:59:59.999 UTC" in told
    assert "\x1b" not in told


@pytest.mark.parametrize("verb", ["clip", "clips", "doctor", "record"])
def test_a_folder_without_a_name_is_not_the_one_that_the_user_is_in(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([verb, "--dir", ""]) == 2
    assert "argument --dir: the folder's name is empty" in capsys.readouterr().err


def test_no_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["clips", "--dir", str(tmp_path / "nowhere")]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"no clips in {tmp_path / 'nowhere' / 'clips'}\n")


def test_a_clip_that_cannot_be_read_is_not_passed_over_in_silence(
    clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clip / "manifest.json").write_text('{"schema": "podcam.clip/1"}')
    (clip.parent / "lost+found").mkdir()
    assert cli.main(["clips", "--dir", str(clip.parents[1])]) == 0
    assert capsys.readouterr().err == (
        f"podcam: not listed: {clip}/manifest.json is not a manifest of a clip: it has no 'id'\n"
        f"no clips in {clip.parent}\n"
    )


@pytest.mark.parametrize("spelling", ["id", "start of the id", "path"])
def test_pin_and_unpin(clip: Path, spelling: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = {"id": clip.name, "start of the id": "20251123", "path": str(clip)}[spelling]
    folder = ["--dir", str(clip.parents[1]), "--json"]
    for flag, pinned in (("--pin", True), ("--unpin", False)):
        assert cli.main(["clips", *folder, flag, name]) == 0
        [entry] = json.loads(capsys.readouterr().out)["clips"]
        assert entry["pinned"] is pinned
        assert entry["path"] == str(clip)
        assert entry["manifest"]["id"] == clip.name
        assert entry["bytes"] > 0


def test_no_name_is_the_name_of_no_clip(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["clips", "--dir", str(clip.parents[1]), "--unpin", ""]) == 1
    assert capsys.readouterr().err.startswith("podcam: '' is not a clip of ")


def test_a_clip_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["clips", "--dir", str(tmp_path), "--pin", "2020"]) == 1
    assert capsys.readouterr().err == (
        f"podcam: 2020 is not a clip of {tmp_path / 'clips'}: `podcam clips` lists them\n"
    )


def test_export(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.pcapng"
    assert cli.main(["export", str(clip), "-o", str(target)]) == 0
    assert capsys.readouterr().err == "2 packets written, 0 lost while recording\n"
    with target.open("rb") as file:
        assert sum(found.is_frame for found in read_blocks(file)) == 2


def test_export_to_a_pipe(clip: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    target = tmp_path / "out.pcapng"
    assert cli.main(["export", str(clip), "-o", str(target)]) == 0
    assert capfdbinary.readouterr().out == b""
    assert cli.main(["export", str(clip), "-o", "-"]) == 0
    assert capfdbinary.readouterr().out == target.read_bytes()


def test_no_export_takes_the_place_of_what_it_is_made_of(
    clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segment = next(clip.rglob("*.seg"))
    before = segment.read_bytes()
    assert cli.main(["export", str(segment), "-o", str(segment)]) == 2
    assert cli.main(["export", str(clip), "-o", str(segment)]) == 2
    manifest = (clip / "manifest.json").read_bytes()
    assert cli.main(["export", str(clip), "-o", str(clip / "manifest.json")]) == 2
    assert (clip / "manifest.json").read_bytes() == manifest
    assert "name another file with -o" in capsys.readouterr().err
    assert segment.read_bytes() == before


def test_what_cannot_be_exported(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", str(tmp_path / "nowhere"), "-o", str(tmp_path / "out")]) == 1
    assert cli.main(["export", str(clip), "-o", str(tmp_path / "nowhere" / "out")]) == 1
    assert cli.main(["export", str(clip)]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[0] == f"podcam: cannot read {tmp_path / 'nowhere'}: No such file or directory"
    assert err[1] == f"podcam: cannot write {tmp_path / 'nowhere' / 'out'}: No such file or directory"
    assert err[2] == "podcam: the following arguments are required: -o/--output (try: podcam export --help)"


@pytest.fixture
def default_folder(clip: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The clip lies where `podcam record` puts it without `--dir`, and the user is somewhere else."""
    monkeypatch.setattr(chosen, "default_folder", lambda: clip.parents[1])
    monkeypatch.chdir(clip.parents[1])
    return clip.parents[1]


@pytest.mark.parametrize("name", ["20251123-020000-reset-early", "20251123"])
def test_a_clip_by_the_id_that_the_list_shows(
    name: str, default_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", name, "-o", str(default_folder / "out.pcapng")]) == 0
    assert cli.main(["diagnose", "--json", name]) == 0
    assert json.loads(capsys.readouterr().out)["summary"]["packets"] == 2


def test_a_file_goes_before_a_clip_of_its_name(default_folder: Path) -> None:
    (default_folder / "20251123").touch()
    assert chosen.capture("20251123") == Path("20251123")


def test_a_name_of_nothing(default_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["diagnose"], ["export", "-o", "out"]):
        assert cli.main([*verb, "proxy.pcap"]) == 1
        assert capsys.readouterr().err == (
            "podcam: there is no proxy.pcap here, and proxy.pcap is not a clip of "
            f"{default_folder / 'clips'}: `podcam clips` lists them\n"
        )
        assert cli.main([*verb, ""]) == 2
        assert "is empty" in capsys.readouterr().err


def test_a_clip_without_a_packet(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = read_manifest(clip)
    write_manifest(clip, replace(manifest, parts=()))
    assert cli.main(["export", str(clip), "-o", str(tmp_path / "out.pcapng")]) == 0
    assert capsys.readouterr().err == "0 packets written, 0 lost while recording\n"
