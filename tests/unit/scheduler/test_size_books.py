"""The books of a gang whose size changes: what is paid, what is held on average, what its quote is for."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from cluster.carbon import Carbon
from scheduler.quotas import recent_use
from scheduler.settle import _grams
from scheduler.sizes import is_known, leaving_for, most_paid, part_of, quote_for, resize_order, staying
from scheduler.store.records import PastRun, Resize, RunRecord, Sizing
from tests.records import cluster_spec, job_spec, run
from workloads.catalogue.pricing import quote_run, requoted, settle_run
from workloads.resources import Resources
from workloads.spec import JobSpec

HALF_LIFE_S = 3600.0
ELASTIC = {"cpu": 2, "memory": "1GiB", "workers": {"min": 1, "max": 8}}


def spec(**fields: Any) -> JobSpec:
    return job_spec(kind="command", command=["true"], resources=ELASTIC, max_runtime="1h", **fields)


def gang(workers: int, pending: Resize | None = None, **fields: Any) -> RunRecord:
    """A run of so many workers, quoted for them."""
    cluster, resources = cluster_spec(), spec().resources.with_workers(workers)
    quote = quote_run(resources, (), cluster.prices, cluster.name, 3600.0)
    sizing = replace(Sizing.of(1, workers), pending=pending, generation=1 if pending else 0)
    changed = {"state": "running", "started_at": 0.0, "quote": quote.model_dump(mode="json"), "elastic": sizing.stored(), **fields}
    return replace(run("sh", ["n1"] * workers, cpu=2), **changed)


def test_workers_are_paid_for_the_time_that_they_are_there() -> None:
    sizing = Sizing.of(1, 2)
    assert sizing.used(100.0, 160.0) == 120.0
    grown = sizing.with_workers(4, 100.0, 160.0)
    assert (grown.past, grown.peak, grown.used(100.0, 170.0)) == (((160.0, 2),), 4, 160.0)
    shrunk = grown.with_workers(3, 100.0, 170.0)
    assert (shrunk.peak, shrunk.granted, shrunk.used(100.0, 180.0)) == (4, 2, 190.0)
    assert Sizing.read(shrunk.stored()) == shrunk
    # Clocks that go back a little add nothing.
    assert shrunk.used(100.0, 169.0) == 160.0


def test_a_quote_grows_at_its_own_prices_and_the_receipt_is_within_it() -> None:
    found = gang(2)
    quote = quote_for(spec(), found, 4)
    prices = cluster_spec().prices
    assert quote == quote_run(spec().resources.with_workers(4), (), prices, "sh", 3600.0)
    dearer = prices.model_copy(update={"cpu_hour": prices.cpu_hour.model_copy(update={"amount": prices.cpu_hour.amount * 9})})
    # Half of the time two workers, half of it four: as if three quarters of it four.
    lines = settle_run(quote, spec().resources.with_workers(4), (), dearer, 0.75 * 3600)
    cpu = next(line for line in lines if line.item == "cpu")
    assert (cpu.quantity, cpu.unit_price) == (Decimal(6), prices.cpu_hour)
    assert requoted(quote, spec().resources.with_workers(4), spec().resources.with_workers(4)) == quote


def test_accelerators_are_requoted_too() -> None:
    cluster = cluster_spec()
    resources = Resources.model_validate({**ELASTIC, "accelerator": {"model": "H200", "count": 2}})
    one, three = (quote_run(resources.with_workers(count), (), cluster.prices, "sh", 3600.0) for count in (1, 3))
    assert requoted(one, resources.with_workers(1), resources.with_workers(3)) == three


@pytest.mark.parametrize(("budget", "expected"), [(None, 8), ("1.00 CNY", 2), ("1000.00 CNY", 8)])
def test_a_gang_grows_no_further_than_its_budget_pays_for(budget: str | None, expected: int) -> None:
    assert most_paid(spec(budget=budget) if budget else spec(), gang(2), 8) == expected
    four = quote_for(spec(), gang(2), 4).total
    assert most_paid(spec(budget=str(four)), gang(2), 8) == 4
    assert most_paid(spec(budget=str(four)), gang(2), 1) == 1


def test_of_a_run_that_shrinks_some_stay_and_some_leave() -> None:
    found = gang(3, Resize(1, "grown-room", 5.0, "job-9"), held={**run("sh", []).held, "devices": [[0], [1], [2]]}, nodes=["a", "b", "c"])
    assert (staying(found), leaving_for(found, "job-9"), leaving_for(found, "job-8")) == (1, ["b", "c"], [])
    assert (part_of(found, 1, 3).nodes, part_of(found, 1, 3).held["devices"]) == (["b", "c"], [[1], [2]])
    order = resize_order(found)
    assert order.size is not None
    assert (order.size.generation, order.size.nodes, order.size.accelerator_devices) == (1, ("a",), ((0,),))
    joining = gang(3, Resize(3, "idle-room", 5.0))
    assert (staying(joining), leaving_for(joining, "job-9")) == (3, [])
    assert (staying(run("sh", ["n1"])), leaving_for(run("sh", ["n1"]), "job-9")) == (1, [])


def test_what_one_worker_holds_must_be_known() -> None:
    nodes = {("sh", "n1")}
    assert is_known(gang(2), nodes)
    assert not is_known(gang(2, nodes=["n1", "n2"]), nodes)
    held = {**run("sh", []).held, "accelerator_model": "H200", "accelerator_count": 1}
    assert not is_known(gang(2, held=held), nodes)
    assert is_known(gang(2, held={**held, "devices": [[0], [1]]}), nodes)


def test_past_use_counts_the_mean_of_workers() -> None:
    changed = Sizing.of(1, 2).with_workers(4, 0.0, 50.0)
    of = {"cpu": 1.0, "memory_bytes": 0, "accelerator_model": None, "accelerator_count": 0}
    steady, grown = (PastRun("q", ["n1"] * count, of, 0.0, 100.0, elastic, 0.0) for count, elastic in ((3, None), (4, changed.stored())))
    assert recent_use([steady], 100.0, HALF_LIFE_S)["q"] == pytest.approx(recent_use([grown], 100.0, HALF_LIFE_S)["q"])


def test_the_estimate_of_co2_is_for_the_workers_that_were_there() -> None:
    carbon = Carbon(grams_per_kwh=500.0, watts={"core": 6.0})
    resources = spec().resources
    one = carbon.grams(resources.with_workers(1), None, 0.0, 60.0)
    sizing = Sizing.of(1, 2).with_workers(4, 0.0, 60.0)
    found = _grams(carbon, resources, None, sizing.spans(0.0, 120.0))
    assert one is not None
    assert found == pytest.approx(6 * one)
    assert _grams(None, resources, None, sizing.spans(0.0, 120.0)) is None
