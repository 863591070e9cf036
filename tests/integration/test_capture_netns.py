"""Finding and entering network namespaces, as root and as an ordinary user."""

import fcntl
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import network_lab as lab
import podcam
from podcam.capture import LinkWatch, find_namespace, list_interfaces, open_inside, own_namespace
from podcam.errors import CaptureError, UsageError
from waiting import wait_until

pytestmark = pytest.mark.skipif(lab.why_not() is not None, reason=str(lab.why_not()))

AS_ORDINARY_USER = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
OPEN_A_RING = """
import sys
from podcam.capture import Traffic, find_namespace, geometry, open_ring_socket, own_namespace
from podcam.capture import recording_program
from podcam.errors import PodcamError
try:
    where = find_namespace(sys.argv[1]) if sys.argv[1:] else own_namespace()
    open_ring_socket(where, geometry(1 << 20), recording_program(Traffic())).close()
    print("recording")
except PodcamError as error:
    print(type(error).__name__, error)
"""


def udp_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def test_a_name_a_path_and_a_process_lead_to_the_same_namespace() -> None:
    with lab.namespace() as where:
        by_path = find_namespace(where.path or "")
        with subprocess.Popen(["ip", "netns", "exec", where.name, "sleep", "60"]) as process:
            try:
                wait_until(lambda: find_namespace(str(process.pid)).identity == where.identity)
                by_process = find_namespace(f"/proc/{process.pid}/ns/net")
            finally:
                process.kill()
        assert where.identity == by_path.identity == by_process.identity != own_namespace().identity
        assert (by_path.name, by_process.name) == (where.name, f"pid-{process.pid}")


def test_a_socket_opened_inside_stays_there() -> None:
    with lab.namespace() as where, open_inside(where, udp_socket) as inside, udp_socket() as outside:
        inside.bind(("127.0.0.1", 5000))
        outside.bind(("127.0.0.1", 0))
        outside.settimeout(5)
        outside.sendto(b"not seen inside", ("127.0.0.1", 5000))
        assert select.select([inside], [], [], 0.1)[0] == []
        assert list_interfaces(where) == [lab_loopback()]


