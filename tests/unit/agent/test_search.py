"""The search domains of pods, told from the agent's own."""

from pathlib import Path

from podcam.agent.search import own_search_domains, search_domains


def test_the_agents_own_are_read_from_its_resolv_conf(tmp_path: Path) -> None:
    config = tmp_path / "resolv.conf"
    assert own_search_domains(config) == ()
    config.write_text("nameserver 10.96.0.10\nsearch podcam-system.svc.cluster.local cluster.local.\n")
    assert own_search_domains(config) == ("podcam-system.svc.cluster.local", "cluster.local")


def test_the_search_domains_of_a_pod_are_the_agents_with_the_pods_namespace() -> None:
    own = ("podcam-system.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example")
    assert search_domains("shop", own, "podcam-system") == (
        "shop.svc.cluster.local",
        "svc.cluster.local",
        "cluster.local",
        "corp.example",
    )
