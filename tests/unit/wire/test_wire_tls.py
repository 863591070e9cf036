"""TLS at the record level: real handshakes by OpenSSL in memory, and hand-made records."""

import ssl
import subprocess
from pathlib import Path

import pytest

from podcam.wire.stream import Malformed, Side
from podcam.wire.tls import (
    Alert,
    ClientHello,
    EncryptedRecord,
    HandshakeComplete,
    RecordRole,
    ServerHello,
    TlsEvent,
    TlsParser,
    alert_name,
    looks_like_client_hello,
    looks_like_record,
    version_name,
)

CLIENT, SERVER = Side.CLIENT, Side.SERVER


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate and its key in one file."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    request = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=db.example"
    subprocess.run([*request.split(), "-keyout", path, "-out", path], check=True, capture_output=True)
    return path


class Pair:
    """A TLS client and server in memory, heard by a parser."""

    def __init__(self, certificate: Path, version: ssl.TLSVersion, *, trusted: bool = True) -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate)
        server.set_alpn_protocols(["postgresql"])
        client = ssl.create_default_context(cafile=str(certificate) if trusted else None)
        client.check_hostname = False
        client.set_alpn_protocols(["postgresql"])
        client.maximum_version = version
        self.parser = TlsParser()
        self.events: list[TlsEvent] = []
        self._wires = {CLIENT: ssl.MemoryBIO(), SERVER: ssl.MemoryBIO()}
        self._incoming = {CLIENT: ssl.MemoryBIO(), SERVER: ssl.MemoryBIO()}
        wires = self._incoming[CLIENT], self._wires[CLIENT]
        self.client = client.wrap_bio(*wires, server_hostname="db.example")
        self.server = server.wrap_bio(self._incoming[SERVER], self._wires[SERVER], server_side=True)

    def carry(self) -> bool:
        """Carry what both sides have written, and hear it."""
        moved = False
        for side in (CLIENT, SERVER):
            data = self._wires[side].read()
            moved |= bool(data)
            self.events += self.parser.feed(side, data)
            self._incoming[side.other].write(data)
        return moved

    def shake_hands(self) -> None:
        for _ in range(6):
            for side in (self.client, self.server):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError:
                    self.carry()
                    return
            self.carry()

    def roles(self, side: Side) -> list[RecordRole]:
        return [e.role for e in self.events if isinstance(e, EncryptedRecord) and e.span.side is side]


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_first_application_record_follows_the_complete_handshake(
    certificate: Path, version: ssl.TLSVersion
) -> None:
    pair = Pair(certificate, version)
    pair.shake_hands()
    assert sum(isinstance(event, HandshakeComplete) for event in pair.events) == 1
    heard = len(pair.events)
    pair.client.write(b"StartupMessage")
    pair.carry()
    (record,) = pair.events[heard:]
    assert isinstance(record, EncryptedRecord)
    assert (record.span.side, record.role) == (CLIENT, RecordRole.APPLICATION)


@pytest.mark.parametrize("version", VERSIONS)
def test_hellos(certificate: Path, version: ssl.TLSVersion) -> None:
    pair = Pair(certificate, version)
    pair.shake_hands()
    client_hello, server_hello = pair.events[:2]
    assert isinstance(client_hello, ClientHello)
    assert (client_hello.server_name, client_hello.alpn) == ("db.example", ("postgresql",))
    assert version in client_hello.versions
    assert isinstance(server_hello, ServerHello)
    assert server_hello.version == version
    assert server_hello.alpn == ("postgresql" if version == ssl.TLSVersion.TLSv1_2 else None)


