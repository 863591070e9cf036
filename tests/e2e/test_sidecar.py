"""A pod's own recorder: the sidecar, on the canary alone, and fetching what it kept."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.cluster import Cluster, Object, wait_for
from e2e.kustomized import COMPONENTS, kustomization, rendered
from e2e.scenario import Scenario

_HERE = Path(__file__).parent
_APP = (_HERE / "canary" / "app.yaml").read_text()
_LAB = "localhost/lab:latest"


def app(name: str, **labels: str) -> Object:
    """A Deployment of the app."""
    found: Object = yaml.safe_load(_APP)
    found["metadata"] = {"name": name, "labels": labels}
    found["spec"]["selector"]["matchLabels"] = {"app": name}
    found["spec"]["template"]["metadata"]["labels"] = {"app": name, **labels}
    return found


def the_pod(cluster: Cluster, namespace: str, selector: str) -> Object:
    """The one pod with these labels that is not about to go, once it runs."""

    def look() -> Object | None:
        pods = cluster.items("pods", "-n", namespace, "-l", selector)
        alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return alive[0] if len(alive) == 1 and alive[0]["status"].get("phase") == "Running" else None

    return wait_for(f"one pod {selector}", look, 90)


def recorder_status(cluster: Cluster, namespace: str, pod: str) -> Object:
    found: Object = json.loads(
        cluster.kubectl("exec", "-n", namespace, pod, "-c", "podcam", "--", "cat", "/podcam/status.json")
    )
    return found


def sidecar_of(pod: Object) -> Object:
    (status,) = [each for each in pod["status"]["initContainerStatuses"] if each["name"] == "podcam"]
    assert isinstance(status, dict)
    return status


def generations(cluster: Cluster, namespace: str) -> dict[str, tuple[int, str]]:
    """Of each Deployment: how often its spec changed, and the hash of its pods' template."""
    sets = cluster.items("replicasets", "-n", namespace)
    found = {}
    for deployment in cluster.items("deployments", "-n", namespace):
        name = deployment["metadata"]["name"]
        hashes = [
            each["metadata"]["labels"]["pod-template-hash"]
            for each in sets
            if each["metadata"]["ownerReferences"][0]["name"] == name and each["spec"]["replicas"]
        ]
        found[name] = (deployment["metadata"]["generation"], ",".join(sorted(hashes)))
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def connections(scenario: Scenario, pod: Object) -> list[Object]:
    return [each for each in scenario.proxy_log() if each["client_ip"] == pod["status"]["podIP"]]


def clips_of(cluster: Cluster, namespace: str, pod: str, state: str = "complete") -> str | None:
    """The first clip of a pod's recorder in this state, once there is one."""
    listed = cluster.run(
        "exec", "-n", namespace, pod, "-c", "podcam", "--",
        "python3", "-m", "podcam", "clips", "--dir=/podcam", "--json",
    )  # fmt: skip
    clips = json.loads(listed.stdout)["clips"]
    done = [clip["manifest"]["id"] for clip in clips if clip["manifest"]["state"] == state]
    return done[0] if done else None


def on_node(tools: Path, pod: Object, command: str) -> subprocess.CompletedProcess[str]:
    number = pod["spec"]["nodeName"].rpartition("-")[2]
    return subprocess.run(
        [tools / "node-shell", number, "sh", "-c", command], capture_output=True, text=True, check=False
    )


def run_of(*command: str, name: str = "app", **more: Any) -> Object:
    """A pod's template with one container of the lab's image, which runs this."""
    container = {
        "name": name,
        "image": _LAB,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        **more,
    }
    return {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 30,
        "containers": [container],
    }


def deployment(name: str, pod: Object, *, replicas: int = 1, record: str = "sidecar") -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"podcam.dev/record": record}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    }


def job(name: str, pod: Object) -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"podcam.dev/record": "sidecar"}},
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": {"labels": {"app": name}}, "spec": {**pod, "restartPolicy": "Never"}},
        },
    }


