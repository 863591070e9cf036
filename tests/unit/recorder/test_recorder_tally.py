"""Counts that outlive the processes that count."""

from podcam.recorder.tally import Tally


def test_counts_go_on_through_a_writer_and_a_detector_that_begin_anew() -> None:
    tally = Tally()
    assert tally.wrote([10, 1000, 1, 0, 5000, 77]) == 1000
    assert tally.wrote([12, 1200, 1, 0, 5200, 77]) == 200
    tally.detected([4, 1, 2])
    tally.failed(3)
    tally.begin_writing_anew()
    tally.begin_detecting_anew()
    assert tally.wrote([5, 500, 0, 1, 5700, 78]) == 500
    tally.detected([1, 0, 0])
    assert tally.totals(detecting=True) == {
        "packets": 17,
        "bytes": 1700,
        "dropped": 1,
        "freezes": 1,
        "ring_bytes": 5700,
        "oldest_ns": 78,
        "connections": 5,
        "failures": 4,
        "control_dropped": 2,
    }


def test_what_is_not_looked_at_is_null() -> None:
    totals = Tally().totals(detecting=False)
    assert totals["connections"] is totals["failures"] is totals["control_dropped"] is None
