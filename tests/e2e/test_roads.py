"""Nobody gets packets who may not read them: every road to the bytes, with real tokens."""

import base64
import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import AGENTS, SYSTEM, Cluster, Object, wait_for
from e2e.scenario import Scenario, deploy_scenario
from e2e.users import OPERATOR, READER, make_user
from podcam.errors import ForbiddenError, KubernetesError
from podcam.kube import GRANTS, Api, ClipObject, path_of
from podcam.sealed import PrivateKey, Resource, Seal, SealedError, Unsealer, public_key_text

MARKER = b"SCRAM-SHA-256"
"""What the database says to everybody who logs in: in the payload of every connection of the app."""
_CLIP = "evidence"


@dataclass(frozen=True)
class Story:
    """A clip of namespace `a`, and people with different rights."""

    cluster: Cluster
    scenario: Scenario
    a: str
    b: str
    reader: Cluster
    """May record and read in `a`."""
    recorder: Cluster
    """May record in `a`, not read."""
    stranger: Cluster
    """May record and read in `b`; has nothing in `a`."""
    clip: ClipObject
    folder: Path

    def agents(self) -> dict[str, Object]:
        """The agents' pods that have a part of the clip, by node."""
        pods = self.cluster.items("pods", "-n", SYSTEM, "-l", AGENTS)
        return {pod["spec"]["nodeName"]: pod for pod in pods if pod["spec"]["nodeName"] in self.clip.parts}

    @contextmanager
    def api(self, user: Cluster) -> Iterator[Api]:
        """The API server as that user, without kubectl in between."""
        config = json.loads(user.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
        server = config["clusters"][0]["cluster"]
        token = config["users"][0]["user"]["token"]
        ca = self.folder / "ca.crt"
        ca.write_bytes(base64.b64decode(server["certificate-authority-data"]))
        with Api.at(server["server"], token=lambda: token, ca=ca) as api:
            yield api

    @contextmanager
    def granted(self, user: Cluster, namespace: str) -> Iterator[tuple[str, str, PrivateKey]]:
        """A grant for the clip, made by that user in that namespace: name, uid and key."""
        key = PrivateKey.new()
        name = f"by-hand-{secrets.token_hex(4)}"
        body = {
            "apiVersion": GRANTS.api_version,
            "kind": GRANTS.kind,
            "metadata": {"name": name},
            "spec": {"clip": _CLIP, "publicKey": public_key_text(key.public)},
        }
        with self.api(user) as api:
            made = api.create(path_of(GRANTS, namespace), body)
            try:
                yield name, made["metadata"]["uid"], key
            finally:
                api.delete(path_of(GRANTS, namespace, name))


@pytest.fixture(scope="module")
def story(cluster: Cluster, agents: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    run = secrets.token_hex(3)
    a, b = f"e2e-{run}-a", f"e2e-{run}-b"
    folder = tmp_path_factory.mktemp("roads")
    try:
        for namespace in (a, b):
            cluster.kubectl("create", "namespace", namespace)
        reader = make_user(cluster, folder, a, "reader", {a: [OPERATOR, READER]})
        recorder = make_user(cluster, folder, a, "recorder", {a: [OPERATOR]})
        stranger = make_user(cluster, folder, b, "stranger", {b: [OPERATOR, READER]})
        scenario = deploy_scenario(cluster, a)
        clip = _kept(cluster, recorder, scenario)
        yield Story(cluster, scenario, a, b, reader, recorder, stranger, clip, folder)
    finally:
        cluster.kubectl("delete", "namespace", "--wait=false", "--ignore-not-found", a, b)


@pytest.fixture(autouse=True)
def fresh_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What one of them fetched stays on that one's disk, not on everybody's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def _kept(cluster: Cluster, recorder: Cluster, scenario: Scenario) -> ClipObject:
    """Recorded and kept by one who may do that, and no more."""
    namespace = scenario.namespace
    recorder.create(
        _object("Recording", "app", namespace, selector={"matchLabels": {"app": "app"}}, ports=[5432])
    )
    recording = ("recording.podcam.dev/app", "-n", namespace)
    wait_for("the recording", lambda: cluster.get(*recording).get("status", {}).get("points") == "3/3")
    since = len(scenario.proxy_log())
    wait_for("connections that are recorded", lambda: len(scenario.proxy_log()) > since + 20)
    recorder.create(_object("Clip", _CLIP, namespace, recording="app", last="60s"))

    def complete() -> ClipObject | None:
        clip = ClipObject.parse(cluster.get(f"clip.podcam.dev/{_CLIP}", "-n", namespace))
        return clip if clip.state == "Complete" else None

    return wait_for("the clip", complete, 90)


def _object(kind: str, name: str, namespace: str, **spec: Any) -> Object:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "podcam.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def _proxy(pod: Object, path: str) -> str:
    return f"/api/v1/namespaces/{SYSTEM}/pods/{pod['metadata']['name']}:9472/proxy{path}"


def _paths(namespace: str, grant: str) -> list[str]:
    """The index, and the one file that each part has."""
    return [f"/v1/grants/{namespace}/{grant}/{what}" for what in ("index", "files/0")]


def _asked(api: Api, pod: Object, path: str) -> tuple[int, Message, bytes]:
    with api.get_bytes(_proxy(pod, path)) as answer:
        return answer.status, answer.headers, answer.read(1 << 30)


def test_a_reader_gets_all_of_it_and_leaves_no_grant(story: Story) -> None:
    file = story.folder / "reader.pcapng"
    done = story.reader.run("podcam", "pull", _CLIP, "-n", story.a, "-o", file)
    assert (done.returncode, done.stdout) == (0, f"{file}\n"), done.stderr
    whole = file.read_bytes()
    assert MARKER in whole
    for pod in story.scenario.pods():
        assert f"{story.a}/{pod['metadata']['name']}/eth0".encode() in whole
    assert story.cluster.items("packetgrants", "-n", story.a) == []


def test_a_reader_diagnoses_in_one_go(story: Story) -> None:
    done = story.reader.run("podcam", "diagnose", _CLIP, "-n", story.a, "--json")
    assert done.returncode == 0, done.stderr
    connections = json.loads(done.stdout)["connections"]
    assert {connection["protocol"] for connection in connections} >= {"postgresql"}


@pytest.mark.parametrize("who", ["recorder", "stranger"])
def test_whoever_may_not_read_there_pulls_nothing(story: Story, who: str) -> None:
    user: Cluster = getattr(story, who)
    file = story.folder / f"{who}.pcapng"
    for verb in (["pull", _CLIP, "-o", file], ["diagnose", _CLIP]):
        told = user.refusal("podcam", *verb, "-n", story.a)
        assert "not allowed" in told or "podcam-packet-reader" in told
    assert not file.exists()


def test_a_key_of_ones_own_needs_a_grant(story: Story) -> None:
    for user, namespace in ((story.recorder, story.a), (story.stranger, story.a), (story.reader, story.b)):
        with pytest.raises(ForbiddenError), story.granted(user, namespace):
            pytest.fail("the grant was made")


def test_rights_in_one_namespace_are_none_in_another(story: Story) -> None:
    recording = json.dumps(_object("Recording", "mine", story.a, pods=["app-0"]))
    clip = json.dumps(_object("Clip", "mine", story.a, recording="app", last="60s"))
    for body in (recording, clip):
        assert "cannot create" in story.stranger.refusal("create", "-f", "-", given=body)
    for kind in ("recordings", "clips", "packetgrants"):
        assert "cannot list" in story.stranger.refusal("get", f"{kind}.podcam.dev", "-n", story.a)
        assert "cannot delete" in story.stranger.refusal("delete", f"{kind}.podcam.dev", "any", "-n", story.a)
    for verb in (
        ["record", "deploy/app", "--port", "5432"],
        ["clips"],
        ["status"],
        ["clip", "app"],
        ["stop", "app"],
    ):
        assert story.stranger.run("podcam", *verb, "-n", story.a).returncode == 1, verb


def test_the_pod_proxy_without_a_grant(story: Story) -> None:
    with story.api(story.recorder) as api:
        for pod in story.agents().values():
            for path in _paths(story.a, "none"):
                status, _, body = _asked(api, pod, path)
                assert (status, "PacketGrant none" in json.loads(body)["error"]) == (403, True)
            for path in (
                "/",
                "/v1/grants",
                f"/v1/clips/{story.a}/{_CLIP}",
                f"/v1/grants/{story.a}/none/files/..%2f0",
            ):
                status, _, body = _asked(api, pod, path)
                assert (status, list(json.loads(body))) == (404, ["error"])


def test_the_pod_proxy_with_somebody_elses_grant(story: Story) -> None:
    """The bytes come, and only the one who made the grant can open them."""
    opened = b""
    with story.granted(story.reader, story.a) as (name, uid, key), story.api(story.recorder) as api:
        for node, pod in story.agents().items():
            entry: dict[str, Any] | None = None
            for path in _paths(story.a, name):
                headers, body = wait_for("the grant to arrive", partial(_there, api, pod, path))
                for plain in (MARKER, b"app-", story.a.encode(), b"podcam"):
                    assert plain not in body, (node, path, plain)
                resource = "index" if entry is None else f"{entry['folder']}/{entry['name']}"
                sealed = Resource(uid, resource, headers["ETag"].strip('"'))
                agent_key = story.clip.parts[node].public_key
                assert agent_key is not None
                with pytest.raises(SealedError):
                    _unsealed(Seal.by_reader(PrivateKey.new(), agent_key, sealed), body)
                plain = _unsealed(Seal.by_reader(key, agent_key, sealed), body)
                if entry is None:
                    (entry, *_) = json.loads(plain)["files"]
                else:
                    opened += plain
    assert MARKER in opened  # so that it means something that it was not seen above


def _there(api: Api, pod: Object, path: str) -> tuple[Message, bytes] | None:
    """Headers and body; an agent may hear of the grant a moment later."""
    status, headers, body = _asked(api, pod, path)
    return (headers, body) if status == 200 else None


def _status(api: Api, pod: Object, path: str, status: int) -> bytes | None:
    """The body, once the agent answers with this status."""
    answered, _, body = _asked(api, pod, path)
    return body if answered == status else None


def _unsealed(seal: Seal, body: bytes) -> bytes:
    unsealer = Unsealer(seal, len(body))
    plain = unsealer.feed(body)
    unsealer.finish()
    return plain


def test_a_grant_in_another_namespace_opens_nothing_here(story: Story) -> None:
    with story.granted(story.stranger, story.b) as (name, _, _), story.api(story.stranger) as api:
        for pod in story.agents().values():
            index = _paths(story.b, name)[0]
            told = wait_for("the grant to arrive", partial(_status, api, pod, index, 404))
            assert json.loads(told)["error"] == f"this node keeps nothing of clip {_CLIP}"
            for path in _paths(story.a, name):
                assert _asked(api, pod, path)[0] == 403


def test_a_grant_that_was_given_back_opens_nothing_any_more(story: Story) -> None:
    with story.api(story.reader) as api:
        (pod, *_) = story.agents().values()
        with story.granted(story.reader, story.a) as (name, _, _):
            path = _paths(story.a, name)[0]
            wait_for("the grant to arrive", lambda: _there(api, pod, path))
        wait_for("the grant to be gone", lambda: _asked(api, pod, path)[0] == 403)


def test_the_other_ways_to_a_pod_are_closed(story: Story) -> None:
    (pod, *_) = story.agents().values()
    name, node = pod["metadata"]["name"], pod["spec"]["nodeName"]
    system = f"/api/v1/namespaces/{SYSTEM}"
    with story.api(story.recorder) as api:
        for path in (
            f"{system}/services/podcam-agent:9472/proxy/metrics",
            f"{system}/services/podcam-agent:http/proxy/v1/grants/{story.a}/none/index",
            f"{system}/pods/{name}/log",
            f"{system}/secrets",
            f"/api/v1/nodes/{node}/proxy/pods",
        ):
            with pytest.raises(ForbiddenError):
                api.get_bytes(path)
        for path in (f"{system}/pods/{name}/exec", f"{system}/pods/{name}/portforward"):
            with pytest.raises(ForbiddenError):
                api.create(path, {})
        with pytest.raises(KubernetesError):
            api.merge_patch(f"{system}/pods/{name}/ephemeralcontainers", {"spec": {}})


def test_a_port_forward_carries_the_same_noise(story: Story) -> None:
    """For those whom an administrator lets through."""
    with story.granted(story.reader, story.a) as (grant, _, _):
        for pod in story.agents().values():
            with _forwarded(story.cluster, pod) as port:
                bodies = wait_for("the grant to arrive", partial(_fetched, port, _paths(story.a, grant)))
            assert all(MARKER not in body for body in bodies)


@contextmanager
def _forwarded(cluster: Cluster, pod: Object) -> Iterator[int]:
    command = ["kubectl", "port-forward", "-n", SYSTEM, pod["metadata"]["name"], ":9472"]
    with subprocess.Popen(command, env=cluster.environment(), stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout is not None
            found = re.search(r":(\d+) ->", forward.stdout.readline())
            assert found
            yield int(found[1])
        finally:
            forward.terminate()


def _fetched(port: int, paths: list[str]) -> list[bytes] | None:
    with Api.at(f"http://127.0.0.1:{port}") as api:
        bodies = []
        for path in paths:
            with api.get_bytes(path) as answer:
                if answer.status != 200:
                    return None
                bodies.append(answer.read(1 << 30))
        return bodies


_FETCH = """
import base64, json, sys, urllib.error, urllib.request
told = {}
for url in sys.argv[1:]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            told[url] = [answer.status, base64.b64encode(answer.read()).decode()]
    except urllib.error.HTTPError as error:
        told[url] = [error.code, base64.b64encode(error.read()).decode()]
print(json.dumps(told))
"""


def test_a_pod_of_somebody_else_that_asks_the_agents_itself(story: Story) -> None:
    image = os.environ.get("PODCAM_E2E_LAB_IMAGE", "localhost/lab:latest")
    story.cluster.kubectl(
        "run", "neighbour", "-n", story.b, "--image", image, "--command", "--", "sleep", "600"
    )
    story.cluster.kubectl("wait", "-n", story.b, "--for=condition=Ready", "pod/neighbour", "--timeout=60s")
    pods = story.scenario.pods()
    with story.granted(story.reader, story.a) as (grant, _, _):
        addresses = [_url(pod["status"]["podIP"]) for pod in story.agents().values()]
        sealed = [address + path for address in addresses for path in _paths(story.a, grant)]
        plain = [address + path for address in addresses for path in ("/metrics", "/healthz")]
        refused = [address + path for address in addresses for path in _paths(story.a, "none")]

        def fetch() -> dict[str, tuple[int, bytes]] | None:
            told = story.cluster.kubectl(
                "exec", "-n", story.b, "neighbour", "--", "python3", "-c", _FETCH, *sealed, *plain, *refused
            )
            answers = {url: (code, base64.b64decode(body)) for url, (code, body) in json.loads(told).items()}
            return answers if all(answers[url][0] == 200 for url in sealed) else None

        answers = wait_for("the grant to arrive", fetch)
    assert {answers[url][0] for url in refused} == {403}
    assert {answers[url][0] for url in plain} == {200}
    names = [pod["metadata"]["name"].encode() for pod in pods] + [_CLIP.encode(), grant.encode()]
    for url in (*sealed, *plain):
        for word in (MARKER, *names, *(pod["status"]["podIP"].encode() for pod in pods)):
            assert word not in answers[url][1], (url, word)


def _url(address: str) -> str:
    return f"http://[{address}]:9472" if ":" in address else f"http://{address}:9472"


def test_an_identity_that_a_caller_makes_up_counts_for_nothing(story: Story) -> None:
    headers = {"X-Remote-User": "reader", "X-Remote-Group": "system:masters", "X-Forwarded-For": "127.0.0.1"}
    (pod, *_) = story.agents().values()
    path = _proxy(pod, _paths(story.a, "none")[0])
    with story.api(story.recorder) as api, api.get_bytes(path, headers) as answer:
        assert answer.status == 403
