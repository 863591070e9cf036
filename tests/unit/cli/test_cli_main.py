"""The command as a user's shell sees it: exit codes, one line of complaint, and what a start imports."""

import errno
import importlib
import os
import re
import shlex
import subprocess
import sys
import types
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

from podcam import cli
from podcam.errors import CaptureFileError, UsageError


def verb(run: Callable[[Namespace], int]) -> types.ModuleType:
    module = types.ModuleType("podcam.cli.diagnose")

    def add_arguments(parser: ArgumentParser) -> None:
        parser.add_argument("path", nargs="?")
        parser.add_argument("--json", action="store_true")

    module.__dict__.update(add_arguments=add_arguments, run=run)
    return module


def raising(error: BaseException) -> Callable[[Namespace], int]:
    def run(_: Namespace) -> int:
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "code", "complaint"),
    [
        (lambda _: 0, 0, ""),
        (lambda _: 7, 7, ""),
        (raising(CaptureFileError("a.pcap is empty")), 1, "podcam: a.pcap is empty\n"),
        (raising(UsageError("--ring is too small")), 2, "podcam: --ring is too small\n"),
        (raising(CaptureFileError("\x1b[2Ja is no\nfile")), 1, "podcam: \\x1b[2Ja is no\nfile\n"),
        (raising(KeyboardInterrupt()), 130, ""),
        (
            raising(OSError(errno.EROFS, "Read-only file system", "/a\n")),
            1,
            "podcam: /a\n: Read-only file system\n",
        ),
        (raising(OSError(errno.EIO, "Input/output error")), 1, "podcam: Input/output error\n"),
    ],
)
def test_how_a_verb_ends(
    run: Callable[[Namespace], int],
    code: int,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "podcam.cli.diagnose", verb(run))
    assert cli.main(["diagnose", "a.pcap"]) == code
    assert capsys.readouterr().err == complaint


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ([], "no verb was given"),
        (["--jsn"], "--jsn"),
        (["diagnoze"], "there is no verb 'diagnoze'"),
        (["diagnose", "--jsn"], "unrecognized arguments: --jsn (try: podcam diagnose --help)"),
        (["diagnose", "--js"], "unrecognized arguments: --js"),
        (["demo", "--proxy", "x"], "--proxy: invalid choice: 'x' (choose from 'reset', 'close', 'silent')"),
    ],
)
def test_wrong_usage_is_one_line(
    argv: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "podcam.cli.diagnose", verb(lambda _: 0))
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert complaint in err
    assert (out, err.count("\n")) == ("", 1)


def test_a_package_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def import_module(name: str) -> types.ModuleType:
        raise ModuleNotFoundError(name, name="numpy.core")

    monkeypatch.setattr(importlib, "import_module", import_module)
    assert cli.main(["diagnose", "a.pcap"]) == 1
    assert "`podcam diagnose` needs the package numpy" in capsys.readouterr().err


def test_help_imports_no_verb() -> None:
    """What a start costs is what it imports: this stays true on a slow machine too."""
    code = "import sys; from podcam.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in cli.VERBS:
        assert f"  {name} " in done.stdout
    modules = set(done.stderr.split())
    assert {name for name in modules if name.startswith("podcam")} == {
        "podcam",
        "podcam.cli",
        "podcam.cli.program",
        "podcam.errors",
        "podcam.model",
        "podcam.model.text",
    }
    assert not modules & {"numpy", "numba", "rich", "asyncio"}


@pytest.mark.parametrize("name", cli.VERBS)
def test_every_verb_explains_itself_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: podcam {name}")
    assert re.search(f"\nexamples?:\n  podcam {name}", out)


def test_a_locale_without_arrows_still_gets_help() -> None:
    old = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "podcam", "record", "--help"]
    assert (
        "usage: podcam record"
        in subprocess.run(command, capture_output=True, env=old, check=True, text=True).stdout
    )


@pytest.mark.parametrize("show", ["print", "podcam.report.console().print"])
def test_a_reader_that_goes_away_ends_the_command_quietly(show: str) -> None:
    code = (
        "import sys, types, podcam.report; from podcam import cli\n"
        "def run(args):\n"
        f"    while True: {show}('x' * 1000)\n"
        "verb = types.SimpleNamespace(add_arguments=lambda parser: None, run=run)\n"
        "sys.modules['podcam.cli.diagnose'] = verb\n"
        "sys.exit(cli.main(['diagnose']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=10) == 141


@pytest.mark.parametrize(
    ("redirected", "code", "complaint"),
    [(">/dev/full", 1, "podcam: standard output: No space left on device\n"), (">&-", 0, "")],
)
def test_an_output_that_takes_nothing(redirected: str, code: int, complaint: str, tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m podcam clips --json --dir {shlex.quote(str(tmp_path))}"
    done = subprocess.run(
        ["sh", "-c", f"{command} {redirected}"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, complaint)
