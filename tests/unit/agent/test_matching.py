"""Which pods are recorded, and which cannot be."""

from dataclasses import replace

import pytest

from podcam.agent.matching import Matching, match
from podcam.kube import LabelSelector, NamespaceLimits, Pod, Recording

NODE = "node-1"
SHOP = NamespaceLimits("shop")
WEB = Pod(
    namespace="shop",
    name="web-1",
    uid="u-1",
    node=NODE,
    labels={"app": "web"},
    host_network=False,
    runtime_class=None,
    phase="Running",
    ip="10.0.0.1",
    ips=("10.0.0.1",),
    deleting=False,
    finished=False,
    created_ns=0,
)
PROXY = Recording(
    namespace="shop",
    name="proxy",
    uid="r-1",
    generation=1,
    created_ns=0,
    selector=LabelSelector.from_text("app=web"),
    ports=(5432,),
)


def matched(
    *pods: Pod,
    recordings: tuple[Recording, ...] = (PROXY,),
    limits: NamespaceLimits = SHOP,
    handlers: dict[str, str] | None = None,
    recorded: frozenset[str] = frozenset(),
) -> Matching:
    return match(recordings, pods, {"shop": limits}, node=NODE, handlers=handlers, recorded=recorded)


def refusal(pod: Pod, recording: Recording = PROXY, **options: dict[str, str]) -> str | None:
    (wanted,) = matched(pod, recordings=(recording,), **options).wanted.values()  # type: ignore[arg-type]
    return None if wanted.refusal is None else wanted.refusal.reason


def test_a_pod_that_a_selector_covers_is_a_point() -> None:
    made = matched(WEB, replace(WEB, name="db-1", labels={"app": "db"}))
    (wanted,) = made.wanted.values()
    assert list(made.wanted) == ["shop/proxy/web-1"]
    assert (wanted.recording, wanted.pod, wanted.refusal) == ("shop/proxy", WEB, None)
    assert made.settings["shop/proxy"].traffic.ports == (5432,)


def test_a_pod_can_be_named() -> None:
    named = replace(PROXY, selector=None, pods=("web-2",))
    pods = (WEB, replace(WEB, name="web-2", labels={}))
    assert list(matched(*pods, recordings=(named,)).wanted) == ["shop/proxy/web-2"]


def test_a_pod_that_two_recordings_cover_is_two_points() -> None:
    made = matched(WEB, recordings=(PROXY, replace(PROXY, name="dns")))
    assert list(made.wanted) == ["shop/proxy/web-1", "shop/dns/web-1"]


def test_a_recording_covers_pods_of_its_own_namespace_only() -> None:
    other = replace(WEB, namespace="bank")
    limits = {"shop": SHOP, "bank": NamespaceLimits("bank")}
    assert match([PROXY], [other], limits, node=NODE).wanted == {}


def test_a_recording_without_a_pod_here_is_known_all_the_same() -> None:
    made = matched()
    assert made.wanted == {}
    assert list(made.settings) == ["shop/proxy"]


@pytest.mark.parametrize(
    "pod",
    [replace(WEB, node="node-2"), replace(WEB, node=""), replace(WEB, finished=True, phase="Succeeded")],
    ids=["on another node", "on no node", "finished"],
)
def test_a_pod_that_is_not_there_is_no_point(pod: Pod) -> None:
    assert matched(pod, recorded=frozenset({"shop/proxy/web-1"})).wanted == {}


def test_a_pod_that_is_being_deleted_is_recorded_to_its_end_but_not_begun_with() -> None:
    ending = replace(WEB, deleting=True)
    assert matched(ending).wanted == {}
    assert list(matched(ending, recorded=frozenset({"shop/proxy/web-1"})).wanted) == ["shop/proxy/web-1"]


def test_nothing_is_recorded_before_it_is_known_what_the_namespace_allows() -> None:
    assert match([PROXY], [WEB], {}, node=NODE) == Matching()


def test_a_pod_in_the_nodes_network_needs_both_the_recording_and_the_namespace() -> None:
    pod = replace(WEB, host_network=True)
    asking, allowing = replace(PROXY, host_network=True), NamespaceLimits("shop", allow_host_network=True)
    reasons = {}
    for recording in (PROXY, asking):
        for limits in (SHOP, allowing):
            (wanted,) = matched(pod, recordings=(recording,), limits=limits).wanted.values()
            key = recording.host_network, limits.allow_host_network
            reasons[key] = None if wanted.refusal is None else wanted.refusal.reason
    assert reasons == {
        (False, False): "HostNetwork",
        (False, True): "HostNetwork",
        (True, False): "HostNetworkNotAllowed",
        (True, True): None,
    }


def test_who_may_not_record_the_nodes_network_is_told_what_to_do() -> None:
    (wanted,) = matched(
        replace(WEB, host_network=True), recordings=(replace(PROXY, host_network=True),)
    ).wanted.values()
    assert wanted.refusal is not None
    assert wanted.refusal.message == (
        "the pod is in its node's own network, and its namespace does not let recordings in there: who may "
        "change namespace shop has to annotate it with podcam.dev/allow-host-network=true"
    )


@pytest.mark.parametrize("runtime_class", ["kata", "kata-qemu", "kata-fc", "gvisor", "runsc"])
def test_pods_of_sandboxes_are_not_recordable(runtime_class: str) -> None:
    assert refusal(replace(WEB, runtime_class=runtime_class)) == "RuntimeNotRecordable"


def test_the_handler_of_a_runtime_class_counts_and_not_its_name() -> None:
    handlers = {"safe": "runsc", "kata": "runc"}
    assert refusal(replace(WEB, runtime_class="safe"), handlers=handlers) == "RuntimeNotRecordable"
    assert refusal(replace(WEB, runtime_class="kata"), handlers=handlers) is None


@pytest.mark.parametrize("runtime_class", ["nvidia", "crun", "wasm", "my-kata"])
def test_other_runtime_classes_are_recorded(runtime_class: str) -> None:
    assert refusal(replace(WEB, runtime_class=runtime_class)) is None


def test_names_too_long_for_a_folder_are_refused() -> None:
    assert refusal(replace(WEB, name="w" * 200)) is None
    assert refusal(replace(WEB, name="w" * 200), replace(PROXY, name="p" * 63)) == "NameTooLong"


def test_what_the_namespace_takes_away_is_noted() -> None:
    made = matched(WEB, limits=NamespaceLimits("shop", max_payload_bytes=0))
    assert made.settings["shop/proxy"].traffic.payload_bytes == 0
    assert made.notes == {"shop/proxy": ("no payload is kept, as namespace shop allows no more",)}
    assert matched(WEB).notes == {}
