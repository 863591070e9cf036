"""The wire detector and the cooldown: (event, now) to decision.

Pure: no sockets, clocks or files; time comes in as an argument.
"""

from podcam.trigger.classes import DEFAULT_CLASSES, Policy, classes_for
from podcam.trigger.cooldown import Counted, Decision, Extended, Keeper, OpenClip, Opened, Rate
from podcam.trigger.detector import Detector
from podcam.trigger.names import FollowedNames

__all__ = [
    "DEFAULT_CLASSES",
    "Counted",
    "Decision",
    "Detector",
    "Extended",
    "FollowedNames",
    "Keeper",
    "OpenClip",
    "Opened",
    "Policy",
    "Rate",
    "classes_for",
]
