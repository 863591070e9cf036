"""`podcam wrap` in pods: every kind of image, every level of Pod Security, and a recorder that is harmed."""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import Cluster, Object, wait_for

_PROGRAMS = Path(__file__).parent / "wrapped"
_PYTHON_IMAGE = "docker.io/library/python:3.11-slim"
_PODCAM = ("/podcam/bin/python3", "-I", "-S", "-m", "podcam")
_USER = 1000

Image = tuple[str, Sequence[str]]
"""An image, and the app's command in it."""


def _image(tools: Path, folder: Path, name: str, *base: str) -> str:
    """An image of a folder's files, whose tag follows from them."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode() + (path.read_bytes() if path.is_file() else b""))
    image = f"localhost/wrap-{name}:{digest.hexdigest()[:12]}"
    subprocess.run(
        [tools / "make-image", image, *base, "--layer", folder], check=True, capture_output=True, timeout=120
    )
    return image


def _scripts(tools: Path, folder: Path) -> str:
    for script in ("app.py", "app.sh", "harm.py"):
        (folder / "app").mkdir(exist_ok=True)
        shutil.copy(_PROGRAMS / script, folder / "app" / script)
    return _image(tools, folder, "scripts", "--base", _PYTHON_IMAGE)


@pytest.fixture(scope="session")
def scripts(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Debian with Python and bash, and apps in both."""
    return _scripts(tools, tmp_path_factory.mktemp("scripts"))


@pytest.fixture
def python(scripts: str) -> Image:
    return scripts, ["python3", "/app/app.py"]


@pytest.fixture
def shell(scripts: str) -> Image:
    return scripts, ["bash", "/app/app.sh"]


@pytest.fixture(scope="session")
def static(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Nothing but one program, which needs no C library."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        pytest.skip("needs go, for an app without a C library")
    root = tmp_path_factory.mktemp("static")
    build = [go, "build", "-o", str(root / "app"), str(_PROGRAMS / "app.go")]
    settings = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local"}
    subprocess.run(build, check=True, timeout=300, env={**os.environ, **settings})
    return _image(tools, root, "static"), ["/app"]


@pytest.fixture
def musl(tools: Path, tmp_path: Path) -> Image:
    """Nothing but one program, and musl in place of glibc."""
    if shutil.which("musl-gcc") is None:
        pytest.skip("needs musl-gcc: apt-get install musl-tools")
    root = tmp_path / "root"
    (root / "lib").mkdir(parents=True)
    subprocess.run(["musl-gcc", "-o", root / "app", _PROGRAMS / "app.c"], check=True, timeout=60)
    loader = next(Path("/lib").glob("ld-musl-*.so.1"))
    shutil.copy(loader, root / "lib" / loader.name)
    return _image(tools, root, "musl"), ["/app"]


# --- pods ---


def _pod(
    name: str,
    image: str,
    command: Sequence[str],
    agent_image: str,
    *,
    init: Mapping[str, Any] | None = None,
    volume: Mapping[str, Any] | None = None,
    mount: Mapping[str, Any] | None = None,
    resources: Mapping[str, Any] | None = None,
    security: Mapping[str, Any],
) -> Object:
    """A pod with the bundle at /podcam, made by an init container, and a volume for the ring at /ring."""
    rights = {"runAsUser": 0, "capabilities": {"drop": ["ALL"], "add": ["SETFCAP"]}} if init is None else init
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "volumes": [{"name": "podcam", "emptyDir": {}}, {"name": "ring", "emptyDir": dict(volume or {})}],
            "initContainers": [
                {
                    "name": "podcam",
                    "image": agent_image,
                    "args": ["bundle", "/podcam"],
                    "securityContext": {"allowPrivilegeEscalation": False, **rights},
                    "resources": dict(resources or {}),
                    "volumeMounts": [{"name": "podcam", "mountPath": "/podcam"}],
                }
            ],
            "containers": [
                {
                    "name": "app",
                    "image": image,
                    "command": list(command),
                    "securityContext": dict(security),
                    "resources": dict(resources or {}),
                    "volumeMounts": [
                        {"name": "podcam", "mountPath": "/podcam", "readOnly": True},
                        {"name": "ring", "mountPath": "/ring", **(mount or {})},
                    ],
                }
            ],
        },
    }


