"""An app that harms the recorder beside it, measures itself meanwhile, and tells what it saw as JSON.

usage: python harm.py kill|starve|flood FOLDER
"""

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PATIENCE_S = 60


def main() -> None:
    """Harm it, wait until it has said so, and print its status and how long the app was ever kept waiting."""
    harm, folder = sys.argv[1], Path(sys.argv[2])
    wait_for(lambda: status(folder).get("state") == "recording")
    waits: list[float] = []
    threading.Thread(target=converse, args=(waits,), daemon=True).start()
    {"kill": kill, "starve": starve, "flood": flood}[harm](folder)
    print(json.dumps({"status": status(folder), "longest_wait_s": max(waits)}), flush=True)


def kill(folder: Path) -> None:
    """Kill the recorder, and wait for the next."""
    os.kill(recorder(), signal.SIGKILL)
    wait_for(lambda: status(folder).get("restarts") == 1 and status(folder).get("state") == "recording")


def starve(folder: Path) -> None:
    """Take memory until the kernel takes it from the recorder, and give it back."""
    before = living()
    taken: list[bytearray] = []
    while before <= living():
        taken.append(bytearray(b"x" * 1_000_000))
        time.sleep(0.03)  # a death takes its time
    taken.clear()
    wait_for(
        lambda: (
            status(folder).get("state") == "recording"
            and (
                status(folder)["restarts"]
                or any("killed by signal 9" in w for w in status(folder)["warnings"])
            )
        )
    )


def flood(folder: Path) -> None:
    """Take most of the volume, and send more than the rest holds, until the recorder has said so."""
    (folder.parent / "filler").write_bytes(bytes(24_000_000))
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=swallow, args=(server,), daemon=True).start()
        with socket.create_connection(server.getsockname()) as sock:
            deadline = time.monotonic() + _PATIENCE_S
            while not status(folder)["warnings"] and time.monotonic() < deadline:
                sock.sendall(bytes(200_000))
                time.sleep(0.005)


def swallow(server: socket.socket) -> None:
    """Read all that comes."""
    connection, _ = server.accept()
    while connection.recv(1 << 20):
        continue


def converse(waits: list[float]) -> None:
    """Ask and answer over the loopback, and note how long each took."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        while True:
            began = time.monotonic()
            with socket.create_connection(server.getsockname()) as client, server.accept()[0] as other:
                client.sendall(b"question")
                other.recv(100)
                other.sendall(b"answer")
                client.recv(100)
            waits.append(time.monotonic() - began)
            time.sleep(0.01)


def status(folder: Path) -> dict[str, Any]:
    """What the recorder says of itself."""
    try:
        found: dict[str, Any] = json.loads((folder / "status.json").read_text())
    except OSError:
        return {}
    return found


def recorder() -> int:
    """The process beside this one: both are the first process's children."""
    return next(int(pid) for pid in processes() if pid not in {"1", str(os.getpid())} and parent(pid) == 1)


def processes() -> set[str]:
    """All of this container."""
    return {entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()}


def living() -> set[str]:
    """The others that have memory: a process that was killed has none, reaped or not."""
    found = set()
    for pid in processes() - {str(os.getpid())}:
        try:
            if "VmRSS" in Path(f"/proc/{pid}/status").read_text():
                found.add(pid)
        except OSError:
            continue
    return found


def parent(pid: str) -> int:
    """Its parent, see proc_pid_stat(5)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wait_for(condition: Callable[[], object]) -> None:
    """Until it holds."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("what was waited for did not come")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
