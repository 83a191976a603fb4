"""A flexible job from submission to receipt, with a clock that the test moves: it waits for the night, in time for its deadline."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cluster.model import Inventory
from cluster.protocol import Observation, RunEvent, RunFinished, RunStarted, SyncRequest
from scheduler.clock import ManualClock
from scheduler.errors import RefusedError
from scheduler.forecast import StandingPromise
from scheduler.store import fleet, jobs, ledger
from scheduler.store.records import JobRecord
from tests.simulation.network import PRICES, furnish
from tests.simulation.plane import Plane
from tests.simulation.script import MEMBERS
from workloads.catalogue.pricing import Prices, Receipt
from workloads.spec import JobSpec

NIGHT = {"time_zone": "Asia/Shanghai", "hours": [{"from": "22:00", "to": "06:00", "factor": 0.6}]}


def at(text: str) -> float:
    return datetime.fromisoformat(f"2026-12-{text}:00+08:00").timestamp()


class Story:
    """A server, one member with two nodes of 4 cores, and the time."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.path = ManualClock(at("01T16:00")), folder / "cpn.sqlite"
        furnish(self.path, self.clock.now())
        self.plane = Plane(self.path, self.clock, audit=lambda: None, say=lambda _what: None, heads=4, flexible=8)
        self.price(NIGHT)
        self.sync(takes_over=True, census=())
        self._acknowledged = 0

    def price(self, tariffs: dict[str, Any] | None) -> None:
        prices = Prices.model_validate({**PRICES, "tariffs": tariffs})

        def work(conn: Any) -> None:
            spec = fleet.get_cluster(conn, "sh").spec
            fleet.update_cluster(conn, "sh", spec=spec.model_copy(update={"prices": prices}))

        self.plane.write(lambda tx: work(tx.conn))

    def sync(self, *events: RunEvent, takes_over: bool = False, census: tuple[str, ...] | None = None) -> None:
        observations = tuple(Observation(epoch=1, event=event) for event in events)
        inventory = Inventory(nodes=MEMBERS["sh"][1]) if census is not None else None
        self.plane.take_in("sh", SyncRequest(
            agent_id="one", reachable=True, takes_over=takes_over, inventory=inventory, known_runs=census, observations=observations,
            acknowledged=0,
        ))  # fmt: skip

    def submit(self, name: str, **fields: Any) -> str:
        spec = JobSpec.model_validate({
            "name": name, "tenant": "acme", "kind": "command", "command": ["true"], "purpose": "research", "max_runtime": "4h",
            "resources": {"cpu": 4, "memory": "1GiB", "workers": 2}, "placement": {"clusters": ["sh"]}, **fields,
        })  # fmt: skip
        return self.plane.submit(spec, f"job-{name}", key=name)

    def cycle_at(self, text: str) -> int:
        """Move the clock and decide; how many were placed."""
        self.clock.advance(at(text) - self.clock.now())
        return self.plane.cycle.run().placed

    def finish(self, name: str) -> None:
        """The first attempt at a job has run, in no time."""
        run_id, now = f"job-{name}-1", self.clock.now()
        self.sync(RunStarted(run_id=run_id, at=now), RunFinished(run_id=run_id, outcome="succeeded", at=now))

    def promise(self, name: str) -> StandingPromise:
        """The start that the latest cycle promised a job."""
        return next(item for item in self.plane.cycle.promises if item.job_id == f"job-{name}")

    def job(self, name: str) -> JobRecord:
        with self.plane.store.read() as conn:
            return jobs.get_job(conn, f"job-{name}")


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    found = Story(tmp_path)
    yield found
    found.plane.kill()


def test_it_waits_for_the_night_and_is_quoted_and_charged_for_it(story: Story) -> None:
    story.submit("late", flexible="cheapest", deadline="2026-12-02T12:00:00+08:00")
    story.submit("short", max_runtime="1h", resources={"cpu": 1, "memory": "1GiB"})
    story.submit("long", max_runtime="10h", resources={"cpu": 1, "memory": "1GiB"})
    report = story.plane.cycle.run()
    assert (report.placed, dict(report.blockers)) == (1, {"cheaper_later": 1, "reserved_for_another": 1})
    promise = story.promise("late")
    assert (promise.cluster, promise.start_at) == ("sh", at("01T22:00"))
    saving = promise.saving
    assert saving is not None
    assert (saving.cost_then / saving.cost_now, saving.latest_at) == (pytest.approx(0.6), pytest.approx(at("02T07:48"), abs=2))
    assert report.due == at("01T22:00")
    assert story.job("late").blocker == "cheaper_later"
    story.sync(
        RunStarted(run_id="job-short-1", at=story.clock.now()), RunFinished(run_id="job-short-1", outcome="succeeded", at=story.clock.now())
    )
    assert story.cycle_at("01T21:59") == 0
    assert story.promise("late").start_at == at("01T22:00")
    assert story.cycle_at("01T22:00") == 1
    story.sync(RunStarted(run_id="job-late-1", at=at("01T22:00")))
    story.clock.advance(2 * 3600)
    story.sync(RunFinished(run_id="job-late-1", outcome="succeeded", at=story.clock.now()))
    with story.plane.store.read() as conn:
        receipt = Receipt.model_validate(ledger.get_receipt(conn, "job-late"))
    assert [(float(item.factor), float(item.hours)) for item in receipt.hours] == [(0.6, 2.0)]
    # Two workers of 4 cores at 0.40 CNY, two of 1 GiB at 0.02 CNY, for two hours at 0.6.
    assert str(receipt.total) == "3.888 CNY"


