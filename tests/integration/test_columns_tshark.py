"""Stream numbers and all `tcp.analysis` flags, packet by packet, as the installed tshark tells them."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import or_
from pathlib import Path

import pytest

from podcam.columns import open_captures
from podcam.columns.sets import plain
from podcam.errors import CaptureFileError
from podcam.model.connection import TcpEvent
from traces import ACK, FIN, MS, PSH, SYN, Talk, Timed, enhanced, interface, section, wild, write_pcap

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark: apt-get install tshark")

FIELDS = {f"tcp.analysis.{event.name.lower()}": event for event in TcpEvent if event.name}
SHARED = Path(__file__).parents[3] / "shared" / "captures"
BEYOND_TSHARK = {
    "bigtcp-ipv6.pcap": "tshark 4.0 takes IPv6 length 0 without a jumbo option for an empty packet",
    "geneve.pcap": "TCP within tunnels is not followed",
}

Seen = dict[int, tuple[int | None, TcpEvent]]
"""Stream number (None without TCP) and events, by frame."""


def tshark(path: Path) -> Seen:
    """What tshark says of every frame; of several TCP headers in one, of the innermost."""
    wanted = ["frame.number", "tcp.stream", *FIELDS]
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "occurrence=l"]
    for name in wanted:
        command += ["-e", name]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    seen: Seen = {}
    for line in output.splitlines():
        frame, stream, *values = line.split("\t")
        events = [event for event, value in zip(FIELDS.values(), values, strict=True) if value]
        seen[int(frame)] = (int(stream) if stream else None, together(events))
    return seen


def together(events: Iterable[TcpEvent]) -> TcpEvent:
    return reduce(or_, events, TcpEvent(0))


def podcam(path: Path) -> Seen:
    try:
        (capture,) = open_captures([path], kernels=plain())
    except CaptureFileError:
        return {}
    seen: Seen = {frame: (None, TcpEvent(0)) for frame in range(1, capture.summary.packets + 1)}
    for row, stream in enumerate(capture.connections.table["stream"]):
        for packet in capture.conversation(row).packets:
            # An ICMP error with 8 bytes of TCP is followed here, but gets no stream number in Wireshark.
            if packet.icmp is None or packet.flags or packet.window:
                seen[packet.frame] = (int(stream), packet.events)
    return seen


def assert_agree(path: Path) -> Seen:
    theirs, ours = tshark(path), podcam(path)
    different = {
        frame: (theirs.get(frame), ours.get(frame))
        for frame in theirs.keys() | ours.keys()
        if theirs.get(frame) != ours.get(frame)
    }
    assert not different, f"{path.name}: frame: (tshark, podcam) {dict(sorted(different.items())[:5])}"
    return theirs


def tshark_version() -> str:
    """As in `4.0`."""
    told = subprocess.run(["tshark", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"(\d+\.\d+)\.\d+", told)
    return found[1] if found else ""


@pytest.mark.skipif(
    shutil.which("tshark") is not None and tshark_version() != "4.0",
    reason="what no network does is judged as tshark 4.0 does: other versions number and name it otherwise",
)
@pytest.mark.parametrize("seed", range(8))
def test_wild_packets(tmp_path: Path, seed: int) -> None:
    assert len(assert_agree(write_pcap(tmp_path / "a.pcap", wild(seed, 400)))) > 300


def test_wild_packets_have_all_events(tmp_path: Path) -> None:
    """Guards the test above."""
    packets = [(number * 10**6 + time_ns, data) for number in range(6) for time_ns, data in wild(number, 300)]
    seen = podcam(write_pcap(tmp_path / "a.pcap", packets))
    rare = TcpEvent.ZERO_WINDOW_PROBE_ACK | TcpEvent.KEEP_ALIVE_ACK
    assert together(events for _, events in seen.values()) | rare == TcpEvent(0x7FFF)


def lossy_transfer() -> list[Timed]:
    """A lost segment, duplicate acknowledgements, the fast retransmission, and one by timeout."""
    talk = Talk().open()
    lost = 1001 + 1000
    for number in range(8):
        if number != 1:
            talk.client(ACK, bytes(1000), seq=1001 + 1000 * number)
    for _ in range(4):
        talk.server(ACK, ack=lost)
    talk.client(ACK, bytes(1000), seq=lost)
    talk.server(ACK, ack=9001)
    talk.client(PSH | ACK, bytes(500), seq=9001)
    talk.wait(220)
    talk.client(PSH | ACK, bytes(500), seq=9001)
    talk.client(PSH | ACK, bytes(1000), seq=3001)
    return talk.packets


def shut_window() -> list[Timed]:
    talk = Talk().open()
    talk.client(ACK, bytes(512))
    talk.server(ACK, window=0)
    talk.wait(200)
    talk.client(ACK, bytes(1))
    talk.server(ACK, ack=1513, window=0)
    talk.wait(400)
    talk.client(ACK, seq=1512)
    talk.server(ACK, ack=1513, window=0)
    talk.server(ACK, ack=1513, window=512)
    talk.client(FIN | ACK)
    return talk.packets


def keep_alives() -> list[Timed]:
    talk = Talk().open()
    talk.client(PSH | ACK, b"hello")
    talk.server(ACK)
    for _ in range(3):
        talk.wait(10_000)
        talk.client(ACK, seq=1005)
        talk.server(ACK)
    return talk.packets


def scaled_window() -> list[Timed]:
    talk = Talk()
    talk.client(SYN, options=b"\x03\x03\x07")
    talk.server(SYN | ACK, options=b"\x02\x04\x05\xb4\x01\x03\x03\x02")
    talk.client(ACK)
    talk.server(ACK, window=100)
    talk.client(ACK, bytes(400))
    talk.server(ACK, window=50)
    talk.client(ACK, bytes(100))
    return talk.packets


@pytest.mark.parametrize(
    ("packets", "events"),
    [
        (
            lossy_transfer(),
            TcpEvent.FAST_RETRANSMISSION | TcpEvent.SPURIOUS_RETRANSMISSION | TcpEvent.DUPLICATE_ACK,
        ),
        (shut_window(), TcpEvent.ZERO_WINDOW | TcpEvent.ZERO_WINDOW_PROBE | TcpEvent.ZERO_WINDOW_PROBE_ACK),
        (keep_alives(), TcpEvent.KEEP_ALIVE | TcpEvent.KEEP_ALIVE_ACK),
        (scaled_window(), TcpEvent.WINDOW_FULL),
    ],
    ids=["loss", "shut-window", "keep-alive", "window-scaling"],
)
def test_what_networks_do(tmp_path: Path, packets: list[Timed], events: TcpEvent) -> None:
    seen = assert_agree(write_pcap(tmp_path / "a.pcap", packets))
    assert events in together(found for _, found in seen.values())


def test_frames_of_a_file_with_other_blocks(tmp_path: Path) -> None:
    packets = keep_alives()
    path = tmp_path / "a.pcapng"
    content = section() + interface() + b"".join(enhanced(0, t // 1000, data) for t, data in packets[:4])
    content += section(">") + interface(order=">")
    content += b"".join(enhanced(0, (t + MS) // 1000, data, order=">") for t, data in packets[4:])
    path.write_bytes(content)
    assert len(assert_agree(path)) == len(packets)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the captures of other projects in ../shared/captures")
@pytest.mark.parametrize(
    "folder", ["zeek", "suricata-verify", "tcpdump", "pcapplusplus", "pcapng-test-generator"]
)
def test_captures_of_others(folder: str) -> None:
    paths = [
        path for path in sorted((SHARED / folder).rglob("*.pcap*")) if path.suffix in {".pcap", ".pcapng"}
    ]
    assert paths
    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(assert_agree, [path for path in paths if path.name not in BEYOND_TSHARK]))
