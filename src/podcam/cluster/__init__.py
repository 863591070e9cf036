"""What a person does to a cluster from outside: targets, cost, install, uninstall, doctor.

It asks the API server, and kubectl for what kubectl does better; it prints nothing. Neither an agent nor
`podcam record` needs it.
"""

from podcam.cluster.agents import DAEMON_SET, Agent, agents_of
from podcam.cluster.clips import (
    DONE,
    RECORDING_LABEL,
    Part,
    choose_recording,
    create_clip,
    nodes_expected,
    parts_of,
    window_of,
)
from podcam.cluster.kubectl import Kubectl
from podcam.cluster.preview import BUDGET_FRACTION, NodeShare, Preview, Refusal, preview
from podcam.cluster.recordings import (
    MANAGER,
    Point,
    Wish,
    differences,
    find_recording,
    name_for,
    points_of,
    recording_object,
    replacement,
)
from podcam.cluster.rights import OPERATOR, PACKET_READER, VIEWER, Rights, may, rights_in
from podcam.cluster.status import Totals, problems_of, target_text, totals_of, traffic_text
from podcam.cluster.survey import survey
from podcam.cluster.targets import Choice, Target, choice_of, find_choice, parse_targets, selected
from podcam.cluster.waiting import states

__all__ = [
    "BUDGET_FRACTION",
    "DAEMON_SET",
    "DONE",
    "MANAGER",
    "OPERATOR",
    "PACKET_READER",
    "RECORDING_LABEL",
    "VIEWER",
    "Agent",
    "Choice",
    "Kubectl",
    "NodeShare",
    "Part",
    "Point",
    "Preview",
    "Refusal",
    "Rights",
    "Target",
    "Totals",
    "Wish",
    "agents_of",
    "choice_of",
    "choose_recording",
    "create_clip",
    "differences",
    "find_choice",
    "find_recording",
    "may",
    "name_for",
    "nodes_expected",
    "parse_targets",
    "parts_of",
    "points_of",
    "preview",
    "problems_of",
    "recording_object",
    "replacement",
    "rights_in",
    "selected",
    "states",
    "survey",
    "target_text",
    "totals_of",
    "traffic_text",
    "window_of",
]
