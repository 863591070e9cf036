"""The scenario itself does what the tests that build on it take for granted."""

from e2e.cluster import Cluster, wait_for
from e2e.scenario import Scenario, deploy_scenario


def test_the_app_is_on_two_nodes_and_the_proxy_fails_whom_it_is_told_to(scenario: Scenario) -> None:
    pods = scenario.pods()
    assert len(pods) == 3
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 2
    assert scenario.failed() == []

    victim = pods[0]
    scenario.fail_next(victim)
    (failed,) = scenario.wait_until_failed()

    assert failed["client_ip"] == victim["status"]["podIP"]
    (error,) = wait_for(
        "the app's error", lambda: [line for line in scenario.app_log(victim) if line["error"]]
    )
    assert (error["client_port"], error["error"]) == (
        failed["client_port"],
        "could not receive data from server: Connection reset by peer",
    )
    assert [line for pod in pods[1:] for line in scenario.app_log(pod) if line["error"]] == []


def test_new_pods_of_the_app_connect_too(scenario: Scenario) -> None:
    scenario.scale(6)
    scenario.wait_until_scaled()

    addresses = {pod["status"]["podIP"] for pod in scenario.pods()}

    assert len(addresses) == 6
    wait_for(
        "connections of all six",
        lambda: addresses <= {connection["client_ip"] for connection in scenario.proxy_log()},
    )


def test_the_name_moves_and_the_app_follows(cluster: Cluster, namespace: str) -> None:
    scenario = deploy_scenario(cluster, namespace, moving_name=True, interval_s=0.05)
    (pod, *_) = scenario.pods()

    for address in scenario.make_addresses(3):
        scenario.move_name(address)
        wait_for(
            f"a good connection to {address}",
            lambda address=address: [  # type: ignore[misc]
                line
                for line in scenario.app_log(pod)
                if line["server_ip"] == address and line["error"] is None
            ],
        )
