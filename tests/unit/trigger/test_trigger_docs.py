"""The page on triggers shows the rules as they are."""

from pathlib import Path

import pytest

from podcam.trigger.rules import RULES, Rule

PAGE = (Path(__file__).parents[3] / "docs" / "triggers.md").read_text()
SHOWN = [
    line
    for line in PAGE.splitlines()
    if line.startswith(("| server |", "| client |", "| network |", "| nobody |"))
]


@pytest.mark.parametrize(("rule", "shown"), list(zip(RULES, SHOWN, strict=True)))
def test_each_rule_has_its_row(rule: Rule, shown: str) -> None:
    columns = (rule.by, rule.event.value, rule.failure_class or "no failure", rule.what, rule.unless or "")
    assert shown == "| " + " | ".join(map(str, columns)) + " |"
