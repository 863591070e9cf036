"""What may be named with `--on`."""

import pytest

from podcam.errors import UsageError
from podcam.model.verdict import FailureClass, VerdictId
from podcam.trigger import DEFAULT_CLASSES, classes_for
from podcam.trigger.rules import RULES


@pytest.mark.parametrize("name", FailureClass)
def test_a_class_stands_for_itself(name: FailureClass) -> None:
    assert classes_for(str(name)) == {name}


def test_a_verdict_stands_for_the_classes_that_show_it() -> None:
    assert classes_for("reset-during-startup") == {FailureClass.RESET_EARLY}
    assert classes_for("startup-timeout") == {FailureClass.RESET_EARLY, FailureClass.CLOSED_EARLY}


NO_TRIGGERS = {"ok", "partial", "probe", "lossy", "slow-start", "closed-mid-request", "closed-idle"} | {
    "session-terminated",
    "peer-vanished",
    "zero-window-stall",
    "mtu-black-hole",
    "dns-failed",
}


@pytest.mark.parametrize("verdict", sorted(set(VerdictId) - NO_TRIGGERS))
def test_verdicts_that_control_packets_can_show(verdict: str) -> None:
    assert classes_for(verdict)


@pytest.mark.parametrize("verdict", sorted(NO_TRIGGERS))
def test_other_verdicts_are_refused_with_the_reason(verdict: str) -> None:
    with pytest.raises(UsageError, match=f"--on {verdict} cannot be a trigger: .*; name one of "):
        classes_for(verdict)


@pytest.mark.parametrize("name", ["", "Refused", "any"])
def test_an_unknown_name_is_answered_with_those_that_exist(name: str) -> None:
    with pytest.raises(UsageError, match=r"reset-early.*connect-refused"):
        classes_for(name)


def test_every_class_has_a_rule_and_the_default_is_all_but_late_resets() -> None:
    assert {rule.failure_class for rule in RULES} - {None} == set(FailureClass)
    assert set(FailureClass) - DEFAULT_CLASSES == {FailureClass.RESET}
