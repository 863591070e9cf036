"""Reaching a cluster through `kubectl proxy`, with a kubectl made of Python."""

import json
import os
import select
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from podcam.errors import ForbiddenError, UnauthorizedError, UnreachableError, UsageError
from podcam.kube import CLIPS, Api, KubectlProxy, path_of

KUBECTL = """\
    import http.server, json, os, socketserver, sys
    from pathlib import Path

    here = Path(__file__).parent
    (here / "arguments").write_text(json.dumps(sys.argv[1:]))
    (here / "process").write_text(f"{os.getpid()} {os.getsid(0)}")
    [path] = [each.partition("=")[2] for each in sys.argv if each.startswith("--unix-socket=")]
    said = json.loads((here / "says").read_text())

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if said.get("stderr"):
                print(said["stderr"], file=sys.stderr, end="", flush=True)
            body = said["body"].encode()
            self.send_response(said["status"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self):
            return "a unix socket"

        def log_message(self, *_):
            pass

    if "complaint" in said:
        sys.exit(said["complaint"])
    with socketserver.ThreadingUnixStreamServer(path, Handler) as server:
        print("Starting to serve on", path, flush=True)
        server.serve_forever()
"""


class Kubectl:
    """The program, and what it was started with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "kubectl"
        self.path.write_text(f"#!{sys.executable}\n" + textwrap.dedent(KUBECTL))
        self.path.chmod(0o755)
        self.says(status=200, body='{"gitVersion": "v1.36.0"}')

    def says(self, **what: object) -> None:
        (self.folder / "says").write_text(json.dumps(what))

    @property
    def arguments(self) -> list[str]:
        return list(json.loads((self.folder / "arguments").read_text()))

    @property
    def process(self) -> int:
        return int((self.folder / "process").read_text().split()[0])

    @property
    def session(self) -> int:
        return int((self.folder / "process").read_text().split()[1])

    def proxy(self, *options: str) -> KubectlProxy:
        return KubectlProxy(options, kubectl=str(self.path))


@pytest.fixture
def kubectl(tmp_path: Path) -> Kubectl:
    return Kubectl(tmp_path)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_runs_with_the_users_flags_and_ends_with_the_context(kubectl: Kubectl) -> None:
    with kubectl.proxy("--context=prod", "--as=jane") as api:
        assert api.get("/version") == {"gitVersion": "v1.36.0"}
        assert kubectl.arguments[:3] == ["--context=prod", "--as=jane", "proxy"]
        assert alive(kubectl.process)
        folder = Path(api.place).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not alive(kubectl.process)
    assert not folder.exists()


def test_it_ends_when_the_work_fails(kubectl: Kubectl) -> None:
    with pytest.raises(ZeroDivisionError), kubectl.proxy():
        raise ZeroDivisionError
    assert not alive(kubectl.process)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_a_podcam_that_is_killed(kubectl: Kubectl, how: signal.Signals) -> None:
    program = (
        "import sys; from podcam.kube import KubectlProxy\n"
        "with KubectlProxy(kubectl=sys.argv[1]): print('up', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(kubectl.path)]
    environment = {**os.environ, "TMPDIR": str(kubectl.folder)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as podcam:
        assert podcam.stdout is not None
        assert podcam.stdout.readline() == b"up\n"
        proxy = os.pidfd_open(kubectl.process)
        podcam.send_signal(how)
        podcam.wait(30)
    try:
        assert select.select([proxy], [], [], 30)[0]
    finally:
        os.close(proxy)


def test_a_kubectl_that_does_not_end_is_ended(kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podcam.kube.child._END_SECONDS", 0.05)
    with kubectl.proxy():
        os.kill(kubectl.process, signal.SIGSTOP)  # it cannot heed SIGTERM
    assert not alive(kubectl.process)


def test_ctrl_c_at_the_terminal_is_not_for_kubectl(kubectl: Kubectl) -> None:
    with kubectl.proxy():
        assert kubectl.session == kubectl.process != os.getsid(0)


def test_no_path_is_rejected_for_looking_like_exec(kubectl: Kubectl) -> None:
    with kubectl.proxy():
        assert "--reject-paths=^$" in kubectl.arguments


def test_without_kubectl_it_says_how_to_get_it(tmp_path: Path) -> None:
    proxy = KubectlProxy(kubectl=str(tmp_path / "kubectl"))
    with pytest.raises(UsageError, match=r"there is no .*kubectl on the PATH"):
        proxy.__enter__()
    (tmp_path / "kubectl").touch()
    with pytest.raises(UsageError, match="cannot be run: Permission denied"):
        proxy.__enter__()


def test_what_kubectl_complains_of_is_the_error(kubectl: Kubectl) -> None:
    kubectl.says(complaint='error: context "prod" does not exist')
    with pytest.raises(UsageError, match=r'^kubectl: context "prod" does not exist$'):
        kubectl.proxy("--context=prod").__enter__()


def test_a_kubectl_that_does_not_start_is_not_waited_for_for_ever(
    kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podcam.kube.child._START_SECONDS", 0.05)
    kubectl.path.write_text("#!/bin/sh\nexec sleep 300\n")
    with pytest.raises(UnreachableError, match="did not start within"):
        kubectl.proxy().__enter__()


def test_a_cluster_out_of_reach_is_told_as_kubectl_tells_it(kubectl: Kubectl) -> None:
    kubectl.says(status=500, body="dial tcp 10.0.0.1:6443: connect: connection refused\n")
    sentence = "^the cluster cannot be reached: dial tcp 10.0.0.1:6443: connect: connection refused$"
    with pytest.raises(UnreachableError, match=sentence):
        kubectl.proxy().__enter__()
    assert not alive(kubectl.process)


def test_who_is_not_known_is_told(kubectl: Kubectl) -> None:
    kubectl.says(
        status=401, body='{"kind": "Status", "apiVersion": "v1", "code": 401, "message": "Unauthorized"}'
    )
    with pytest.raises(UnauthorizedError, match="has expired"):
        kubectl.proxy().__enter__()


def test_who_may_not_ask_for_the_version_may_do_other_things(kubectl: Kubectl) -> None:
    kubectl.says(status=403, body='{"kind": "Status", "apiVersion": "v1", "code": 403, "message": "no"}')
    with kubectl.proxy() as api, pytest.raises(ForbiddenError, match="not allowed"):
        api.get(path_of(CLIPS, "shop"))


def test_plugins_for_logging_in_are_heard_and_logs_are_not(
    kubectl: Kubectl, capfd: pytest.CaptureFixture[str]
) -> None:
    log = "E1123 07:04:23.839024 30136 proxy_server.go:147] Error while proxying request\n"
    log += "2026/11/23 07:27:24 httputil: ReverseProxy read error during body copy\n"
    kubectl.says(status=200, body="{}", stderr=f"{log}To sign in, open this page\n")
    with kubectl.proxy():
        pass
    assert capfd.readouterr().err == "To sign in, open this page\n"


def test_a_proxy_that_went_away_is_told(kubectl: Kubectl) -> None:
    with kubectl.proxy() as api:
        os.kill(kubectl.process, signal.SIGKILL)
        os.waitid(os.P_PID, kubectl.process, os.WEXITED | os.WNOWAIT)
        with pytest.raises(UnreachableError, match="cannot be reached"):
            api.get("/version")


def test_a_socket_that_is_not_there_is_told(tmp_path: Path) -> None:
    with Api.at_socket(tmp_path / "none") as api, pytest.raises(UnreachableError, match="No such file"):
        api.get("/version")