def test_a_canary_is_recorded_and_nothing_else_is_touched(
    cluster: Cluster, scenario: Scenario, agent_image: str, home: Path, tools: Path
) -> None:
    namespace = scenario.namespace
    apps = [app("web"), app("web-canary", track="canary"), app("worker")]
    before = kustomization(home / "before", apps, image=agent_image, namespace=namespace)
    after = kustomization(
        home / "after", apps, ["sidecar"], image=agent_image, namespace=namespace, options=["--after=1s"]
    )
    plain, changed = rendered(cluster, before), rendered(cluster, after)
    assert {name for name in plain if plain[name] != changed[name]} == {"Deployment/web-canary"}

    cluster.kubectl("apply", "-k", before)
    cluster.kubectl("rollout", "status", "-n", namespace, "deployment/web-canary", "--timeout=90s")
    untouched = generations(cluster, namespace)
    cluster.kubectl("apply", "-k", after)
    cluster.kubectl("rollout", "status", "-n", namespace, "deployment/web-canary", "--timeout=120s")
    now = generations(cluster, namespace)
    assert {name for name in now if now[name] != untouched[name]} == {"web-canary"}

    pod = the_pod(cluster, namespace, "app=web-canary")
    name = pod["metadata"]["name"]
    assert sidecar_of(pod)["started"] is True
    assert recorder_status(cluster, namespace, name)["state"] == "recording"
    told = cluster.kubectl("podcam", "status", "-n", namespace)
    assert name in told
    assert "recording" in told

    wait_for("a good connection of the canary", lambda: connections(scenario, pod), 30)
    scenario.fail_next(pod)
    scenario.wait_until_failed()
    clip = wait_for("a clip", lambda: clips_of(cluster, namespace, name), 30)

    done = cluster.run("podcam", "pull", "--sidecar", name, "-n", namespace)
    assert done.returncode == 0, done.stderr
    assert "can read its packets" in done.stderr
    (pcapng,) = home.glob("*.pcapng")
    assert done.stdout.strip() == pcapng.name
    assert pcapng.read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"
    assert pcapng.name.startswith(clip)
    again = cluster.run("podcam", "pull", "--sidecar", f"pod/{name}", clip, "-n", namespace)
    assert "all of it was here" in again.stderr

    diagnosed = cluster.run("podcam", "diagnose", "--sidecar", name, "-n", namespace, "--json")
    assert diagnosed.returncode == 0, diagnosed.stderr
    failed = [each for each in json.loads(diagnosed.stdout)["connections"] if each["failed"]]
    assert [each["verdict"] for each in failed] == ["reset-during-startup"]
    assert failed[0]["fault"] == "server"
    assert failed[0]["client"]["name"] == f"pod {namespace}/{name}"

    volume = f"ls -d /var/lib/kubelet/pods/{pod['metadata']['uid']}/volumes/kubernetes.io~empty-dir/podcam"
    assert on_node(tools, pod, volume).returncode == 0
    cluster.kubectl("delete", "pod", name, "-n", namespace)
    wait_for("the volume to go", lambda: on_node(tools, pod, volume).returncode != 0, 60)


def test_a_job_completes_and_its_last_clip_is_fetched_before_the_pod_is_gone(
    cluster: Cluster, scenario: Scenario, agent_image: str, home: Path
) -> None:
    """The clip is complete only when the recorder ends: whoever watches has it all the same."""
    namespace = scenario.namespace
    client = (
        "python3 -m e2e.scenario.programs.client proxy 5432 0.1 & until [ -e /tmp/done ]; do sleep 0.1; done"
    )
    (volume,) = yaml.safe_load(_APP)["spec"]["template"]["spec"]["volumes"]
    mount = [{"name": "programs", "mountPath": "/programs"}]
    pod = run_of("/bin/bash", "-c", client, workingDir="/programs", volumeMounts=mount) | {
        "volumes": [volume]
    }
    folder = kustomization(
        home / "k",
        [job("migrate", pod)],
        ["sidecar"],
        image=agent_image,
        namespace=namespace,
        options=["--after=10m"],
    )
    cluster.kubectl("apply", "-k", folder)
    running = the_pod(cluster, namespace, "app=migrate")
    name = running["metadata"]["name"]
    wait_for("a good connection", lambda: connections(scenario, running), 30)

    with watching(cluster, namespace, name) as watch:
        scenario.fail_next(running)
        scenario.wait_until_failed()
        wait_for("an open clip", lambda: clips_of(cluster, namespace, name, state="open"), 30)
        cluster.kubectl("exec", "-n", namespace, name, "-c", "app", "--", "touch", "/tmp/done")
        out, err = watch.communicate(timeout=60)

    assert watch.returncode == 0, err
    (pcapng,) = home.glob("*.pcapng")
    assert out.strip() == pcapng.name
    assert "has ended" in err
    cluster.kubectl("wait", "--for=condition=Complete", "-n", namespace, "job/migrate", "--timeout=60s")
    ended = cluster.get(f"pod/{name}", "-n", namespace)
    assert sidecar_of(ended)["state"]["terminated"]["exitCode"] == 0


