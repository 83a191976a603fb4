"""What free room is worth to the work that was asked for lately, and where workers go so that little of it is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from scheduler.engine.devices import DEVICE
from scheduler.engine.place import place
from scheduler.engine.snapshot import Weights
from scheduler.engine.verdicts import verdicts
from scheduler.engine.worth import lost, worth_of
from tests.builders import cluster, decided, job, or_else, world
from tests.mixes import mixed

HALVES = {"1+.5H200": 10}
WHOLES = {"4+1H200": 10, "1": 10}


@pytest.mark.parametrize(
    ("nodes", "mix", "asked", "without", "expected"),
    [
        # Nobody asks for less than a half: what is left of 0.5 would be worth nothing, what is left of 0.9 still a half.
        ("8+.5,0H200 8+.9,0H200", HALVES, "1+.3H200", "a n1", "a n2"),
        # Cores beside devices that need them are dear.
        ("8+1,1H200 8+1,1H200 8+1,1H200 8+1,1H200 40", WHOLES, "4", "a n1", "a n5"),
        ("8+1,1H200 8+1,1H200 8+1,1H200 8+0,0H200 40", WHOLES, "4", "a n4", "a n4"),
        # One device less leaves cores for the other: where devices are plenty, the cores go with them.
        ("8+1,1H200 12+1H200", {"2+1H200": 10}, "2+1H200", "a n1", "a n2"),
    ],
)
def test_a_worker_goes_where_least_is_lost(nodes: str, mix: Mapping[str, int], asked: str, without: str, expected: str) -> None:
    given = world(cluster("a", nodes), jobs=[job("j", asked)])
    assert (decided(given), decided(mixed(given, mix))) == ({"j": without}, {"j": expected})


def test_of_several_models_the_one_that_others_can_do_without() -> None:
    either = or_else(job("j", "1+1A100"), "1+1H200")
    given = world(cluster("a", "8+1,1A100 8+1,1H200"), jobs=[either])
    assert decided(given) == {"j": "a n1"}
    assert decided(mixed(given, {"1+1A100": 10, "1+1H200": 1, "1+1A100|H200": 5})) == {"j": "a n2"}
    assert decided(mixed(given, {"1+1A100": 1, "1+1H200": 10, "1+1A100|H200": 5})) == {"j": "a n1"}
    unasked = replace(given, weights=Weights(fragmentation=0.0))
    assert decided(mixed(unasked, {"1+1A100": 10, "1+1H200": 1})) == {"j": "a n1"}


def test_equal_clusters_are_told_apart_by_what_would_be_lost_there_and_others_are_not() -> None:
    members = (cluster("a", "8+1,1H200"), cluster("b", "8+.3,1H200"))
    near = world(*members, jobs=[job("j", "1+.3H200")])
    assert decided(near) == {"j": "a n1"}
    assert decided(mixed(near, HALVES)) == {"j": "b n1"}
    dearer = world(*members, jobs=[job("j", "1+.3H200", cost={"a": 1.0, "b": 1.01})])
    assert decided(mixed(dearer, HALVES)) == {"j": "a n1"}


def test_what_would_be_lost_is_shown_in_devices() -> None:
    given = mixed(world(cluster("a", "8+1,1H200"), cluster("b", "8+.5,1H200"), jobs=[job("j", "1+.5H200")]), HALVES)
    found = [{part.aspect: part for part in item.parts}["fragmentation"] for item in verdicts(given, 0, place(given))]
    # A half is worth half a device to those who ask for halves; one in use is better filled than another opened.
    assert [part.value for part in found] == pytest.approx([0.55, 0.525], abs=0.001)
    assert [(part.weight, part.points) for part in found] == [(0.001, 0.001), (0.001, 0.0)]


def test_lost_is_the_price_of_the_room_and_of_cores_that_devices_need() -> None:
    given = mixed(world(cluster("a", "8+1,1H200 1+1H200 8+1,.5H200"), jobs=[job("j", "2")]), {"2+1H200": 4})
    worth = worth_of(given)
    assert worth is not None
    nodes, rows = given.nodes, np.arange(3)
    cores = lost(nodes, rows[:1], np.array([6.0, 0.0, 0.0]), 1, worth) / DEVICE
    assert cores.tolist() == pytest.approx([1.0], abs=0.001)
    assert (lost(nodes, rows[:1], np.array([2.0, 0.0, 1.0]), 1, worth) / DEVICE).tolist() == pytest.approx([1.0], abs=0.001)
    # Two workers on one node take two devices.
    assert (lost(nodes, rows[:1], np.array([2.0, 0.0, 1.0]), 2, worth) / DEVICE).tolist() == pytest.approx([2.0], abs=0.001)


@pytest.mark.parametrize(
    ("nodes", "mix"),
    [("8+1,1H200", None), ("8+1,1H200", {}), ("8 8", {"1": 3}), ("8+2H200", HALVES)],
    ids=["no mix", "nothing asked", "no devices", "not told apart"],
)
def test_where_nothing_is_known_room_has_no_worth(nodes: str, mix: Mapping[str, int] | None) -> None:
    given = world(cluster("a", nodes), jobs=[job("j")])
    assert worth_of(given if mix is None else mixed(given, mix)) is None


def test_the_order_of_classes_and_their_repetition_change_nothing() -> None:
    given = world(cluster("a", "8+1,.5H200 16+1,1A100"), jobs=[job("j")])
    asked = {"1+.3H200": 4, "3": 2, "2+1H200|A100": 3, "7+2A100": 1, "1+.7H200": 5}
    first, other = (worth_of(mixed(given, dict(items))) for items in (asked.items(), reversed(asked.items())))
    twice = mixed(given, asked).mix
    assert twice is not None
    half = replace(
        twice, cpu=np.repeat(twice.cpu, 2), milli=np.repeat(twice.milli, 2), models=np.repeat(twice.models, 2, axis=0),
        count=np.repeat(twice.count, 2),
    )  # fmt: skip
    again = worth_of(replace(given, mix=half))
    assert first is not None
    assert other is not None
    assert again is not None
    for found in (other, again):
        assert found.price.tolist() == first.price.tolist()
        assert found.need.served.tolist() == first.need.served.tolist()
