"""The client of the API server, against kmock, against servers of plain sockets, and over TLS."""

import datetime
import json
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kube_server import PATIENCE_SECONDS, KubeServer, named, refused
from podcam.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    KubernetesError,
    NotFoundError,
    UnreachableError,
    UsageError,
)
from podcam.kube import CLIPS, PODS, Api, path_of
from podcam.kube.roads import TokenFile, UrlRoad, in_cluster_road

PATH = path_of(CLIPS, "shop", "c")


@pytest.fixture
def server() -> Iterator[KubeServer]:
    with KubeServer() as running:
        yield running


@pytest.fixture
def api(server: KubeServer) -> Iterator[Api]:
    with Api.at(server.url) as connected:
        yield connected


def test_requests_say_what_the_api_server_expects(server: KubeServer, api: Api) -> None:
    server.answers(*[named("c")] * 6)
    assert api.get(PATH, {"a": "b c"}) == named("c")
    api.create(path_of(CLIPS, "shop"), {"spec": {}}, manager="podcam", dry_run=True)
    api.merge_patch(PATH, {"metadata": {"labels": {"a": None}}})
    api.apply(PATH, {"status": {"é": 1}}, manager="podcam-agent-n", subresource="status")
    api.apply(PATH, {"spec": {}}, manager="podcam-merge", force=True)
    api.delete(PATH, propagationPolicy="Background")
    asked = [
        (r.method.value, r.url.path, dict(r.params), r.headers.get("Content-Type"), r.data)
        for r in server.asked
    ]
    applied = "application/apply-patch+yaml"
    assert asked[:2] == [
        ("GET", PATH, {"a": "b c"}, None, None),
        (
            "POST",
            "/apis/podcam.dev/v1alpha1/namespaces/shop/clips",
            {"fieldManager": "podcam", "dryRun": "All"},
            "application/json",
            {"spec": {}},
        ),
    ]
    assert asked[2][3:] == ("application/merge-patch+json", {"metadata": {"labels": {"a": None}}})
    assert asked[3][1:4] == (f"{PATH}/status", {"fieldManager": "podcam-agent-n", "force": "false"}, applied)
    assert json.loads(server.asked[3].body) == {"status": {"é": 1}}
    assert asked[4][1:4] == (PATH, {"fieldManager": "podcam-merge", "force": "true"}, applied)
    assert asked[5][0] == "DELETE"
    assert asked[5][4] == {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    assert all(r.headers["User-Agent"].startswith("podcam/") for r in server.asked)


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (refused(403, "x is forbidden: User cannot", "Forbidden"), ForbiddenError),
        (refused(404, 'clips "c" not found', "NotFound", name="c"), NotFoundError),
        (refused(409, "exists", "AlreadyExists"), ConflictError),
        (refused(422, "Invalid value", "Invalid"), InvalidError),
        (refused(503, "not ready"), KubernetesError),
        (b"<html>a router's page</html>", UnreachableError),
        ([1, 2], UnreachableError),
    ],
)
def test_a_refusal_is_raised_as_what_it_is(
    server: KubeServer, api: Api, refusal: object, kind: type[KubernetesError]
) -> None:
    server.answers(refusal)
    with pytest.raises(kind) as told:
        api.create(path_of(CLIPS, "shop"), {})
    assert type(told.value) is kind


def test_what_is_no_address_of_an_api_server_is_told() -> None:
    for url in ("10.0.0.1:6443", "ftp://x", "https://"):
        with pytest.raises(UsageError, match="is not the address of an API server"):
            Api.at(url)


def test_a_name_that_does_not_resolve_is_told() -> None:
    with (
        Api.at("http://no-such-host.invalid") as api,
        pytest.raises(UnreachableError, match="cannot be reached"),
    ):
        api.get(PATH)


def test_the_token_is_read_again_when_it_changes(server: KubeServer, tmp_path: Path) -> None:
    """As the kubelet changes it: it swaps a link to the folder."""
    account = tmp_path / "account"
    account.mkdir()

    def swap(token: str) -> None:
        folder = tmp_path / token
        folder.mkdir()
        (folder / "token").write_text(token + "\n")
        link = tmp_path / "new"
        link.symlink_to(folder)
        link.rename(account / "..data")

    swap("one")
    (account / "token").symlink_to("..data/token")
    server.answers(*[named("c")] * 3)
    with Api.at(server.url, token=TokenFile(account / "token")) as api:
        api.get(PATH)
        api.get(PATH)
        swap("two")
        api.get(PATH)
        (account / "..data").unlink()
        with pytest.raises(UnreachableError, match=r"token .* cannot be read"):
            api.get(PATH)
    assert [r.headers["Authorization"] for r in server.asked] == ["Bearer one", "Bearer one", "Bearer two"]


