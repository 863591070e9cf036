"""Legs through a proxy are a guess, but never a false one among exchanges that are all recorded."""

import random
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from podcam.diagnose import diagnose
from podcam.model.diagnosis import DiagnosedConnection, LegEnd
from proxied import Exchange, alike
from traces import write_pcap


def diagnosed(exchanges: list[Exchange]) -> dict[int, DiagnosedConnection]:
    """The rows by the client's port."""
    packets = sorted(packet for exchange in exchanges for packet in exchange.packets)
    with TemporaryDirectory() as folder:
        case = diagnose([write_pcap(Path(folder) / "a.pcap", packets)])
    return {row.client.port: row for row in case.diagnosis.connections}


@settings(max_examples=40, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.integers(1, 12),
    st.sampled_from([0.02, 0.2, 1.0, 5.0, 40.0]),
    st.integers(0, 3),
)
def test_no_pair_is_false_and_both_tell_of_each_other(
    dice: random.Random, count: int, most_apart_ms: float, rounds: int
) -> None:
    rows = diagnosed(alike(count, dice, most_apart_ms=most_apart_ms, rounds=rounds))
    ids = {row.id: port for port, row in rows.items()}
    assert len(rows) == 2 * count
    for port, row in rows.items():
        if row.leg is not None:
            towards_server = port < 40_000
            assert ids[row.leg.connection] == (port + 20_000 if towards_server else port - 20_000)
            assert (row.leg.towards is LegEnd.SERVER) is towards_server
            assert rows[ids[row.leg.connection]].leg is not None
    assert all(row.leg is not None for row in rows.values()) or count > 1
