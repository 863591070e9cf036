import os

from podcam.recorder.channel import Channel


def test_a_message_arrives_whole_with_its_descriptors() -> None:
    left, right = Channel.pair()
    reading, writing = os.pipe()
    assert left.send({"do": "add", "point": "pod-a"}, [writing])
    received = right.receive()
    assert received is not None
    message, (copy,) = received
    assert message == {"do": "add", "point": "pod-a"}
    os.write(copy, b"x")
    assert os.read(reading, 1) == b"x"
    for descriptor in (reading, writing, copy):
        os.close(descriptor)
    left.close()
    right.close()


def test_messages_keep_their_bounds() -> None:
    left, right = Channel.pair()
    for number in range(3):
        left.send({"number": number})
    assert [right.receive() for _ in range(3)] == [({"number": number}, []) for number in range(3)]
    left.close()
    right.close()


def test_the_end_of_the_other_side_is_told() -> None:
    left, right = Channel.pair()
    left.close()
    assert right.receive() is None
    assert right.send({"do": "stop"}) is False
    right.close()
