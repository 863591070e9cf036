"""The report as it stands on a terminal, to the column."""

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from conversations import (
    CLIENT,
    OK,
    PROBE,
    RST_ACK,
    SERVER,
    START_NS,
    SYN,
    Talk,
    diagnosis,
    good,
    opened,
    reset_in_startup,
    row,
    startup,
    startup_reset_verdict,
)
from podcam.errors import UsageError
from podcam.model.diagnosis import Diagnosis
from podcam.model.failure import ServerCounts
from podcam.model.point import Endpoint, Gap
from podcam.model.verdict import FailureClass
from podcam.report import TerminalReport, console

GOOD = good(Talk(id=16, first_frame=92, client_end=Endpoint("10.1.2.3", 51542)))
FAILED = reset_in_startup(Talk(id=17, first_frame=110, start_ns=START_NS + 1_204_000_000))
TALKS = {talk.id: talk for talk in (GOOD, FAILED)}
STORY = diagnosis(row(GOOD, OK), row(FAILED, startup_reset_verdict(FAILED)), comparisons={17: 16})


def printed(
    what: Diagnosis = STORY,
    width: int = 100,
    *,
    talks: dict[int, Talk] | None = None,
    streams: tuple[int, ...] = (),
    counts: tuple[tuple[str, ServerCounts], ...] = (),
    colour: bool = False,
    **naming: Any,
) -> str:
    out = io.StringIO()
    target = Console(
        file=out,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
    )
    known = TALKS if talks is None else talks
    TerminalReport(what, lambda number: known[number].conversation(), counts, **naming).print(target, streams)
    return out.getvalue()


def test_side_by_side() -> None:
    assert (
        printed(width=100)
        == """\
proxy.pcap  4,812 packets, 2025-11-23 02:00:00.000 to 02:01:00.000 UTC (1 min), recorded at web-0

1 of 2 connections failed (50 %), at 2025-11-23 02:00:01.205 UTC
The others: 1 ok

━━ reset-during-startup ━━ 1 of 2 connections to db.example (10.0.0.5:5432) ━━━━━━━━━━━━━━━━━━━━━━━━
02:00:01.205  10.1.2.3:51544  fault server, phase startup
  The server acknowledged the StartupMessage (53 bytes) and reset the connection 1.8 ms later,
  without sending a byte.

✗ 10.1.2.3:51544, stream 17                          ✓ 10.1.2.3:51542, stream 16, 1.20 s earlier
    frame     ms  client                db.example   frame     ms  client                db.example
      110  0.000  ├──────────── SYN ────────────▶│      92  0.000  ├──────────── SYN ────────────▶│
      111  0.020  │◀───────── SYN, ACK ──────────┤      93  0.020  │◀───────── SYN, ACK ──────────┤
      112  0.040  ├──────────── ACK ────────────▶│      94  0.040  ├──────────── ACK ────────────▶│
1 ▸   113  0.122  ├─── StartupMessage, 53 B ────▶│      95  0.130  ├─── StartupMessage, 53 B ────▶│
2 ▸   114  0.142  │◀──────────── ACK ────────────┤      96  0.150  │◀──────────── ACK ────────────┤
┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄ here they part ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄
3 ▸   115  1.942  ✗◀───────── RST, ACK ──────────┤      97  0.750  │◀──── AuthenticationSASL ─────┤
                                                        98  0.950  ├─── PasswordMessage, 65 B ───▶│
                                                        99  1.450  │◀───── AuthSASLContinue ──────┤
                                                       100  5.550  ├─── PasswordMessage, 65 B ───▶│
                                                       101  6.850  │◀────── … ReadyForQuery ──────┤
                                                       102  7.000  ├──────── Query, 14 B ────────▶│
                                                       103  7.400  │◀──── ReadyForQuery, 70 B ────┤
                                                       104  7.500  ├────── Terminate, 5 B ───────▶│
                                                       105  7.510  ├───────── FIN, ACK ──────────▶│
                                                       106  7.610  │◀───────── FIN, ACK ──────────┤
                                                       107  7.630  ├──────────── ACK ────────────▶│

1 ▸ frame 113  StartupMessage, 53 bytes
2 ▸ frame 114  the server acknowledges it
3 ▸ frame 115  the server resets
The packets cannot tell apart:
  · a proxy or load balancer in front of the server
  · the server ran into its start-up timeout or was told to stop
Wireshark: tcp.stream in {16, 17}
"""
    )