def _wrap(*options: str, app: Sequence[str]) -> list[str]:
    return [*_PODCAM, "wrap", "--dir", "/ring/podcam", "--grace", "5s", *options, "--", *app]


def _ended(cluster: Cluster, namespace: str, name: str) -> tuple[int, list[str]]:
    """The app's exit code, and its log, when its container has ended."""

    def look() -> Object | None:
        status = cluster.get(f"pod/{name}", "-n", namespace)["status"]
        for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            waiting = container["state"].get("waiting", {})
            assert waiting.get("reason") not in {"ErrImagePull", "CreateContainerError"}, waiting
        return status if status["phase"] in {"Succeeded", "Failed"} else None

    status = wait_for(f"the end of {name}", look, 120)
    logs = cluster.kubectl("logs", name, "-n", namespace, "-c", "app").splitlines()
    return status["containerStatuses"][0]["state"]["terminated"]["exitCode"], logs


def _enforce(cluster: Cluster, namespace: str, level: str) -> None:
    cluster.kubectl("label", "namespace", namespace, f"pod-security.kubernetes.io/enforce={level}")


# --- images, and levels of Pod Security ---


@pytest.mark.parametrize("kind", ["python", "shell", "static", "musl"])
def test_an_app_of_any_image_is_recorded_for_a_user_who_is_not_root(
    kind: str, request: pytest.FixtureRequest, cluster: Cluster, namespace: str, agent_image: str
) -> None:
    image, app = request.getfixturevalue(kind)
    _enforce(cluster, namespace, "baseline")
    command = _wrap("--on", "exit-failure", app=app)
    cluster.apply(
        *(
            _pod(name, image, command, agent_image, security={"runAsUser": _USER, **more})
            | _in(namespace, name)
            for name, more in (
                ("may-escalate", {}),
                (
                    "may-not",
                    {"allowPrivilegeEscalation": False, "seccompProfile": {"type": "RuntimeDefault"}},
                ),
            )
        )
    )
    for name in ("may-escalate", "may-not"):
        code, log = _ended(cluster, namespace, name)
        assert code == 3, log
        assert [line for line in log if not line.startswith("podcam: ")] == ["the app runs"]
        assert any(line.endswith("the app ended with exit code 3") for line in log), log


def test_under_restricted_the_app_runs_and_one_line_says_why_it_is_not_recorded(
    static: Image, cluster: Cluster, namespace: str, agent_image: str
) -> None:
    image, app = static
    _enforce(cluster, namespace, "restricted")
    restricted = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "runAsUser": _USER,
        "seccompProfile": {"type": "RuntimeDefault"},
        "capabilities": {"drop": ["ALL"]},
    }
    pod = _pod("app", image, _wrap(app=app), agent_image, init=restricted, security=restricted)
    required = _pod(
        "strict", image, _wrap("--required", app=app), agent_image, init=restricted, security=restricted
    )
    cluster.apply(pod | _in(namespace, "app"), required | _in(namespace, "strict"))

    code, log = _ended(cluster, namespace, "app")
    assert code == 3
    assert log[0] == "the app runs"
    (why,) = log[1:]
    assert why.startswith("podcam: not record")
    assert "NET_RAW" in why

    code, log = _ended(cluster, namespace, "strict")
    assert code == 1
    (why,) = log
    assert why.startswith("podcam: recording is required and cannot begin: ")


def test_root_gives_the_app_its_user(
    scripts: str, cluster: Cluster, namespace: str, agent_image: str
) -> None:
    _enforce(cluster, namespace, "baseline")
    look = "id -u; grep -c 'CapEff:.*0000000000000000' /proc/self/status; exit 3"
    command = _wrap("--required", "--on", "exit", "--user", str(_USER), app=["bash", "-c", look])
    cluster.apply(
        _pod("app", scripts, command, agent_image, init={"runAsUser": 0}, security={}) | _in(namespace, "app")
    )
    code, log = _ended(cluster, namespace, "app")
    assert code == 3
    assert [line for line in log if not line.startswith("podcam: ")] == [str(_USER), "1"]
    assert any(line.endswith("the app ended with exit code 3") for line in log), log


