"""Which agent writes what all agents know."""

from podcam.agent.turns import Turn, amended

SECOND_NS = 10**9
START_NS = 100 * SECOND_NS
FIELDS = {"points": "2/3"}
NODES = ["node-a", "node-b", "node-c"]


def test_what_is_right_is_not_written() -> None:
    assert Turn("node-a").due(None, NODES, START_NS) is None


def test_the_node_with_the_lowest_name_writes_at_once() -> None:
    assert Turn("node-a").due(FIELDS, NODES, START_NS) == START_NS


def test_each_further_node_waits_two_seconds_longer_and_then_writes() -> None:
    turn = Turn("node-c")
    due_ns = START_NS + 4 * SECOND_NS
    assert turn.due(FIELDS, NODES, START_NS) == due_ns
    assert turn.due(FIELDS, NODES, START_NS + SECOND_NS) == due_ns
    assert turn.due(FIELDS, NODES, due_ns) == due_ns


def test_who_waited_does_not_write_what_another_has_written_meanwhile() -> None:
    turn = Turn("node-b")
    turn.due(FIELDS, NODES, START_NS)
    assert turn.due(None, NODES, START_NS + SECOND_NS) is None
    later_ns = START_NS + 60 * SECOND_NS
    assert turn.due(FIELDS, NODES, later_ns) == later_ns + 2 * SECOND_NS


def test_what_has_to_be_written_anew_is_waited_for_anew() -> None:
    turn = Turn("node-b")
    turn.due(FIELDS, NODES, START_NS)
    later_ns = START_NS + 2 * SECOND_NS
    assert turn.due({"points": "3/3"}, NODES, later_ns) == later_ns + 2 * SECOND_NS


def test_the_time_of_a_condition_is_nothing_new() -> None:
    turn = Turn("node-b")
    fields = [{"conditions": [{"type": "Recording", "lastTransitionTime": time}]} for time in ("1", "2")]
    turn.due(fields[0], NODES, START_NS)
    later_ns = START_NS + 2 * SECOND_NS
    assert turn.due(fields[1], NODES, later_ns) == later_ns


def test_who_has_written_waits_for_it_to_come_back_before_writing_again() -> None:
    turn = Turn("node-a")
    turn.due(FIELDS, NODES, START_NS)
    again_ns = START_NS + 10 * SECOND_NS
    assert turn.due(FIELDS, NODES, START_NS + SECOND_NS) == again_ns
    assert turn.due(FIELDS, NODES, again_ns) == again_ns


def test_agents_without_an_entry_come_last_and_not_all_at_once() -> None:
    strangers = [f"stranger-{number}" for number in range(200)]
    due = [Turn(node).due(FIELDS, NODES, START_NS) or 0 for node in strangers]
    assert min(due) >= START_NS + 6 * SECOND_NS
    assert max(due) <= START_NS + 40 * SECOND_NS
    assert len(set(due)) == 16
    assert all(due.count(time_ns) < 30 for time_ns in due)


def test_fields_that_stand_so_already_need_no_write() -> None:
    condition = {"type": "Recording", "status": "True", "reason": "All", "message": "all"}
    standing = {"points": "3/3", "nodes": {}, "conditions": [{**condition, "lastTransitionTime": "then"}]}
    assert amended(standing, {"points": "3/3", "conditions": [condition]}, "now") is None


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    standing = {
        "conditions": [
            {
                "type": "Other",
                "status": "True",
                "reason": "x",
                "message": "",
                "lastTransitionTime": "long ago",
            },
            {
                "type": "Recording",
                "status": "False",
                "reason": "x",
                "message": "",
                "lastTransitionTime": "then",
            },
        ]
    }
    condition = {"type": "Recording", "status": "False", "reason": "y", "message": ""}
    assert amended(standing, {"conditions": [condition]}, "now") == {
        "conditions": [{**condition, "lastTransitionTime": "then"}]
    }
    condition["status"] = "True"
    assert amended(standing, {"conditions": [condition]}, "now") == {
        "conditions": [{**condition, "lastTransitionTime": "now"}]
    }