def test_it_starts_at_once_when_the_night_is_too_late_or_costs_the_same(story: Story) -> None:
    story.submit("soon", flexible="cheapest", deadline="2026-12-01T21:00:00+08:00")
    assert story.plane.cycle.run().placed == 1
    story.sync(
        RunStarted(run_id="job-soon-1", at=story.clock.now()), RunFinished(run_id="job-soon-1", outcome="succeeded", at=story.clock.now())
    )
    story.price(None)
    story.submit("flat", flexible="cheapest", deadline="2026-12-02T21:00:00+08:00")
    assert story.plane.cycle.run().placed == 1


def test_it_decides_anew_when_tariffs_change_or_the_server_begins_again(story: Story) -> None:
    story.submit("late", flexible="cheapest", deadline="2026-12-02T12:00:00+08:00")
    assert story.plane.cycle.run().placed == 0
    story.plane.kill()
    story.plane.start()
    story.sync(takes_over=True, census=())
    assert story.cycle_at("01T18:00") == 0
    assert story.promise("late").start_at == at("01T22:00")
    story.price({**NIGHT, "hours": [{"from": "19:00", "to": "23:30", "factor": 0.5}]})
    assert story.cycle_at("01T18:01") == 0
    assert story.promise("late").start_at == at("01T19:00")
    story.price(None)
    assert story.cycle_at("01T18:02") == 1


def test_when_no_time_is_left_it_starts_at_the_dear_hour(story: Story) -> None:
    # It would be cheapest later and later, as more of it falls into the night; the deadline says how late.
    story.submit("late", flexible="cheapest", deadline="2026-12-01T23:00:00+08:00")
    assert story.plane.cycle.run().placed == 0
    promise = story.promise("late")
    assert promise.saving is not None
    # 23:00 less 4 h, a margin of 12 minutes and the second that a start takes.
    assert promise.start_at == promise.saving.latest_at == pytest.approx(at("01T18:48") - 1)
    assert story.cycle_at("01T18:47") == 0
    assert story.cycle_at("01T18:48") == 1


def test_a_budget_that_pays_for_the_night_alone_waits_for_it_with_a_promise(story: Story) -> None:
    # Two workers of 4 cores at 0.40 CNY and of 1 GiB at 0.02 CNY for four hours are 12.96 CNY by day, 7.776 CNY by night.
    story.submit("poor", flexible="cheapest", deadline="2026-12-02T12:00:00+08:00", budget="9.00 CNY")
    report = story.plane.cycle.run()
    assert (report.placed, dict(report.blockers), report.due) == (0, {"affordable_later": 1}, at("01T22:00"))
    saving = story.promise("poor").saving
    assert saving is not None
    assert (saving.cost_now, saving.cost_then) == (pytest.approx(12.96), pytest.approx(7.776))
    assert story.cycle_at("01T21:59") == 0
    assert story.cycle_at("01T22:00") == 1
    with story.plane.store.read() as conn:
        run = jobs.get_run(conn, "job-poor-1")
    assert run is not None
    assert run.quote["total"] == "7.776 CNY"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"budget": "7.00 CNY"}, "no start before its latest one, 2026-12-01 23:47 UTC, costs less than 7.776 CNY"),
        ({"budget": "9.00 CNY", "deadline": "2026-12-01T19:00:00+08:00"}, "its deadline leaves no time to wait for another hour"),
    ],
)
def test_it_is_refused_where_no_hour_in_time_is_within_its_budget(story: Story, fields: dict[str, str], words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        story.submit("poor", **{"flexible": "cheapest", "deadline": "2026-12-02T12:00:00+08:00", **fields})
    problem = next(item for item in caught.value.problems if item.message.startswith("sh:"))
    assert problem.reason == "over_budget"
    assert words in problem.message


def test_without_promises_nobody_waits(tmp_path: Path) -> None:
    story = Story(tmp_path)
    story.plane.kill()
    story.plane = Plane(story.path, story.clock, audit=lambda: None, say=lambda _what: None)
    story.sync(takes_over=True, census=())
    story.submit("late", flexible="cheapest", deadline="2026-12-02T12:00:00+08:00")
    assert story.plane.cycle.run().placed == 1
    story.plane.kill()