@pytest.mark.parametrize(
    ("security", "through_a_shell", "works", "says"),
    [
        ({"runAsUser": _USER}, False, "file", ""),
        ({"runAsUser": _USER, "allowPrivilegeEscalation": False}, False, "file", ""),
        ({"runAsUser": _USER, "allowPrivilegeEscalation": False}, True, None, "NoNewPrivs"),
        ({"runAsUser": _USER, "capabilities": {"drop": ["ALL"]}}, False, None, "bounding set"),
        ({"runAsUser": 0}, False, "root", ""),
    ],
    ids=["file", "file, without escalation", "through a shell", "drop ALL", "root"],
)
def test_the_doctor_says_which_way_works_and_why_the_others_do_not(
    security: Mapping[str, Any],
    through_a_shell: bool,
    works: str | None,
    says: str,
    scripts: str,
    cluster: Cluster,
    namespace: str,
    agent_image: str,
) -> None:
    doctor = [*_PODCAM, "doctor", "--json", "--dir", "/ring"]
    command = ["sh", "-c", shlex.join(doctor) + "; exit $?"] if through_a_shell else doctor
    cluster.apply(_pod("app", scripts, command, agent_image, security=security) | _in(namespace, "app"))
    code, log = _ended(cluster, namespace, "app")
    findings = {each["subject"]: each for each in json.loads("\n".join(log))["findings"]}
    ways = {way: findings[f"way: {way}"] for way in ("root", "file", "sudo")}
    assert [way for way, found in ways.items() if found["found"] == "works"] == ([works] if works else [])
    assert code == (0 if works else 1)
    assert all(found["remedy"] for way, found in ways.items() if way != works)
    assert says in json.dumps(ways)


# --- a recorder that is harmed ---


@pytest.fixture
def harmed(cluster: Cluster, namespace: str, agent_image: str, scripts: str) -> Callable[..., list[str]]:
    """Runs the app that harms its recorder; returns the log of the app that ended well."""

    def run(harm: str, *options: str, **pod: Any) -> list[str]:
        app = ["python3", "/app/harm.py", harm, "/ring/podcam"]
        command = _wrap("--on", "none", *options, app=app)
        made = _pod("app", scripts, command, agent_image, security={"runAsUser": _USER}, **pod)
        cluster.apply(made | _in(namespace, "app"))
        code, log = _ended(cluster, namespace, "app")
        assert code == 0, log
        return log

    return run


def _told(log: list[str]) -> tuple[Object, list[str]]:
    """What the app saw, and what the recorder said."""
    (seen,) = (json.loads(line) for line in log if line.startswith("{"))
    assert seen["longest_wait_s"] < 2
    return seen["status"], [line for line in log if line.startswith("podcam: ")]


def test_a_recorder_that_is_killed_is_started_again(harmed: Callable[..., list[str]]) -> None:
    status, said = _told(harmed("kill"))
    (why,) = said
    assert why.startswith(
        "podcam: not recording: the recorder was killed by signal 9; it is tried again in 1 s"
    )
    assert (status["restarts"], status["why_restarted"]) == (1, "the recorder was killed by signal 9")


def test_memory_that_is_short_is_taken_from_the_recorder(harmed: Callable[..., list[str]]) -> None:
    """In a pod whose requests are its limits: the kernel counts others' apps as nearly as killable."""
    status, _said = _told(harmed("starve", resources={"limits": {"memory": "200Mi", "cpu": "1"}}))
    assert status["state"] == "recording"
    assert status["restarts"] or any("killed by signal 9" in warning for warning in status["warnings"])


def test_a_volume_that_the_app_fills_is_left_to_it(harmed: Callable[..., list[str]]) -> None:
    volume = {"medium": "Memory", "sizeLimit": "32Mi"}
    status, said = _told(harmed("flood", "--ring", "4x4MB", "--clips", "4MB", volume=volume))
    (warning, *_) = status["warnings"]
    assert "the ring goes on with" in warning
    assert said == []


def test_a_volume_that_is_read_only_is_told(
    python: Image, cluster: Cluster, namespace: str, agent_image: str
) -> None:
    image, app = python
    pod = _pod(
        "app", image, _wrap(app=app), agent_image, mount={"readOnly": True}, security={"runAsUser": _USER}
    )
    cluster.apply(pod | _in(namespace, "app"))
    code, log = _ended(cluster, namespace, "app")
    assert code == 3
    (why,) = (line for line in log if line != "the app runs")
    assert why.startswith("podcam: not record")
    assert "cannot make /ring/podcam: Read-only file system" in why


def _in(namespace: str, name: str) -> Object:
    return {"metadata": {"name": name, "namespace": namespace}}
