"""Which connections need their packets read to be judged, told from the columns for all of them at once.

A capture of millions of connections holds a few that matter. One that certainly went well gets its verdict
here; one that ended tidily but could hide a failure is read as long as there are not too many of them.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from podcam.columns import CaptureColumns, Connections
from podcam.diagnose.neighbours import Mask, established, speaks_postgres, speaks_tls
from podcam.model.diagnosis import Evidence, Verdict
from podcam.model.verdict import Fault, Phase, Protocol, VerdictId

READ_ALL = 2_000
"""A capture with no more connections than this is read as a whole."""
READ_TIDY = 5_000
"""How many connections that ended tidily are read beyond that (about 2 s)."""
READ_SUSPECT = 20_000
"""How many connections that may have failed are read; what is beyond (a storm) is judged by its columns."""

_TERMINATE = np.frombuffer(b"X\x00\x00\x00\x04", np.uint8)
_READY_FOR_QUERY = np.frombuffer(b"Z\x00\x00\x00\x05", np.uint8)


class Finding(IntEnum):
    """What the columns say of a connection."""

    SUSPECT = 0
    """May have failed."""
    TIDY = 1
    """Ended as good connections do, but what was said decides."""
    GOODBYE = 2
    """PostgreSQL: ready, then Terminate."""
    CLOSED = 3
    """Both sides spoke, and no reset before the first FIN: nothing more is known of its protocol."""
    OPEN = 4
    """Both sides spoke, and it goes on."""


@dataclass(frozen=True, slots=True)
class Screened:
    """Rows to read, in the order of the file, and what is known of the others."""

    read: npt.NDArray[np.intp]
    findings: npt.NDArray[np.uint8]


def screen(capture: CaptureColumns) -> Screened:
    """Sort the connections of a capture."""
    connections = capture.connections
    findings = _findings(capture)
    if len(connections) <= READ_ALL:
        return Screened(np.arange(len(connections)), findings)
    suspect = np.flatnonzero(findings == Finding.SUSPECT)[:READ_SUSPECT]
    tidy = np.flatnonzero(findings == Finding.TIDY)[:READ_TIDY]
    return Screened(np.sort(np.concatenate([suspect, tidy])), findings)


def verdict_unread(capture: CaptureColumns, row: int, finding: Finding) -> Verdict:
    """The verdict of a connection whose packets are not read."""
    return _UNREAD[finding] if finding is not Finding.SUSPECT else _storm(capture, row)


def _findings(capture: CaptureColumns) -> npt.NDArray[np.uint8]:
    connections = capture.connections
    client, server = connections.client, connections.server
    postgres, tls = speaks_postgres(capture), speaks_tls(capture)
    spoke = (client["bytes"] > 0) & (server["bytes"] > 0)
    sound = (
        established(capture) & (connections.table["icmp_errors"] == 0) & spoke & ~_reset_first(connections)
    )
    by_client = (client["fin_ns"] >= 0) & ~_earlier(server["fin_ns"], client["fin_ns"])
    ended = (client["fin_ns"] >= 0) | (server["fin_ns"] >= 0)
    goodbye = (
        postgres & by_client & _ends_with(client, _TERMINATE, 0) & _ends_with(server, _READY_FOR_QUERY, 1)
    )
    plain = sound & ~postgres & ~tls
    findings = np.full(len(connections), Finding.SUSPECT, np.uint8)
    findings[sound & (by_client | ~ended)] = Finding.TIDY
    findings[sound & tls & ended] = Finding.TIDY
    findings[plain & ended] = Finding.CLOSED
    findings[plain & ~ended] = Finding.OPEN
    findings[sound & goodbye] = Finding.GOODBYE
    return findings


def _reset_first(connections: Connections) -> Mask:
    """Whether an RST came before any FIN."""
    client, server = connections.client, connections.server
    never = np.iinfo(np.int64).max

    def first(name: str) -> npt.NDArray[np.int64]:
        times = np.stack([client[name], server[name]])
        return np.asarray(np.where(times < 0, never, times).min(axis=0), np.int64)

    return np.asarray(first("rst_ns") < first("fin_ns"))


def _earlier(times: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> Mask:
    return (times >= 0) & (times < others)


def _ends_with(side: npt.NDArray[np.void], message: npt.NDArray[np.uint8], behind: int) -> Mask:
    """Whether a side's last bytes are a message with `behind` bytes of body."""
    size = len(message) + behind
    start = side["tail_bytes"].astype(np.intp) - size
    places = np.maximum(start, 0)[:, None] + np.arange(len(message))
    return np.asarray(
        (start >= 0) & (np.take_along_axis(side["tail"], places, axis=1) == message).all(axis=1)
    )


def _good(phase: Phase, summary: str, protocol: Protocol = Protocol.UNKNOWN) -> Verdict:
    return Verdict(VerdictId.OK, False, Fault.NONE, phase, summary, protocol=protocol)


_UNREAD = {
    Finding.GOODBYE: _good(Phase.CLOSING, "Ended by the client with Terminate.", Protocol.POSTGRESQL),
    Finding.TIDY: _good(Phase.DATA, "Ended, or still open, without a sign of failure; not read in detail."),
    Finding.CLOSED: _good(Phase.DATA, "Ended with FIN after both sides had spoken."),
    Finding.OPEN: _good(Phase.DATA, "Still open when the capture ends."),
}


def _storm(capture: CaptureColumns, row: int) -> Verdict:
    """One of very many that may have failed: what its columns show, with its first and last frame."""
    table, server = capture.connections.table[row], capture.connections.server[row]
    evidence = (
        Evidence(capture.index, int(table["first_packet"]) + 1, int(table["first_ns"]), "first packet"),
        Evidence(capture.index, int(table["last_packet"]) + 1, int(table["last_ns"]), "last packet"),
    )
    if server["packets"] == 0 and table["syn_seen"]:
        return Verdict(
            VerdictId.CONNECT_TIMEOUT,
            failed=True,
            fault=Fault.UNKNOWN,
            phase=Phase.CONNECT,
            summary="The SYN was never answered; one of too many failures to read in detail.",
            evidence=evidence,
        )
    if server["syns"] == 0 and server["rsts"]:
        return Verdict(
            VerdictId.CONNECT_REFUSED,
            failed=True,
            fault=Fault.SERVER,
            phase=Phase.CONNECT,
            summary="The SYN was answered by RST; one of too many failures to read in detail.",
            evidence=evidence,
        )
    return Verdict(
        VerdictId.PARTIAL,
        failed=False,
        fault=Fault.NONE,
        phase=Phase.DATA,
        summary="One of too many connections that may have failed; not read.",
        evidence=evidence,
    )
