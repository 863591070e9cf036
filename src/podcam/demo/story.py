"""The story from beginning to end: record, fail, clip, diagnose, and compare with what the proxy did."""

import contextlib
import errno
import json
import shlex
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podcam.demo import recording
from podcam.demo.app import AppError, Login, run_app
from podcam.demo.certificate import Certificate, make_certificate
from podcam.demo.lab import Lab, open_lab
from podcam.demo.postgres import DATABASE, PASSWORD, USER, run_postgres
from podcam.demo.proxy import Failed, Misbehaviour, Proxy
from podcam.errors import PodcamError, UsageError
from podcam.model.verdict import Fault, Phase, VerdictId

POSTGRESQL_PORT = 5432
_CONNECTIONS = 60
_EVERY = 20
_INTERVAL_S = 0.05
_TLS_NAME = "db.demo.internal"

_TIMEOUT_S = 2.0
_AFTER = "6s"
"""Longer than the app needs from one failure to the next, so that all failures are in one clip."""
_CLIP_COMPLETE_WITHIN_S = 30.0
_RECORDING_WITHIN_S = 15.0

VERDICTS = {
    Misbehaviour.RESET: VerdictId.RESET_DURING_STARTUP,
    Misbehaviour.CLOSE: VerdictId.CLOSED_DURING_STARTUP,
    Misbehaviour.SILENT: VerdictId.STARTUP_TIMEOUT,
}
"""What a diagnosis has to say of the connections that the proxy fails."""


@dataclass(frozen=True, slots=True)
class Script:
    """Which variant of the story is played, and where it leaves its things."""

    folder: Path
    ipv6: bool = False
    tls: bool = False
    port: int | None = None
    """The proxy's; None is PostgreSQL's own, or a free one where that is taken."""
    misbehaviour: Misbehaviour = Misbehaviour.RESET


def play(script: Script, say: Callable[[str], None], *, podcam: str) -> None:
    """Play it, telling each step to `say`. `podcam` is how the user calls the command.

    Raises PodcamError when a part does not work, and when the diagnosis does not agree with the proxy's log.
    """
    if script.tls and script.misbehaviour is Misbehaviour.SILENT:
        raise UsageError(
            "--tls with --proxy silent triggers nothing: a client that gives up after the handshake closes "
            "like one that is done; leave out one of the two"
        )
    folder = _empty(script.folder)
    proxy_log = folder / "proxy.jsonl"
    tell = _Teller(say)
    with contextlib.ExitStack() as stage:
        lab = stage.enter_context(open_lab(ipv6=script.ipv6))
        tell("lab", lab.description)
        database = stage.enter_context(run_postgres())
        certificate = make_certificate(folder, _TLS_NAME) if script.tls else None
        proxy = Proxy(
            database.socket_path,
            misbehaviour=script.misbehaviour,
            every=_EVERY,
            log=proxy_log,
            tls=None if certificate is None else _server_tls(certificate),
        )
        port = _serve(stage, proxy, lab, script.port)
        login = _login(lab, port, certificate)
        tell(
            "database",
            f"PostgreSQL {database.version} behind a proxy at {_where(login)}"
            + (" with TLS" if script.tls else ""),
        )
        clip = _record_the_app(lab, login, folder, tell)
    tell("app", f"{_CONNECTIONS} connections, {len(proxy.failed)} failed; why, the app cannot know")

    say("")
    say(f"$ {podcam} diagnose {shlex.quote(str(clip))}")
    recording.show("diagnose", clip)
    diagnosis = folder / "diagnosis.json"
    diagnosis.write_text(recording.output_of("diagnose", "--json", clip))
    pcapng = folder / "clip.pcapng"
    recording.output_of("export", clip, "-o", pcapng)

    wrong = disagreements(json.loads(diagnosis.read_text()), proxy.failed)
    if wrong:
        raise PodcamError(
            f"the diagnosis does not agree with the proxy's log {proxy_log}: {'; '.join(wrong)}"
        )
    ports = ", ".join(str(failed.client_port) for failed in proxy.failed)
    say("")
    say(f"The proxy's own log agrees: it failed the connections from ports {ports}, and no other.")
    say("")
    say("Go on with:")
    say(f"  {podcam} diagnose {clip} --annotate {folder / 'annotated.pcapng'}")
    say(f"  wireshark {pcapng}        # tcp.port in {{{ports}}}")
    say(f"  jq .summary {diagnosis}")
    say(f"  {podcam} record --port {POSTGRESQL_PORT}        # this machine's own connections")


