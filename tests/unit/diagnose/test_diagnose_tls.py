"""What can be said of a start-up inside TLS: real handshakes, ended at each step."""

import ssl
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from conversations import ACK, FIN_ACK, RST, RST_ACK, Talk, opened
from podcam.diagnose import judge
from podcam.model.diagnosis import Verdict
from podcam.model.verdict import Fault, Phase, Protocol, VerdictId

SSL_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)
SECOND = 1000.0  # milliseconds
STARTUP, PASSWORD, TERMINATE = bytes(58), bytes(60), bytes(5)
ASK, WELCOME, ERROR = bytes(24), bytes(400), bytes(100)
FIRST = "first encrypted record (presumably the StartupMessage)"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    request = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=db.example"
    subprocess.run([*request.split(), "-keyout", path, "-out", path], check=True, capture_output=True)
    return path


class Session:
    """A PostgreSQL connection whose sides shake hands in TLS; what they write becomes packets of a talk."""

    def __init__(
        self,
        certificate: Path,
        version: ssl.TLSVersion,
        *,
        tickets: int = 0,
        client_certificate: bool = False,
        alpn: str | None = None,
    ) -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate)
        server.num_tickets = tickets
        client = ssl.create_default_context(cafile=str(certificate))
        client.check_hostname = False
        client.maximum_version = version
        if client_certificate:
            client.load_cert_chain(certificate)
            server.load_verify_locations(certificate)
            server.verify_mode = ssl.CERT_REQUIRED
        if alpn:
            client.set_alpn_protocols([alpn])
            server.set_alpn_protocols([alpn])
        self.talk = opened(Talk())
        if not alpn:
            self.talk.client(SSL_REQUEST).server(ACK).server(b"S")
        to_client, self._from_client, to_server, self._from_server = (ssl.MemoryBIO() for _ in range(4))
        self._client = client.wrap_bio(to_client, self._from_client)
        self._server = server.wrap_bio(to_server, self._from_server, server_side=True)
        self._to_client, self._to_server = to_client, to_server
        for _ in range(3):
            self._step(self._client.do_handshake)
            self._carry(self.talk.client, self._from_client, self._to_server)
            self._step(self._server.do_handshake)
            self._carry(self.talk.server, self._from_server, self._to_client)

    def client(self, plain: bytes) -> "Session":
        self._client.write(plain)
        self._carry(self.talk.client, self._from_client, self._to_server)
        return self

    def server(self, plain: bytes) -> "Session":
        self._server.write(plain)
        self._carry(self.talk.server, self._from_server, self._to_client)
        return self

    def server_says_goodbye(self) -> "Session":
        self._step(self._server.unwrap)
        self._carry(self.talk.server, self._from_server, self._to_client)
        return self

    def client_says_goodbye(self) -> "Session":
        self._step(self._client.unwrap)
        self._carry(self.talk.client, self._from_client, self._to_server)
        return self

    @property
    def last_frame(self) -> int:
        return self.talk.packets[-1].frame

    def verdict(self) -> Verdict:
        return judge(self.talk.conversation())

    @staticmethod
    def _step(step: Callable[[], object]) -> None:
        with suppress(ssl.SSLError):  # wants to read, or was not read to its end
            step()

    @staticmethod
    def _carry(say: Callable[[bytes], Talk], source: ssl.MemoryBIO, sink: ssl.MemoryBIO) -> None:
        data = source.read()
        if data:
            say(data)
            sink.write(data)


TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
KINDS = [
    pytest.param({"version": TLS_1_2}, id="1.2"),
    pytest.param({"version": TLS_1_3}, id="1.3"),
    pytest.param({"version": TLS_1_3, "tickets": 1}, id="1.3 with a ticket"),
    pytest.param({"version": TLS_1_3, "tickets": 2}, id="1.3 with two tickets"),
    pytest.param({"version": TLS_1_2, "client_certificate": True}, id="1.2 with a client certificate"),
    pytest.param({"version": TLS_1_3, "client_certificate": True}, id="1.3 with a client certificate"),
    pytest.param({"version": TLS_1_3, "alpn": "postgresql"}, id="1.3 direct"),
]
Make = Callable[[], Session]


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, certificate: Path) -> Make:
    return lambda: Session(certificate, **request.param)


def test_reset_after_the_first_encrypted_record(make: Make) -> None:
    session = make().client(STARTUP)
    first = session.last_frame
    session.talk.server(ACK).server(RST_ACK, ms=2)
    verdict = session.verdict()
    assert (verdict.id, verdict.fault, verdict.phase, verdict.protocol) == (
        VerdictId.RESET_DURING_STARTUP,
        Fault.SERVER,
        Phase.STARTUP,
        Protocol.POSTGRESQL,
    )
    assert [(e.frame, e.note) for e in verdict.evidence] == [
        (first, FIRST),
        (first + 1, f"ACK of the {FIRST}"),
        (first + 2, "RST of the server"),
    ]
    assert "nothing but TLS's handshake" in verdict.summary


