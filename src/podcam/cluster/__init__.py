"""What a person does to a cluster from outside: targets, cost, install, uninstall, doctor.

It asks the API server, and kubectl for what kubectl does better; it prints nothing. Neither an agent nor
`podcam record` needs it.
"""

from podcam.cluster.agents import DAEMON_SET, Agent, agents_of, agents_or_none
from podcam.cluster.clips import (
    DONE,
    Part,
    choose_recording,
    create_clip,
    find_clip,
    nodes_expected,
    parts_of,
    window_of,
)
from podcam.cluster.doctor import Finding, examine
from podcam.cluster.install import Arrival, apply, arrivals
from podcam.cluster.kubectl import Kubectl
from podcam.cluster.manifests import is_resource_definition, overlays, render, to_text
from podcam.cluster.nodes import Node, nodes_of
from podcam.cluster.preview import BUDGET_FRACTION, NodeShare, Preview, Refusal, preview
from podcam.cluster.recordings import (
    MANAGER,
    Point,
    Wish,
    differences,
    find_recording,
    find_recordings,
    name_for,
    points_of,
    recording_object,
    replacement,
)
from podcam.cluster.rights import OPERATOR, PACKET_READER, VIEWER, Rights, may, rights_in
from podcam.cluster.status import (
    Missed,
    Totals,
    problems_of,
    reason_of,
    target_text,
    told_together,
    totals_of,
    traffic_text,
    why_no_report,
)
from podcam.cluster.survey import survey
from podcam.cluster.targets import Choice, Target, choice_of, find_choice, parse_targets, selected
from podcam.cluster.uninstall import Inventory, clean_nodes, remove_agents, take_inventory
from podcam.cluster.waiting import collections, states

__all__ = [
    "BUDGET_FRACTION",
    "DAEMON_SET",
    "DONE",
    "MANAGER",
    "OPERATOR",
    "PACKET_READER",
    "VIEWER",
    "Agent",
    "Arrival",
    "Choice",
    "Finding",
    "Inventory",
    "Kubectl",
    "Missed",
    "Node",
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
    "agents_or_none",
    "apply",
    "arrivals",
    "choice_of",
    "choose_recording",
    "clean_nodes",
    "collections",
    "create_clip",
    "differences",
    "examine",
    "find_choice",
    "find_clip",
    "find_recording",
    "find_recordings",
    "is_resource_definition",
    "may",
    "name_for",
    "nodes_expected",
    "nodes_of",
    "overlays",
    "parse_targets",
    "parts_of",
    "points_of",
    "preview",
    "problems_of",
    "reason_of",
    "recording_object",
    "remove_agents",
    "render",
    "replacement",
    "rights_in",
    "selected",
    "states",
    "survey",
    "take_inventory",
    "target_text",
    "to_text",
    "told_together",
    "totals_of",
    "traffic_text",
    "why_no_report",
    "window_of",
]
