import json
from dataclasses import asdict

import pytest

from podcam.model.failure import (
    Failure,
    ServerCounts,
    counts_from_json,
    failure_from_json,
)
from podcam.model.point import Endpoint
from podcam.model.verdict import FailureClass

CLIENT, SERVER = Endpoint("10.0.0.1", 40000), Endpoint("fd00::2", 5432)


def failure(by: str, **counts: int | None) -> Failure:
    return Failure(7, FailureClass.RESET_EARLY, CLIENT, SERVER, by, 3, **counts)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (
            failure("server", client_acked=83, server_bytes=0),
            "reset by the server after it had acknowledged 83 bytes and sent no byte",
        ),
        (
            failure("client", client_bytes=1, server_acked=4096),
            "reset by the client after it had sent 1 byte and the server 4,096 bytes",
        ),
        (
            failure("server"),
            (
                "reset by the server after it had acknowledged an unknown number of bytes "
                "and sent an unknown number of bytes"
            ),
        ),
    ],
)
def test_a_reset_is_told_by_what_the_side_that_reset_is_known_to_have_done(
    told: Failure, sentence: str
) -> None:
    assert told.sentence() == f"10.0.0.1:40000 → [fd00::2]:5432 {sentence}"


def test_every_class_has_a_sentence() -> None:
    for failure_class in FailureClass:
        sentence = Failure(7, failure_class, CLIENT, SERVER, "server", None).sentence()
        assert sentence.startswith("10.0.0.1:40000 → [fd00::2]:5432 ")


def test_failures_and_counts_survive_json() -> None:
    told = failure("client", client_bytes=2**32 - 1)
    assert failure_from_json(json.loads(json.dumps(asdict(told)))) == told
    counts = ServerCounts(SERVER, 5, 10, {FailureClass.REFUSED: 2}, 6, None)
    assert counts_from_json(json.loads(json.dumps(asdict(counts)))) == counts