def test_closed_after_the_first_encrypted_record(make: Make) -> None:
    session = make().client(STARTUP)
    session.talk.server(ACK).server(FIN_ACK)
    verdict = session.verdict()
    assert (verdict.id, verdict.fault, verdict.phase) == (
        VerdictId.CLOSED_DURING_STARTUP,
        Fault.SERVER,
        Phase.STARTUP,
    )


def test_the_client_gave_up_on_an_answer_to_the_first_encrypted_record(make: Make) -> None:
    session = make().client(STARTUP)
    session.talk.server(ACK).client(FIN_ACK, ms=5 * SECOND)
    verdict = session.verdict()
    assert (verdict.id, verdict.fault, verdict.phase) == (
        VerdictId.STARTUP_TIMEOUT,
        Fault.SERVER,
        Phase.STARTUP,
    )


def test_a_good_session(make: Make) -> None:
    session = (
        make()
        .client(STARTUP)
        .server(ASK)
        .client(PASSWORD)
        .server(WELCOME)
        .client(bytes(20))
        .server(bytes(60))
    )
    session.client(TERMINATE).client_says_goodbye().talk.client(FIN_ACK).server(RST_ACK)
    verdict = session.verdict()
    assert (verdict.id, verdict.phase) == (VerdictId.OK, Phase.CLOSING)


def test_a_good_session_without_authentication(make: Make) -> None:
    session = make().client(STARTUP).server(WELCOME).client(bytes(20)).server(bytes(60)).client(TERMINATE)
    session.talk.client(FIN_ACK).server(FIN_ACK).client(RST)
    assert session.verdict().id is VerdictId.OK


def test_reset_in_the_authentication(make: Make) -> None:
    session = make().client(STARTUP).server(ASK).client(PASSWORD)
    session.talk.server(ACK).server(RST_ACK)
    verdict = session.verdict()
    assert (verdict.id, verdict.phase) == (VerdictId.RESET_DURING_STARTUP, Phase.AUTHENTICATION)
    assert verdict.evidence[0].note == FIRST


def test_an_error_that_cannot_be_seen(make: Make) -> None:
    session = make().client(STARTUP).server(ERROR).server_says_goodbye()
    session.talk.server(FIN_ACK).client(RST_ACK)
    verdict = session.verdict()
    assert (verdict.id, verdict.fault) == (VerdictId.CLOSED_DURING_STARTUP, Fault.SERVER)
    assert any("error message" in candidate for candidate in verdict.candidates)


def test_reset_while_a_request_is_pending(make: Make) -> None:
    session = make().client(STARTUP).server(ASK).client(PASSWORD).server(WELCOME).client(bytes(20))
    session.talk.server(ACK).server(RST_ACK)
    verdict = session.verdict()
    assert (verdict.id, verdict.fault, verdict.phase) == (
        VerdictId.RESET_MID_REQUEST,
        Fault.SERVER,
        Phase.REQUEST,
    )


def test_a_cancel_request_inside_tls(make: Make) -> None:
    session = make().client(bytes(16))
    session.talk.server(ACK).server(FIN_ACK).client(FIN_ACK)
    verdict = session.verdict()
    assert (verdict.id, verdict.failed) == (VerdictId.OK, False)
    assert "CancelRequest" in verdict.summary


def test_a_health_check_inside_tls(make: Make) -> None:
    session = make().client(STARTUP).server(ASK).client_says_goodbye()
    session.talk.client(FIN_ACK).server(FIN_ACK)
    assert not session.verdict().failed


def test_the_client_leaves_after_the_handshake(make: Make) -> None:
    session = make()
    session.talk.client(FIN_ACK)
    verdict = session.verdict()
    assert (verdict.id, verdict.fault, verdict.phase) == (
        VerdictId.CLOSED_DURING_STARTUP,
        Fault.CLIENT,
        Phase.STARTUP,
    )
    assert any("health check" in candidate for candidate in verdict.candidates)


def test_other_protocols_inside_tls_are_judged_by_who_spoke_last(certificate: Path) -> None:
    session = Session(certificate, TLS_1_3, tickets=2, alpn="h2").client(bytes(40))
    answered = Session(certificate, TLS_1_3, tickets=2, alpn="h2").client(bytes(40)).server(bytes(90))
    session.talk.server(ACK).server(RST_ACK)
    answered.talk.client(FIN_ACK)
    verdict = session.verdict()
    assert (verdict.id, verdict.phase, verdict.protocol) == (
        VerdictId.RESET_MID_REQUEST,
        Phase.DATA,
        Protocol.TLS,
    )
    assert answered.verdict().id is VerdictId.OK
