"""Messages to a side that does not read."""

from podcam.recorder.channel import Channel, Outbox


def test_nobody_waits_for_a_side_that_is_behind_and_nothing_that_was_put_is_lost() -> None:
    ours, theirs = Channel.pair()
    outbox = Outbox(ours)
    sent = 0
    while outbox.send_waiting():
        outbox.put({"number": sent, "padding": "x" * 10_000})
        sent += 1
    assert not outbox.offer({"number": -1})
    for number in range(sent, sent + 3):
        outbox.put({"number": number})
    numbers: list[int] = []
    while len(numbers) < sent + 3:
        received = theirs.receive()
        assert received is not None
        numbers.append(received[0]["number"])
        outbox.send_waiting()
    assert numbers == list(range(sent + 3))
    assert outbox.offer({"number": -1})
    ours.close()
    theirs.close()


def test_to_a_side_that_is_gone_everything_counts_as_sent() -> None:
    ours, theirs = Channel.pair()
    theirs.close()
    outbox = Outbox(ours)
    outbox.put({})
    assert outbox.offer({})
    outbox.finish()
    ours.close()
