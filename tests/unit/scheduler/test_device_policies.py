"""Each placement policy on a picture of nodes: where one worker goes, in the NumPy form and in the compiled one."""

from __future__ import annotations

import numpy as np
import pytest

from scheduler.engine.device_kernel import CODES
from scheduler.engine.device_loop import board_of, place_queue
from scheduler.engine.device_scores import POLICIES, choose, place
from scheduler.engine.devices import DeviceNodes, Shapes
from tests.pictures import FEW, ONE, SHARE, facts, holding, nodes, shapes


def decided(
    policy: str, world: DeviceNodes, asks: Shapes, mix: list[int] | None = None, draw: tuple[float, float] = (0.0, 0.0)
) -> tuple[int, int]:
    """The node and device of one worker of the first request; both forms must agree."""
    known = facts(world, asks, mix)
    node, device = choose(policy, world, asks, 0, known, draw)
    compiled, chosen = DeviceNodes(*(field.copy() for field in world)), np.zeros(1, dtype=np.int64)
    board = board_of(len(asks.devices), len(world.devices), 1)
    place_queue(CODES[policy], compiled, asks, known, np.array([0]), np.array([draw]), board, 0, 1, chosen)
    place(policy, world, asks, known, np.array([0]), np.array([draw]))
    assert chosen[0] == node
    assert [field.tolist() for field in compiled] == [field.tolist() for field in world]
    return node, device


def test_both_forms_know_the_same_policies() -> None:
    assert list(CODES) == list(POLICIES)
    assert list(CODES.values()) == list(range(len(CODES)))


@pytest.mark.parametrize(
    ("draw", "place_drawn"), [((0.0, 0.0), (1, 0)), ((0.49, 0.9), (1, 2)), ((0.5, 0.0), (2, 1)), ((0.99, 0.99), (2, 1))]
)
def test_random_draws_among_nodes_and_devices_with_room(draw: tuple[float, float], place_drawn: tuple[int, int]) -> None:
    world = nodes("T4 8  400 400", "T4 8  500 100 1000", "T4 8  0 700")
    assert decided("random", world, shapes("1 500"), draw=draw) == place_drawn


@pytest.mark.parametrize("policy", POLICIES)
def test_nobody_goes_where_there_is_no_room(policy: str) -> None:
    assert decided(policy, nodes("T4 8  999 999", "P100 8  1000", "T4 3  1000"), shapes("4 1000 T4")) == (-1, -1)


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy != "random"])
@pytest.mark.parametrize("ask", ["4 470", "4 1000", "4", "4 2x1000"])
def test_of_equal_nodes_the_first_is_taken(policy: str, ask: str) -> None:
    assert decided(policy, nodes("T4 8  0 0", "T4 8  1000 1000", "T4 8  1000 1000"), shapes(ask))[0] == (0 if ask == "4" else 1)


def test_dotprod_takes_the_least_room_along_the_request() -> None:
    assert decided("dotprod", nodes("T4 64  1000 1000", "T4 64  1000 0", "T4 96  1000 0"), shapes("8 1000")) == (1, 0)


def test_clustering_keeps_kinds_together() -> None:
    alone, mixed, unused = holding(nodes("T4 8  1000 0"), 0, ONE), (ONE, SHARE), "T4 8  1000 1000"
    world = holding(holding(nodes("T4 8  1000 0", "T4 8  1000 500", unused, "T4 8  1000 0"), 1, *mixed), 0, ONE)
    assert alone.kinds.tolist() == [[0, 1, 0, 0]]
    assert decided("clustering", holding(world, 3, FEW), shapes("1 1000"))[0] == 0
    assert decided("clustering", holding(world, 0, FEW), shapes("1 1000"))[0] == 1
    assert decided("clustering", holding(nodes("T4 8  1000 0", unused), 0, FEW), shapes("1 1000"))[0] == 1


