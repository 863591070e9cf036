"""What all verbs of `kubectl podcam` share: flags, ages, tables, and what a start imports."""

import subprocess
import sys
from argparse import ArgumentParser
from datetime import UTC, datetime

import pytest

from podcam.cli.findings import print_findings
from podcam.cli.kubectl import VERBS, flags, main
from podcam.cli.kubectl.output import age, print_table, say, short_duration
from podcam.cluster import Finding


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"kubectl podcam {name}" in out
    assert "examples:" in out
    assert "--context" in out


def test_help_imports_no_verb_and_no_client() -> None:
    code = (
        "import sys; from podcam.cli.kubectl import main; main(['--help']); "
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in VERBS:
        assert f"  {name} " in done.stdout
    modules = set(done.stderr.split())
    assert not modules & {"podcam.kube", "podcam.cluster", "podcam.diagnose", "yaml", "numpy", "http.client"}


@pytest.mark.parametrize(
    ("argv", "arranged"),
    [
        (["status", "-n", "x"], ["status", "-n", "x"]),
        (["-n", "x", "status", "-A"], ["status", "-n", "x", "-A"]),
        (["-nx", "--context=c", "status"], ["status", "-nx", "--context=c"]),
        (["--kubeconfig", "status", "clips"], ["clips", "--kubeconfig", "status"]),
        (["--help"], ["--help"]),
        (["-A", "status"], ["-A", "status"]),
        (["-n", "x"], ["-n", "x"]),
        (["-n"], ["-n"]),
        ([], []),
    ],
)
def test_the_verb_may_come_after_the_flags_of_kubectl(argv: list[str], arranged: list[str]) -> None:
    assert list(flags.verb_first(argv, VERBS)) == arranged


def test_who_and_where_is_passed_on_to_kubectl() -> None:
    parser = ArgumentParser()
    flags.add_access(parser)
    given = [
        "--context",
        "a",
        "--context",
        "b",
        "-s",
        "https://x",
        "--as=jane",
        "--as-group=g",
        "--as-group=h",
        "-n",
        "n",
    ]
    assert flags.kubectl_options(parser.parse_args(given)) == [
        "--context=b",
        "--server=https://x",
        "--as=jane",
        "--as-group=g",
        "--as-group=h",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59, "59s"),
        (60, "1m"),
        (61, "1m1s"),
        (605, "10m"),
        (3600, "1h"),
        (7260, "2h1m"),
        (36000 + 60, "10h"),
        (90000, "1d1h"),
        (12 * 86400, "12d"),
    ],
)
def test_ages_as_kubectl_says_them(seconds: int, text: str) -> None:
    assert short_duration(seconds) == text


def test_the_age_of_a_time() -> None:
    now = datetime(2026, 11, 23, 6, 1, 5, tzinfo=UTC)
    assert age("2026-11-23T06:00:00Z", now) == "1m5s"
    assert age("2026-11-23T06:01:06Z", now) == "0s"
    assert age(None, now) == "<unknown>"


def test_a_narrow_terminal_cuts_nothing_of_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "8")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(["NAME", "REASON"], [["web-1", "reset by the server"]])
    assert capsys.readouterr().out == "NAME    REASON\nweb-1   reset by the server\n"


def test_a_table_shows_nothing_that_could_fool_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["A", "LONGER", "C"], [["1", "", "x\x1b[2Jy"], ["22222", "2", ""]])
    assert capsys.readouterr().out == "A       LONGER   C\n1       -        x\\x1b[2Jy\n22222   2        -\n"


def test_nor_does_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    say("node-1: \x1b]0;owned\x07\nsecond \x9b2J → line")
    assert capsys.readouterr().err == "node-1: \\x1b]0;owned\\x07\nsecond \\x9b2J → line\n"


def test_nor_does_what_the_doctor_found(capsys: pytest.CaptureFixture[str]) -> None:
    print_findings([Finding("agent of node-1", "it said \x1b[8m", "look\x1b[8m")])
    assert capsys.readouterr().out == (
        "FAIL  agent of node-1  it said \\x1b[8m\n                       look\\x1b[8m\n"
    )