def disagreements(diagnosis: Mapping[str, Any], failed: Sequence[Failed]) -> list[str]:
    """How a diagnosis (as `podcam diagnose --json` prints it) differs from what the proxy knows it did."""
    flagged = {
        (row["client"]["ip"], row["client"]["port"]): row for row in diagnosis["connections"] if row["failed"]
    }
    done = {(one.client_ip, one.client_port): one for one in failed}
    wrong = [f"port {port} was failed and is not flagged" for _, port in done.keys() - flagged.keys()]
    wrong += [f"port {port} is flagged and was not failed" for _, port in flagged.keys() - done.keys()]
    for client in done.keys() & flagged.keys():
        row = flagged[client]
        expected = (VERDICTS[done[client].misbehaviour], Fault.SERVER, Phase.STARTUP)
        found = (row["verdict"], row["fault"], row["phase"])
        if found != expected:
            wrong.append(f"port {client[1]} is {', '.join(found)} instead of {', '.join(expected)}")
        elif not row["evidence"]:
            wrong.append(f"port {client[1]} has no evidence")
    if not done:
        wrong.append("the proxy failed no connection")
    return wrong


def _record_the_app(lab: Lab, login: Login, folder: Path, tell: "_Teller") -> Path:
    """Run the recorder and then the app; gives the clip that was kept, complete."""
    arguments: list[str | Path] = ["--port", str(login.port), "--ring", "4x4MB", "--after", _AFTER]
    tell("podcam", f"podcam record {' '.join(map(str, arguments))}")
    arguments += ["--dir", folder / "recording"]
    with recording.record(lab.app, arguments, log=folder / "recorder.log", heard=tell.event) as recorder:
        recorder.wait_for("start", "started", timeout_s=_RECORDING_WITHIN_S)
        lab.app.call(
            lambda: run_app(
                login,
                connections=_CONNECTIONS,
                interval_s=_INTERVAL_S,
                stop=threading.Event(),
                progress=tell.app,
            )
        )
        event = recorder.wait_for("complete a clip", "complete", timeout_s=_CLIP_COMPLETE_WITHIN_S)
        recorder.stop()
    return Path(event["path"])


class _Teller:
    """Tells what each part does: the part's name, and a sentence."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def __call__(self, part: str, sentence: str) -> None:
        self._say(f"{part:>9}  {sentence}")

    def app(self, number: int, error: AppError | None) -> None:
        if error is not None:
            self("app", f"connection {number}: {error.message}")

    def event(self, event: recording.Event) -> None:
        match event["event"]:
            case "failure" | "warning":
                self("podcam", event["text"])
            case "clip":
                self("podcam", f"keeps the clip {event['path']}")
            case "complete":
                self("podcam", "the clip is complete")


def _empty(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty: give --keep a new folder")
    return folder


def _serve(stage: contextlib.ExitStack, proxy: Proxy, lab: Lab, port: int | None) -> int:
    try:
        return stage.enter_context(proxy.serving(lab.service, POSTGRESQL_PORT if port is None else port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE and port is None:
            return stage.enter_context(proxy.serving(lab.service, 0))
        raise UsageError(
            f"the proxy cannot listen on port {port or POSTGRESQL_PORT}: {error.strerror}"
        ) from error


def _server_tls(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)
    return context


def _login(lab: Lab, port: int, certificate: Certificate | None) -> Login:
    return Login(
        host=lab.service.address,
        port=port,
        user=USER,
        password=PASSWORD,
        database=DATABASE,
        tls=None if certificate is None else ssl.create_default_context(cafile=certificate.certificate),
        tls_name=_TLS_NAME,
        timeout_s=_TIMEOUT_S,
    )


def _where(login: Login) -> str:
    return f"[{login.host}]:{login.port}" if ":" in login.host else f"{login.host}:{login.port}"
