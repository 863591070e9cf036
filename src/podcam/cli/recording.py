"""The flags that say what is recorded, on this machine or in a cluster, and what they mean.

Nothing of the recorder is imported to declare them: an app that `podcam wrap` starts waits for no import.
"""

import argparse
import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING

from podcam.cli import arguments
from podcam.errors import UsageError

if TYPE_CHECKING:
    from podcam.capture import Network
    from podcam.model.verdict import FailureClass
    from podcam.recorder import RecorderSettings, RecordingSettings, TriggerSettings


def add_traffic(group: argparse._ArgumentGroup) -> None:
    """Declare which packets are recorded, wherever that is."""
    group.add_argument(
        "--interface",
        action="append",
        default=[],
        metavar="NAME|any",
        help="of this interface only; repeatable (default: any, later ones too)",
    )
    group.add_argument(
        "--host",
        action="append",
        default=[],
        type=arguments.host,
        metavar="NAME|IP|CIDR",
        help="from or to this host; repeatable. A name with --port narrows what triggers a clip, not what "
        "is recorded, so that a new address of it loses nothing",
    )
    group.add_argument(
        "--port",
        action="append",
        default=[],
        type=arguments.port,
        metavar="N",
        help="from or to this port; repeatable",
    )
    group.add_argument(
        "--narrow",
        action="store_true",
        help="let the kernel's filter follow the hosts' names even with --port",
    )
    group.add_argument(
        "--payload",
        type=arguments.payload,
        metavar="N",
        help="keep N bytes after the TCP or UDP header (default: all)",
    )
    group.add_argument(
        "--snaplen",
        type=arguments.snaplen,
        metavar="N",
        help="keep N bytes per packet (default: 0, which keeps all)",
    )


def add_which(group: argparse._ArgumentGroup) -> None:
    """Declare which packets are recorded on this machine."""
    add_traffic(group)
    group.add_argument("--bpf", metavar="EXPR", help="and only what this filter in libpcap's language passes")
    group.set_defaults(snaplen="0")


def add_how_much(group: argparse._ArgumentGroup) -> None:
    """Declare how much is kept, and where."""
    group.add_argument(
        "--ring",
        type=arguments.ring_size,
        default="10x100MB",
        metavar="NxSIZE",
        help="segments times their size, per namespace (default: %(default)s)",
    )
    group.add_argument(
        "--memory",
        type=arguments.size,
        default="128MiB",
        metavar="SIZE",
        help="for the kernel's rings of all namespaces together (default: %(default)s)",
    )
    group.add_argument(
        "--dir",
        type=arguments.folder,
        default=arguments.default_folder(),
        metavar="DIR",
        help="where rings and clips lie (default: %(default)s)",
    )
    group.add_argument(
        "--clips",
        type=arguments.size,
        default="4GB",
        metavar="SIZE",
        help="for all clips; the oldest that are not pinned go first (default: %(default)s)",
    )
    group.add_argument(
        "--write-budget",
        type=arguments.rate,
        metavar="RATE",
        help="keep headers only while more than this would be written, as in 20MB/s (default: no limit)",
    )


def add_failures(group: argparse._ArgumentGroup) -> None:
    """Declare what starts a clip, and how far it reaches, wherever that is."""
    group.add_argument(
        "--on",
        action="append",
        default=[],
        metavar="CLASS|VERDICT|none",
        help="keep a clip on this kind of failure; repeatable "
        "(default: the classes that are rarely normal: docs/triggers.md)",
    )
    group.add_argument(
        "--before", type=arguments.duration, metavar="TIME", help="how far a clip reaches back (default: 60s)"
    )
    group.add_argument(
        "--after",
        type=arguments.duration,
        metavar="TIME",
        help="how long a clip goes on after a failure (default: 10s)",
    )


def add_trigger(group: argparse._ArgumentGroup) -> None:
    """Declare what starts a clip on this machine, and how far it reaches."""
    add_failures(group)
    group.set_defaults(before="60s", after="10s")


def classes_of(on: Sequence[str]) -> "frozenset[FailureClass] | None":
    """The classes that `--on` names; None where it was not given.

    Raises:
        UsageError: there is no such class, or `none` stands beside another.
    """
    from podcam.trigger import classes_for  # noqa: PLC0415

    if not on:
        return None
    if "none" in on and set(on) != {"none"}:
        raise UsageError("--on none cannot stand beside another --on")
    return frozenset().union(*(classes_for(name) for name in on if name != "none"))


def command_after(rest: Sequence[str]) -> Sequence[str]:
    """What stands after `--`, where argparse left the rest of the command line.

    Raises:
        UsageError: nothing does, or something else stands before it.
    """
    if rest[:1] not in ([], ["--"]):
        raise UsageError(f"what is {rest[0]!r}? A command to record comes after --")
    if len(rest) == 1:
        raise UsageError("there is no command after --")
    return rest[1:]


def recorder_settings(args: argparse.Namespace) -> "RecorderSettings":
    """What the flags of `add_how_much` say."""
    from podcam.recorder import RecorderSettings  # noqa: PLC0415

    return RecorderSettings(
        folder=args.dir,
        kernel_memory_bytes=args.memory,
        clips_bytes=args.clips,
        write_bytes_per_second=args.write_budget,
    )


def recording_settings(args: argparse.Namespace) -> "RecordingSettings":
    """What the flags of `add_which`, `add_how_much` and `add_trigger` say."""
    from podcam.recorder import RecordingSettings, RingSettings, TrafficSettings  # noqa: PLC0415

    networks, names = _hosts(args.host)
    return RecordingSettings(
        traffic=TrafficSettings(
            interfaces=() if "any" in args.interface else tuple(args.interface),
            networks=networks,
            names=names,
            ports=tuple(args.port),
            narrow=args.narrow,
            expression=args.bpf,
            payload_bytes=args.payload,
            snaplen=args.snaplen,
        ),
        ring=RingSettings(args.ring.segments, args.ring.segment_bytes),
        trigger=_trigger(args),
    )


def _hosts(given: list[str]) -> tuple[tuple["Network", ...], tuple[str, ...]]:
    """Addresses and networks, and names."""
    networks: list[Network] = []
    names: list[str] = []
    for host in given:
        try:
            networks.append(ipaddress.ip_network(host, strict=False))
        except ValueError:
            names.append(host)
    return tuple(networks), tuple(names)


def _trigger(args: argparse.Namespace) -> "TriggerSettings":
    from podcam.recorder import TriggerSettings  # noqa: PLC0415
    from podcam.trigger import DEFAULT_CLASSES  # noqa: PLC0415

    named = classes_of(args.on)
    if named is None:
        return TriggerSettings(DEFAULT_CLASSES, before_ns=args.before, after_ns=args.after)
    return TriggerSettings(named, exempt_habits=False, before_ns=args.before, after_ns=args.after)