def test_an_empty_token_is_not_sent(server: KubeServer, tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    with (
        Api.at(server.url, token=TokenFile(tmp_path / "token")) as api,
        pytest.raises(UnreachableError, match="empty"),
    ):
        api.get(PATH)
    assert not server.asked


class Script:
    """A server of plain sockets: `converse` gets every connection, and its number."""

    def __init__(self, converse: Callable[[socket.socket, int], None]) -> None:
        self._converse = converse
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self.connections = 0
        self._ending = False
        self._threads: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._ending:
                connection.close()
                return
            self.connections += 1
            thread = threading.Thread(target=self._talk, args=(connection, self.connections))
            thread.start()
            self._threads.append(thread)

    def _talk(self, connection: socket.socket, number: int) -> None:
        with connection:
            self._converse(connection, number)

    def __enter__(self) -> "Script":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        socket.create_connection(self.address).close()
        for thread in (self._thread, *self._threads):
            thread.join(PATIENCE_SECONDS)
        self._listener.close()


def request_on(connection: socket.socket) -> bytes:
    """The head of the next request; b"" when the client hung up."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65_536)
        if not piece:
            return b""
        data += piece
    return data


OBJECT = b'{"kind": "Clip"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(OBJECT) + OBJECT


def answer_all(connection: socket.socket, _: int) -> None:
    while request_on(connection):
        connection.sendall(OK)


def test_one_connection_serves_one_request_after_the_other() -> None:
    with Script(answer_all) as server, Api.at(server.url) as api:
        for _ in range(5):
            assert api.get(PATH) == {"kind": "Clip"}
        assert server.connections == 1


def test_many_threads_ask_at_once() -> None:
    with Script(answer_all) as server, Api.at(server.url) as api, ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(lambda _: api.get(PATH), range(200)))) == 200


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced() -> None:
    closed = threading.Event()

    def answer_once(connection: socket.socket, _: int) -> None:
        request_on(connection)
        connection.sendall(OK)
        connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    with Script(answer_once) as server, Api.at(server.url) as api:
        api.get(PATH)
        assert closed.wait(PATIENCE_SECONDS)
        api.create(PATH, {})  # may not be repeated, so must not be sent into nothing
        assert server.connections == 2


def hang_up_on_second(connection: socket.socket, number: int) -> None:
    if number > 1:
        answer_all(connection, number)
        return
    request_on(connection)
    connection.sendall(OK)
    request_on(connection)


def test_what_may_be_repeated_is_when_a_kept_connection_breaks() -> None:
    with Script(hang_up_on_second) as server, Api.at(server.url) as api:
        api.get(PATH)
        assert api.get(PATH) == {"kind": "Clip"}
        assert server.connections == 2


def test_creating_is_not_repeated_as_nobody_knows_whether_it_happened() -> None:
    with Script(hang_up_on_second) as server, Api.at(server.url) as api:
        api.get(PATH)
        with pytest.raises(UnreachableError, match="the connection broke off"):
            api.create(PATH, {})
        assert server.connections == 1


def test_a_fresh_connection_that_breaks_is_not_tried_again() -> None:
    def hear_and_hang_up(connection: socket.socket, _: int) -> None:
        request_on(connection)

    with Script(hear_and_hang_up) as server, Api.at(server.url) as api:
        with pytest.raises(UnreachableError, match="the connection broke off"):
            api.get(PATH)
        assert server.connections == 1


def test_a_server_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    def wait_for_the_client(connection: socket.socket, _: int) -> None:
        while connection.recv(65_536):
            pass

    with (
        Script(wait_for_the_client) as server,
        Api(UrlRoad(server.url), answer_seconds=0.05) as api,
        pytest.raises(UnreachableError, match="no answer in time"),
    ):
        api.get(PATH)


def test_closing_wakes_whoever_waits() -> None:
    asked = threading.Event()

    def wait_for_the_client(connection: socket.socket, _: int) -> None:
        request_on(connection)
        asked.set()
        while connection.recv(65_536):
            pass

    with Script(wait_for_the_client) as server, ThreadPoolExecutor(1) as pool:
        api = Api.at(server.url)
        waiting = pool.submit(api.get, PATH)
        assert asked.wait(PATIENCE_SECONDS)
        began = time.monotonic()
        api.close()
        with pytest.raises(UnreachableError):
            waiting.result(PATIENCE_SECONDS)
        assert time.monotonic() - began < 10
        with pytest.raises(UnreachableError, match="was closed here"):
            api.get(PATH)


def test_a_part_of_a_pods_bytes_is_asked_for_by_range(server: KubeServer, api: Api) -> None:
    server.answers((b"abc", b"def"))
    path = f"{path_of(PODS, 'podcam-system', 'podcam-agent-x')}:9472/proxy/v1/x"
    with api.get_bytes(path, {"Range": "bytes=100-"}, params={"a": "1"}) as answer:
        assert answer.status == 200
        assert b"".join(answer) == b"abcdef"
    assert server.asked[0].headers["Range"] == "bytes=100-"
    assert server.asked[0].headers.get("Accept") is None
    assert server.asked[0].params == {"a": "1"}


def backend(head: bytes, body: bytes) -> Callable[[socket.socket, int], None]:
    def converse(connection: socket.socket, _: int) -> None:
        request_on(connection)
        connection.sendall(b"HTTP/1.1 " + head + b"\r\n\r\n" + body)

    return converse


def test_the_backends_own_answers_come_through() -> None:
    refused_body = b'{"error": "no such grant"}'
    head = b"403 Forbidden\r\nX-Own: yes\r\nContent-Length: %d" % len(refused_body)
    with (
        Script(backend(head, refused_body)) as server,
        Api.at(server.url) as api,
        api.get_bytes("/x") as answer,
    ):
        assert answer.status == 403
        assert answer.headers["x-own"] == "yes"
        assert answer.read(1000) == refused_body
        assert answer.read(1000) == b""
    head = b"206 Partial Content\r\nContent-Range: bytes 4-6/7\r\nContent-Length: 3"
    with Script(backend(head, b"xyz")) as server, Api.at(server.url) as api, api.get_bytes("/x") as answer:
        assert (answer.status, answer.headers["Content-Range"]) == (206, "bytes 4-6/7")
        buffer = bytearray(2)
        assert answer.readinto(buffer) == 2
        assert (bytes(buffer), answer.read(10)) == (b"xy", b"z")


def test_the_api_servers_own_refusal_of_the_road_is_raised(server: KubeServer, api: Api) -> None:
    server.answers(refused(503, "error trying to reach service: dial tcp 10.0.0.1:9472: i/o timeout"))
    with pytest.raises(KubernetesError, match="error trying to reach service"):
        api.get_bytes("/api/v1/namespaces/podcam-system/pods/x:9472/proxy/v1/x")


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"200 OK\r\nContent-Length: 100", b"x" * 60),
        (b"200 OK\r\nTransfer-Encoding: chunked", b"3c\r\n" + b"x" * 60 + b"\r\n"),
        (b"200 OK\r\nTransfer-Encoding: chunked", b"64\r\n" + b"x" * 60),
    ],
)
def test_bytes_that_end_early_are_not_taken_for_all(head: bytes, body: bytes) -> None:
    with Script(backend(head, body)) as server, Api.at(server.url) as api, api.get_bytes("/x") as answer:
        buffer = bytearray(60)
        assert answer.readinto(buffer) == 60
        assert bytes(buffer) == b"x" * 60
        with pytest.raises(UnreachableError, match="the connection broke off"):
            answer.read(1000)


def test_a_big_answer_is_not_held_in_memory() -> None:
    size = 64 << 20

    def send_much(connection: socket.socket, _: int) -> None:
        request_on(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = bytes(1 << 20)
        for _ in range(64):
            connection.sendall(piece)

    with Script(send_much) as server, Api.at(server.url) as api, api.get_bytes("/x") as answer:
        tracemalloc.start()
        try:
            assert sum(map(len, answer)) == size
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()


# Over TLS, as from inside a cluster.


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
