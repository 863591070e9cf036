"""A pod's own recorder, as sidecar and as `podcam wrap`, beside tcpdump in the same pod on the same traffic.

usage: PODCAM_E2E_KUBECONFIG=FILE python bench/sidecar.py --image REGISTRY/NAME:TAG [--quick] [--seconds S]
       [--rate N]

Needs a cluster that may be changed, Podcam's image there (scripts/agent-image), and an image with Python and
tcpdump (PODCAM_E2E_LAB_IMAGE, localhost/lab:latest). The components of deploy/components are used as they
are. The load is `connections` of bench/loads.py: short TCP connections, every other one of six questions and
answers. CPU is what all threads of a recorder ran (/proc/PID/task/*/schedstat) while the load did, in percent
of a core; memory is the PSS of its processes at the end of the load, mapped kernel rings included.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recorder import machine

_REPOSITORY = Path(__file__).parents[1]
_COMPONENTS = _REPOSITORY / "deploy" / "components"
_PATIENCE_S = 120.0
_LEAST_PACKETS = 9
"""Of a connection with one question: three to begin, two and their answers' two, three and more to end."""
_FIGURES = """
import json, os
cpu, pss = 0.0, 0
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        command = open(f"/proc/{pid}/cmdline").read()
        if NEEDLE not in command or "os.listdir" in command:
            continue
        for thread in os.listdir(f"/proc/{pid}/task"):
            cpu += int(open(f"/proc/{pid}/task/{thread}/schedstat").read().split()[0]) / 1e9
        rollup = open(f"/proc/{pid}/smaps_rollup").read()
        pss += int(rollup.split("Pss:", 1)[1].split()[0])
    except OSError as error:
        if error.errno not in (2, 3):
            raise
print(json.dumps({"cpu_s": cpu, "pss_kb": pss}))
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one recorder, so far."""

    cpu_s: float
    pss_mb: float


def kubectl(*arguments: object, given: str | None = None) -> str:
    done = subprocess.run(
        ["kubectl", *map(str, arguments)], input=given, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"kubectl {' '.join(map(str, arguments))[:200]}: {done.stderr}")
    return done.stdout


@contextmanager
def namespace() -> Iterator[str]:
    name = f"bench-{secrets.token_hex(3)}"
    kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


def deployment(name: str, way: str | None, lab: str) -> dict[str, Any]:
    """One pod: the load, and tcpdump beside it; without a way, the other side of the load."""
    idle: dict[str, Any] = {
        "name": "load",
        "image": lab,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"] if way else ["python3", "/programs/loads.py", "sink", "0.0.0.0"],
        "volumeMounts": [{"name": "programs", "mountPath": "/programs"}],
    }
    dump = "tcpdump -n -Z root -i any -C 25 -W 8 -w /dump/ring 2>/dev/null"
    tcpdump = {
        "name": "tcpdump",
        "image": lab,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", f"exec {dump}"],
        "volumeMounts": [{"name": "dump", "mountPath": "/dump"}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"podcam.dev/record": way} if way else {}},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [idle, tcpdump] if way else [idle],
                    "volumes": [
                        {"name": "programs", "configMap": {"name": "programs"}},
                        {"name": "dump", "emptyDir": {"sizeLimit": "300M"}},
                    ],
                },
            },
        },
    }


def deploy(where: str, image: str, lab: str) -> None:
    loads = (Path(__file__).parent / "loads.py").read_text()
    programs = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "programs"},
        "data": {"loads.py": loads},
    }
    objects = [
        programs,
        *(
            deployment(name, way, lab)
            for name, way in (("sink", None), ("sidecar", "sidecar"), ("wrap", "wrap"))
        ),
    ]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "all.yaml").write_text(yaml.safe_dump_all(objects))
        name, _, tag = image.rpartition(":")
        body = {
            "namespace": where,
            "resources": ["all.yaml"],
            "components": [
                os.path.relpath((_COMPONENTS / each).resolve(), Path(folder).resolve())
                for each in ("sidecar", "wrap")
            ],
            "images": [{"name": "podcam.dev/agent", "newName": name, "newTag": tag}],
        }
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(body))
        kubectl("apply", "-k", folder)
    for name in ("sink", "sidecar", "wrap"):
        kubectl("rollout", "status", "-n", where, f"deployment/{name}", "--timeout=120s")


