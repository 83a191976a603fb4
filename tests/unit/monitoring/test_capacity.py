"""Computing power: what is rated, what can be used now, what is held, and what has no rating, each shown as itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.health import Health
from cluster.model import Node, NodeAccelerator
from monitoring.capacity import Capacity, NodeUse, Power, UnratedHardware, measure, use_by_node
from scheduler.store.records import ClusterRecord, NodeRecord
from tests.records import GIB, NOW, machine, member, run

# One core of this processor: 2.45 GHz x 16 FLOP.
EPYC = {"cpn.dev/cpu-model": "AMD EPYC 7763"}
CORE_FP64 = 2.45e9 * 16
H200 = {"fp64": 34e12, "fp32": 67e12, "tf32": 494.5e12, "fp16": 989.5e12}


def power(found: Capacity, compute_class: str = "general", precision: str = "fp64", cluster: str = "") -> tuple[float, float, float]:
    """(rated, available, allocated) of the network, or of one member."""
    powers = found.by_cluster[cluster] if cluster else found.total
    item = next(item for item in powers if (item.compute_class, item.precision) == (compute_class, precision))
    return item.rated, item.available, item.allocated


def test_power_is_added_up_over_nodes_and_members_by_class_and_precision() -> None:
    nodes = [machine("sh", "n1", 8, **EPYC), machine("sh", "n2", 4, models={"H200": 2}, **EPYC), machine("gz", "n1", 2, **EPYC)]
    found = measure([member("sh"), member("gz")], nodes, [])
    assert [(item.compute_class, item.precision) for item in found.total] == [
        ("general", "fp32"), ("general", "fp64"), ("intelligent", "fp16"), ("intelligent", "fp32"), ("intelligent", "fp64"),
        ("intelligent", "tf32"),
    ]  # fmt: skip
    assert power(found) == pytest.approx((14 * CORE_FP64, 14 * CORE_FP64, 0))
    assert power(found, cluster="sh") == pytest.approx((12 * CORE_FP64, 12 * CORE_FP64, 0))
    assert power(found, "general", "fp32") == pytest.approx((28 * CORE_FP64, 28 * CORE_FP64, 0))
    for precision, flops in H200.items():
        assert power(found, "intelligent", precision) == pytest.approx((2 * flops, 2 * flops, 0))
    assert (found.unrated, found.rated_share) == ((), 1.0)


@pytest.mark.parametrize(
    ("where", "node"),
    [
        (member(health=Health.SUSPECT), machine(**EPYC)),
        (member(health=Health.LOST), machine(**EPYC)),
        (member(cordon="cordoned"), machine(**EPYC)),
        (member(cordon="draining"), machine(**EPYC)),
        (member(), machine(ready=False, **EPYC)),
    ],
    ids=["suspect", "lost", "cordoned", "draining", "not ready"],
)
def test_what_cannot_be_used_now_is_rated_and_not_available(where: ClusterRecord, node: NodeRecord) -> None:
    assert power(measure([where], [node], [])) == pytest.approx((8 * CORE_FP64, 0, 0))


@pytest.mark.parametrize(
    ("held", "cores", "devices"),
    [
        ({"cpu": 2}, 2, 0),
        ({"cpu": 0.5}, 0.5, 0),
        ({"cpu": 1, "accelerator": {"model": "H200", "count": 3}}, 1, 3),
        # More than there is, as after a node shrank under its runs, counts as all of it.
        ({"cpu": 99, "accelerator": {"model": "H200", "count": 99}}, 8, 4),
        # A model that the node does not have holds nothing here.
        ({"cpu": 1, "accelerator": {"model": "T4", "count": 1}}, 1, 0),
    ],
)
def test_what_runs_hold_is_allocated_at_its_rated_share(held: dict[str, object], cores: float, devices: float) -> None:
    found = measure([member()], [machine(models={"H200": 4}, **EPYC)], [run("sh", ["n1"], **held)])
    assert power(found)[2] == pytest.approx(cores * CORE_FP64)
    assert power(found, "intelligent", "fp16")[2] == pytest.approx(devices * H200["fp16"])


def test_each_worker_of_a_gang_holds_its_share_of_its_own_node() -> None:
    nodes = [machine("sh", "n1", 4, **EPYC), machine("sh", "n2", 8, **EPYC), machine("gz", "n1", 4, **EPYC)]
    found = measure([member("sh"), member("gz")], nodes, [run("sh", ["n1", "n2", "n2"], cpu=2)])
    assert power(found, cluster="sh")[2] == pytest.approx(6 * CORE_FP64)
    assert power(found, cluster="gz")[2] == 0


def test_hardware_without_a_rating_is_counted_beside_and_never_guessed() -> None:
    nodes = [
        machine("sh", "n1", models={"Ascend-910B": 8}, **EPYC),
        machine("sh", "n2", models={"Ascend-910B": 8, "H200": 1}),
        machine("gz", "n1", **{"cpn.dev/cpu-model": "Kunpeng 999"}),
    ]
    found = measure([member("sh"), member("gz")], nodes, [])
    assert found.unrated == (
        UnratedHardware("gz", "Kunpeng 999", 1), UnratedHardware("sh", "Ascend-910B", 16), UnratedHardware("sh", "cpu", 1),
    )  # fmt: skip
    assert found.rated_share == pytest.approx(2 / 6)
    assert power(found) == pytest.approx((8 * CORE_FP64, 8 * CORE_FP64, 0))
    assert found.by_cluster["gz"] == ()


def test_devices_of_one_model_that_a_node_lists_twice_are_counted_once() -> None:
    devices = tuple(NodeAccelerator(model=model, count=2) for model in ("a cat", "a cat", "H200", "H200"))
    node = NodeRecord("sh", Node(name="n1", cpu=0, memory_bytes=0, accelerators=devices), NOW)
    found = measure([member()], [node], [run("sh", ["n1"], accelerator={"model": "H200", "count": 1})])
    assert found.unrated == (UnratedHardware("sh", "a cat", 4),)
    assert power(found, "intelligent", "fp16") == pytest.approx((4 * H200["fp16"], 4 * H200["fp16"], H200["fp16"]))
    assert found.rated_share == pytest.approx(0.5)


def test_nodes_of_a_member_that_is_gone_do_not_count() -> None:
    found = measure([member("sh")], [machine("sh", **EPYC), machine("gone", **EPYC)], [run("gone", ["n1"], cpu=1)])
    assert power(found) == pytest.approx((8 * CORE_FP64, 8 * CORE_FP64, 0))
    assert list(found.by_cluster) == ["sh"]


def test_an_empty_network_has_no_power_and_nothing_is_rated_of_it() -> None:
    assert measure([], [], []) == Capacity((), {}, (), 0.0)
    assert measure([member()], [], []) == Capacity((), {"sh": ()}, (), 0.0)


def test_use_is_what_all_runs_of_a_node_hold_together() -> None:
    found = use_by_node([
        run("sh", ["n1", "n1"], cpu=1.5, memory="1GiB", accelerator={"model": "H200", "count": 1}),
        run("sh", ["n1"], cpu=0.5, memory="2GiB", accelerator={"model": "A100", "count": 2}),
        run("gz", ["n1"], cpu=4, memory="1GiB"),
    ])  # fmt: skip
    assert found == {
        ("gz", "n1"): NodeUse(4.0, GIB, ()),
        ("sh", "n1"): NodeUse(3.5, 4 * GIB, (("A100", 2.0), ("H200", 2.0))),
    }
    assert [found["sh", "n1"].accelerator(model) for model in ("H200", "A100", "T4")] == [2.0, 2.0, 0]


NODES = st.builds(
    lambda cluster, name, cpu, ready, devices: machine(cluster, name, cpu, ready=ready, models=devices, **EPYC),
    st.sampled_from(["sh", "gz"]), st.sampled_from(["n1", "n2", "n3"]), st.integers(0, 64), st.booleans(),
    st.dictionaries(st.sampled_from(["H200", "T4", "a cat"]), st.integers(0, 16)),
)  # fmt: skip
RUNS = st.builds(
    lambda cluster, nodes, cpu: run(cluster, nodes, cpu=cpu),
    st.sampled_from(["sh", "gz"]), st.lists(st.sampled_from(["n1", "n2", "n3"]), min_size=1, max_size=4), st.integers(1, 40),
)  # fmt: skip


@given(
    nodes=st.lists(NODES, max_size=6, unique_by=lambda row: (row.cluster, row.node.name)),
    runs=st.lists(RUNS, max_size=6),
    standing=st.sampled_from([member("sh"), member("sh", health=Health.LOST), member("sh", cordon="cordoned")]),
)
def test_available_and_allocated_never_exceed_rated_and_members_add_up_to_the_network(
    nodes: list[NodeRecord], runs: list, standing: ClusterRecord
) -> None:
    found = measure([standing, member("gz")], nodes, runs)
    for item in (*found.total, *(item for powers in found.by_cluster.values() for item in powers)):
        assert 0 <= item.available <= item.rated
        assert 0 <= item.allocated <= item.rated * (1 + 1e-9)
    assert 0 <= found.rated_share <= 1
    parts: dict[tuple[str, str], float] = {}
    for powers in found.by_cluster.values():
        for item in powers:
            parts[item.compute_class, item.precision] = parts.get((item.compute_class, item.precision), 0.0) + item.rated
    assert {(item.compute_class, item.precision): item.rated for item in found.total} == pytest.approx(parts)
    assert all(isinstance(item, Power) for item in found.total)
