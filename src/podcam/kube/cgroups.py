"""From /proc/PID/cgroup to the pod that a process belongs to. Pure.

The kubelet puts a pod's uid into the path, whatever the runtime: cgroups(7), `pkg/kubelet/cm` of Kubernetes.

- cgroupfs driver: `/kubepods/burstable/pod<uid>/<container>`
- systemd driver: `/kubepods.slice/…/kubepods-burstable-pod<uid>.slice/cri-containerd-<id>.scope`, where the
  uid has _ for -; CRI-O says `crio-<id>.scope`, cri-dockerd `docker-<id>.scope`
- cgroup v1 has a line per controller, v2 one line `0::`; where the reader has a cgroup namespace of its own,
  a path outside of it begins with `/..`
"""

import re

_UID = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}"
_POD = re.compile(rf"(?:^|[/-])pod(?P<uid>{_UID}|[0-9a-f]{{32}})(?=[./:]|$)", re.ASCII)
"""A static pod's uid is a hash without dashes."""


def pod_uid_of(cgroup: str) -> str | None:
    """The uid of the pod that a process with this /proc/PID/cgroup runs in; None outside of pods.

    Of pods within a pod (a cluster in a container), it is the outermost, which is this node's.
    """
    for line in cgroup.splitlines():
        path = line.split(":", 2)[-1]
        if found := _POD.search(path):
            return found["uid"].replace("_", "-")
    return None
