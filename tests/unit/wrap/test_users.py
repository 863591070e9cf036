import os
import pwd

import pytest

from podcam.errors import UsageError
from podcam.wrap.first_process import User

NOBODY = pwd.getpwnam("nobody")


def test_a_number_needs_no_entry_in_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getgroups", list)
    assert User.named("54321") == User(54321, 0, ())
    assert User.named("54321:4321") == User(54321, 4321, ())


def test_a_name_and_its_number_are_the_same_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getgroups", list)
    named = User.named("nobody")
    assert (named.uid, named.gid) == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert named.groups == tuple(sorted(os.getgrouplist("nobody", NOBODY.pw_gid)))
    assert User.named(str(NOBODY.pw_uid)) == named


def test_groups_may_be_named() -> None:
    assert User.named("54321:root").gid == 0


def test_groups_that_the_pod_gives_to_every_process_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    own = pwd.getpwuid(os.getuid())
    of_the_image = os.getgrouplist(own.pw_name, own.pw_gid)
    monkeypatch.setattr(os, "getgroups", lambda: [*of_the_image, 77777])
    assert User.named("54321:4321").groups == (77777,)


@pytest.mark.parametrize("spec", ["no-such-user", "nobody:no-such-group", ""])
def test_whoever_is_not_there_is_told(spec: str) -> None:
    with pytest.raises(UsageError, match="there is no"):
        User.named(spec)
