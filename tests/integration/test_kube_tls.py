"""The client over TLS, as from inside a cluster."""

import datetime
import json
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from podcam.errors import UnreachableError, UsageError
from podcam.kube import CLIPS, Api, path_of
from podcam.kube.roads import in_cluster_road
from scripted_server import Script

PATH = path_of(CLIPS, "shop", "c")


class Authority:
    """Signs a certificate for 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.crt"
        self.chain = folder / "server.pem"
        key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"authority {folder.name}")])
        ca = self._certificate(name, name, key, key, x509.BasicConstraints(ca=True, path_length=None))
        host = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "api")])
        alternative = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        signed = self._certificate(host, name, server_key, key, alternative)
        folder.mkdir(exist_ok=True)
        self.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        self.chain.write_bytes(
            server_key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + signed.public_bytes(serialization.Encoding.PEM)
        )

    def _certificate(
        self,
        subject: x509.Name,
        issuer: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        issuer_key: ec.EllipticCurvePrivateKey,
        extension: x509.ExtensionType,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(extension, critical=True)
            .add_extension(key_id, critical=False)
            .add_extension(issuer_id, critical=False)
            .sign(issuer_key, hashes.SHA256())
        )


class TlsServer:
    """Answers everything with the Authorization header that came."""

    def __init__(self, authority: Authority) -> None:
        class Echo(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = json.dumps({"authorization": self.headers["Authorization"]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = False

            def handle_error(self, *_: object) -> None:
                pass  # a client that does not trust the certificate hangs up

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.chain)
        self._server = Quiet(("127.0.0.1", 0), Echo)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port: int = self._server.server_address[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> "TlsServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_a_pod_reaches_the_api_server_as_its_service_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "account")
    (tmp_path / "account" / "token").write_text("secret")
    with TlsServer(authority) as server:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
        with Api(in_cluster_road(tmp_path / "account")) as api:
            for _ in range(3):
                assert api.get(PATH) == {"authorization": "Bearer secret"}
            with api.get_bytes(PATH) as answer:
                assert b"secret" in answer.read(1000)


def test_outside_of_a_pod_there_is_no_service_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(UsageError, match="this is not a pod of a cluster"):
        Api.in_cluster()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    with pytest.raises(UsageError, match="automountServiceAccountToken"):
        in_cluster_road(tmp_path)
    (tmp_path / "token").touch()
    assert in_cluster_road(tmp_path).place == "https://[fd00::1]:443"


def test_a_server_that_another_authority_signed_is_not_trusted(tmp_path: Path) -> None:
    with TlsServer(Authority(tmp_path / "theirs")) as server:
        ours = Authority(tmp_path / "ours")
        with Api.at(server.url, ca=ours.ca) as api, pytest.raises(UnreachableError, match="is not trusted"):
            api.get(PATH)
        with Api.at(server.url) as api, pytest.raises(UnreachableError, match="is not trusted"):
            api.get(PATH)


def test_authorities_that_change_are_read_again(tmp_path: Path) -> None:
    theirs, ours = Authority(tmp_path / "theirs"), Authority(tmp_path / "ours")
    with TlsServer(theirs) as server, Api.at(server.url, ca=ours.ca) as api:
        with pytest.raises(UnreachableError, match="is not trusted"):
            api.get(PATH)
        theirs.ca.replace(ours.ca)
        assert "authorization" in api.get(PATH)


def hear_and_say(said: bytes) -> Callable[[socket.socket, int], None]:
    def converse(connection: socket.socket, _: int) -> None:
        connection.recv(65_536)
        connection.sendall(said)

    return converse


@pytest.mark.parametrize(
    ("said", "why"),
    [(b"", "the connection broke off"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "SSL")],
    ids=["nothing", "no TLS"],
)
def test_a_server_that_speaks_no_tls_is_told(tmp_path: Path, said: bytes, why: str) -> None:
    ca = Authority(tmp_path / "ours").ca
    with (
        Script(hear_and_say(said)) as server,
        Api.at(f"https://127.0.0.1:{server.address[1]}", ca=ca) as api,
        pytest.raises(UnreachableError, match=why),
    ):
        api.get(PATH)


def test_a_file_without_authorities_is_told(tmp_path: Path) -> None:
    with (
        Api.at("https://127.0.0.1:1", ca=tmp_path / "none") as api,
        pytest.raises(UnreachableError, match="cannot be verified"),
    ):
        api.get(PATH)
