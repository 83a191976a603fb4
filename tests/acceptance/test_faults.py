"""What survives what: killed servers, killed agents, dead clusters. Nothing accepted is lost, nothing takes effect twice."""

from __future__ import annotations

from typing import Any

import httpx

from cluster.backends.memory import Behaviour
from tests.network import Network, RunningAgent, idle, job, node, until


def half_a_second(_run: object) -> Behaviour:
    return Behaviour(duration_s=0.5)


def test_a_restarted_server_goes_on_with_running_and_waiting_jobs(patient_network: Network) -> None:
    network = patient_network
    memory = network.add_cluster("sh", node(cpu=2), script=half_a_second)
    submitted = [network.submit(job(f"job-{number}"))["id"] for number in range(6)]
    network.wait(submitted[0], "running")
    network.stop_server()
    network.start_server()
    states = [network.wait(job_id)["state"] for job_id in submitted]
    assert states == ["succeeded"] * 6
    assert all(count == 1 for count in memory.started.values())
    assert len(memory.started) == 6


def test_runs_that_ended_while_the_server_was_away_are_settled_once(patient_network: Network) -> None:
    network = patient_network
    memory = network.add_cluster("sh", script=half_a_second)
    submitted = network.submit(job())["id"]
    network.wait(submitted, "running")
    network.stop_server()
    until(lambda: idle(memory), "the run ends on its cluster")
    network.start_server()
    done = network.wait(submitted)
    assert (done["state"], done["attempts"]) == ("succeeded", 1)
    assert [state for state, _ in network.moves(submitted)].count("succeeded") == 1


def test_the_runs_of_a_killed_agent_are_adopted(patient_network: Network) -> None:
    network = patient_network
    memory = network.add_cluster("sh", script=half_a_second)
    submitted = network.submit(job())["id"]
    network.wait(submitted, "running")
    network.agents["sh"].kill()
    until(lambda: idle(memory), "the run ends without an agent")
    network.start_agent("sh")
    done = network.wait(submitted)
    assert (done["state"], done["attempts"]) == ("succeeded", 1)
    assert memory.started[f"{submitted}-1"] == 1


def test_the_jobs_of_a_dead_cluster_move_to_another(network: Network) -> None:
    def forever(_run: object) -> Behaviour:
        return Behaviour(duration_s=600)

    dead = network.add_cluster("dead", script=forever)
    submitted = network.submit(job())["id"]
    network.wait(submitted, "running")
    network.add_cluster("alive")
    network.loop.call(dead.kill)
    done = network.wait(submitted)
    assert (done["state"], done["cluster"], done["attempts"]) == ("succeeded", "alive", 2)
    assert ("lost", "cluster_lost") in network.moves(submitted)
    assert network.cluster("dead")["health"] == "lost"


def test_a_job_that_may_go_nowhere_else_waits_with_the_reason_until_its_cluster_is_back(network: Network) -> None:
    def first_hangs(run: Any) -> Behaviour:
        return Behaviour(duration_s=600 if run.attempt == 1 else 0)

    dead = network.add_cluster("dead", script=first_hangs)
    network.add_cluster("other", jurisdiction="CN-GZ")
    submitted = network.submit(job(placement={"jurisdictions": ["CN-SH"]}))["id"]
    network.wait(submitted, "running")
    network.loop.call(dead.kill)
    until(lambda: network.job(submitted)["cause"] == "cluster_unhealthy", "the reason is shown")
    assert "not healthy" in network.job(submitted)["message"]
    network.loop.call(lambda: dead.revive(forget=True))
    done = network.wait(submitted)
    assert (done["state"], done["cluster"], done["attempts"]) == ("succeeded", "dead", 2)


def test_a_cluster_that_forgot_its_runs_has_them_tried_again(network: Network) -> None:
    def first_hangs(run: Any) -> Behaviour:
        return Behaviour(duration_s=600 if run.attempt == 1 else 0)

    memory = network.add_cluster("sh", script=first_hangs)
    submitted = network.submit(job())["id"]
    network.wait(submitted, "running")
    network.agents["sh"].kill()
    network.loop.call(lambda: memory.revive(forget=True))
    network.start_agent("sh")
    done = network.wait(submitted)
    assert (done["state"], done["attempts"]) == ("succeeded", 2)
    assert ("lost", "run_lost") in network.moves(submitted)


def test_a_result_of_a_replaced_run_changes_nothing(network: Network) -> None:
    memory = network.add_cluster("sh", script=lambda run: Behaviour(duration_s=3 if run.attempt == 1 else 0))
    submitted = network.submit(job())["id"]
    network.wait(submitted, "running")
    network.agents["sh"].kill()
    until(lambda: network.cluster("sh")["health"] == "lost", "the silent cluster is lost")
    network.add_cluster("other", jurisdiction="CN-GZ")
    done = network.wait(submitted)
    assert (done["cluster"], done["attempts"]) == ("other", 2)
    network.start_agent("sh")
    until(lambda: idle(memory), "the old run is stopped")
    assert network.job(submitted)["version"] == done["version"]
    assert [state for state, _ in network.moves(submitted)].count("succeeded") == 1


def test_a_second_agent_of_a_cluster_takes_over(network: Network) -> None:
    network.add_cluster("sh")
    old = network.agents["sh"]
    network.start_agent("sh")
    until(lambda: old.error is not None, "the first agent ends")
    assert "superseded" in type(old.error).__name__.lower()
    assert network.wait(network.submit(job())["id"])["state"] == "succeeded"


def test_an_agent_with_a_wrong_token_ends_with_an_error(network: Network) -> None:
    network.add_cluster("sh", agent=False)
    network._tokens["sh"] = "cpn_agent_wrong"
    agent = RunningAgent(network.loop, "sh", network.url, "cpn_agent_wrong", network.clusters["sh"])
    until(lambda: agent.error is not None, "the agent ends")
    assert type(agent.error).__name__ == "AuthenticationError"
    assert network.cluster("sh")["health"] == "suspect"


def test_a_parked_call_is_answered_before_its_member_seems_silent(network: Network) -> None:
    network.add_cluster("sh", agent=False)
    with httpx.Client(base_url=network.url, headers=network.bearer(network._tokens["sh"]), timeout=70, trust_env=False) as client:

        def says(**fields: object) -> Any:
            return network.ok(client.post("/v1/agents/sh/sync", json={"agent_id": "one", "reachable": True, **fields}))

        assert says(takes_over=True)["census_wanted"]
        says(known_runs=[], inventory={"nodes": [node().model_dump(mode="json")]})
        for _ in range(4):
            assert says(wait_s=60)["instructions"] == []
            assert network.cluster("sh")["health"] == "healthy"