def test_packing_fills_devices_in_use_then_nodes_in_use_then_small_nodes() -> None:
    share = shapes("1 300")
    assert decided("packing", nodes("T4 8  1000 1000", "T4 8  1000 900", "T4 8  1000 400"), share) == (2, 1)
    assert decided("packing", nodes("T4 8  1000 1000", "T4 8  1000 100"), share) == (1, 0)
    assert decided("packing", nodes("T4 8  1000 1000", "T4 8  1000"), share) == (1, 0)


def test_bestfit_leaves_the_least_room() -> None:
    assert decided("bestfit", nodes("T4 96  1000 1000", "T4 96  1000 500", "T4 96  470 900"), shapes("8 470")) == (2, 0)
    assert decided("bestfit", nodes("T4 96  1000", "T4 16  1000"), shapes("8 1000"))[0] == 1


def test_bestfit_weighs_cores_and_devices_by_what_a_usual_node_has() -> None:
    # One core more is next to nothing beside half of a device.
    assert decided("bestfit", nodes("T4 65  500", "T4 64  1000"), shapes("8 470")) == (0, 0)
    assert decided("bestfit", nodes("T4 96  500", "T4 16  1000"), shapes("8 470")) == (1, 0)


def test_the_usual_node_is_the_median_of_those_with_devices() -> None:
    known = facts(nodes("T4 8  1000", "T4 16  1000", "T4 96  1000 1000", "T4 1", "T4 2"), shapes("1 1000"))
    assert (known.usual_cpu_milli, known.usual_gpu_milli) == (16_000, 1000)


def test_fgd_closes_the_device_whose_rest_nobody_could_use() -> None:
    # After 500 the first device keeps 100, which the mix cannot use; the second keeps nothing that is lost.
    assert decided("fgd", nodes("T4 96  600 500 1000", "T4 96  600 1000 1000"), shapes("1 500", "1 1000"), [1, 1]) == (0, 1)


def test_fgd_keeps_a_whole_node_for_those_who_need_it() -> None:
    world = nodes("T4 96  1000 1000 1000 1000", "T4 96  1000 0 0 0")
    assert decided("fgd", world, shapes("1 1000", "1 4x1000"), [1, 3])[0] == 1


def test_cpn_leaves_rests_that_somebody_can_use() -> None:
    # 470 fits twice and 320 three times: 320 on 650 leaves 330, worth a third; on 530 it leaves 210, worth nothing.
    asks = shapes("1 320", "1 470", "1 1000")
    assert decided("cpn", nodes("T4 96  530 1000", "T4 96  650 1000"), asks, [100, 100, 100]) == (1, 0)


def test_cpn_prefers_a_device_in_use_where_nothing_else_tells_them_apart() -> None:
    assert decided("cpn", nodes("T4 96  1000 1000", "T4 96  1000 500"), shapes("1 500"), [1]) == (1, 1)


def test_cpn_leaves_rare_models_to_those_who_must_have_them() -> None:
    asks = shapes("1 1000", "1 1000 T4")
    assert decided("cpn", nodes("T4 96  1000", "G2 96  1000"), asks, [1, 1])[0] == 1
    assert decided("cpn", nodes("T4 96  1000", "G2 96  1000"), shapes("1 1000 T4", "1 1000"), [1, 1])[0] == 0


def test_cpn_puts_work_without_devices_where_cores_are_plenty() -> None:
    asks = shapes("8", "12 1000")
    assert decided("cpn", nodes("G2 24  1000 1000", "T4 52  1000 1000"), asks, [1, 1])[0] == 1
    assert decided("cpn", nodes("T4 52  1000 1000", "G2 12  0 0"), asks, [1, 1])[0] == 1


def test_cpn_gives_work_with_few_cores_the_devices_with_few_cores() -> None:
    asks = shapes("2 1000", "20 1000")
    assert decided("cpn", nodes("T4 40  1000 1000", "G2 10  1000 1000"), asks, [1, 1])[0] == 1
