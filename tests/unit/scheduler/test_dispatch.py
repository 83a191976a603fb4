"""Dispatch: names that derive from job and attempt, and all that a backend needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster.protocol import RunRequest
from scheduler.assess import InputData
from scheduler.dispatch import run_name, run_request
from scheduler.links import MIB, Inbound, Sample
from tests.records import GIB, cluster_spec, job_spec, run
from tests.unit.workloads.samples import product, spec, version
from workloads.catalogue.product import Replica
from workloads.ray_jobs import RayJobs


def flights(*replicas: tuple[str, str]) -> InputData:
    """The flights with replicas at these (cluster, URI)."""
    places = tuple(Replica(cluster=cluster, uri=uri) for cluster, uri in replicas)
    return InputData("flights", product(), version().model_copy(update={"replicas": places}), ())


def test_what_may_not_be_copied_is_sought_nowhere_else() -> None:
    item = flights(("gz", "/gz"), ("sh-1", "/sh"), ("bj", "/bj"))
    kept = InputData(item.alias, product(may_copy=False), item.version, ())
    free, bound = (run_request(spec(), run("sh-1", ["n1"]), [data]).inputs["flights"] for data in (item, kept))
    assert ([one.source for one in free.others], [one.source for one in bound.others]) == (["bj", "gz"], [])
    assert (bound.uri, bound.local) == ("/sh", True)


def test_a_run_is_named_by_job_and_attempt() -> None:
    assert [run_name("job-a", attempt) for attempt in (1, 2, 10)] == ["job-a-1", "job-a-2", "job-a-10"]


def test_a_request_says_what_who_and_where() -> None:
    asked: dict[str, Any] = {"cpu": 2, "memory": "3GiB", "workers": 2, "accelerator": {"model": "H200", "count": 4}}
    job = job_spec(command=["python", "x.py"], files={"x.py": "print(1)"}, env={"A": "b"}, resources=asked, max_runtime="90s")
    found = run_request(job, run("sh-1", ["n2", "n1"], attempt=3, **asked), [])
    assert (found.run_id, found.job_id, found.attempt, found.epoch) == ("job-1-3", "job-1", 3, 3)
    assert (found.kind, found.command, found.sql) == ("command", ("python", "x.py"), None)
    assert (found.files, found.env, found.inputs) == ({"x.py": "print(1)"}, {"A": "b"}, {})
    assert (found.cpu, found.memory_bytes) == (2.0, 3 * GIB)
    assert (found.accelerator_model, found.accelerator_count) == ("H200", 4)
    assert (found.nodes, found.max_runtime_s) == (("n2", "n1"), 90.0)


def test_a_share_goes_along_with_its_devices() -> None:
    asked: dict[str, Any] = {"workers": 2, "accelerator": {"model": "H200", "share": 0.25}}
    placed = run("sh-1", ["n1", "n2"], **asked)
    placed = replace(placed, held={**placed.held, "devices": [[1], [0]]})
    found = run_request(job_spec(resources=asked), placed, [])
    assert (found.accelerator_count, found.accelerator_devices) == (0.25, ((1,), (0,)))
    assert RunRequest.model_validate_json(found.model_dump_json()) == found


def test_a_ray_program_goes_along_with_the_rules_of_its_cluster() -> None:
    rules = RayJobs(runtime_env=("env_vars", "pip"), wheelhouse="/w")
    there = cluster_spec("sh-1").model_copy(update={"backend": "ray", "ray_jobs": rules})
    program = job_spec(kind="ray", command=["python", "main.py"], runtime_env={"pip": ["x==1"]})
    found = run_request(program, run("sh-1", ["n1"]), [], None, there)
    assert (found.kind, found.runtime_env, found.ray_jobs) == ("ray", program.runtime_env, rules)
    assert RunRequest.model_validate_json(found.model_dump_json()) == found
    assert run_request(job_spec(), run("sh-1", ["n1"]), [], None, there).ray_jobs is None


def test_a_statement_goes_along() -> None:
    found = run_request(spec(sql="SELECT 1"), run("sh-1", ["n1"]), [])
    assert (found.kind, found.sql, found.command, found.accelerator_model) == ("sql", "SELECT 1", (), None)


@pytest.mark.parametrize(
    ("replicas", "uri", "local"),
    [
        ([("sh-1", "/sh"), ("gz-1", "/gz")], "/sh", True),
        ([("gz-1", "/gz"), ("sh-1", "/sh")], "/sh", True),
        ([("gz-1", "/gz"), ("bj-1", "/bj")], "/bj", False),
    ],
    ids=["the cluster's own", "in any order", "else the first by name"],
)
def test_an_input_is_read_from_the_nearest_replica(replicas: list[tuple[str, str]], uri: str, local: bool) -> None:
    item = flights(*replicas)
    found = run_request(job_spec(), run("sh-1", ["n1"]), [item]).inputs["flights"]
    assert (found.uri, found.local) == (uri, local)
    assert (found.ref, found.format, found.size_bytes, found.sha256) == ("nycflights/flights@1", "parquet", GIB, "0" * 64)


def test_what_lies_at_several_places_comes_over_the_fastest_link_first() -> None:
    item = flights(("bj-1", "/bj"), ("gz-1", "/gz"), ("us-1", "/us"))
    fast = Inbound(10.0, {"gz-1": (Sample(MIB, 0.05, 0.0),), "us-1": (Sample(MIB, 2.0, 0.0),)})
    found = run_request(job_spec(), run("sh-1", ["n1"]), [item], None, cluster_spec("sh-1"), fast).inputs["flights"]
    assert (found.uri, found.source) == ("/gz", "gz-1")
    assert [(other.uri, other.source) for other in found.others] == [("/bj", "bj-1"), ("/us", "us-1")]


def test_two_names_of_one_version_are_two_inputs() -> None:
    item = flights(("sh-1", "/sh"))
    found = run_request(job_spec(), run("sh-1", ["n1"]), [item, replace(item, alias="again")]).inputs
    assert sorted(found) == ["again", "flights"]
    assert found["again"] == found["flights"]
