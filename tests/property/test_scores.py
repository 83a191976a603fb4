"""Plans under all scores: legal, the same whatever the order of rows, and whatever unit weights are written in."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.captures import Capture, decision_of, replay
from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.snapshot import Prefer, Snapshot, Weights
from scheduler.engine.verdicts import verdicts
from scheduler.notation import noted, read, text_of
from tests.builders import cluster, job, or_else, queue, world
from tests.mixes import mixed
from tests.reordering import reordered

NAMES = [item.name for item in fields(Weights) if item.name != "history"]
nodes = st.lists(
    st.sampled_from(["8+1,1H200", "8+1,.5,0H200", "4+.5,.5H200", "1+1,1,1,1H200", "8+1,.25H200+1,1A100", "8", "16+1,1A100", "2/8"]),
    min_size=1, max_size=4,
).map(" ".join)  # fmt: skip
sizes = st.sampled_from([
    ("1+.25H200", 1), ("1+.5H200", 1), ("1+.3H200", 3), ("1+1H200", 1), ("2+2H200", 1), ("1+1H200", 2), ("1+1A100", 1), ("2", 1), ("1", 5),
])  # fmt: skip
mixes = st.dictionaries(st.sampled_from(["1+.5H200", "2+1H200", "1+1H200|A100", "4", "1+2A100", "1+.3H200"]), st.integers(1, 9), max_size=5)
weights = st.fixed_dictionaries({name: st.sampled_from([0.0, 0.001, 0.5, 1.0, 3.0]) for name in NAMES})


@st.composite
def scored_worlds(draw: st.DrawFn) -> Snapshot:
    """Up to three clusters with devices, jobs of which some may use either model, all scores with some weight, and a mix."""
    waits = st.sampled_from([0.0, 1.0, 2.5])
    members = [cluster(name, draw(nodes), wait_s=draw(waits)) for name in ("a", "b")[: draw(st.integers(0, 2))]]
    members.append(cluster("one", "8+1,1H200", wait_s=draw(waits)))
    jobs = []
    for place_, (size, workers) in enumerate(draw(st.lists(sizes, min_size=1, max_size=6))):
        cost, carbon = draw(st.sampled_from([{}, {"a": 2.0}, {"b": 0.5}])), draw(st.sampled_from([{}, {"a": 2.0}, {"a": 2.0, "one": 0.0}]))
        prefer = draw(st.sampled_from(["balanced", "balanced", "cleanest"]))
        one = job(f"j{place_}", size, workers=workers, cost=cost, carbon=carbon, prefer=prefer)
        jobs.append(or_else(one, "1+1A100") if size == "1+1H200" and draw(st.booleans()) else one)
    queues = [queue("default", spread=draw(st.booleans()))]
    given_world = world(*members, jobs=jobs, queues=queues, weights=Weights(**draw(weights)))
    return mixed(given_world, draw(mixes)) if draw(st.booleans()) else given_world


@settings(max_examples=40)
@given(scored_worlds(), st.data())
def test_plans_are_legal_and_do_not_depend_on_the_order_of_rows(snapshot: Snapshot, data: st.DataObject) -> None:
    plan = place(snapshot)
    check(snapshot, plan)
    orders = {
        "clusters": data.draw(st.permutations(range(len(snapshot.clusters.names)))),
        "nodes": data.draw(st.permutations(range(len(snapshot.nodes.names)))),
    }
    other = reordered(snapshot, queues=range(1), jobs=range(len(snapshot.jobs.ids)), **orders)
    if (mix := other.mix) is not None:
        rows = np.array(data.draw(st.permutations(range(len(mix.count)))), dtype=np.int64)
        other = replace(other, mix=replace(mix, cpu=mix.cpu[rows], milli=mix.milli[rows], models=mix.models[rows], count=mix.count[rows]))
    back = np.array(orders["nodes"])
    again = [(item.job, tuple(back[list(item.nodes)].tolist()), item.devices, item.choice, item.score) for item in place(other).placements]
    assert again == [(item.job, item.nodes, item.devices, item.choice, item.score) for item in plan.placements]


@settings(max_examples=40)
@given(scored_worlds(), st.sampled_from([0.25, 4.0, 1024.0]))
def test_only_proportions_of_weights_matter(snapshot: Snapshot, factor: float) -> None:
    scaled = Weights(**{name: getattr(snapshot.weights, name) * factor for name in NAMES})
    plan, other = place(snapshot), place(replace(snapshot, weights=scaled))
    found = [replace(item, score=item.score * factor) for item in plan.placements]
    cleanest = [int(snapshot.jobs.prefer[item.job]) == Prefer.CLEANEST for item in plan.placements]
    # What a job prefers has weights of its own.
    expected = [kept if own else scaled_ for kept, scaled_, own in zip(plan.placements, found, cleanest, strict=True)]
    assert expected == list(other.placements)


@settings(max_examples=40)
@given(scored_worlds())
def test_parts_add_up_to_the_score_and_none_is_more_than_its_weight(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    for item in plan.placements[:1]:
        for found in verdicts(snapshot, item.job, plan):
            if found.parts:
                assert found.score == sum(part.points for part in found.parts)
                assert all(0.0 <= part.points <= part.weight for part in found.parts)
        chosen = next(found for found in verdicts(snapshot, item.job, plan) if found.chosen)
        assert chosen.score == item.score


@settings(max_examples=30)
@given(scored_worlds())
def test_a_captured_decision_is_made_again_with_its_weights_and_its_mix(snapshot: Snapshot) -> None:
    plan = place(snapshot)
    again = read(noted(snapshot), Snapshot)
    assert decision_of(again, place(again)) == decision_of(snapshot, plan)
    assert replay(Capture(1, 0.0, again, noted(plan))).difference == ""


def test_a_capture_from_before_there_were_such_weights_is_decided_as_it_was() -> None:
    given_world = world(cluster("a", "8+.5,0H200 8+.9,0H200"), cluster("b"), jobs=[job("j", "1+.3H200"), job("k")])
    document = noted(given_world)
    del document["fields"]["mix"]
    document["fields"]["weights"]["fields"] = {"price": 1.0, "transfer": 1.0, "start": 0.5, "history": 0.0}
    old = read(document, Snapshot)
    assert old.mix is None
    assert text_of(noted(place(old))) == text_of(noted(place(given_world)))
