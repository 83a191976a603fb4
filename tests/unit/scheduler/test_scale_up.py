"""Which nodes that are not there are asked for, for whom, and for how long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster.health import Health
from cluster.scaling import NodeType, Scaling, Wanted
from scheduler.engine.place import place
from scheduler.engine.plan import Promise
from scheduler.freeze import Frozen, freeze
from scheduler.scale_up import USUAL_S, Ask, asks, wishes_after
from scheduler.store.records import ClusterRecord
from scheduler.wishes import Wish, arrived, scale_key, wanted
from tests.records import GIB, NOW, candidate, job_spec, machine, member, world_of

BIG = NodeType(name="big", cpu=16, memory_bytes=64 * GIB, labels={"pool": "big"}, most=3, present=1)
GPUS = NodeType(name="gpus", cpu=64, accelerators={"H200": 8}, most=1)


def scaled(name: str = "sh", *types: NodeType, wishes: tuple[Wish, ...] = (), **more: Any) -> ClusterRecord:
    return replace(member(name, **more), scaling=Scaling(types=types or (BIG,)), wishes=wishes)


def asked(*jobs: dict[str, Any], clusters: tuple[ClusterRecord, ...] = (), waits: dict[str, float] | None = None) -> list[tuple[Any, ...]]:
    frozen = frozen_of(*jobs, clusters=clusters)
    found = asks(frozen, place(frozen.snapshot), waits or {})
    return [(item.job_id, item.cluster, item.node_type, item.nodes) for item in found]


def frozen_of(*jobs: dict[str, Any], clusters: tuple[ClusterRecord, ...] = ()) -> Frozen:
    """Each member has one node of 8 cores."""
    members = clusters or (scaled(),)
    world = world_of(*members, nodes=[machine(item.name, f"{item.name}-1") for item in members])
    found = [candidate(world, job_spec(**fields), id=f"j{number}", sequence=number) for number, fields in enumerate(jobs)]
    return freeze(world, found, {})


def needs(cpu: float, **more: Any) -> dict[str, Any]:
    return {"resources": {"cpu": cpu, "memory": "1GiB", **more}}


def test_a_job_that_fits_where_nodes_are_asks_for_nothing() -> None:
    assert asked(needs(8)) == []


def test_a_job_that_fits_on_no_node_asks_for_one_that_it_fits_on() -> None:
    assert asked(needs(12)) == [("j0", "sh", "big", 1)]
    assert asked(needs(17)) == [], "no type is large enough"
    assert asked({**needs(12), "placement": {"labels": {"pool": "big"}}}) == [("j0", "sh", "big", 1)]
    assert asked({**needs(12), "placement": {"labels": {"pool": "small"}}}) == []


def test_jobs_share_new_nodes_and_no_more_are_asked_for_than_there_may_be() -> None:
    # The second fits on the node that is there, the last one would need a third new node.
    assert asked(needs(10), needs(6), needs(16), needs(16)) == [("j0", "sh", "big", 1), ("j2", "sh", "big", 1)]
    assert asked(needs(9), needs(8), needs(7)) == [("j0", "sh", "big", 1), ("j2", "sh", "big", 0)]


def test_a_gang_asks_for_all_its_nodes_or_none() -> None:
    assert asked(needs(12, workers=2)) == [("j0", "sh", "big", 2)]
    assert asked(needs(12, workers=3)) == []
    assert asked(needs(12, workers={"min": 1, "max": 5})) == [("j0", "sh", "big", 1)]


def test_memory_that_nobody_declared_is_not_asked_about() -> None:
    accelerator = {"accelerator": {"model": "H200", "count": 8}}
    assert asked(needs(1, **accelerator), clusters=(scaled("sh", BIG, GPUS),)) == [("j0", "sh", "gpus", 1)]
    assert asked({"resources": {"cpu": 1, "memory": "65GiB"}}) == []


def test_what_a_member_may_not_run_and_members_that_are_not_well_ask_for_nothing() -> None:
    assert asked({**needs(12), "placement": {"clusters": ["gz"]}}) == []
    assert asked(needs(12), clusters=(scaled(health=Health.SUSPECT),)) == []
    assert asked(needs(12), clusters=(scaled(cordon="cordoned"),)) == []
    assert asked(needs(12), clusters=(member(),)) == []


def test_nodes_are_asked_for_where_they_come_soonest() -> None:
    pair = (scaled("gz"), scaled("sh"))
    assert asked(needs(12), clusters=pair, waits={scale_key("gz"): 300.0}) == [("j0", "sh", "big", 1)]
    assert asked(needs(12), clusters=pair, waits={scale_key("sh"): 300.0}) == [("j0", "gz", "big", 1)]


def test_who_is_promised_a_start_before_new_nodes_would_be_there_does_not_ask() -> None:
    frozen = frozen_of(needs(12))
    plan = place(frozen.snapshot)
    for start_s, nodes in ((USUAL_S - 1.0, 0), (USUAL_S + 1.0, 1)):
        promised = replace(plan, promises=(Promise(0, 0, (0,), start_s, start_s + 60.0),))
        assert len(asks(frozen, promised, {})) == nodes


def test_a_type_that_rests_is_not_asked_for() -> None:
    resting = Wish("big", 0, NOW - 900.0, 1, rests_until=NOW + 1.0)
    assert asked(needs(12), clusters=(scaled(wishes=(resting,)),)) == []
    assert asked(needs(12), clusters=(scaled(wishes=(replace(resting, rests_until=NOW),)),)) == [("j0", "sh", "big", 1)]


def ask(nodes: int = 1, node_type: str = "big") -> Ask:
    return Ask("j0", "sh", node_type, nodes, 120.0)


def test_a_wish_counts_what_is_there_and_keeps_its_beginning() -> None:
    first = wishes_after(scaled(), [ask(), ask()], NOW, 900.0)
    assert first == (Wish("big", 3, NOW, 1),)
    assert wanted(first) == (Wanted(node_type="big", count=3),)
    assert wishes_after(scaled(wishes=first), [ask()], NOW + 10.0, 900.0) == (Wish("big", 2, NOW, 1),)
    came = NodeType(name="big", cpu=16, most=3, present=2)
    assert wishes_after(scaled("sh", came, wishes=first), [ask()], NOW + 10.0, 900.0) == (Wish("big", 3, NOW + 10.0, 2),)
    assert wishes_after(scaled(wishes=first), [], NOW + 10.0, 900.0) == ()
    assert wishes_after(replace(scaled(wishes=first), scaling=None), [ask()], NOW, 900.0) == ()


def test_nodes_that_do_not_come_in_time_are_asked_for_no_more_and_again_later() -> None:
    first = wishes_after(scaled(), [ask()], NOW, 900.0)
    late = wishes_after(scaled(wishes=first), [ask()], NOW + 900.0, 900.0)
    assert (late, wanted(late)) == ((Wish("big", 0, NOW, 1, rests_until=NOW + 1800.0),), ())
    assert wishes_after(scaled(wishes=late), [], NOW + 1799.0, 900.0) == late
    assert wishes_after(scaled(wishes=late), [ask()], NOW + 1800.0, 900.0) == (Wish("big", 2, NOW + 1800.0, 1),)


@pytest.mark.parametrize(("present", "took"), [(1, None), (2, 30.0), (0, None)])
def test_how_long_new_nodes_took_is_known_when_they_come(present: int, took: float | None) -> None:
    kind = BIG.model_copy(update={"present": present})
    assert arrived((Wish("big", 2, NOW - 30.0, 1),), [kind], NOW) == took
    assert arrived((Wish("big", 0, NOW - 30.0, 1),), [kind], NOW) is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"types": [{"name": "a", "cpu": 1, "least": 3, "most": 2}]}, "it is more than the 2 that there may be"),
        ({"types": [{"name": "a", "cpu": 1, "most": 2}] * 2}, "a is there twice"),
        ({"types": [{"name": "", "cpu": 1, "most": 2}]}, "at least 1 character"),
        ({"types": [{"name": "a", "cpu": -1, "most": 2}]}, "greater than or equal to 0"),
        ({"types": [{"name": f"t{number}", "cpu": 1, "most": 2} for number in range(101)]}, "at most 100 items"),
    ],
)
def test_types_that_cannot_be_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Scaling.model_validate(fields)