@contextmanager
def watching(cluster: Cluster, namespace: str, pod: str) -> Iterator["subprocess.Popen[str]"]:
    """`kubectl podcam pull --watch`, from when it has asked for the first time."""
    watch = subprocess.Popen(
        ["kubectl", "podcam", "pull", "--sidecar", pod, "-n", namespace, "--watch"],
        env=cluster.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert watch.stderr is not None
        assert "can read its packets" in watch.stderr.readline()
        yield watch
    finally:
        watch.kill()
        watch.wait()


def test_a_job_completes_without_anybody_watching(
    cluster: Cluster, namespace: str, agent_image: str, home: Path
) -> None:
    jobs = [job("well", run_of("/bin/true")), job("ill", run_of("/bin/bash", "-c", "exit 3"))]
    cluster.kubectl(
        "apply", "-k", kustomization(home, jobs, ["sidecar"], image=agent_image, namespace=namespace)
    )
    cluster.kubectl("wait", "--for=condition=Complete", "-n", namespace, "job/well", "--timeout=60s")
    cluster.kubectl("wait", "--for=condition=Failed", "-n", namespace, "job/ill", "--timeout=60s")


def test_probes_and_a_rolling_update(cluster: Cluster, namespace: str, agent_image: str, home: Path) -> None:
    # The app listens by then: a probe that is refused before is a failed connection like any other.
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "initialDelaySeconds": 5}
    pod = run_of(
        "/bin/bash", "-c", 'trap "exit 0" TERM; cd /etc; python3 -m http.server 8080 >/dev/null 2>&1 & wait',
        startupProbe=probe, readinessProbe=probe, livenessProbe=probe,
    )  # fmt: skip
    web = deployment("web", pod, replicas=2)
    folder = kustomization(home, [web], ["sidecar"], image=agent_image, namespace=namespace)
    cluster.kubectl("apply", "-k", folder)
    cluster.kubectl("rollout", "status", "-n", namespace, "deployment/web", "--timeout=90s")
    old = {pod["metadata"]["name"] for pod in cluster.items("pods", "-n", namespace)}

    cluster.kubectl("rollout", "restart", "-n", namespace, "deployment/web")
    cluster.kubectl("rollout", "status", "-n", namespace, "deployment/web", "--timeout=90s")
    cluster.kubectl(
        "wait", "--for=delete", "-n", namespace, *(f"pod/{name}" for name in old), "--timeout=20s"
    )
    pods = cluster.items("pods", "-n", namespace)
    assert len(pods) == 2
    for each in pods:
        name = each["metadata"]["name"]
        assert sidecar_of(each)["restartCount"] == 0
        assert each["status"]["containerStatuses"][0]["restartCount"] == 0

        def probed(name: str = name) -> Object | None:
            status = recorder_status(cluster, namespace, name)
            return status if status["totals"].get("packets", 0) > 50 else None

        status = wait_for(f"{name} to record its probes", probed, 60)
        assert status["state"] == "recording"
        assert (status["totals"]["failures"], status["last_clip"]) == (0, None)


def test_the_recorder_is_no_reason_for_an_eviction(
    cluster: Cluster, namespace: str, agent_image: str, home: Path
) -> None:
    """Kubelet holds a pod to the sum of its containers' limits: a tight one of ours would be the app's."""
    fill = run_of("/bin/bash", "-c", "head -c 800M /dev/zero > /tmp/full; sleep infinity")
    greedy = run_of(
        "/bin/bash", "-c", "head -c 300M /dev/zero > /tmp/full; sleep infinity",
        resources={"limits": {"ephemeral-storage": "100Mi"}, "requests": {"ephemeral-storage": "1Mi"}},
    )  # fmt: skip
    tight = [
        {
            "op": "replace",
            "path": "/spec/template/spec/initContainers/0/resources/limits/ephemeral-storage",
            "value": "600Mi",
        }
    ]
    folder = kustomization(
        home,
        [deployment("fills", fill), deployment("greedy", greedy), deployment("tight", fill)],
        ["sidecar"],
        image=agent_image,
        namespace=namespace,
        patches=[{"target": {"name": "tight"}, "patch": yaml.safe_dump(tight)}],
    )
    cluster.kubectl("apply", "-k", folder)

    def evicted(name: str) -> str | None:
        pods = cluster.items("pods", "-n", namespace, "-l", f"app={name}")
        gone = [pod["status"] for pod in pods if pod["status"].get("reason") == "Evicted"]
        return str(gone[0]["message"]) if gone else None

    assert "total limit of containers 600Mi" in wait_for("tight is evicted", lambda: evicted("tight"), 180)
    message = wait_for("greedy is evicted", lambda: evicted("greedy"), 180)
    assert "app" in message
    assert "100Mi" in message
    assert "podcam" not in message
    (fills,) = cluster.items("pods", "-n", namespace, "-l", "app=fills")
    assert fills["status"]["phase"] == "Running"
    assert recorder_status(cluster, namespace, fills["metadata"]["name"])["state"] == "recording"


