"""What the nodes of a cluster say of it: fragmentation, topology, and how full it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scheduler.engine.board import Board, classes_of
from scheduler.engine.devices import DEVICE
from scheduler.engine.node_scores import NODE_ASPECTS, fragmentation, in_use, topology, wanted
from scheduler.engine.place import place
from scheduler.engine.snapshot import Weights
from scheduler.engine.verdicts import verdicts
from tests.builders import cluster, decided, job, world

# Clusters 0 and 2 have three nodes and one, cluster 1 has none.
HOME = np.array([0, 0, 0, 2])


def test_fragmentation_is_that_of_the_best_node() -> None:
    assert fragmentation(np.array([3, 1, 2, 5]) * DEVICE, HOME, 3).tolist() == [1.0, 0.0, 5.0]


@pytest.mark.parametrize(
    ("rooms", "workers", "expected"),
    [
        ([1, 1, 1, 3], 3, [3, 0, 1]),
        ([2, 0, 4, 3], 5, [2, 0, 0]),
        ([1, 5, 1, 1], 1, [1, 0, 1]),
        ([0, 0, 0, 0], 1, [0, 0, 0]),
        ([2**31, 2**31, 2**31, 2**31], 4096, [1, 0, 1]),
    ],
)
def test_topology_is_on_how_few_nodes_workers_fit(rooms: list[int], workers: int, expected: list[int]) -> None:
    assert topology(np.array(rooms), HOME, workers, 3).tolist() == expected


def test_use_is_that_of_the_resource_that_is_fullest_of_those_asked_for() -> None:
    total = np.array([[8.0, 8.0, 0.0], [8.0, 8.0, 4.0], [8.0, 8.0, 0.0], [4.0, 4.0, 0.0]])
    free = np.array([[8.0, 4.0, 0.0], [4.0, 8.0, 0.0], [6.0, 0.0, 0.0], [4.0, 1.0, 0.0]])
    assert in_use(total, free, HOME, np.array([1.0, 0.0, 0.0]), 3).tolist() == [0.25, 0.0, 0.0]
    assert in_use(total, free, HOME, np.array([1.0, 1.0, 0.0]), 3).tolist() == [0.5, 0.0, 0.75]
    assert in_use(total, free, HOME, np.array([1.0, 1.0, 1.0]), 3).tolist() == [1.0, 0.0, 0.75]
    assert in_use(total, free, HOME, np.zeros(3), 3).tolist() == [0.0, 0.0, 0.0]


def test_only_what_counts_is_looked_at() -> None:
    assert wanted(Weights()) == ("fragmentation",)
    assert wanted(Weights(fragmentation=0.0)) == ()
    assert wanted(Weights(**dict.fromkeys(NODE_ASPECTS, 1.0))) == NODE_ASPECTS


@pytest.mark.parametrize("name", ["topology", "spread", "pack", "carbon"])
def test_the_board_refuses_weights_that_it_does_not_know(name: str) -> None:
    given = world(cluster("a"), jobs=[job("j")], weights=Weights(**{name: 0.5}))
    with pytest.raises(ValueError, match="other weights"):
        Board(given, classes_of(given.jobs)[0])


@pytest.mark.parametrize(
    ("weights", "workers", "expected", "aspect"),
    [
        ({}, 2, "a n2 n2", ("start", 1.0)),
        ({"spread": 1.0}, 2, "b n1 n1", ("spread", 0.25)),
        ({"pack": 1.0}, 2, "a n2 n2", ("pack", 0.375)),
        ({"topology": 1.0}, 6, "a n2 n2 n2 n2 n2 n2", ("topology", 1.0)),
    ],
)
def test_weights_of_nodes_choose_between_clusters(weights: dict[str, float], workers: int, expected: str, aspect: tuple[str, Any]) -> None:
    # The first is fuller and has room for six on one node, the second is emptier and has it on two.
    given = world(
        cluster("a", "0/8 6/8"), cluster("b", "3/4 3/4"), jobs=[job("j", workers=workers)], weights=Weights(**weights)
    )  # fmt: skip
    assert decided(given) == {"j": expected}
    parts = {part.aspect: part.value for item in verdicts(given, 0, place(given)) if item.chosen for part in item.parts}
    assert parts[aspect[0]] == pytest.approx(aspect[1])