def figures(where: str, name: str, container: str, needle: str) -> Figures:
    program = _FIGURES.replace("NEEDLE", repr(needle))
    told = json.loads(
        kubectl("exec", "-n", where, f"deployment/{name}", "-c", container, "--", "python3", "-c", program)
    )
    return Figures(told["cpu_s"], told["pss_kb"] / 1024)


def status(where: str, name: str) -> Mapping[str, Any]:
    container, path = {"sidecar": ("podcam", "/podcam"), "wrap": ("load", "/podcam-ring")}[name]
    found: Mapping[str, Any] = json.loads(
        kubectl(
            "exec", "-n", where, f"deployment/{name}", "-c", container, "--", "cat", f"{path}/status.json"
        )
    )
    return found


def run_load(where: str, name: str, seconds: float, rate: float) -> Mapping[str, Any]:
    sink = json.loads(kubectl("get", "pods", "-n", where, "-l", "app=sink", "-o", "json"))["items"][0]
    told = kubectl(
        "exec", "-i", "-n", where, f"deployment/{name}", "-c", "load", "--",
        "python3", "/programs/loads.py", "connections", sink["status"]["podIP"], seconds, rate, given="go\n",
    )  # fmt: skip
    found: Mapping[str, Any] = json.loads(told.splitlines()[-1])
    return found


def measure(where: str, name: str, seconds: float, rate: float) -> None:
    recorder = ("podcam", "podcam") if name == "sidecar" else ("load", "podcam")
    until = time.monotonic() + _PATIENCE_S
    while status(where, name)["state"] != "recording":
        if time.monotonic() > until:
            sys.exit(f"{name} does not record: {status(where, name)}")
    before = {each[1]: figures(where, name, *each) for each in (recorder, ("tcpdump", "tcpdump"))}
    load = run_load(where, name, seconds, rate)
    after = {each[1]: figures(where, name, *each) for each in (recorder, ("tcpdump", "tcpdump"))}
    totals = _totals(where, name, load["sent"])
    print(
        f"\n{name}: {load['sent'] / load['seconds']:.0f} connections per second for {load['seconds']:.0f} s; "
        f"{totals.get('packets'):,} packets, {totals.get('dropped')} dropped"
    )
    for what, end in after.items():
        cpu = (end.cpu_s - before[what].cpu_s) / load["seconds"] * 100
        who = what if what == "tcpdump" else f"podcam {name}"
        print(f"  {who:<16} {cpu:5.1f} % of a core   {end.pss_mb:6.1f} MB")


def _totals(where: str, name: str, connections: int) -> Mapping[str, Any]:
    """Once they tell of all connections: status.json is written every ten seconds."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        totals: Mapping[str, Any] = status(where, name)["totals"]
        if totals.get("packets", 0) >= _LEAST_PACKETS * connections:
            return totals
        if time.monotonic() > until:
            sys.exit(f"{name} did not record all of the load: {totals}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", required=True, help="Podcam's, as the cluster pulls it")
    parser.add_argument("--quick", action="store_true", help="one short run of everything")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load")
    parser.add_argument("--rate", type=float, default=200.0, help="connections per second")
    args = parser.parse_args()
    kubeconfig = os.environ.get("PODCAM_E2E_KUBECONFIG")
    if not kubeconfig:
        sys.exit("PODCAM_E2E_KUBECONFIG has to name a cluster that may be changed")
    os.environ["KUBECONFIG"] = kubeconfig
    lab = os.environ.get("PODCAM_E2E_LAB_IMAGE", "localhost/lab:latest")
    print(machine())
    with namespace() as where:
        deploy(where, args.image, lab)
        for name in ("sidecar", "wrap"):
            measure(where, name, 5.0 if args.quick else args.seconds, args.rate)
    return 0


if __name__ == "__main__":
    sys.exit(main())
