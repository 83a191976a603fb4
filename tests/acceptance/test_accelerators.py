"""Parts of accelerators through the HTTP API, on members that reject what overbooks a device."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.backends.memory import Behaviour
from tests.network import Network, job, node, until


def asking(name: str, **accelerator: Any) -> dict[str, Any]:
    """A command with an accelerator."""
    return job(name, kind="command", resources={"cpu": 1, "memory": "1GiB", "accelerator": {"model": "H200", **accelerator}})


def test_shares_fill_devices_and_parts_of_several_are_no_whole_one(network: Network) -> None:
    network.add_cluster("sh", node("n1", 8, 16, "H200", 3), script=lambda _run: Behaviour(duration_s=300))
    jobs = {name: network.submit(asking(name, share=share)) for name, share in (("a", 0.6), ("b", 0.6), ("c", 0.6), ("d", 0.2))}
    ran = {name: network.wait(submitted["id"], "running") for name, submitted in jobs.items()}
    devices = {name: tuple(job["runs"][0]["accelerator_devices"][0]) for name, job in ran.items()}
    assert sorted(devices[name] for name in "abc") == [(0,), (1,), (2,)]
    # As much as a whole device is free, 0.2 and 0.4 and 0.4 of three: a whole one waits for one of them.
    whole = network.submit(asking("whole", count=1))
    until(lambda: network.job(whole["id"])["cause"] == "node_busy", "the whole one waits")
    alone = next(name for name in "abc" if devices[name] != devices["d"])
    network.ok(network.operator.post(f"/jobs/{jobs[alone]['id']}:cancel"))
    taken = network.wait(whole["id"], "running")["runs"][0]
    assert (taken["accelerator_model"], taken["accelerator_devices"]) == ("H200", [list(devices[alone])])
    assert network.clusters["sh"].violations == []
    (member,) = network.ok(network.operator.get("/clusters"))["items"]
    assert member["accelerators"] == [{"model": "H200", "total": 3, "used": pytest.approx(2.4)}]


@pytest.mark.parametrize(
    ("accelerator", "path", "words"),
    [
        ({"share": 1.5}, "resources.accelerator.share", "for whole devices give count"),
        ({"share": 0.5, "count": 2}, "resources.accelerator.share", "leave count out"),
    ],
)
def test_a_share_that_is_none_is_refused_with_its_path(bare: Network, accelerator: dict[str, Any], path: str, words: str) -> None:
    answer = bare.operator.post("/jobs", json=asking("j", **accelerator))
    assert answer.status_code == 422
    (problem,) = answer.json()["errors"]
    assert problem["path"] == path
    assert words in problem["message"]


def test_the_model_is_chosen_with_the_cluster_and_kept_with_the_run(network: Network) -> None:
    network.add_cluster("fast", node("n1", 8, 16, "H200", 1), script=lambda _run: Behaviour(duration_s=0.1))
    network.add_cluster("slow", node("n1", 8, 16, "A100", 1), script=lambda _run: Behaviour(duration_s=0.1))
    asked = asking("either", any_of=[{"model": "A100", "speed": 0.5}, {"model": "H200", "speed": 1.0}])
    del asked["resources"]["accelerator"]["model"]
    plan = network.ok(network.operator.post("/jobs:plan", json={**asked, "placement": {"prefer": "soonest"}}))
    models = {item["cluster"]: (item["verdict"], item["accelerator_model"]) for item in plan["verdicts"]}
    assert models == {"fast": ("chosen", "H200"), "slow": ("possible", "A100")}
    details = {
        item["cluster"]: [line["detail"] for line in item["quote"]["lines"] if line["item"] == "accelerator"] for item in plan["verdicts"]
    }
    assert details == {"fast": ["1 H200"], "slow": ["1 A100"]}
    done = network.wait(network.submit({**asked, "placement": {"prefer": "soonest"}})["id"])
    assert (done["state"], done["cluster"]) == ("succeeded", "fast")
    assert [(run["accelerator_model"], run["accelerator_devices"]) for run in done["runs"]] == [("H200", [[0]])]
    receipt = network.ok(network.operator.get(f"/jobs/{done['id']}/receipt"))
    assert [line["detail"] for line in receipt["lines"] if line["item"] == "accelerator"] == ["1 H200"]
    here = network.wait(network.submit({**asked, "placement": {"clusters": ["slow"]}})["id"])
    assert [run["accelerator_model"] for run in here["runs"]] == ["A100"]


def choosing(name: str, **fields: Any) -> dict[str, Any]:
    """A command that may use one of two models and says of neither how fast it is there."""
    accelerator = {"any_of": [{"model": "H200"}, {"model": "A100"}]}
    return job(name, kind="command", resources={"cpu": 1, "accelerator": accelerator}, **fields)


def test_history_makes_the_next_submission_choose_the_other_model(network: Network) -> None:
    # In truth an A100 does this work as fast as an H200, which is rated 3.2 times as fast and costs 2.5 times as much.
    network.add_tenant("globex")
    network.add_cluster("fast", node("n1", 8, 16, "H200", 4), script=lambda _run: Behaviour(duration_s=0.5, progress=({},) * 5))
    network.add_cluster("slow", node("n1", 8, 16, "A100", 4), script=lambda _run: Behaviour(duration_s=0.5, progress=({},) * 5))
    hour = {"H200": "25.00 CNY", "A100": "10.00 CNY"}
    for name in ("fast", "slow"):
        terms = network.ok(network.operator.get(f"/clusters/{name}"))["prices"]
        network.ok(network.operator.patch(f"/clusters/{name}", json={"prices": {**terms, "accelerator_hour": hour}}))

    def planned(**fields: Any) -> dict[str, Any]:
        plan = network.ok(network.operator.post("/jobs:plan", json=choosing("fit", placement={"prefer": "cheapest"}, **fields)))
        return {item["cluster"]: item for item in plan["verdicts"]} | {"chosen": plan["chosen"]}

    before = planned()
    assert (before["chosen"], before["fast"]["speed"]["words"]) == ("fast", "rated FLOPS (fp16)")
    assert before["fast"]["speed"]["value"] == pytest.approx(989.5 / 312)
    ran = [network.submit(choosing("fit", placement={"clusters": [name]})) for name in ("fast", "slow") for _ in range(6)]
    assert {network.wait(item["id"])["state"] for item in ran} == {"succeeded"}
    after = planned()
    assert (after["chosen"], after["slow"]["speed"]["words"]) == ("slow", "learned from 12 runs")
    done = network.wait(network.submit(choosing("fit", placement={"prefer": "cheapest"}))["id"])
    assert [run["accelerator_model"] for run in done["runs"]] == ["A100"]
    told = network.ok(network.operator.get(f"/jobs/{done['id']}/explanation"))
    assert {item["speed"]["origin"] for item in told["verdicts"]} == {"learned"}
    # What one tenant's runs taught is nobody else's, and nobody else sees it.
    assert planned(tenant="globex")["chosen"] == "fast"
    with network.client("buyer", tenant="globex") as buyer:
        assert network.ok(buyer.get("/speeds"))["items"] == []
        assert buyer.get("/speeds", params={"tenant": "acme"}).status_code == 403
    (known,) = network.ok(network.operator.get("/speeds", params={"limit": 1}))["items"]
    assert (known["tenant"], known["kind"], known["name"]) == ("acme", "command", "fit")
    assert [(one["model"], one["speed"]["origin"]) for one in known["models"]] == [("A100", "learned"), ("H200", "learned")]
    assert all(one["median_steps_per_s"] > 0 and one["median_run_s"] > 0 for one in known["models"])
