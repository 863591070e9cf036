"""The agent's image holds what an agent imports, and nothing else."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

_REPOSITORY = Path(__file__).parents[3]
_SOURCE = _REPOSITORY / "src" / "podcam"
_BROUGHT = {"cryptography": {"cryptography"}, "cffi": {"cffi", "_cffi_backend"}, "pycparser": {"pycparser"}}
"""The modules of each package that requirements/agent.txt may name."""


def _left_out() -> list[str]:
    script = (_REPOSITORY / "scripts" / "agent-root").read_text()
    return re.findall(r"--exclude=podcam/(\S+)", script)


def test_an_agent_starts_without_what_is_left_out(tmp_path: Path) -> None:
    shutil.copytree(_SOURCE, tmp_path / "podcam", ignore=shutil.ignore_patterns("__pycache__"))
    for room in _left_out():
        assert (_SOURCE / room).exists(), f"scripts/agent-root leaves out podcam/{room}, which is not there"
        shutil.rmtree(tmp_path / "podcam" / room)
    foreign = (
        "import sys; before = set(sys.modules); import podcam.cli.agent; "
        "print(*{name.partition('.')[0] for name, module in sys.modules.items() "
        "if name not in before and 'site-packages' in (getattr(module, '__file__', None) or '')})"
    )

    run = [sys.executable, "-c", foreign]
    done = subprocess.run(
        run, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr
    pinned = re.findall(
        r"^([a-z0-9-]+)==", (_REPOSITORY / "requirements" / "agent.txt").read_text(), re.MULTILINE
    )
    assert set(done.stdout.split()) <= set().union(*(_BROUGHT[name] for name in pinned))
    assert "cryptography" in done.stdout


def test_it_holds_no_room_that_an_agent_or_a_recorder_in_a_pod_cannot_reach() -> None:
    """The sidecar runs it, and init containers take the recorder for `podcam wrap` from it."""
    rooms = {path.name for path in _SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    reached = (
        "import podcam.cli.agent, podcam.cli.sidecar, podcam.cli.bundle, sys; "
        "print(*{name.split('.')[1] for name in sys.modules if name.startswith('podcam.')})"
    )
    done = subprocess.run([sys.executable, "-c", reached], capture_output=True, text=True, check=True)
    assert rooms - set(done.stdout.split()) <= {room for room in _left_out() if "/" not in room}


def test_both_ways_to_make_it_run_it_alike() -> None:
    dockerfile = (_SOURCE / "deploy" / "Dockerfile").read_text()
    script = (_REPOSITORY / "scripts" / "agent-image").read_text()
    (settings,) = re.findall(r"^ENV (.*)$", dockerfile, re.MULTILINE)
    assert sorted(settings.split()) == sorted(re.findall(r"--env (\S+)", script))
    for docker, ours in (("ENTRYPOINT", "entrypoint"), ("CMD", "cmd")):
        (command,) = re.findall(rf"^{docker} (.*)$", dockerfile, re.MULTILINE)
        assert f"--{ours} '{command}'" in script
    (user,) = re.findall(r"^USER (.*)$", dockerfile, re.MULTILINE)
    assert f"--user {user} " in script
    (base,) = re.findall(r"^ARG PYTHON=(.*)$", dockerfile, re.MULTILINE)
    assert f":-{base}}}" in script
    assert "--index" not in dockerfile
