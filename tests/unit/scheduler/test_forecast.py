"""How long work lasts: limits corrected by like jobs, ends of runs, and promises with names and times."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from controlplane.settings import MOST_HEADS, load
from scheduler.engine.check import check
from scheduler.engine.lengths import USUAL, lasting_s
from scheduler.engine.place import place
from scheduler.engine.reasons import Reason
from scheduler.forecast import Forecast, promises_of, with_forecast, with_promises
from scheduler.freeze import Frozen, freeze
from tests.records import NOW, candidate, job_spec, machine, member, run, world_of

KNOWN = {"acme/command/j": (*(11 * [0.1]), 0.5)}


def frozen(*, started_s_ago: float | None = 600.0, workers: int = 2) -> Frozen:
    """Two nodes of 8 cores, of which a run holds one; a gang of both waits, then a small job, each of an hour at most."""
    held = run("sh", ["n1"], cpu=8)
    held = replace(held, started_at=None if started_s_ago is None else NOW - started_s_ago, placed_at=NOW - (started_s_ago or 0.0))
    world = world_of(member(), nodes=[machine(), machine(name="n2")], runs=[held])
    gang = candidate(world, job_spec(resources={"cpu": 8, "memory": "1GiB", "workers": workers}), id="gang", sequence=1)
    small = candidate(world, job_spec(resources={"cpu": 1, "memory": "1GiB"}), id="small", sequence=2)
    return freeze(world, [gang, small], {"sh": 0.0})


@pytest.mark.parametrize(
    ("started_s_ago", "parts", "ends_s", "length_s"),
    [
        (None, {}, 3600, 3600),
        (600, {}, 3000, 3600),
        (5000, {}, 0, 3600),  # Over its limit: it is about to be stopped.
        (None, KNOWN, 360, 360),
        (60, KNOWN, 300, 360),
        (600, KNOWN, 1200, 360),  # Longer than most: only those that lasted longer count.
        (2400, KNOWN, 1200, 360),  # Longer than all of them: its limit.
    ],
)
def test_a_run_ends_when_its_like_did_and_at_its_limit_at_the_latest(
    started_s_ago: float | None, parts: dict[str, tuple[float, ...]], ends_s: float, length_s: float
) -> None:
    forecast = Forecast({"job-1-1": ("acme/command/j", 3600.0)}, parts)
    snapshot = with_forecast(frozen(started_s_ago=started_s_ago), forecast, heads=1).snapshot
    assert snapshot.running is not None
    assert snapshot.running.ends_s == pytest.approx([ends_s])
    assert snapshot.jobs.length_s == pytest.approx([length_s, length_s])
    assert (snapshot.running.node.tolist(), snapshot.running.request[0, 0]) == ([0], 8)


def test_a_run_of_unknown_limit_is_not_expected_to_end() -> None:
    snapshot = with_forecast(frozen(), Forecast({}, {}), heads=1).snapshot
    assert snapshot.running is not None
    assert np.isinf(snapshot.running.ends_s).all()
    assert place(snapshot).promises == ()


def test_corrected_lengths_are_closer_than_limits() -> None:
    """Groups that use a part of their limit, each its own, with a spread: the mean error falls to a fraction of the limit's."""
    random = Random(7)
    past: dict[str, list[float]] = {}
    raw, corrected = [], []
    for number in range(600):
        group = f"g{number % 6}"
        part = min(max(random.gauss(0.1 + 0.12 * (number % 6), 0.05), 0.02), 1.0)
        raw.append(abs(3600.0 - part * 3600.0))
        corrected.append(abs(lasting_s(past, group, 3600.0, USUAL) - part * 3600.0))
        past.setdefault(group, []).append(part)
    assert np.mean(corrected) < 0.15 * np.mean(raw)


def test_promises_have_names_and_times_and_are_kept_for_questions() -> None:
    forecast = Forecast({"job-1-1": ("acme/command/j", 3600.0)}, {})
    decided = with_forecast(frozen(), forecast, heads=1)
    [promise] = promises_of(decided, place(decided.snapshot))
    assert (promise.job_id, promise.tenant, promise.cluster, promise.nodes) == ("gang", "acme", "sh", ("n1", "n2"))
    assert (promise.start_at, promise.end_at) == (NOW + 3000, NOW + 6600)
    asked = with_promises(with_forecast(frozen(), forecast, heads=0), [promise]).snapshot
    [_, small] = place(asked).unplaced
    assert small.blocker is Reason.RESERVED_FOR_ANOTHER
    gone = replace(promise, nodes=("n7",))
    assert with_promises(frozen(), [gone, replace(promise, end_at=NOW - 1)]).snapshot.promised == ()


@pytest.mark.parametrize(
    ("environ", "heads"),
    [({}, 4), ({"CPN_BACKFILL": "none"}, 0), ({"CPN_BACKFILL_HEADS": "1"}, 1), ({"CPN_BACKFILL": "conservative"}, MOST_HEADS)],
)
def test_backfilling_is_chosen_in_the_settings(environ: dict[str, str], heads: int) -> None:
    assert load(environ).heads == heads


