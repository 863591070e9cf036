"""What an export says of what a clip does not hold, and of whom its addresses belong to."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kernel_blocks import block
from podcam.clip import Manifest, export, open_packets, read_manifest, write_manifest
from podcam.clip.missing import first_packets_missing, gap_sentence
from podcam.columns import open_captures
from podcam.errors import ClipError, UsageError
from podcam.model.point import Gap, Point, Window
from podcam.ring import Ring, Source
from recorded_clips import EVER, INTERFACES, NOW, SECOND, at, clip_of, recorded, run, tshark

MS = 1_000_000
OUT = "the recorder was not running"
GAP = Gap(NOW + SECOND, NOW + 3 * SECOND - 800 * MS, OUT)
TOLD = "nothing was recorded at a from 2023-11-14 22:13:21.000 to 22:13:22.200 UTC (1.2 s): " + OUT


def changed(clip: Path, **changes: object) -> Path:
    write_manifest(clip, replace(read_manifest(clip), **changes))  # type: ignore[arg-type]
    return clip


def test_the_first_packet_behind_a_gap_says_so(tmp_path: Path) -> None:
    part = replace(recorded(tmp_path, "a", *at(1, 3, 4)), gaps=(GAP,))
    other = recorded(tmp_path, "b", *at(2.5, 3))
    clip = clip_of(tmp_path, part, other)
    target = tmp_path / "out.pcapng"
    exported = export(open_packets(clip), target, comments={4: ["proof"]})
    assert exported.warnings == (TOLD,)
    assert tshark(target, "frame.interface_name", "frame.comment") == [
        ["a/eth0", ""],
        ["b/eth0", ""],
        ["a/eth0", f"Podcam: {TOLD}"],
        ["b/eth0", "proof"],
        ["a/eth0", ""],
    ]


def test_gaps_in_a_row_are_told_together_and_those_without_a_packet_behind_only_once(tmp_path: Path) -> None:
    gaps = (
        Gap(NOW + 5 * SECOND, NOW + 6 * SECOND, OUT),
        GAP,
        Gap(NOW + 3 * SECOND, NOW + 3 * SECOND, "again"),
    )
    clip = clip_of(tmp_path, replace(recorded(tmp_path, "a", *at(1, 4)), gaps=gaps))
    target = tmp_path / "out.pcapng"
    assert len(export(open_packets(clip), target).warnings) == 3
    (before, behind) = tshark(target, "frame.comment")
    assert before == [""]
    assert behind[0].startswith(f"Podcam: {TOLD},Podcam: nothing was recorded at a from")
    assert behind[0].endswith("(0 ms): again")


def test_a_recorder_that_ended_too_early_is_told_once(tmp_path: Path) -> None:
    clip = clip_of(tmp_path, recorded(tmp_path, "a", *at(1)), recorded(tmp_path, "b", *at(2)))
    assert export(open_packets(clip), tmp_path / "out.pcapng").warnings == ()
    told = ("the recorder ended before the clip's window did: the clip's end may be missing",)
    changed(clip, interrupted=True)
    assert export(open_packets(clip), tmp_path / "out.pcapng").warnings == told
    assert open_captures([clip])[0].summary.warnings == told


def test_pods_and_services_are_in_the_export_under_their_names(tmp_path: Path) -> None:
    names = {"192.0.2.1": "pod shop/web-7d", "192.0.2.2": "service shop/db", "2001:db8::1": "db.example"}
    clip = changed(clip_of(tmp_path, recorded(tmp_path, "a", *at(1))), names=names)
    assert open_packets(clip).names == names
    target = tmp_path / "out.pcapng"
    export(open_packets(clip), target)
    fields = ("-T", "fields", "-e", "ip.src_host", "-e", "ip.dst_host")
    assert run("tshark", "-N", "n", "-r", str(target), *fields) == "pod shop/web-7d\tservice shop/db\n"


def test_a_ring_tells_its_gaps_without_a_manifest(tmp_path: Path) -> None:
    source = Source(Point("a", "node-a"), "boot", 4096, INTERFACES)
    ring = Ring(tmp_path / "a", source, limit_bytes=1_000_000, segment_bytes=10_000, now_ns=NOW)
    ring.append([block(at(1))], now_ns=NOW)
    ring.note("gap", {"reason": OUT, "since_ns": GAP.since_ns, "until_ns": GAP.until_ns}, NOW)
    ring.note("gap", {"reason": "the writer ended: killed by signal 9"}, NOW)
    ring.note("gap", {"reason": OUT, "since_ns": "never", "until_ns": 7}, NOW)
    ring.append([block(at(3))], now_ns=NOW)
    ring.close(NOW)
    target = tmp_path / "out.pcapng"
    assert export(open_packets(tmp_path / "a"), target).warnings == (TOLD,)
    assert tshark(target, "frame.comment") == [[""], [f"Podcam: {TOLD}"]]
    capture = open_captures([tmp_path / "a"])[0]
    assert capture.summary.warnings == (TOLD,)
    assert capture.losses(0).gaps == (GAP,)


def test_text_of_strangers_cannot_steer_the_terminal_of_another_tool(tmp_path: Path) -> None:
    evil = "\x1b[2J\x07 pod"
    part = replace(recorded(tmp_path, "a", *at(1, 4)), gaps=(replace(GAP, reason=evil),), warnings=(evil,))
    clip = changed(clip_of(tmp_path, part), names={"192.0.2.1": evil}, reason=evil)
    target = tmp_path / "out.pcapng"
    export(open_packets(clip), target)
    assert b"\x1b[2J" not in target.read_bytes()
    assert b"\\x1b[2J" in target.read_bytes()


def test_names_of_followed_hosts_stand_where_nothing_better_is_known(tmp_path: Path) -> None:
    clip = clip_of(tmp_path, recorded(tmp_path, "a", *at(1)))
    assert open_packets(clip).names == {"192.0.2.2": "db.example"}
    assert open_packets(changed(clip, names={"192.0.2.2": "service shop/db"})).names == {
        "192.0.2.2": "service shop/db"
    }


@pytest.mark.parametrize("wrong", [{"names": {"not an address": "x"}}, {"names": 7}])
def test_a_manifest_of_somebody_else_is_checked(wrong: dict[str, object]) -> None:
    body = Manifest("c", "why", NOW, EVER).to_json() | wrong
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
        Manifest.from_json(body)


def test_names_that_would_break_a_file_are_mended() -> None:
    body = Manifest("c", "why", NOW, EVER).to_json() | {"names": {"192.0.2.1": "a\0b\ud800" + "x" * 70_000}}
    (name,) = Manifest.from_json(body).names.values()
    assert name.startswith("a b?xxx")
    assert len(name) < 1_000


def test_manifests_of_older_versions_have_neither(tmp_path: Path) -> None:
    clip = clip_of(tmp_path, recorded(tmp_path, "a", *at(1)))
    body = read_manifest(clip).to_json()
    for field in ("names", "recording"):
        del body[field]
    del body["parts"][0]["gaps"]
    (clip / "manifest.json").write_text(json.dumps(body))
    read = read_manifest(clip)
    assert (read.names, read.recording, read.parts[0].gaps) == ({}, None, ())


LEARNED = {"name": "db.example", "address": "192.0.2.9", "learned_ns": NOW, "swapped_ns": NOW + 2_100_000}


def test_first_packets_that_the_filter_was_too_late_for(tmp_path: Path) -> None:
    part = recorded(tmp_path, "a", *at(1))
    followed = {"follows_names": True, "learned": [LEARNED]}
    clip = clip_of(tmp_path, replace(part, filter=followed))
    (warning,) = export(open_packets(clip), tmp_path / "out.pcapng").warnings
    assert warning == (
        "first packets of connections to 192.0.2.9 may be missing at a: "
        "db.example moved there at 2023-11-14 22:13:20.000 UTC, the filter 2.1 ms later"
    )
    before = Window(NOW - 9 * SECOND, NOW - 5 * SECOND)
    assert (
        open_packets(clip_of(tmp_path, replace(part, filter=followed), window=before)).parts[0].problems == []
    )
    ports = {"follows_names": False, "learned": [LEARNED]}
    assert list(first_packets_missing("a", ports, [])) == []


def test_many_moves_are_counted() -> None:
    moves = [LEARNED | {"address": f"192.0.2.{n}"} for n in range(30)]
    told = list(first_packets_missing("a", {"follows_names": True, "learned": moves}, []))
    assert len(told) == 11
    assert told[-1] == "first packets of connections to 20 more addresses may be missing at a"


@pytest.mark.parametrize("learned", [None, [7], [{}], [{"learned_ns": "x", "swapped_ns": 1}]])
def test_a_filter_of_somebody_else_tells_nothing(learned: object) -> None:
    assert list(first_packets_missing("a", {"follows_names": True, "learned": learned}, [])) == []


@pytest.mark.parametrize("gap", [Gap(-(10**30), 10**30, "x"), Gap(5, 1, "x")])
def test_a_gap_of_somebody_else_can_be_told(gap: Gap) -> None:
    assert gap_sentence("a", gap).startswith("nothing was recorded at a from 1970-01-01")


def test_a_segment_is_not_overwritten_by_its_own_export(tmp_path: Path) -> None:
    part = recorded(tmp_path, "a", *at(1))
    segment = tmp_path / "a" / part.segments[0]
    alias = tmp_path / "alias"
    alias.symlink_to(segment)
    before = segment.read_bytes()
    for source, target in ((segment, segment), (segment, alias), (tmp_path / "a", segment)):
        with pytest.raises(UsageError, match="name another file"):
            export(open_packets(source), target)
    assert segment.read_bytes() == before
    with pytest.raises(ClipError):
        export(open_packets(segment), tmp_path)