def lab_loopback() -> object:
    return next(interface for interface in list_interfaces(own_namespace()) if interface.name == "lo")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "no-such-name",
            r"no network namespace no-such-name in /run/netns \(known there: .*a path or a process id",
        ),
        ("/no/such/path", "no network namespace /no/such/path"),
        ("4194304", "no process 4194304"),
        ("/etc/hostname/net", "no network namespace /etc/hostname/net"),
        ("n" * 300, "cannot be found: File name too long"),
        ("/etc/hostname", "/etc/hostname is not a network namespace"),
        ("..", "not the name of a network namespace"),
        ("", "not the name of a network namespace"),
    ],
)
def test_what_is_no_namespace_is_said_to_be_none(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_namespace(spec)


def test_another_kind_of_namespace_is_refused_when_entered() -> None:
    with pytest.raises(UsageError, match="not a network namespace"):
        open_inside(find_namespace("/proc/self/ns/uts"), udp_socket)


def test_a_namespace_that_went_away() -> None:
    with lab.namespace() as where:
        lab.ip("netns", "delete", where.name)
        with pytest.raises(CaptureError, match=f"{where.name} is gone"):
            list_interfaces(where)
        lab.ip("netns", "add", where.name)


def test_an_interface_may_have_any_name() -> None:
    """The kernel takes all but spaces, slashes and colons: a name that is no text is no reason to end."""

    def rename() -> None:
        request = struct.pack("16s16s", b"any", b"x\xff")
        with udp_socket() as sock:
            fcntl.ioctl(sock, 0x8923, request)  # SIOCSIFNAME: netdevice(7)

    with lab.namespace() as where:
        lab.ip("-n", str(where.name), "link", "add", "any", "type", "veth", "peer", "other")
        lab.inside(where, rename)
        assert "x\\xff" in {interface.name for interface in list_interfaces(where)}


def test_interfaces_come_are_renamed_and_go() -> None:
    with lab.namespace() as where:
        watch = LinkWatch(where)

        def names() -> set[str]:
            watch.update()
            return {interface.name for interface in watch.interfaces.values()}

        assert names() == {"lo"}
        lab.ip("-n", where.name, "link", "add", "a0", "type", "veth", "peer", "name", "a1")
        assert select.select([watch], [], [], 5)[0] == [watch]
        wait_until(lambda: names() == {"lo", "a0", "a1"})
        lab.ip("-n", where.name, "link", "set", "a0", "name", "b0")
        wait_until(lambda: names() == {"lo", "b0", "a1"})
        assert list(watch.interfaces.values()) == list_interfaces(where)
        lab.ip("-n", where.name, "link", "delete", "b0")
        wait_until(lambda: names() == {"lo"})
        watch.close()


def test_a_change_that_means_nothing_is_no_news() -> None:
    with lab.namespace() as where:
        lab.ip("-n", where.name, "link", "add", "br0", "type", "bridge")
        watch = LinkWatch(where)
        lab.ip("-n", where.name, "link", "set", "br0", "up")
        assert select.select([watch], [], [], 5)[0] == [watch]
        assert not watch.update()
        watch.close()


def test_an_interface_that_leaves_its_bridge_is_still_there() -> None:
    with lab.namespace() as where:
        lab.ip("-n", where.name, "link", "add", "br0", "type", "bridge")
        lab.ip("-n", where.name, "link", "add", "a0", "type", "veth", "peer", "name", "a1")
        lab.ip("-n", where.name, "link", "set", "a0", "master", "br0")
        watch = LinkWatch(where)
        lab.ip("-n", where.name, "link", "set", "a0", "nomaster")
        assert select.select([watch], [], [], 5)[0] == [watch]
        assert not watch.update()
        assert list(watch.interfaces.values()) == list_interfaces(where)
        watch.close()


def test_a_namespace_with_hundreds_of_interfaces() -> None:
    with lab.namespace() as where:
        for number in range(150):
            lab.ip(
                "-n", where.name, "link", "add", f"v{number}", "type", "veth", "peer", "name", f"w{number}"
            )
        assert len(list_interfaces(where)) == 301


@pytest.fixture
def ordinary_user() -> Iterator[Callable[..., str]]:
    """Tries to record as uid 1000 with a capability at most, and returns what was printed."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is missing: apt-get install util-linux")
    # Root's checkout and virtual environment often lie where nobody else may look.
    python = str(Path(sys.executable).resolve())
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        shutil.copytree(Path(podcam.__file__).parent, Path(folder, "podcam"))

        def run(*arguments: str, capability: str = "", code: str = OPEN_A_RING) -> str:
            kept = f"-all,+{capability}" if capability else "-all"
            capabilities = [f"--inh-caps={kept}", f"--ambient-caps={kept}", f"--bounding-set={kept}"]
            command = [*AS_ORDINARY_USER, *capabilities, python, "-B", "-c", code, *arguments]
            environment = {"PATH": os.environ["PATH"], "PYTHONPATH": folder}
            return subprocess.run(
                command, env=environment, cwd="/", capture_output=True, text=True, check=True
            ).stdout

        try:
            run(code="import podcam.capture")
        except subprocess.CalledProcessError:
            pytest.skip("an ordinary user may not run this Python: install it outside root's home")
        yield run


def test_without_rights_the_message_names_the_capability(ordinary_user: Callable[..., str]) -> None:
    with lab.namespace() as where:
        for arguments, capability in {
            (): "NET_RAW",
            (where.name,): "SYS_ADMIN",
            ("1",): "SYS_PTRACE",
        }.items():
            said = ordinary_user(*arguments)
            assert said.startswith("RightsError")
            assert f"CAP_{capability}" in said


def test_net_raw_alone_records_the_own_namespace(ordinary_user: Callable[..., str]) -> None:
    assert ordinary_user(capability="net_raw") == "recording\n"


def test_a_rootless_container_is_recorded_by_its_owner(ordinary_user: Callable[..., str]) -> None:
    command = [*AS_ORDINARY_USER, "unshare", "--user", "--map-root-user", "--net", "sleep", "60"]
    own = own_namespace().identity
    with subprocess.Popen(command) as process:
        try:
            wait_until(lambda: process.poll() is not None or find_namespace(str(process.pid)).identity != own)
            if process.poll() is not None:
                pytest.skip("this system gives ordinary users no user namespaces")
            assert ordinary_user(str(process.pid)) == "recording\n"
        finally:
            process.kill()