def test_one_below_the_other() -> None:
    assert """\
✗ 10.1.2.3:51544, stream 17
    frame     ms  client                                             db.example
      110  0.000  ├────────────────────────── SYN ───────────────────────────▶│
      111  0.020  │◀──────────────────────── SYN, ACK ────────────────────────┤
      112  0.040  ├────────────────────────── ACK ───────────────────────────▶│
1 ▸   113  0.122  ├────────────────── StartupMessage, 53 B ──────────────────▶│
2 ▸   114  0.142  │◀────────────────────────── ACK ───────────────────────────┤
┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄ here they part ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄
3 ▸   115  1.942  ✗◀──────────────────────── RST, ACK ────────────────────────┤

✓ 10.1.2.3:51542, stream 16, 1.20 s earlier
    frame     ms  client                                             db.example
       92  0.000  ├────────────────────────── SYN ───────────────────────────▶│
""" in printed(width=79)


@pytest.mark.parametrize("width", [60, 79, 80, 99, 100, 101, 120, 140, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    wide = Endpoint(
        "2001:db8:85a3:1234:5678:8a2e:370:7334", 51544, "a-rather-long-name.of.some.service.example"
    )
    talks = {
        1: good(Talk(id=1, client_end=wide, server_end=wide)),
        2: reset_in_startup(Talk(id=2, client_end=wide)),
    }
    rows = row(talks[1], OK), row(talks[2], startup_reset_verdict(talks[2]))
    for line in printed(diagnosis(*rows, comparisons={2: 1}), width, talks=talks).splitlines():
        assert len(line) <= width
        assert line == line.rstrip()


def test_colours_say_where_they_part_and_change_no_character() -> None:
    coloured = printed(colour=True)
    assert "\x1b[31m✗◀───────── RST, ACK ──────────┤" in coloured
    assert "\x1b[32m│◀──── AuthenticationSASL ─────┤" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == printed()


def test_nothing_failed() -> None:
    rows = [row(good(Talk(id=number)), OK) for number in range(3)]
    pings = [
        row(opened(Talk(id=10 + number, client_end=Endpoint(f"10.9.9.{number % 2}", 40000 + number))), PROBE)
        for number in range(3)
    ]
    text = printed(diagnosis(*rows, *pings))
    assert "None of 6 connections failed\n3 ok, 3 probe (2 from 10.9.9.0, 1 from 10.9.9.1)\n" in text


def test_no_connection_at_all() -> None:
    assert "No connections in 4,812 packets" in printed(diagnosis())


def test_without_a_good_connection_the_failed_one_stands_alone() -> None:
    text = printed(replace(STORY, comparisons={}))
    assert "here they part" not in text
    assert "no good connection to this server in what was read, to compare with" in text
    assert text.endswith("Wireshark: tcp.stream == 17\n")


def test_a_storm_lists_the_newest_and_counts_the_rest() -> None:
    talks = {
        number: reset_in_startup(Talk(id=number, start_ns=START_NS + number * 10**9)) for number in range(25)
    }
    rows = [row(talk, startup_reset_verdict(talk)) for talk in talks.values()]
    text = printed(diagnosis(*rows), talks=talks)
    assert (
        "25 of 25 connections failed (100 %), since 2025-11-23 02:00:00.001, the last at 02:00:24.001" in text
    )
    assert text.count("without sending a byte") == 10
    assert text.index("02:00:24.001  10.1.2.3") < text.index("02:00:15.001  10.1.2.3")
    assert "and 15 earlier ones; --json lists them all" in text
    assert text.count("Wireshark: ") == 1


def test_what_the_recorder_counted_stands_with_its_server() -> None:
    since = START_NS - 8 * 3600 * 10**9
    mine = ServerCounts(SERVER, since, 12_034, {FailureClass.RESET_EARLY: 3})
    other = ServerCounts(CLIENT, since, 99, {})
    text = printed(counts=(("web-0", other), ("web-0", mine), ("db-0", replace(mine, connections=77))))
    assert "The recorder saw 12,034 connections to it since 2025-11-22 18:00:00.000 UTC" in text
    assert "UTC, and 3 failures (reset-early)" in " ".join(text.split())
    assert "99" not in text.replace("99  1.450", "")
    assert "77" not in text


def test_counts_of_many_points_say_where_and_end_somewhere() -> None:
    talks = [reset_in_startup(Talk(id=at)) for at in range(6)]
    rows = [replace(row(talk, startup_reset_verdict(talk)), point=f"web-{talk.id}") for talk in talks]
    points = tuple(each.point for each in rows)
    found = diagnosis(*rows)
    found = replace(found, captures=(replace(found.captures[0], points=points),))
    counts = tuple((point, ServerCounts(SERVER, START_NS, 5, {})) for point in points)
    text = printed(found, talks={talk.id: talk for talk in talks}, counts=counts)
    assert "The recorder saw 5 connections to it at web-0 since" in text
    assert text.count("The recorder saw") == 4
    assert "and at 2 more points" in text
    assert "UTC, and no failure\n" in text


def test_several_kinds_of_failures_that_the_recorder_counted() -> None:
    failures = {FailureClass.RESET_EARLY: 1, FailureClass.REFUSED: 2}
    text = printed(counts=(("web-0", ServerCounts(SERVER, START_NS, 5, failures)),))
    assert "and 3 failures (1 reset-early, 2 refused)" in " ".join(text.split())


def test_a_clip_goes_by_its_name_and_whoever_diagnoses_it_says_what_makes_a_file_of_it(
    tmp_path: Path,
) -> None:
    folder = str(tmp_path)
    found = replace(STORY, captures=(replace(STORY.captures[0], path=folder),))
    assert printed(found).endswith("Wireshark, after `podcam export`: tcp.stream in {16, 17}\n")
    text = printed(found, names={folder: "shop/web-1\x1b"}, exported_by="kubectl podcam pull web-1 -n shop")
    assert text.startswith("shop/web-1\\x1b  4,812 packets")
    assert text.endswith("Wireshark, after `kubectl podcam pull web-1 -n shop`: tcp.stream in {16, 17}\n")


def test_chosen_connections_alone() -> None:
    text = printed(streams=(16,))
    assert text.startswith("02:00:00.007  10.1.2.3:51542  phase closing\n  Ended as PostgreSQL")
    assert "RST" not in text
    assert "✗" not in text
    with pytest.raises(UsageError, match=r"no connection has the tcp\.stream 99"):
        printed(streams=(16, 99))


def test_the_other_points_of_a_connection_are_named() -> None:
    elsewhere = replace(row(good(Talk(id=18)), OK, end_to_end=17), point="db-0")
    capture = replace(STORY.captures[0], points=("web-0", "db-0"))
    text = printed(replace(STORY, captures=(capture,), connections=(*STORY.connections, elsewhere)))
    assert "fault server, phase startup, at web-0, ok at db-0" in text
    assert "1 of 2 connections failed" in text


def test_text_of_strangers_cannot_steer_the_terminal() -> None:
    evil = "\x1b[2J\x1b]0;pwned\x07 [bold]not markup[/bold]"
    verdict = startup_reset_verdict(FAILED)
    verdict = replace(
        verdict, summary=evil, candidates=(evil,), evidence=(replace(verdict.evidence[0], note=evil),)
    )
    named = replace(row(FAILED, verdict), server=replace(SERVER, name=evil), point=evil)
    capture = replace(STORY.captures[0], path=evil, points=(evil, evil + evil), warnings=(evil,))
    text = printed(replace(STORY, captures=(capture,), connections=(STORY.connections[0], named)), 160)
    assert all(line.isprintable() for line in text.splitlines())
    assert "[bold]not markup[/bold]" in text


def test_the_two_sides_are_called_by_their_names_with_the_address_once() -> None:
    pod = replace(FAILED, client_end=replace(FAILED.client_end, name="pod shop/web-7d"))
    failed = row(pod, startup_reset_verdict(pod))
    text = printed(diagnosis(failed), talks={failed.id: pod})
    assert "02:00:01.205  pod shop/web-7d (10.1.2.3:51544)  fault server" in text
    assert "  ms  pod shop/web-7d   " in text
    probe = row(replace(good(Talk(id=4)), client_end=pod.client_end), PROBE)
    assert "1 probe (1 from pod shop/web-7d (10.1.2.3))" in printed(diagnosis(probe))


def test_names_that_are_too_long_for_a_column_leave_it_alone() -> None:
    wide = replace(FAILED, client_end=replace(FAILED.client_end, name="pod " + "x" * 80))
    text = printed(diagnosis(row(wide, startup_reset_verdict(wide))), talks={wide.id: wide})
    assert "ms  client   " in text
    assert " server\n" in text


def test_what_was_not_recorded_is_no_silence() -> None:
    talk = opened(Talk(id=6)).client(startup(), ms=9_000).server(RST_ACK)
    gap = Gap(talk.start_ns + 10**9, talk.start_ns + 5 * 10**9, "the recorder was not running")
    conversation = replace(talk.conversation(), gaps=(gap,))
    out = io.StringIO()
    found = diagnosis(row(talk, startup_reset_verdict(reset_in_startup(Talk(id=6)))))
    TerminalReport(found, lambda _: conversation).print(console(out))
    assert "nothing was recorded for 4.00 s" in out.getvalue()
    assert "of silence" not in out.getvalue()


def test_a_server_that_points_know_by_two_addresses_has_one_base_rate() -> None:
    """A Service's address at the client, the pod's own at the server: neither counts the other's rows."""
    far = replace(SERVER, ip="10.244.1.9", name="pod shop/db-0")
    talks = [good(Talk(id=at)) for at in range(3)] + [reset_in_startup(Talk(id=3))]
    near_rows = [row(talk, OK) for talk in talks[:3]] + [row(talks[3], startup_reset_verdict(talks[3]))]
    far_rows = [replace(near, id=near.id + 10, point="db-0", server=far) for near in near_rows]
    text = printed(
        diagnosis(*near_rows, *far_rows), talks={talk.id + shift: talk for talk in talks for shift in (0, 10)}
    )
    assert "1 of 4 connections to db.example (10.0.0.5:5432)" in text


def test_an_encoding_without_lines_and_arrows_keeps_the_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="latin-1") as out:
        TerminalReport(STORY, lambda number: TALKS[number].conversation()).print(console(out))
        out.flush()
        text = raw.getvalue().decode("latin-1")
    assert "1 >   113  0.122  |--- StartupMessage, 53 B ---->|" in text
    assert "3 >   115  1.942  x<--------- RST, ACK ----------|" in text
    assert text.isascii() or "·" in text
    assert len(text.splitlines()) == len(printed().splitlines())


def test_a_pipe_gets_room_for_two_ladders_and_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("os.isatty", lambda _: False)
    out = io.StringIO()
    TerminalReport(STORY, lambda number: TALKS[number].conversation()).print(console(out))
    assert "\x1b" not in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) == 120


def test_a_syn_that_nobody_answered() -> None:
    lone = Talk(id=5).client(SYN)
    silent = replace(startup_reset_verdict(FAILED), evidence=())
    text = printed(diagnosis(row(lone, silent)), talks={5: lone})
    assert "    1  0.000  ├──" in text
