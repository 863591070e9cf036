"""The pages lead somewhere: their links, and the commands that they show."""

import re
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest

from podcam import cli
from podcam.cli import kubectl

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_COMMAND = re.compile(r"(?:(?<=`)|(?:^    |^      )(?:\$ )?)(kubectl podcam|podcam) ([^`#\n]*)", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """As the sites that show Markdown make them of headings."""
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(page.read_text()))
    return {heading.strip().replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_to_a_file_and_to_a_heading_of_it(page: Path) -> None:
    for link in _LINK.findall(page.read_text()):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def commands(page: Path) -> Iterator[tuple[str, str]]:
    """What a page shows to be typed: the program, and what follows it on the line."""
    yield from _COMMAND.findall(page.read_text())


def verbs_of(program: str) -> Mapping[str, str]:
    return kubectl.VERBS if program == "kubectl podcam" else cli.VERBS


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_name_a_verb_and_its_flags(page: Path) -> None:
    for program, rest in commands(page):
        verb, _, arguments = rest.partition(" ")
        if not verb or not re.fullmatch(r"[a-z]+", verb):  # `podcam VERB --help`
            continue
        assert verb in verbs_of(program), f"{program} {rest}"
        parser = ArgumentParser()
        import_module(f"podcam.cli{'.kubectl' if program == 'kubectl podcam' else ''}.{verb}").add_arguments(
            parser
        )
        known = set(parser._option_string_actions)
        ours = re.split(r" (?:--|\|) ", f" {arguments} ", maxsplit=1)[0]
        for flag in re.findall(r"(?<= )--?[a-z][a-z-]*", ours):
            assert flag in known, f"{program} {rest}"


@pytest.mark.parametrize("program", ["podcam", "kubectl podcam"])
def test_every_verb_is_on_some_page(program: str) -> None:
    shown = {
        rest.split()[0]
        for page in PAGES
        for named, rest in commands(page)
        if named == program and rest.split()
    }
    assert not verbs_of(program).keys() - shown