@pytest.mark.parametrize("environ", [{"CPN_BACKFILL": "some"}, {"CPN_BACKFILL_HEADS": "0"}, {"CPN_BACKFILL_HEADS": "201"}])
def test_settings_of_backfilling_that_mean_nothing_are_refused(environ: dict[str, str]) -> None:
    [(name, value)] = environ.items()
    with pytest.raises(ValueError, match=f"{name}={value} must be"):
        load(environ)


@pytest.mark.parametrize(
    ("parts", "h200_s", "a100_s"),
    [
        pytest.param({}, 3600, 3600, id="nothing is known: the limit, which is the same"),
        pytest.param({"@H200": (0.1, 0.1), "@A100": (0.5, 0.5)}, 360, 1800, id="each by its own runs"),
        pytest.param({"@H200": (0.1, 0.1)}, 360, 720, id="by those on the other, twice as fast"),
        pytest.param({"@A100": (0.2, 0.2), "@H200": (0.9,)}, 3240, 720, id="one run alone is scaled with the others"),
        pytest.param({"@H200": (0.8, 0.8)}, 2880, 3600, id="never more than the limit"),
        pytest.param({"": (0.25, 0.25)}, 900, 900, id="models that the job does not list: as they are"),
    ],
)
def test_a_job_is_as_long_on_each_model_as_its_like_were(parts: dict[str, tuple[float, ...]], h200_s: float, a100_s: float) -> None:
    world = world_of(member(), nodes=[machine(models={"H200": 1, "A100": 1})])
    both = [{"model": "H200", "speed": 2.0}, {"model": "A100", "speed": 1.0}]
    jobs = [candidate(world, job_spec()), candidate(world, job_spec(resources={"accelerator": {"any_of": both}}), id="job-8", sequence=8)]
    known = {f"acme/command/j{model}": found for model, found in parts.items()}
    snapshot = with_forecast(freeze(world, jobs, {}), Forecast({}, known), heads=1).snapshot
    assert snapshot.further is not None
    assert (snapshot.jobs.length_s[1], snapshot.further.jobs.length_s[0]) == pytest.approx((h200_s, a100_s))


def test_a_run_ends_when_its_like_on_its_model_did() -> None:
    parts = {"g@H200": (0.1, 0.1), "g@A100": (0.5,), "g": (0.1, 0.1, 0.5)}
    found = [lasting_s(parts, group, 100.0, USUAL) for group in ("g@H200", "g@A100", "g")]
    assert found == pytest.approx([10.0, 10.0, 10.0])
    assert lasting_s({**parts, "g": ()}, "g@A100", 100.0, USUAL) == 100.0


def test_runs_give_back_the_devices_that_they_name_and_a_promise_is_for_the_model_that_is_free_first() -> None:
    """An H200 is free in an hour, of the A100s half of one in two hours; of another run nobody knows which device it holds."""
    held = [
        {"accelerator": {"model": "H200"}}, {"accelerator": {"model": "A100", "share": 0.5}}, {"accelerator": {"model": "A100"}},
    ]  # fmt: skip
    runs = [replace(run("sh", ["n1"], job_id=f"job-{row}", cpu=1, **asked), started_at=NOW) for row, asked in enumerate(held)]
    runs[:2] = [replace(item, held={**item.held, "devices": [[number]]}) for item, number in zip(runs, (0, 1), strict=False)]
    world = world_of(member(), nodes=[machine(models={"H200": 1, "A100": 2})], runs=runs)
    both = [{"model": "A100", "speed": 1.0}, {"model": "H200", "speed": 2.0}]
    asked = candidate(world, job_spec(resources={"cpu": 1, "accelerator": {"any_of": both}}))
    limits = {"job-0-1": ("", 3600.0), "job-1-1": ("", 7200.0), "job-2-1": ("", 60.0)}
    found = with_forecast(freeze(world, [asked], {}), Forecast(limits, {}), heads=1)
    assert found.snapshot.running is not None
    assert found.snapshot.running.device.tolist() == [[0, 0, 1, 0], [1, 0, 0, 1]]
    plan = place(found.snapshot)
    check(found.snapshot, plan)
    (promise,) = promises_of(found, plan)
    assert (promise.start_at - NOW, promise.request["H200"], promise.request["A100"]) == (3600.0, 1.0, 0.0)
    # Another job is told of it, and is not put where it would be in the way.
    late = candidate(world, job_spec(resources={"cpu": 1, "accelerator": {"model": "H200"}}, max_runtime="9h"), id="job-8")
    again = with_promises(with_forecast(freeze(world, [late], {}), Forecast(limits, {}), heads=0), [promise])
    assert place(again.snapshot).unplaced[0].blocker is Reason.NODE_BUSY
