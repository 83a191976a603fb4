"""Kind ray as buyers and operators meet it where no cluster runs it; that one does is tried on a real Ray."""

from __future__ import annotations

from typing import Any

from tests.network import Network, job, node, until


def program(**fields: Any) -> dict[str, Any]:
    return job("squares", kind="ray", command=["python", "main.py"], files={"main.py": "print(1)"}, **fields)


def test_a_program_that_no_cluster_runs_waits_and_the_reason_names_its_kind(network: Network) -> None:
    network.add_cluster("sh", node("n1", 8))
    plan = network.ok(network.operator.post("/jobs:plan", json=program()))
    (verdict,) = plan["verdicts"]
    assert (plan["chosen"], verdict["verdict"], verdict["quote"] is not None) == (None, "refused", True)
    assert verdict["obstacles"] == [{
        "reason": "kind_unsupported", "message": "kind ray: its operator has not switched it on",
        "remedy": "choose another cluster, or ask its operator for ray_jobs",
    }]  # fmt: skip
    waiting = network.submit(program())
    until(
        lambda: network.job(waiting["id"])["message"] == "waiting: the cluster does not run this kind of job", "it waits for such a cluster"
    )
    explained = network.ok(network.operator.get(f"/jobs/{waiting['id']}/explanation"))
    assert "kind ray: its operator has not switched it on" in explained["summary"]


def test_only_a_ray_cluster_can_be_switched_on_and_the_field_is_named(network: Network) -> None:
    network.add_cluster("sh", node("n1", 8))
    answer = network.operator.patch("/clusters/sh", json={"ray_jobs": {}})
    assert (answer.status_code, [item["path"] for item in answer.json()["errors"]]) == (422, ["ray_jobs"])
    assert "only a cluster of backend ray" in answer.text
    assert network.cluster("sh")["ray_jobs"] is None


def test_a_kubernetes_cluster_takes_no_packages_however_that_is_said(network: Network) -> None:
    prices = {"cpu_hour": "0.4 CNY", "memory_gib_hour": "0.02 CNY", "transfer_gib": "0.5 CNY"}
    document: dict[str, Any] = {"name": "lab", "backend": "kubernetes", "jurisdiction": "CN-SH", "prices": prices}
    packed = {"runtime_env": ["env_vars", "pip"], "wheelhouse": "/wheels"}
    refusals = [network.operator.post("/clusters", json={**document, "ray_jobs": packed})]
    network.ok(network.operator.post("/clusters", json={**document, "ray_jobs": {}}))
    refusals.append(network.operator.patch("/clusters/lab", json={"ray_jobs": packed}))
    for answer in refusals:
        (error,) = answer.json()["errors"]
        assert (answer.status_code, error["path"]) == (422, "ray_jobs.runtime_env")
        assert "leave pip and wheelhouse out" in error["message"]
    assert network.cluster("lab")["ray_jobs"]["runtime_env"] == ["env_vars", "py_modules"]


def test_a_runtime_env_with_anything_else_is_refused_with_its_path(network: Network) -> None:
    answer = network.operator.post("/jobs", json=program(runtime_env={"conda": "base", "pip": ["--index-url=x"]}))
    assert answer.status_code == 422
    assert "runtime_env.conda" in answer.text
    assert "env_vars, py_modules, pip" in answer.text
