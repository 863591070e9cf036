"""What /proc/PID/cgroup looks like, by cgroup version, driver and runtime."""

import pytest

from podcam.kube.cgroups import pod_uid_of

UID = "8a413b9e-0326-4510-b6cd-49ddd8a81203"
SLICE_UID = UID.replace("-", "_")
CONTAINER = "04fd3ce4fc99b6eb369ae262d369944a64ef5bdc908ec55a44cf6994b79b6bec"

BURSTABLE = f"kubepods-burstable-pod{SLICE_UID}.slice"
SLICES = "/kubepods.slice/kubepods-burstable.slice"
IN_PODS = {
    "v1, cgroupfs, containerd": f"""\
12:memory:/kubepods/burstable/pod{UID}/{CONTAINER}
11:cpu,cpuacct:/kubepods/burstable/pod{UID}/{CONTAINER}
1:name=systemd:/kubepods/burstable/pod{UID}/{CONTAINER}
""",
    "v1, cgroupfs, only one controller tells": f"""\
3:devices:/system.slice/containerd.service
2:freezer:/kubepods/pod{UID}/{CONTAINER}
0::/
""",
    "v2, cgroupfs, guaranteed": f"0::/kubepods/pod{UID}/{CONTAINER}\n",
    "v2, systemd, containerd": f"0::{SLICES}/{BURSTABLE}/cri-containerd-{CONTAINER}.scope\n",
    "v2, systemd, guaranteed": f"0::/kubepods.slice/kubepods-pod{SLICE_UID}.slice/cri-containerd-0a.scope\n",
    "v2, systemd, CRI-O": f"0::{SLICES}/{BURSTABLE}/crio-{CONTAINER}.scope/container\n",
    "v1, systemd, CRI-O": f"9:pids:{SLICES}/{BURSTABLE}/crio-{CONTAINER}.scope\n",
    "v2, systemd, cri-dockerd": f"0::{SLICES}/{BURSTABLE}/docker-{CONTAINER}.scope\n",
    "v1, cgroupfs, cri-dockerd": f"4:blkio:/kubepods/besteffort/pod{UID}/{CONTAINER}\n",
    "v1, systemd driver of the kubelet alone": (
        f"5:cpu:/system.slice/containerd.service/{BURSTABLE}:cri-containerd:{CONTAINER}\n"
    ),
    "v2, k3s": f"0::/k3s/kubepods/besteffort/pod{UID}/{CONTAINER}\n",
    "v2, kind": (
        "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/"
        f"kubelet-kubepods-besteffort-pod{SLICE_UID}.slice/cri-containerd-{CONTAINER}.scope\n"
    ),
    "v2, cgroupfs, seen from a cgroup namespace": f"0::/../../pod{UID}/{CONTAINER}\n",
    "v2, systemd, seen from a cgroup namespace": f"0::/../../{BURSTABLE}/cri-containerd-{CONTAINER}.scope\n",
    "v2, CRI-O, seen from a cgroup namespace": f"0::/../../../{BURSTABLE}/crio-{CONTAINER}.scope\n",
    "v1, seen from a cgroup namespace": f"7:net_cls:/../../../burstable/pod{UID}/{CONTAINER}\n",
    "the pod's own group": f"0::/kubepods/burstable/pod{UID}\n",
    "a cluster in a pod": (
        f"0::/kubepods/pod{UID}/{CONTAINER}/kubelet/kubepods/pod00000000-0000-4000-8000-000000000000/x\n"
    ),
}


@pytest.mark.parametrize("cgroup", IN_PODS.values(), ids=IN_PODS)
def test_the_uid_stands_in_the_path(cgroup: str) -> None:
    assert pod_uid_of(cgroup) == UID


def test_a_static_pods_uid_is_a_hash() -> None:
    hashed = "3f2a9c1d5e6b7a8f90123456789abcde"
    assert pod_uid_of(f"0::/kubepods/burstable/pod{hashed}/{CONTAINER}\n") == hashed


@pytest.mark.parametrize(
    "cgroup",
    [
        "",
        "0::/\n",
        "0::/init.scope\n",
        "0::/../../..\n",
        "0::/system.slice/kubelet.service\n",
        "0::/kubepods.slice/kubepods-burstable.slice\n",
        f"0::/machine.slice/libpod-{CONTAINER}.scope\n",
        f"0::/system.slice/tripod{UID}/x\n",
        f"0::/kubepods/pod{UID}0/x\n",
        "12:memory:/docker/" + CONTAINER + "\n",
    ],
)
def test_outside_of_pods_there_is_none(cgroup: str) -> None:
    assert pod_uid_of(cgroup) is None
