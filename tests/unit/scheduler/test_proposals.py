"""Proposals: the smallest changes with which a job that waits would start now."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from scheduler.engine.place import place
from scheduler.engine.plan import Plan
from scheduler.freeze import Candidate, World, freeze
from scheduler.outlook import Decision, Outlook
from scheduler.proposals import Proposal, proposals
from scheduler.store.records import ClusterRecord, NodeRecord, QueueRecord, RunRecord
from tests.records import NO_MARKET, candidate, job_spec, machine, member, queue, run, world_of
from workloads.spec import JobSpec


def outlook_of(world: World, *specs: JobSpec) -> Outlook:
    """The world after a decision on these jobs, oldest first."""
    waiting = [candidate(world, spec, id=f"job-{row}", sequence=row) for row, spec in enumerate(specs)]
    frozen = freeze(world, waiting, {})
    return Outlook(Decision(frozen, place(frozen.snapshot), 1000))


def asked(world: World, *specs: JobSpec) -> list[Proposal]:
    """What is proposed to the last of these jobs."""
    outlook = outlook_of(world, *specs)
    return list(proposals(outlook, outlook.row(f"job-{len(specs) - 1}"), NO_MARKET))


def told(found: Sequence[Proposal]) -> list[str]:
    """Proposals in words."""
    return [" ".join(f"{change.path}={change.new}" for change in item.changes) + f" at {item.cluster}" for item in found]


def network(
    *runs: RunRecord, members: Sequence[ClusterRecord] = (), nodes: Sequence[NodeRecord] = (), queues: Sequence[QueueRecord] = (queue(),)
) -> World:  # fmt: skip
    """`sh` with one machine of 8 cores and 16 GiB unless other machines are named, and what runs."""
    return world_of(*(members or [member("sh")]), nodes=nodes or [machine("sh")], queues=queues, runs=runs)


def spec(cpu: float = 1, memory: str = "1GiB", **fields: Any) -> JobSpec:
    """A job that asks for so much."""
    more = fields.pop("resources", {})
    return job_spec(resources={"cpu": cpu, "memory": memory, **more}, **fields)


BUSY = run("sh", ["n1"], cpu=6, memory="10GiB")
DEVICES = [machine("sh", models={"H200": 4}), machine("gz", models={"L40S": 8})]
BOTH = [member("sh"), member("gz", jurisdiction="CN-GZ", labels={"tier": "gold"})]
PAIR = [machine("sh"), machine("gz")]


@pytest.mark.parametrize(
    ("world", "job", "expected"),
    [
        (network(BUSY), spec(1, "8GiB"), ["resources.memory=6GiB at sh"]),
        (network(BUSY), spec(4), ["resources.cpu=2 at sh"]),
        (network(BUSY), spec(2.55, "1GiB"), ["resources.cpu=2 at sh"]),
        (network(BUSY), spec(4, "8GiB"), ["resources.memory=4259MiB resources.cpu=2 at sh"]),
        (network(BUSY), spec(2, resources={"workers": 3}, memory="2GiB"), ["resources.cpu=0.6 at sh", "resources.workers=1 at sh"]),
        (network(BUSY), spec(1, resources={"workers": 3}), ["resources.cpu=0.6 at sh", "resources.workers=2 at sh"]),
        (network(run("sh", ["n1"], cpu=8, memory="1GiB")), spec(), []),
        (network(), spec(9), ["resources.cpu=8 at sh"]),
        (network(), spec(100), []),
    ],
    ids=[
        "less memory", "fewer cores", "by tenths", "a smaller worker", "fewer workers", "either", "a full node",
        "a node that is too small", "another job altogether",
    ],
)  # fmt: skip
def test_less_of_something(world: World, job: JobSpec, expected: list[str]) -> None:
    assert told(asked(world, job)) == expected


def test_fewer_devices_and_another_model() -> None:
    world = network(run("sh", ["n1"], accelerator={"model": "H200", "count": 3}), nodes=DEVICES, members=BOTH)
    job = spec(resources={"accelerator": {"model": "H200", "count": 2}})
    assert told(asked(world, job)) == ["resources.accelerator.count=1 at sh", "resources.accelerator.model=L40S at gz"]


def test_a_job_with_a_choice_is_told_of_what_helps_by_any_of_its_models() -> None:
    taken = [run(name, ["n1"], accelerator={"model": model, "count": 3}) for name, model in (("sh", "H200"), ("gz", "L40S"))]
    world = network(*taken, nodes=[*DEVICES, machine("bj", models={"A100": 4})], members=[*BOTH, member("bj")])
    job = spec(resources={"accelerator": {"any_of": [{"model": "H200", "speed": 2}, {"model": "L40S", "speed": 1}], "count": 6}})
    both = "[{'model': 'H200', 'speed': 2.0}, {'model': 'L40S', 'speed': 1.0}, {'model': 'A100'}]"
    assert told(asked(world, job)) == ["resources.accelerator.count=5 at gz"]
    smaller = spec(resources={"accelerator": {"any_of": [{"model": "H200", "speed": 2}, {"model": "B300", "speed": 1}], "count": 4}})
    assert told(asked(world, smaller)) == [
        "resources.accelerator.count=1 at sh",
        f"resources.accelerator.any_of={both.replace('L40S', 'B300')} at bj",
        f"resources.accelerator.any_of={both.replace('L40S', 'B300').replace('A100', 'L40S')} at gz",
    ]


def test_a_model_that_nobody_has() -> None:
    job = spec(resources={"accelerator": {"model": "B300", "count": 2}})
    assert told(asked(network(nodes=DEVICES, members=BOTH), job)) == [
        "resources.accelerator.model=L40S at gz", "resources.accelerator.model=H200 at sh",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        ({"clusters": ["sh"]}, ["placement.clusters=['sh', 'gz'] at gz"]),
        ({"jurisdictions": ["CN-SH"]}, ["placement.jurisdictions=['CN-SH', 'CN-GZ'] at gz"]),
        ({"clusters": ["sh"], "jurisdictions": ["CN-SH"]},
         ["placement.jurisdictions=['CN-SH', 'CN-GZ'] placement.clusters=['sh', 'gz'] at gz"]),
        ({}, []),
    ],
)  # fmt: skip
def test_a_place_that_the_job_excludes_itself(placement: dict[str, Any], expected: list[str]) -> None:
    full = [
        run("sh", ["n1"], cpu=8),
        *(
            []
            if placement
            else [
                run(
                    "gz",
                    ["n1"],
                    cpu=8,
                )
            ]
        ),
    ]
    assert told(asked(network(*full, members=BOTH, nodes=PAIR), spec(8, placement=placement))) == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"tier": "basic"}, ["placement.labels={'tier': 'gold'} at gz"]),
        ({"tier": "gold", "disk": "nvme"}, ["placement.labels={'tier': 'gold'} at gz"]),
        ({"disk": "nvme"}, ["placement.labels={} at gz"]),
    ],
    ids=["another value", "one less", "none"],
)
def test_another_label(labels: dict[str, str], expected: list[str]) -> None:
    world = network(run("sh", ["n1"], cpu=8), members=BOTH, nodes=PAIR)
    assert told(asked(world, spec(8, placement={"labels": labels}))) == expected


def test_the_smallest_budget_that_pays() -> None:
    world = network(run("sh", ["n1"], cpu=8), members=BOTH, nodes=PAIR)
    quote = outlook_of(world, spec(4)).decision.frozen.candidates[0].ways[0].assessments[1].quote
    assert quote is not None
    found = asked(world, spec(4, budget="0.10 CNY"))
    assert told(found)[-1] == f"budget={quote.total} at gz"
    assert all(item.quote.total.amount <= (item.spec.budget or item.quote.total).amount for item in found)


def test_a_smaller_job_may_keep_its_budget() -> None:
    found = asked(network(run("sh", ["n1"], cpu=8), members=BOTH, nodes=PAIR), spec(4, budget="0.50 CNY"))
    cores = next(item for item in found if item.changes[0].path == "resources.cpu")
    assert cores.quote.total.amount <= Decimal("0.50")
    # A tenth of a core more would be over the budget.
    dearer = outlook_of(network(), spec(cores.spec.resources.cpu + 0.1)).decision.frozen.candidates[0].ways[0].assessments[0].quote
    assert dearer is not None
    assert dearer.total.amount > Decimal("0.50")


def test_currencies_rights_and_cordons_stay() -> None:
    members = [member("sh"), member("gz", currency="USD"), member("bj", cordon="cordoned")]
    world = network(run("sh", ["n1"], cpu=8), members=members, nodes=[*PAIR, machine("bj")])
    assert told(asked(world, spec(8, budget="99.00 CNY"))) == []
    assert told(asked(world, spec(8, placement={"clusters": ["sh"]}))) == ["placement.clusters=['sh', 'gz'] at gz"]


def test_who_goes_first_has_had_its_turn() -> None:
    # The first takes what is free, so less memory helps the second no more.
    assert told(asked(network(BUSY), spec(2, "6GiB"), spec(1, "8GiB"))) == []
    assert told(asked(network(BUSY), spec(2, "5GiB", priority="low"), spec(9))) == []


def test_a_queue_that_is_full_leaves_nothing_to_propose() -> None:
    assert told(asked(network(BUSY, queues=[queue(max_running=1)]), spec(1, "8GiB"))) == []


def test_a_job_that_fits_gets_no_proposal() -> None:
    world = network()
    fresh = Candidate("new", 9, spec(), candidate(world, spec()).ways)
    outlook = Outlook(Decision(freeze(world, [], {}), Plan((), ()), 1000)).with_job(fresh)
    assert proposals(outlook, outlook.row("new"), NO_MARKET) == ()
