"""No plan breaks the terms of data, whatever the world: not by the rights as judged, and not where that judgement is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.engine.check import check
from scheduler.engine.place import place
from scheduler.engine.plan import Placement, Plan
from scheduler.engine.snapshot import Snapshot
from scheduler.errors import PlanRejectedError
from scheduler.freeze import Candidate, Frozen, freeze, judge_spec, refreeze
from scheduler.market import Market
from scheduler.residency import terms_of
from tests.records import NOW, job_spec, machine, member, world_of
from tests.unit.workloads.samples import licence, product, version
from workloads.catalogue.licence import Licence
from workloads.catalogue.product import Product

PLACES = ("CN", "CN-SH", "CN-GZ", "US", "US-CA", "DE")
CLUSTERS = ("a", "b", "c", "d")
PRODUCTS = ("nyc/x", "nyc/y", "nyc/z")
some_places = st.lists(st.sampled_from(PLACES), max_size=3, unique=True)


@st.composite
def markets(draw: st.DrawFn) -> Market:
    """Three products with terms, one version of each, and licences of one tenant."""
    products, versions, licences = dict[str, Product](), {}, dict[tuple[str, str], tuple[Licence, ...]]()
    for number, name in enumerate(PRODUCTS):
        products[name] = product(
            name, classification=draw(st.sampled_from(["public", "internal", "restricted", "personal"])), jurisdictions=draw(some_places),
            security_level=draw(st.sampled_from([0, 0, 1, 3])), may_copy=draw(st.booleans()),
        )  # fmt: skip
        homes = draw(st.lists(st.sampled_from(CLUSTERS), min_size=1, max_size=3, unique=True))
        replicas = [{"cluster": home, "uri": f"/data/{number}"} for home in homes]
        versions[f"{name}@1"] = version(name, size_bytes=2**20, sha256=f"{number}" * 64, replicas=replicas)
        licences["acme", name] = tuple(
            licence(
                name, id=f"{name}-{count}", jurisdictions=draw(some_places), revoked=draw(st.booleans()),
                purposes=draw(st.sampled_from([["research"], ["marketing"]])), consent=draw(st.sampled_from(["", "consent-17"])),
                expires_at=draw(st.sampled_from([None, "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"])),
            )
            for count in range(draw(st.integers(0, 2)))
        )  # fmt: skip
    return Market(products, versions, licences)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Frozen, Market]:
    """Four members somewhere, secured somehow, each with room for all, and jobs that read some products."""
    clusters = [
        member(name, jurisdiction=draw(st.sampled_from(PLACES)), security_level=draw(st.integers(0, 3))) for name in CLUSTERS
    ]  # fmt: skip
    world, market = world_of(*clusters, nodes=[machine(name, cpu=64, gib=256) for name in CLUSTERS]), draw(markets())
    candidates = []
    for row in range(draw(st.integers(1, 4))):
        read = draw(st.lists(st.sampled_from(PRODUCTS), max_size=3, unique=True))
        spec = job_spec(inputs={name.removeprefix("nyc/"): f"{name}@1" for name in read})
        found = terms_of(spec, market.inputs(spec), NOW)
        candidates.append(Candidate(f"job-{row}", row, spec, judge_spec(spec, market, world), terms=found))
    return freeze(world, candidates, {}), market


def is_within_terms(frozen: Frozen, market: Market, job: int, cluster: int) -> bool:
    """Said once more in plain words, from products and licences."""
    there = frozen.world.clusters[cluster].spec
    area = {there.jurisdiction, there.jurisdiction[:2]}
    for name in (ref.removesuffix("@1") for ref in frozen.candidates[job].spec.inputs.values()):
        terms, homes = market.products[name], {one.cluster for one in market.versions[f"{name}@1"].replicas}
        if there.security_level < terms.security_level or (terms.jurisdictions and not area & set(terms.jurisdictions)):
            return False
        if not terms.may_copy and there.name not in homes:
            return False
        good = [
            one for one in market.licences["acme", name]
            if not one.revoked and "research" in one.purposes and (one.expires_at is None or one.expires_at.year > 2050)
            and (one.consent or terms.classification != "personal")
        ]  # fmt: skip
        if terms.classification != "public" and not any(not one.jurisdictions or area & set(one.jurisdictions) for one in good):
            return False
    return True


def unjudged(snapshot: Snapshot) -> Snapshot:
    """The same world as if nobody had judged any right."""
    return replace(snapshot, jobs=replace(snapshot.jobs, policy=np.zeros_like(snapshot.jobs.policy)))


@settings(max_examples=1500, deadline=None)
@given(worlds())
def test_no_plan_breaks_the_terms_even_where_rights_were_not_judged(drawn: tuple[Frozen, Market]) -> None:
    frozen, market = drawn
    for snapshot in (frozen.snapshot, unjudged(frozen.snapshot)):
        plan = place(snapshot)
        check(snapshot, plan)
        assert all(is_within_terms(frozen, market, item.job, item.cluster) for item in plan.placements)
        # With room everywhere a job waits only where nothing admits it.
        assert not any(is_within_terms(frozen, market, item.job, place) for item in plan.unplaced for place in range(len(CLUSTERS)))


@settings(max_examples=1500, deadline=None)
@given(worlds(), st.data())
def test_check_rejects_every_start_that_terms_forbid_whatever_rights_say(drawn: tuple[Frozen, Market], data: st.DataObject) -> None:
    frozen, market = drawn
    snapshot = unjudged(frozen.snapshot)
    job, cluster = data.draw(st.integers(0, len(frozen.candidates) - 1)), data.draw(st.integers(0, len(CLUSTERS) - 1))
    alone = refreeze(frozen, [frozen.candidates[job]])
    snapshot = unjudged(alone.snapshot)
    forged = Plan((Placement(0, cluster, (cluster,), 0.0),), ())
    if is_within_terms(frozen, market, job, cluster):
        check(snapshot, forged)
        return
    with pytest.raises(PlanRejectedError, match=r"security level|may not be processed|no licence clears"):
        check(snapshot, forged)


@given(worlds())
def test_jobs_that_are_asked_about_later_keep_their_terms(drawn: tuple[Frozen, Market]) -> None:
    frozen, _ = drawn
    bare = freeze(frozen.world, frozen.candidates[:1], {})
    again = refreeze(bare, frozen.candidates[1:], [0])
    for row, candidate in enumerate(frozen.candidates):
        here = {name: bool(again.snapshot.residences[home, at]) for at, name in enumerate(CLUSTERS)} if (
            home := int(again.snapshot.jobs.residence[row])) >= 0 else None  # fmt: skip
        whole = int(frozen.snapshot.jobs.residence[row])
        assert here == (None if whole < 0 else {name: bool(frozen.snapshot.residences[whole, at]) for at, name in enumerate(CLUSTERS)})
        assert int(again.snapshot.jobs.level[row]) == candidate.terms.level