@pytest.mark.parametrize("version", VERSIONS)
def test_close_notify_is_known_by_its_size(certificate: Path, version: ssl.TLSVersion) -> None:
    pair = Pair(certificate, version)
    pair.shake_hands()
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()
    pair.carry()
    assert pair.roles(CLIENT)[-1] is RecordRole.ALERT


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_that_is_not_trusted(certificate: Path, version: ssl.TLSVersion) -> None:
    pair = Pair(certificate, version, trusted=False)
    pair.shake_hands()
    assert not any(isinstance(event, HandshakeComplete) for event in pair.events)
    alerts = [event for event in pair.events if isinstance(event, Alert)]
    assert [(alert_name(alert.description), alert.fatal) for alert in alerts] == [("unknown_ca", True)]


def record(content_type: int, body: bytes) -> bytes:
    return bytes((content_type, 3, 3)) + len(body).to_bytes(2) + body


def test_a_hello_in_pieces() -> None:
    hello = record(22, b"\x01\0\0\x2d\x03\x03" + bytes(32) + b"\0\0\x02\x13\x01\x01\0\0\x04\0\x10\0\0")
    parser = TlsParser()
    events = [event for byte in hello for event in parser.feed(CLIENT, bytes((byte,)))]
    assert len(events) == 1
    assert isinstance(events[0], ClientHello)


def test_a_handshake_message_may_span_records() -> None:
    body = b"\x01\0\0\x28\x03\x03" + bytes(38)
    events = [*TlsParser().feed(CLIENT, record(22, body[:20]) + record(22, body[20:]))]
    assert len(events) == 1
    assert (events[0].span.start, events[0].span.end) == (0, len(body) + 10)


def test_a_finished_that_shares_its_record_is_known_when_the_server_goes_on() -> None:
    versions = b"\0\x2b\0\x02\x03\x04"
    body = b"\x03\x03" + bytes(33) + b"\x13\x01\0" + len(versions).to_bytes(2) + versions
    parser = TlsParser()
    parser.feed(SERVER, record(22, b"\x02" + len(body).to_bytes(3) + body) + record(23, bytes(900)))
    (certificate_and_finished,) = parser.feed(CLIENT, record(23, bytes(1100)))
    assert isinstance(certificate_and_finished, EncryptedRecord)
    assert certificate_and_finished.role is RecordRole.HANDSHAKE
    ticket, complete = parser.feed(SERVER, record(23, bytes(250)))
    assert isinstance(ticket, EncryptedRecord)
    assert ticket.role is RecordRole.APPLICATION
    assert isinstance(complete, HandshakeComplete)


def test_what_is_not_tls_is_told_once() -> None:
    parser = TlsParser()
    assert isinstance(parser.feed(SERVER, b"HTTP/1.1 400 Bad Request\r\n")[0], Malformed)
    assert parser.feed(SERVER, b"and more of it\r\n") == []


def test_behind_a_gap_the_next_record_is_found() -> None:
    parser = TlsParser()
    parser.feed(CLIENT, record(23, bytes(100))[:50])
    assert parser.gap(CLIENT, 55) == []
    assert isinstance(parser.gap(CLIENT, 300)[0], Malformed)
    assert parser.feed(CLIENT, b"\0the rest of a record") == []
    assert isinstance(parser.feed(CLIENT, record(23, bytes(10)))[0], EncryptedRecord)


def test_warnings_do_not_end_a_connection() -> None:
    (unrecognised,) = TlsParser().feed(SERVER, record(21, bytes((1, 112))))
    assert isinstance(unrecognised, Alert)
    assert not unrecognised.fatal


def test_recognising_first_bytes() -> None:
    assert looks_like_client_hello(bytes.fromhex("160301020001"))
    assert not looks_like_client_hello(bytes.fromhex("160301020002"))
    assert not looks_like_client_hello(b"GET / ")
    assert not looks_like_client_hello(b"")
    assert looks_like_record(bytes.fromhex("1703030010") + bytes(16))
    assert not looks_like_record(b"HTTP/")


def test_names() -> None:
    assert (version_name(0x0304), version_name(0x7F1C)) == ("TLS 1.3", "TLS version 0x7f1c")
    assert (alert_name(48), alert_name(200)) == ("unknown_ca", "alert 200")
