"""Invariants of explanations: whatever the world, what is proposed to a waiting job would really start it, and it waits otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.device_books import with_devices
from scheduler.engine.aftermath import carried_out, placement_of
from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.position import precedent, turn_order
from scheduler.engine.snapshot import Snapshot
from scheduler.forecast import Forecast, with_forecast
from scheduler.freeze import Candidate, Frozen, World, freeze, held_of, judge_spec
from scheduler.outlook import Decision, Outlook
from scheduler.proposals import Proposal, proposals
from scheduler.store.records import RunRecord
from tests.property.worlds import snapshots
from tests.records import NO_MARKET, job_spec, machine, member, queue, run, world_of
from workloads.spec import JobSpec

MEMBERS = {
    "bj": member("bj", jurisdiction="CN-BJ", labels={"tier": "gold"}), "gz": member("gz", jurisdiction="CN-GZ"),
    "sh": member("sh", labels={"tier": "basic"}), "us": member("us", jurisdiction="US", currency="USD"),
    "closed": member("closed", cordon="cordoned"),
}  # fmt: skip
machines = st.sampled_from([
    {"cpu": 8, "gib": 16}, {"cpu": 4, "gib": 32, "cpn/rack": "a"}, {"cpu": 2, "gib": 8, "cpn/rack": "b"},
    {"cpu": 2, "gib": 4, "disk": "nvme"},
    {"cpu": 8, "gib": 16, "models": {"H200": 4}}, {"cpu": 8, "gib": 8, "models": {"L40S": 2}}, {"cpu": 8, "gib": 16, "ready": False},
])  # fmt: skip
holds = st.sampled_from([{}, {"cpu": 6, "memory": "10GiB"}, {"cpu": 1, "memory": "14GiB"}, {"cpu": 0.3, "memory": "1GiB"}])
asks = st.fixed_dictionaries({
    "cpu": st.sampled_from([0.2, 1, 2, 4, 7.5, 12]), "memory": st.sampled_from(["512MiB", "4GiB", "12GiB", "40GiB"]),
    "workers": st.sampled_from([1, 1, 1, 2, 5, {"min": 2, "max": 4}]),
    "accelerator": st.sampled_from([{"model": "H200", "share": 0.5}, {"model": "H200", "count": 1},
        None, None, {"model": "H200", "count": 2},
        {"any_of": [{"model": "H200", "speed": 2}, {"model": "L40S"}], "count": 2}, {"model": "L40S", "count": 3}, {"model": "B300"}]),
})  # fmt: skip
placements = st.sampled_from([
    {}, {}, {"clusters": ["sh"]}, {"jurisdictions": ["CN-GZ"]}, {"clusters": ["bj", "sh"], "jurisdictions": ["CN-SH", "US"]},
    {"same": "rack"}, {"labels": {"tier": "gold"}}, {"labels": {"tier": "silver", "disk": "nvme"}},
])  # fmt: skip


def _elastic_choice(name: str, resources: dict[str, Any]) -> bool:
    """An elastic gang needs one model."""
    return name == "accelerator" and "any_of" in resources[name] and isinstance(resources["workers"], dict)


specs = st.builds(
    lambda resources, placement, priority, budget: job_spec(
        resources={name: value for name, value in resources.items() if value is not None and not _elastic_choice(name, resources)},
        # A gang of one is in one rack anyway.
        placement=placement if resources["workers"] != 1 else {name: value for name, value in placement.items() if name != "same"},
        priority=priority,
        **({"budget": budget} if budget else {}),
    ),
    asks, placements, st.sampled_from(["normal", "normal", "high", "low"]), st.sampled_from(["", "", "0.30 CNY", "2.00 CNY", "9.00 USD"]),
)  # fmt: skip


orders = st.sampled_from(["best-effort", "best-effort", "strict"])


@st.composite
def worlds(draw: st.DrawFn) -> tuple[World, list[JobSpec], int]:
    """Some members with machines that are used in part, some jobs, and how many of them may be promised a start."""
    names = sorted(draw(st.sets(st.sampled_from(sorted(MEMBERS)), min_size=1, max_size=4)))
    nodes, runs = [], list[RunRecord]()
    for name in names:
        for row in range(draw(st.integers(1, 2))):
            nodes.append(machine(name, f"n{row}", **draw(machines)))
            held = draw(holds)
            if held:
                runs.append(run(name, [f"n{row}"], job_id=f"{name}{row}", **held))
    limit = draw(st.sampled_from([None, None, None, 3]))
    found = world_of(
        *(MEMBERS[name] for name in names), nodes=nodes, queues=[replace(queue(max_running=limit), order=draw(orders))], runs=runs
    )
    return found, draw(st.lists(specs, min_size=1, max_size=4)), draw(st.sampled_from([0, 0, 1, 3]))


def frozen_of(world: World, waiting: Sequence[Candidate], heads: int) -> Frozen:
    """The world as a cycle freezes it; every run may last an hour, and nothing is known of like ones."""
    limits = {item.id: ("", 3600.0) for item in world.runs}
    frozen = freeze(world, waiting, {})
    return with_forecast(frozen, Forecast(limits, {}), heads) if heads else frozen


def outlook_of(world: World, asked: Sequence[JobSpec], heads: int) -> Outlook:
    """The world after a decision on these jobs, oldest first."""
    waiting = [Candidate(f"job-{row}", row, spec, judge_spec(spec, NO_MARKET, world)) for row, spec in enumerate(asked)]
    frozen = frozen_of(world, waiting, heads)
    return Outlook(Decision(frozen, place(frozen.snapshot), 1000))


def with_proposal(outlook: Outlook, row: int, proposal: Proposal) -> tuple[Snapshot, int]:
    """The world after the decision as a cycle would read it, the changed job waiting in place of the first; its row."""
    frozen = outlook.decision.frozen
    runs = list(outlook.world.runs)
    for number, item in enumerate(outlook.decision.plan.placements):
        names = [frozen.snapshot.nodes.names[node] for node in item.nodes]
        placed = run(frozen.snapshot.clusters.names[item.cluster], names, job_id=f"placed-{number}")
        runs.append(replace(placed, held=with_devices(held_of(frozen.candidates[item.job].ways[item.choice].resources), item)))
    world = replace(outlook.world, runs=tuple(runs))
    changed = JobSpec.model_validate_json(proposal.spec.model_dump_json())
    waiting = list(outlook.after.candidates)
    waiting[row] = replace(waiting[row], spec=changed, ways=judge_spec(changed, NO_MARKET, world))
    return frozen_of(world, waiting, outlook.snapshot.heads).snapshot, row


@settings(max_examples=60)
@given(worlds())
def test_each_proposal_applied_to_the_job_starts_it_now_and_nothing_else_changes(drawn: tuple[World, list[JobSpec], int]) -> None:
    outlook = outlook_of(*drawn)
    for row, candidate in enumerate(outlook.after.candidates):
        for proposal in proposals(outlook, row, NO_MARKET):
            snapshot, changed = with_proposal(outlook, row, proposal)
            plan = place(snapshot)
            check(snapshot, plan)
            found = placement_of(plan, changed)
            assert found is not None
            assert snapshot.clusters.names[found.cluster] == proposal.cluster
            assert len(plan.placements) == 1
            differing = {change.path.split(".")[0] for change in proposal.changes}
            old, new = candidate.spec.model_dump(mode="json"), proposal.spec.model_dump(mode="json")
            assert {name for name in old if old[name] != new[name]} == differing


@given(snapshots())
def test_what_a_plan_left_waiting_finds_nothing_in_its_aftermath(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    after = carried_out(snapshot, plan)
    assert not place(after).placements
    assert (after.nodes.free <= snapshot.nodes.free).all()


@given(snapshots())
def test_turns_name_each_waiting_job_once_and_keep_the_order_within_queues(snapshot: Snapshot) -> None:
    jobs, turns = snapshot.jobs, turn_order(snapshot, 100).tolist()
    assert sorted(turns) == list(range(len(jobs.ids)))
    for at, row in enumerate(turns):
        for earlier in turns[:at]:
            if jobs.queue[earlier] == jobs.queue[row]:
                before = (-jobs.rank[earlier], jobs.sequence[earlier], jobs.ids[earlier])
                assert before < (-jobs.rank[row], jobs.sequence[row], jobs.ids[row])
            assert precedent(snapshot, row, earlier).job == earlier


@given(snapshots(), st.integers(0, 5))
def test_fewer_turns_are_the_first_of_all(snapshot: Snapshot, most: int) -> None:
    assert turn_order(snapshot, most).tolist() == turn_order(snapshot, 100).tolist()[:most]
