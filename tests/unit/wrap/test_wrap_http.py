"""What a recorder in a pod hands out, and to whom it does not."""

import hashlib
import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from podcam.clip import OPEN
from podcam.wrap.http import READER, PodServer
from served_clips import keep_clip, packet

STATUS: dict[str, Any] = {"state": "recording", "warnings": []}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PodServer]:
    pods = {"web-1": [[packet(1), packet(2, bytes(100_000))]]}
    keep_clip(tmp_path / "clips", "20231114-221320-broken", "node-1", pods)
    server = PodServer(tmp_path / "clips", lambda: STATUS, 0)
    server.start()
    yield server
    server.close()


def get(server: PodServer, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request("GET", path, headers={READER: "1", **headers})
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()


def test_clips_and_their_files(server: PodServer, tmp_path: Path) -> None:
    _, _, listed = get(server, "/v1/clips")
    (clip,) = json.loads(listed)["clips"]
    assert (clip["clip"], clip["state"], clip["reason"]) == ("20231114-221320-broken", "complete", "it broke")
    status, _, body = get(server, "/v1/clips/20231114-221320-broken/index")
    index = json.loads(body)
    assert (status, index["manifest"]["id"]) == (200, clip["clip"])
    (file,) = index["files"]
    content = (tmp_path / "clips" / clip["clip"] / file["folder"] / file["name"]).read_bytes()
    assert file["bytes"] == len(content)

    where = f"/v1/clips/{clip['clip']}/files/0"
    status, headers, body = get(server, where)
    assert (status, headers["ETag"], body) == (200, f'"{file["version"]}"', content)
    begin = len(content) - 10
    status, headers, body = get(server, where, **{"Range": f"bytes={begin}-", "If-Range": headers["ETag"]})
    assert (status, body) == (206, content[-10:])
    assert headers["Content-Range"] == f"bytes {begin}-{len(content) - 1}/{len(content)}"
    status, _, body = get(server, where, **{"Range": f"bytes={begin}-", "If-Range": '"another"'})
    assert (status, body) == (200, content)
    _, _, sums = get(server, f"{where}/sha256")
    assert json.loads(sums) == {"version": file["version"], "sha256": hashlib.sha256(content).hexdigest()}


def test_an_app_that_fetches_any_url_gets_nothing(server: PodServer) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        for path in ("/status", "/v1/clips", "/v1/clips/20231114-221320-broken/files/0"):
            connection.request("GET", path)
            response = connection.getresponse()
            assert (response.status, b"broken" in response.read()) == (403, False)
    assert get(server, "/v1/clips", **{"X-Forwarded-For": "192.0.2.1"})[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "/v1/clips/../status.json/index",
        "/v1/clips/.hidden/index",
        "/v1/clips/20231114-221320-broken/files/1",
        "/v1/clips/20231114-221320-broken/files/../manifest.json",
        "/v1/clips/none/index",
        "/etc/passwd",
        "/",
    ],
)
def test_nothing_else_is_found(server: PodServer, path: str) -> None:
    assert get(server, path)[0] == 404


def test_a_clip_that_is_still_being_kept(server: PodServer, tmp_path: Path) -> None:
    keep_clip(tmp_path / "clips", "20231114-221321-open", "node-1", {"web-1": []}, state=OPEN)
    status, _, body = get(server, "/v1/clips/20231114-221321-open/index")
    assert status == 409
    assert "still being kept" in json.loads(body)["error"]


def test_status_and_health(server: PodServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get(server, "/healthz")[0] == 200
    assert json.loads(get(server, "/status")[2]) == STATUS
    monkeypatch.setitem(STATUS, "state", "failed")
    monkeypatch.setitem(STATUS, "warnings", ["no space left"])
    status, _, body = get(server, "/healthz")
    assert (status, "no space left" in json.loads(body)["error"]) == (503, True)


def test_it_listens_at_loopback_alone(server: PodServer) -> None:
    other = http.client.HTTPConnection("127.0.0.2", server.port, timeout=30)
    with closing(other), pytest.raises(ConnectionRefusedError):
        other.request("GET", "/status")


def test_it_is_in_use_while_somebody_asks(server: PodServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podcam.wrap.http._ASKS_AGAIN_SECONDS", 3600)
    assert not server.is_in_use
    get(server, "/status")
    assert server.is_in_use