@pytest.fixture
def guarded(cluster: Cluster, namespace: str) -> str:
    """A namespace whose pods keep to Pod Security `baseline`."""
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=baseline")
    return namespace


def test_baseline_takes_both_ways(cluster: Cluster, guarded: str, agent_image: str, home: Path) -> None:
    plain = run_of("/bin/bash", "-c", "sleep infinity & wait", securityContext={"runAsUser": 1000})
    beside = deployment("beside", plain)
    around = deployment("around", plain, record="wrap")
    refused = kustomization(home / "1", [beside], ["sidecar"], image=agent_image, namespace=guarded)
    assert "NET_RAW" in cluster.run("apply", "-k", refused).stderr  # a warning: its pods would be refused

    folder = kustomization(
        home / "2",
        [beside, around],
        ["sidecar", "sidecar-baseline", "wrap"],
        image=agent_image,
        namespace=guarded,
    )
    cluster.kubectl("apply", "-k", folder)
    for name in ("beside", "around"):
        pod = the_pod(cluster, guarded, f"app={name}")["metadata"]["name"]
        wait_until_recorded(cluster, guarded, pod)


def wait_until_recorded(cluster: Cluster, namespace: str, pod: str) -> None:
    wait_for(f"{pod} to be recorded", lambda: told_state(cluster, namespace, pod) == "recording", 60)


def told_state(cluster: Cluster, namespace: str, pod: str) -> str | None:
    """As `kubectl podcam status` has it."""
    lines = cluster.kubectl("podcam", "status", "-n", namespace).splitlines()
    found = [line.split() for line in lines if line.startswith(pod)]
    return found[0][3] if found else None


def test_a_wrapped_app_is_pulled_from_the_same_way(
    cluster: Cluster, scenario: Scenario, agent_image: str, home: Path
) -> None:
    namespace = scenario.namespace
    wrapped = app("wrapped", **{"podcam.dev/record": "wrap"})
    folder = kustomization(home / "k", [wrapped], ["wrap"], image=agent_image, namespace=namespace)
    cluster.kubectl("apply", "-k", folder)
    pod = the_pod(cluster, namespace, "app=wrapped")
    name = pod["metadata"]["name"]
    wait_until_recorded(cluster, namespace, name)
    wait_for("a good connection", lambda: connections(scenario, pod), 30)
    scenario.fail_next(pod)
    scenario.wait_until_failed()
    pull = wait_for("its clip", lambda: pulled(cluster, namespace, name), 60)
    assert (home / pull).read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"


def pulled(cluster: Cluster, namespace: str, pod: str) -> str | None:
    done = cluster.run("podcam", "pull", "--sidecar", pod, "-n", namespace)
    return None if done.returncode else done.stdout.strip()


def test_what_a_chart_renders_gets_the_sidecar_too(cluster: Cluster, agent_image: str) -> None:
    """As Helm runs a post-renderer."""
    plain = yaml.safe_dump_all([app("web"), app("web-canary", track="canary")])
    done = subprocess.run(
        [COMPONENTS / "helm-post-render"],
        input=plain,
        env={**cluster.environment(), "PODCAM_IMAGE": agent_image},
        capture_output=True,
        text=True,
        check=True,
    )
    web, canary = yaml.safe_load_all(done.stdout)
    assert web == app("web")
    (sidecar,) = canary["spec"]["template"]["spec"]["initContainers"]
    assert (sidecar["name"], sidecar["image"]) == ("podcam", agent_image)
