"""Freeze: from stored rows to arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cluster.health import Health
from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Nodes
from scheduler.freeze import USUAL_START_S, World, freeze, held_by, held_vector
from scheduler.market import Market
from scheduler.store.records import NodeRecord, RunRecord
from tests.records import GIB, candidate, job_spec, machine, member, queue, run, world_of
from tests.unit.workloads.samples import licence, prices, product, version
from workloads.spec import JobSpec


def frozen_nodes(nodes: list[NodeRecord], runs: list[RunRecord], *specs: JobSpec) -> Nodes:
    """The node arrays of one member."""
    world = world_of(member(), nodes=nodes, runs=runs)
    return freeze(world, [candidate(world, spec) for spec in specs], {}).snapshot.nodes


def test_members_with_their_standing() -> None:
    world = world_of(
        member("a"), member("b", health=Health.SUSPECT), member("c", health=Health.LOST), member("d", cordon="cordoned"),
        member("e", cordon="draining"),
    )  # fmt: skip
    found = freeze(world, [], {"b": 7.5}).snapshot.clusters
    assert found.names == ("a", "b", "c", "d", "e")
    assert found.healthy.tolist() == [True, False, False, True, True]
    assert found.cordoned.tolist() == [False, False, False, True, True]
    assert found.wait_s.tolist() == [USUAL_START_S, 7.5, *[USUAL_START_S] * 3]


def test_nodes_with_their_totals() -> None:
    nodes = [machine(name="n1", cpu=8, gib=16), machine(name="n2", cpu=2.5, gib=1, ready=False, models={"H200": 8, "A100": 1})]
    world = world_of(member(), nodes=nodes)
    snapshot = freeze(world, [], {}).snapshot
    assert snapshot.resources == ("cpu", "memory", "A100", "H200")
    assert snapshot.nodes.names == ("n1", "n2")
    assert snapshot.nodes.total.tolist() == [[8, 16 * GIB, 0, 0], [2.5, GIB, 1, 8]]
    assert snapshot.nodes.free.tolist() == snapshot.nodes.total.tolist()
    assert snapshot.nodes.ready.tolist() == [True, False]
    assert snapshot.nodes.cluster.tolist() == [0, 0]


def test_a_model_that_a_node_lists_twice_is_added_up() -> None:
    node = machine(models={"H200": 2})
    twice = NodeRecord("sh", node.node.model_copy(update={"accelerators": node.node.accelerators * 2}), 0.0)
    assert frozen_nodes([twice], []).total[0, 2] == 4


def test_a_model_that_only_a_job_names_has_a_column() -> None:
    world = world_of(member(), nodes=[machine()])
    snapshot = freeze(world, [candidate(world, job_spec(resources={"accelerator": {"model": "H200", "count": 2}}))], {}).snapshot
    assert snapshot.resources == ("cpu", "memory", "H200")
    assert snapshot.nodes.total.tolist() == [[8, 16 * GIB, 0]]
    assert snapshot.jobs.request.tolist() == [[1, GIB, 2]]


@pytest.mark.parametrize(
    ("runs", "free"),
    [
        ([], [[8, 16], [8, 16]]),
        ([run("sh", ["n1"], cpu=2, memory="4GiB")], [[6, 12], [8, 16]]),
        ([run("sh", ["n1", "n1", "n2"], cpu=2, memory="4GiB")], [[4, 8], [6, 12]]),
        ([run("sh", ["n2"], cpu=1, memory="1GiB"), run("sh", ["n2"], job_id="job-2", cpu=2, memory="1GiB")], [[8, 16], [5, 14]]),
        ([run("sh", ["gone", "n1"], cpu=2, memory="4GiB")], [[6, 12], [8, 16]]),
        ([run("other", ["n1"], cpu=2, memory="4GiB")], [[8, 16], [8, 16]]),
        ([run("sh", ["n1"], cpu=64, memory="4GiB")], [[0, 12], [8, 16]]),
    ],
    ids=["nothing", "one worker", "a gang", "several", "a node that is gone", "another cluster", "a node that shrank"],
)
def test_capacity_in_flight_is_taken_off(runs: list[RunRecord], free: list[list[float]]) -> None:
    found = frozen_nodes([machine(name="n1"), machine(name="n2")], runs)
    assert found.free.tolist() == [[cpu, gib * GIB] for cpu, gib in free]
    assert found.total.tolist() == [[8, 16 * GIB]] * 2


def test_accelerators_in_flight_are_taken_off() -> None:
    held = run("sh", ["n1", "n1"], accelerator={"model": "H200", "count": 2})
    assert frozen_nodes([machine(models={"H200": 8})], [held]).free[0, 2] == 4
    assert frozen_nodes([machine()], [held]).free.shape == (1, 2)


def holding(nodes: list[str], devices: list[list[int]] | None, *, job_id: str = "job-1", **accelerator: object) -> RunRecord:
    """A run with devices by number; None: from before they were told apart."""
    found = run("sh", nodes, job_id=job_id, accelerator={"model": "H200", **accelerator})
    return replace(found, held=found.held if devices is None else {**found.held, "devices": devices})


@pytest.mark.parametrize(
    ("runs", "free"),
    [
        ([], [[1000, 1000, 1000], [1000, -1, -1]]),
        ([holding(["n1"], [[1]], share=0.25)], [[1000, 750, 1000], [1000, -1, -1]]),
        ([holding(["n1", "n2"], [[1], [0]], share=0.25), holding(["n1"], [[1]], share=0.5)], [[1000, 250, 1000], [750, -1, -1]]),
        ([holding(["n1"], [[0, 2]], count=2)], [[0, 1000, 0], [1000, -1, -1]]),
        ([holding(["n1"], None, count=2), holding(["n1"], [[0]], share=0.5)], [[500, 0, 0], [1000, -1, -1]]),
        ([holding(["n2"], [[5]], count=1), holding(["gone"], [[0]], count=1)], [[1000, 1000, 1000], [1000, -1, -1]]),
        ([holding(["n1"], [[0]], share=0.75), holding(["n1"], [[0]], share=0.75)], [[0, 1000, 1000], [1000, -1, -1]]),
    ],
    ids=["nothing", "a share", "shares of a gang", "whole ones", "from before", "a device that is gone", "more than there is"],
)
def test_devices_in_flight_are_taken_off_one_by_one(runs: list[RunRecord], free: list[list[int]]) -> None:
    found = frozen_nodes([machine(name="n1", models={"H200": 3}), machine(name="n2", models={"H200": 1})], runs)
    assert found.devices[:, 0].tolist() == free


def test_without_accelerators_there_are_no_devices() -> None:
    assert frozen_nodes([machine()], []).devices.size == 0


def test_nodes_of_equal_names_are_told_apart_by_their_cluster() -> None:
    world = world_of(
        member("gz"), member("sh"), nodes=[machine("gz", "n1"), machine("sh", "n1"), machine("removed", "n1")],
        runs=[run("sh", ["n1"], cpu=3)],
    )  # fmt: skip
    found = freeze(world, [], {}).snapshot.nodes
    assert (found.cluster.tolist(), found.free[:, 0].tolist()) == ([0, 1], [8, 5])


def test_labels_of_cluster_and_node_and_the_nodes_own_win() -> None:
    world = world_of(
        member("gz"), member("sh", labels={"tier": "gold", "zone": "east"}),
        nodes=[machine("gz", "n1", tier="gold"), machine("sh", "n1"), machine("sh", "n2", tier="silver"), machine("sh", "n3", disk="ssd")],
    )  # fmt: skip
    wanted: list[dict[str, str]] = [{"tier": "gold"}, {}, {"zone": "east", "disk": "ssd"}, {"tier": "gold"}]
    snapshot = freeze(world, [candidate(world, job_spec(placement={"labels": labels})) for labels in wanted], {}).snapshot
    found = [snapshot.nodes.label_ok[row].tolist() for row in snapshot.jobs.label_class.tolist()]
    assert found == [[True, True, False, True], [True] * 4, [False, False, False, True], [True, True, False, True]]
    assert len(snapshot.nodes.label_ok) == 3


def test_queues_with_what_their_runs_hold() -> None:
    runs = [
        run("sh", ["n1", "n2"], cpu=2, memory="1GiB"), run("gone", ["n9"], job_id="job-2", cpu=1, memory="1GiB"),
        run("sh", ["n1"], job_id="job-3", queue="batch", cpu=4, memory="2GiB"),
    ]  # fmt: skip
    world = world_of(member(), nodes=[machine()], queues=[queue("batch", 0.5, 3), queue("default"), queue("idle", 2.0, 0)], runs=runs)
    found = freeze(world, [], {}).snapshot.queues
    assert found.names == ("batch", "default", "idle")
    assert found.weight.tolist() == [0.5, 1.0, 2.0]
    assert found.held.tolist() == [[4, 2 * GIB], [5, 3 * GIB], [0, 0]]
    assert found.running.tolist() == [1, 2, 0]
    assert found.max_running.tolist() == [3, -1, 0]


def test_jobs_with_what_they_ask_for() -> None:
    world = world_of(member("gz"), member("sh"), nodes=[machine()], queues=[queue("batch"), queue()])
    first = job_spec(queue="default", priority="high", resources={"cpu": 0.5, "memory": "3GiB", "workers": 4})
    jobs = [
        candidate(world, first, id="job-b", sequence=7),
        candidate(world, job_spec(queue="batch", priority="low"), id="job-a", sequence=8),
    ]
    frozen = freeze(world, jobs, {})
    found = frozen.snapshot.jobs
    assert (found.ids, found.sequence.tolist(), found.rank.tolist()) == (("job-b", "job-a"), [7, 8], [100, -100])
    assert (found.queue.tolist(), found.workers.tolist()) == ([1, 0], [4, 1])
    assert found.request.tolist() == [[0.5, 3 * GIB], [1, GIB]]
    assert [frozen.candidates[row].id for row in range(2)] == list(found.ids)


def test_rights_money_and_data_enter_as_judged() -> None:
    members = (
        member("bj", jurisdiction="CN-BJ"),
        member("dear", prices=prices(cpu_hour="9.00 CNY")),
        member("sh-1"),
        member("us", currency="USD"),
    )
    world = world_of(*members)
    market = Market(
        {"nycflights/flights": product()}, {"nycflights/flights@1": version(size_bytes=50 * 1024**2)},
        {("acme", "nycflights/flights"): (licence(jurisdictions=["CN-SH"]),)},
    )  # fmt: skip
    spec = job_spec(inputs={"flights": "nycflights/flights@1"}, budget="1.00 CNY")
    found = freeze(world, [candidate(world, spec, market=market)], {}).snapshot.jobs
    assert [Reason(reason) for reason in found.policy[0].tolist()] == [
        Reason.LICENCE_JURISDICTION, Reason.OVER_BUDGET, Reason.FITS, Reason.CURRENCY,
    ]  # fmt: skip
    assert found.transfer_s[0].tolist() == [0.5, 0.5, 0.0, 0.5]
    assert found.cost[0].tolist() == pytest.approx([0.4 + 0.0244, 9.0 + 0.04 + 0.0244, 0.4, 0.4 + 0.0244])


@pytest.mark.parametrize(
    "world",
    [world_of(queues=[]), world_of(member(), queues=[]), world_of(queues=[queue()])],
    ids=["nothing", "a member without nodes", "a queue alone"],
)
def test_worlds_without_jobs_make_arrays_of_the_right_shape(world: World) -> None:
    snapshot = freeze(world, [], {}).snapshot
    members, queues = len(world.clusters), len(world.queues)
    assert snapshot.nodes.total.shape == (0, 2)
    assert snapshot.nodes.label_ok.shape == (0, 0)
    assert snapshot.queues.held.shape == (queues, 2)
    assert snapshot.jobs.request.shape == (0, 2)
    assert snapshot.jobs.policy.shape == snapshot.jobs.cost.shape == (0, members)
    check(snapshot, place(snapshot))


def test_a_job_in_a_world_without_members_waits() -> None:
    world = world_of()
    snapshot = freeze(world, [candidate(world, job_spec())], {}).snapshot
    assert snapshot.jobs.policy.shape == (1, 0)
    assert snapshot.nodes.label_ok.shape == (1, 0)
    assert [item.blocker for item in place(snapshot).unplaced] == [Reason.CLUSTER_UNHEALTHY]


def test_arrays_have_the_types_that_the_engine_expects() -> None:
    world = world_of(member(), nodes=[machine()])
    for snapshot in (freeze(world, [candidate(world, job_spec())], {}).snapshot, freeze(world_of(), [], {}).snapshot):
        parts = (snapshot.clusters, snapshot.nodes, snapshot.queues, snapshot.jobs)
        kinds = {name: value.dtype for part in parts for name, value in vars(part).items() if isinstance(value, np.ndarray)}
        floats = {"wait_s", "total", "free", "weight", "held", "request", "transfer_s", "cost", "quota", "ceiling", "kept", "used"}
        floats |= {"length_s", "limit_s", "longer_s", "carbon_g"}
        bools = {"healthy", "cordoned", "ready", "label_ok", "strict", "spread"}
        assert kinds == {name: np.dtype(float if name in floats else bool if name in bools else np.int64) for name in kinds}
        assert len(kinds) >= 30


def test_what_a_worker_holds_survives_the_store() -> None:
    held = held_by(job_spec(resources={"cpu": 2, "memory": "1GiB", "workers": 3, "accelerator": {"model": "H200", "count": 4}}))
    assert held == {"cpu": 2.0, "memory_bytes": GIB, "accelerator_model": "H200", "accelerator_count": 4}
    assert held_vector(held, ("cpu", "memory", "A100", "H200")).tolist() == [2, GIB, 0, 4]
    assert held_vector(held, ("cpu", "memory")).tolist() == [2, GIB]


def test_a_market_hands_out_inputs_by_alias() -> None:
    market = Market({"nycflights/flights": product()}, {"nycflights/flights@1": version()}, {})
    spec = job_spec(inputs={"b": "nycflights/flights@1", "a": "nycflights/flights@1"})
    assert [(item.alias, item.licences) for item in market.inputs(spec)] == [("a", ()), ("b", ())]
    with pytest.raises(KeyError):
        market.inputs(job_spec(inputs={"a": "nycflights/flights@2"}))


def test_a_share_of_a_device_where_no_node_has_one_waits_with_the_reason() -> None:
    world = world_of(member(), nodes=[machine()])
    snapshot = freeze(world, [candidate(world, job_spec(resources={"accelerator": {"model": "H200", "share": 0.5}}))], {}).snapshot
    plan = place(snapshot)
    check(snapshot, plan)
    assert [item.blocker for item in plan.unplaced] == [Reason.NODE_ACCELERATOR_MODEL]
