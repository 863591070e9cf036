from dataclasses import replace

import pytest

from podcam.wrap.capabilities import NET_RAW, Capabilities
from podcam.wrap.ways import Surroundings, Way, ways

ALL = Capabilities(1 << NET_RAW, 1 << NET_RAW, 1 << NET_RAW, no_new_privileges=False)
NONE = replace(ALL, effective=0, permitted=0)
ROOT = Surroundings(0, ALL, sudo=True, sudo_allows=True, packet_sockets=True)
USER = replace(ROOT, uid=1000, capabilities=NONE)


def reasons(found: Surroundings) -> dict[Way, str | None]:
    return {verdict.way: verdict.why_not for verdict in ways(found)}


def test_root_with_the_capability_needs_nothing_else() -> None:
    assert reasons(ROOT)[Way.ROOT] is None


def test_a_user_with_a_file_capability_records() -> None:
    found = replace(USER, capabilities=replace(NONE, permitted=1 << NET_RAW, no_new_privileges=True))
    assert reasons(found)[Way.FILE] is None
    assert "turns sudo off" in (reasons(found)[Way.SUDO] or "")


def test_a_file_capability_lost_on_the_way_through_a_shell_is_told() -> None:
    found = replace(USER, capabilities=replace(NONE, no_new_privileges=True))
    assert "container's command itself" in (reasons(found)[Way.FILE] or "")


def test_sudo_is_a_way_where_it_lets_this_user() -> None:
    assert reasons(USER)[Way.SUDO] is None
    assert "sudoers line" in (reasons(replace(USER, sudo_allows=False))[Way.SUDO] or "")
    assert "not installed" in (reasons(replace(USER, sudo=False))[Way.SUDO] or "")


@pytest.mark.parametrize("uid", [0, 1000])
def test_without_the_bounding_set_no_way_works(uid: int) -> None:
    found = replace(ROOT, uid=uid, capabilities=Capabilities(0, 0, 0, no_new_privileges=True))
    assert all(reasons(found).values())
    assert any("bounding set" in (why or "") for why in reasons(found).values())


def test_without_packet_sockets_no_way_works() -> None:
    assert all(reasons(replace(USER, packet_sockets=False)).values())
