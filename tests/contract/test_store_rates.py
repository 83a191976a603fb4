"""Rates of runs on accelerators: noted when a run ends, found by like jobs and model along an index, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, text

from scheduler.engine.speeds import Rate
from scheduler.lifecycle import Cause, State
from scheduler.past import Past
from scheduler.settle import Terms, end_run
from scheduler.store import fleet, jobs, rates
from scheduler.store.changes import Changes
from scheduler.store.session import Store, Transaction
from tests.contract import test_store as suite
from tests.contract.test_store import NOW, columns, postgres_url, url
from tests.records import cluster_spec, job_spec, run
from workloads.spec import JobSpec

__all__ = ["postgres_url", "url"]
LIKE = ("acme", "command", "fit")
BOTH: list[dict[str, Any]] = [{"model": "H200"}, {"model": "A100"}]


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    yield from suite.store.__wrapped__(url)  # type: ignore[attr-defined]


def asking(**fields: Any) -> JobSpec:
    return job_spec(**{"name": "fit", "resources": {"accelerator": {"any_of": BOTH}}, "retry": {"attempts": 1}, **fields})


def note(store: Store, model: str, seconds: float, like: rates.Like = LIKE) -> None:
    row = {
        "run_id": "r", "tenant": like[0], "kind": like[1], "name": like[2], "model": model, "devices": 1.0, "steps_per_s": None,
        "seconds": seconds, "at": NOW,
    }  # fmt: skip
    store.write(lambda tx: rates.add_rates(tx.conn, [row]))


def ended(
    store: Store, name: str, *, finish: State = State.SUCCEEDED, cause: Cause = Cause.FINISHED, reports: tuple[tuple[int, float], ...] = (),
    attempt: int = 1, started: bool = True, **asked: Any,
) -> None:  # fmt: skip
    """A job on two nodes whose run ended after 50 seconds."""
    spec = asking()
    held = run("sh", ["n1", "n2"], job_id=name, attempt=attempt, **(asked or {"accelerator": {"model": "A100", "count": 2}}))
    held = replace(held, quote={"cluster": "sh", "currency": "CNY", "lines": [], "total": "0 CNY"})
    held = replace(held, state="running" if started else "placed", started_at=NOW if started else None)

    def begin(tx: Transaction) -> None:
        changes = Changes(tx.conn)
        if "sh" not in {item.name for item in fleet.list_clusters(tx.conn)}:
            fleet.add_cluster(tx.conn, cluster_spec(), NOW)
        document = {"name": "fit", "kind": "command", "spec": spec.model_dump(mode="json"), "state": held.state, "run_id": held.id}
        changes.add_job({**columns(name), **document})
        changes.add_run(held)
        changes.write()
        for number, (step, at_s) in enumerate(reports, start=1):
            jobs.add_progress(tx.conn, held.id, number, step, {}, NOW + at_s)

    def end(tx: Transaction) -> None:
        changes = Changes(tx.conn)
        changes.read([held.id])
        stored = changes.run(held.id)
        assert stored is not None
        end_run(changes, Terms(tx.conn), changes.job_of(name), stored, finish, cause, now=NOW + 50)
        changes.write()

    store.write(begin)
    store.write(end)


def found(store: Store) -> list[Rate]:
    with store.read() as conn:
        return list(rates.newest(conn, LIKE, ["A100"], 10))


@pytest.mark.parametrize(
    ("reports", "steps_per_s"),
    [
        ((), None),
        (((5, 1.0),), None),
        (((0, 1.0), (7, 3.0), (10, 6.0)), 2.0),
        (((9, 1.0), (3, 6.0)), None),
        (((1, 2.0), (9, 2.0)), None),
        # What is found at once was made before: step 4 was the newest then.
        (((0, 1.0), (2, 1.0), (4, 1.0), (10, 4.0), (13, 4.0)), 3.0),
    ],
)
def test_a_run_that_succeeded_is_measured_by_its_reports_and_its_time(
    store: Store, reports: tuple[tuple[int, float], ...], steps_per_s: float | None
) -> None:
    ended(store, "job-1", reports=reports)
    assert found(store) == [Rate("A100", 4.0, steps_per_s, 50.0)]


def test_a_run_that_did_not_do_all_of_its_work_is_measured_by_its_reports_alone(store: Store) -> None:
    reports = ((0, 0.0), (10, 5.0))
    ended(store, "job-1", finish=State.FAILED, cause=Cause.EXIT, reports=reports)
    ended(store, "job-2", attempt=2, reports=reports)
    ended(store, "job-3", finish=State.FAILED, cause=Cause.EXIT)
    ended(store, "job-4", attempt=2)
    assert found(store) == [Rate("A100", 4.0, 2.0, None)] * 2


def test_what_never_began_or_held_no_accelerator_is_not_measured(store: Store) -> None:
    ended(store, "job-1", finish=State.LOST, cause=Cause.RUN_LOST, started=False)
    ended(store, "job-2", cpu=1)
    with store.read() as conn:
        assert rates.last_number(conn) == 0


def test_the_newest_of_like_jobs_are_found_by_model(store: Store) -> None:
    for seconds in (1.0, 2.0, 3.0):
        note(store, "H200", seconds)
    note(store, "A100", 9.0)
    for like in (("other", *LIKE[1:]), ("acme", "training", "fit"), ("acme", "command", "else")):
        note(store, "H200", 7.0, like)
    with store.read() as conn:
        assert [rate.seconds for rate in rates.newest(conn, LIKE, ["H200", "A100", "T4"], 2)] == [3.0, 2.0, 9.0]
        assert rates.models_of(conn, LIKE) == ["A100", "H200"]
        every = [("acme", "command", "else"), LIKE, ("acme", "training", "fit"), ("other", "command", "fit")]
        assert rates.groups(conn, None, None, 10) == every
        assert rates.groups(conn, "acme", every[0], 1) == [LIKE]
        assert rates.groups(conn, None, every[1], 10) == every[2:]
        assert rates.come_since(conn, 6) == {("acme", "command", "else")}


def test_like_jobs_are_remembered_until_one_more_has_ended_and_tenants_are_apart(store: Store) -> None:
    past, spec = Past(), asking()
    note(store, "H200", 1.0)
    note(store, "H200", 5.0, ("other", "command", "fit"))
    with store.read() as conn:
        assert [rate.seconds for rate in past.rates(conn, spec)] == [1.0]
        assert past.rates(conn, asking(resources={"accelerator": {"model": "H200"}})) == ()
        assert past.rates(conn, asking(resources={"accelerator": {"any_of": [{**one, "speed": 1.0} for one in BOTH]}})) == ()
    note(store, "A100", 2.0)
    with store.read() as conn:
        assert [rate.seconds for rate in past.rates(conn, spec)] == [1.0, 2.0]
        assert [rate.seconds for rate in past.rates(conn, asking(tenant="other"))] == [5.0]
    # A store that was put back to an earlier state has fewer rows.
    store.write(lambda tx: tx.conn.execute(text("DELETE FROM rates WHERE model = 'A100'")))
    with store.read() as conn:
        assert [rate.seconds for rate in past.rates(conn, spec)] == [1.0]


def test_they_are_read_along_an_index(store: Store) -> None:
    for number in range(50):
        note(store, ("H200", "A100")[number % 2], 1.0, ("acme", "command", f"j{number % 5}"))

    def plan(conn: Connection, query: Any, **given: Any) -> str:
        sqlite = store.engine.dialect.name == "sqlite"
        if not sqlite:
            conn.execute(text("SET LOCAL enable_seqscan = off"))
        said = query.compile(store.engine, compile_kwargs={"literal_binds": True}, **given)
        rows = conn.execute(text(f"EXPLAIN {'QUERY PLAN ' if sqlite else ''}{said}".replace("%%", "%")))
        return "\n".join(str(row[-1]) for row in rows)

    like = {"tenant": "acme", "kind": "command", "name": "j1"}
    with store.read() as conn:
        for query, given in (
            (rates._NEWEST, {**like, "model": "H200", "most": 20}), (rates._MODELS, like),
        ):  # fmt: skip
            words = plan(conn, query.params(**given))
            assert "ix_rates_tenant_kind_name_model_sequence" in words
            assert "SCAN rates\n" not in words
            assert "TEMP B-TREE" not in words
