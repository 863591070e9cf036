from dataclasses import replace

import pytest

from podcam.wrap.capabilities import NET_RAW, Capabilities
from podcam.wrap.ways import Surroundings, Way, ways

ALL = Capabilities(1 << NET_RAW, 1 << NET_RAW, 1 << NET_RAW, no_new_privileges=False)
NONE = replace(ALL, effective=0, permitted=0)
ROOT = Surroundings(
    0, ALL, file_capability=False, set_id_ignored=False, sudo=True, sudo_allows=True, packet_sockets=True
)
USER = replace(ROOT, uid=1000, capabilities=NONE)
CAPPED = replace(USER, file_capability=True)


def reasons(found: Surroundings) -> dict[Way, str | None]:
    return {verdict.way: verdict.why_not for verdict in ways(found)}


def test_root_with_the_capability_needs_nothing_else() -> None:
    found = reasons(ROOT)
    assert found[Way.ROOT] is None
    assert "needs no" in (found[Way.FILE] or "")
    assert "needs no" in (found[Way.SUDO] or "")


def test_a_user_with_a_file_capability_records() -> None:
    found = replace(USER, capabilities=replace(NONE, permitted=1 << NET_RAW, no_new_privileges=True))
    assert reasons(found)[Way.FILE] is None
    assert "turns sudo off" in (reasons(found)[Way.SUDO] or "")


def test_a_file_capability_lost_on_the_way_through_a_shell_is_told() -> None:
    found = replace(CAPPED, capabilities=replace(NONE, no_new_privileges=True))
    assert "container's command itself" in (reasons(found)[Way.FILE] or "")


def test_a_program_without_file_capability_is_told_who_makes_one_with_it() -> None:
    assert "podcam bundle" in (reasons(USER)[Way.FILE] or "")


def test_file_capabilities_do_not_count_on_a_volume_without_set_id() -> None:
    assert "nosuid" in (reasons(replace(CAPPED, set_id_ignored=True))[Way.FILE] or "")


def test_a_file_capability_that_did_not_count_is_not_put_down_to_the_file() -> None:
    assert "user namespace" in (reasons(CAPPED)[Way.FILE] or "")


def test_sudo_is_a_way_where_it_lets_this_user() -> None:
    assert reasons(USER)[Way.SUDO] is None
    assert "sudoers line" in (reasons(replace(USER, sudo_allows=False))[Way.SUDO] or "")
    assert "not installed" in (reasons(replace(USER, sudo=False))[Way.SUDO] or "")


@pytest.mark.parametrize("uid", [0, 1000])
def test_without_the_bounding_set_no_way_works(uid: int) -> None:
    found = replace(ROOT, uid=uid, capabilities=Capabilities(0, 0, 0, no_new_privileges=True))
    assert all(reasons(found).values())
    assert any("bounding set" in (why or "") for why in reasons(found).values())


@pytest.mark.parametrize(
    "found", [ROOT, USER, replace(USER, sudo=False), replace(USER, uid=0, capabilities=NONE)]
)
def test_a_plain_machine_is_not_called_a_container(found: Surroundings) -> None:
    for why in filter(None, reasons(found).values()):
        assert "the container" not in why
        assert "this image" not in why


def test_without_packet_sockets_no_way_works() -> None:
    assert all(reasons(replace(USER, packet_sockets=False)).values())
