"""`podcam diagnose` from the command line to exit code and output, on captures of known conversations."""

import gzip
import json
from pathlib import Path

import pytest

import traces
from conversations import START_NS, Talk, good, reset_in_startup
from podcam import cli
from podcam.model.point import Endpoint
from podcam.pcap import Option, read_blocks

GOOD = good(Talk(client_end=Endpoint("10.1.2.3", 51542)))
FAILED = reset_in_startup(Talk(start_ns=START_NS + 10**9))


def capture(path: Path, *talks: Talk) -> Path:
    """A pcap file of these connections in the order given."""
    packets: list[traces.Timed] = []
    for talk in talks:
        for packet in talk.packets:
            ends = (talk.client_end, talk.server_end)
            source, target = ends if packet.from_client else ends[::-1]
            segment = traces.tcp(
                (source.port, target.port), packet.seq, packet.ack, packet.flags, packet.payload
            )
            packets.append((packet.time_ns, traces.ip(segment, 6, source.ip, target.ip)))
    return traces.write_pcap(path, packets)


@pytest.fixture
def story(tmp_path: Path) -> Path:
    return capture(tmp_path / "proxy.pcap", GOOD, FAILED)


def test_the_report(story: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert cli.main(["diagnose", str(story)]) == 0
    out = capsys.readouterr().out
    assert "1 of 2 connections failed (50 %), at 2025-11-23 02:00:01.001 UTC" in out
    assert "━━ reset-during-startup ━━ 1 of 2 connections to 10.0.0.5:5432" in out
    ladders = [line for line in out.splitlines() if "RST, ACK" in line]
    assert ladders == [
        "3 ▸    22  1.942  ✗◀───────── RST, ACK ──────────┤       6  0.750  │◀──── AuthenticationSASL ─────┤"
    ]


def test_the_json(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diagnose", "--json", str(story)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["summary"]["verdicts"] == {"ok": 1, "reset-during-startup": 1}
    [failed] = [row for row in found["connections"] if row["failed"]]
    assert (failed["fault"], failed["phase"], failed["tcp_stream"]) == ("server", "startup", 1)
    assert [proof["frame"] for proof in failed["evidence"]] == [20, 21, 22]


def test_fail_turns_failures_into_an_exit_code(story: Path, tmp_path: Path) -> None:
    assert cli.main(["diagnose", "--fail", str(story)]) == 1
    assert cli.main(["diagnose", "--fail", "--json", str(story)]) == 1
    assert cli.main(["diagnose", "--fail", str(capture(tmp_path / "good.pcap", GOOD))]) == 0


def test_one_connection_by_its_number(story: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diagnose", str(story), "--stream", "0"]) == 0
    out = capsys.readouterr().out
    assert "10.1.2.3:51542" in out
    assert "RST" not in out
    assert cli.main(["diagnose", str(story), "--stream", "7"]) == 2
    assert capsys.readouterr().err == "podcam: no connection has the tcp.stream 7\n"


def test_annotate(story: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "told.pcapng"
    assert cli.main(["diagnose", str(story), "--annotate", str(target)]) == 0
    assert "1 of 2 connections failed" in capsys.readouterr().out
    with target.open("rb") as file:
        frames = [block for block in read_blocks(file) if block.is_frame]
    commented = [
        at for at, frame in enumerate(frames, 1) if any(o == Option.COMMENT for o, _ in frame.options())
    ]
    assert commented == [20, 21, 22]


def test_several_captures_and_what_is_wrong_with_them(
    story: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.pcap.gz"
    cut.write_bytes(gzip.compress(story.read_bytes()[:-20]))
    assert cli.main(["diagnose", "--json", str(story), str(cut)]) == 0
    captures = json.loads(capsys.readouterr().out)["captures"]
    assert [found["packets"] for found in captures] == [22, 21]
    assert captures[0]["warnings"] == []
    assert "is cut" in captures[1]["warnings"][0]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot read {}: No such file or directory"),
        (b"", "{} is empty"),
        (b"\x7fELF" + bytes(100), "{} is neither a pcap"),
        (bytes.fromhex("d4c3b2a1") + bytes(10), "{} is cut within the header"),
    ],
)
def test_what_is_no_capture_is_one_line(
    tmp_path: Path, content: bytes | None, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.pcap"
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["diagnose", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("podcam: " + complaint.format(path))
    assert err.count("\n") == 1


def test_annotate_takes_one_capture(story: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "told.pcapng"
    assert cli.main(["diagnose", str(story), str(story), "--annotate", str(target)]) == 2
    assert "one path at a time" in capsys.readouterr().err
    assert not target.exists()
