"""The store's promises, on SQLite and on a real PostgreSQL alike."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from cluster.protocol import Instruction
from scheduler.errors import ConflictError, IllegalTransitionError, NotFoundError, StaleStateError
from scheduler.lifecycle import Cause, State
from scheduler.store import access, catalogue, jobs, ledger, outbox
from scheduler.store.changes import Changes
from scheduler.store.exclusive import sole_server
from scheduler.store.migrate import migrate
from scheduler.store.session import Store, StoreUnavailableError, Transaction
from scheduler.store.tables import metadata
from scheduler.store.tables import runs as runs_table
from tests.postgres import postgres
from tests.records import run as run_record
from tests.stored_jobs import insert_job, move_job
from workloads.catalogue.licence import Licence
from workloads.catalogue.product import Product

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'cpn.sqlite'}"
    found: str = request.getfixturevalue("postgres_url")
    engine = create_engine(found)
    with engine.begin() as conn:
        conn.execute(text("DROP SCHEMA public CASCADE"))
        conn.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return found


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store(url)
    migrate(opened)
    yield opened
    opened.close()


def columns(job_id: str, *, tenant: str = "acme", queue: str = "default", rank: int = 0, key: str | None = None) -> dict[str, object]:
    return {
        "id": job_id, "version": 1, "state": "submitted", "tenant": tenant, "queue": queue, "rank": rank, "name": "n", "kind": "sql",
        "spec": {"name": "n"}, "submitted_by": "tok", "idempotency_key": key, "idempotency_digest": None, "attempts": 0, "run_id": None,
        "not_before": None, "cause": "submitted", "message": "", "blocker": "", "cancel_requested": False, "submitted_at": NOW,
    }  # fmt: skip


def queued(store: Store, job_id: str, **kwargs: object) -> jobs.JobRecord:
    def work(tx: object) -> jobs.JobRecord:
        job = insert_job(tx.conn, columns(job_id, **kwargs))  # type: ignore[attr-defined, arg-type]
        return move_job(tx.conn, job, State.QUEUED, Cause.ADMITTED, at=NOW)  # type: ignore[attr-defined]

    return store.write(work)


def test_migrations_make_exactly_the_tables_of_the_code(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with store.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []


def test_migrating_again_changes_nothing(store: Store) -> None:
    queued(store, "job-a")
    migrate(store)
    with store.read() as conn:
        assert jobs.get_job(conn, "job-a").state == "queued"


def test_a_write_is_durable_when_it_is_acknowledged(store: Store, url: str) -> None:
    queued(store, "job-a")
    other = Store(url)
    with other.read() as conn:
        assert jobs.get_job(conn, "job-a").id == "job-a"
    other.close()


def test_a_failing_write_takes_nothing_with_it_and_hurts_no_neighbour(store: Store) -> None:
    gate = threading.Event()
    blocker = store.submit(lambda _tx: gate.wait(10))

    def broken(tx: object) -> None:
        insert_job(tx.conn, columns("job-broken"))  # type: ignore[attr-defined, arg-type]
        raise ValueError("no")

    bad = store.submit(broken)
    good = store.submit(lambda tx: insert_job(tx.conn, columns("job-good")))
    gate.set()
    blocker.result()
    with pytest.raises(ValueError, match="no"):
        bad.result()
    assert good.result().id == "job-good"
    with store.read() as conn, pytest.raises(NotFoundError):
        jobs.get_job(conn, "job-broken")


def test_a_database_error_in_one_write_spares_the_batch(store: Store) -> None:
    queued(store, "job-a")
    gate = threading.Event()
    blocker = store.submit(lambda _tx: gate.wait(10))
    bad = store.submit(lambda tx: insert_job(tx.conn, columns("job-a")))
    good = store.submit(lambda tx: insert_job(tx.conn, columns("job-b")))
    gate.set()
    blocker.result()
    with pytest.raises(Exception, match=r"(?i)unique"):
        bad.result()
    assert good.result().id == "job-b"


def test_after_a_commit_that_failed_the_next_write_is_stored(store: Store) -> None:
    def undone(tx: object) -> None:
        insert_job(tx.conn, columns("job-undone"))  # type: ignore[attr-defined, arg-type]
        # The transaction ends too early, so there is nothing left to commit.
        tx.conn.exec_driver_sql("ROLLBACK")  # type: ignore[attr-defined]

    with pytest.raises(Exception, match=r"(?i)savepoint"):
        store.write(undone)
    assert store.write(lambda tx: insert_job(tx.conn, columns("job-next"))).id == "job-next"
    with store.read() as conn, pytest.raises(NotFoundError):
        jobs.get_job(conn, "job-undone")


def test_callbacks_run_after_the_commit_and_never_for_failed_writes(store: Store, url: str) -> None:
    seen: list[str] = []
    other = Store(url)

    def look() -> None:
        with other.read() as conn:
            seen.append(jobs.get_job(conn, "job-a").id)

    def work(tx: object) -> None:
        insert_job(tx.conn, columns("job-a"))  # type: ignore[attr-defined, arg-type]
        tx.after_commit(look)  # type: ignore[attr-defined]

    store.write(work)
    assert seen == ["job-a"], "whoever writes hears of it after those who wait for what was written"

    def broken(tx: object) -> None:
        tx.after_commit(lambda: seen.append("broken"))  # type: ignore[attr-defined]
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.write(broken)
    store.write(lambda _tx: None)
    assert seen == ["job-a"]
    other.close()


def test_a_closed_store_refuses_writes(store: Store) -> None:
    store.close()
    with pytest.raises(StoreUnavailableError):
        store.write(lambda _tx: None)


def test_moves_are_guarded_by_the_version(store: Store) -> None:
    job = queued(store, "job-a")
    store.write(lambda tx: jobs.touch_job(tx.conn, job, cancel_requested=True))
    with pytest.raises(StaleStateError):
        store.write(lambda tx: move_job(tx.conn, job, State.CANCELLED, Cause.CANCELLED_BY_USER, at=NOW))


def test_an_illegal_move_raises_with_the_history_and_stores_nothing(store: Store) -> None:
    job = queued(store, "job-a")
    with pytest.raises(IllegalTransitionError, match="submitted"):
        store.write(lambda tx: move_job(tx.conn, job, State.SUCCEEDED, Cause.FINISHED, at=NOW))
    with store.read() as conn:
        assert [event.finish for event in jobs.events_of(conn, "job-a")] == ["submitted", "queued"]


def test_waiting_takes_the_first_of_each_queue_by_rank_then_age(store: Store) -> None:
    for name, queue, rank in (("job-1", "a", 0), ("job-2", "a", 100), ("job-3", "a", 0), ("job-4", "b", 0)):
        queued(store, name, queue=queue, rank=rank)
    with store.read() as conn:
        assert [job.id for job in jobs.waiting(conn, NOW, 2)] == ["job-1", "job-2", "job-4"]
        last = jobs.get_job(conn, "job-3")
        assert jobs.ahead(conn, last, NOW) == 2


def test_a_delayed_job_waits_for_its_time(store: Store) -> None:
    job = queued(store, "job-a")
    store.write(lambda tx: jobs.touch_job(tx.conn, job, not_before=NOW + 10))
    with store.read() as conn:
        assert jobs.waiting(conn, NOW, 10) == []
        assert [item.id for item in jobs.waiting(conn, NOW + 10, 10)] == ["job-a"]
        assert jobs.next_not_before(conn, NOW) == NOW + 10
        assert jobs.next_not_before(conn, NOW + 10) is None


def test_an_idempotency_key_is_one_per_tenant(store: Store) -> None:
    queued(store, "job-a", key="k")
    queued(store, "job-b", key="k", tenant="other")
    with pytest.raises(Exception, match=r"(?i)unique"):
        queued(store, "job-c", key="k")
    with store.read() as conn:
        assert jobs.under_keys(conn, "acme", ["k"]) == [("job-a", "k", None)]


def test_progress_is_stored_once(store: Store) -> None:
    first = store.write(lambda tx: jobs.add_progress(tx.conn, "run", 1, 1, {"loss": 0.5}, NOW))
    again = store.write(lambda tx: jobs.add_progress(tx.conn, "run", 1, 1, {"loss": 0.5}, NOW))
    assert (first, again) == (True, False)
    with store.read() as conn:
        assert jobs.progress_of(conn, "run") == [(1, 1, {"loss": 0.5}, NOW)]


def test_instructions_stay_until_acknowledged(store: Store) -> None:
    for run_id in ("r1", "r2"):
        store.write(lambda tx, run_id=run_id: outbox.put(tx.conn, "c", Instruction(sequence=0, action="forget", run_id=run_id), NOW))
    with store.read() as conn:
        first, second = outbox.pending(conn, "c")
        assert outbox.pending(conn, "other") == ()
    assert store.write(lambda tx: outbox.acknowledge(tx.conn, "c", first.sequence, NOW)) == 1
    with store.read() as conn:
        assert outbox.pending(conn, "c") == (second,)


def test_past_use_is_read_from_runs_that_ended_since(store: Store) -> None:
    def work(tx: object) -> None:
        for name, finished in (("job-a", NOW - 50), ("job-b", NOW - 5), ("job-c", None)):
            row = {**vars(run_record("sh", ["n1", "n2"], job_id=name, cpu=2)), "placed_at": NOW - 60, "finished_at": finished}
            tx.conn.execute(runs_table.insert().values(**row))  # type: ignore[attr-defined]

    store.write(work)
    with store.read() as conn:
        [found] = jobs.ended_runs(conn, NOW - 10)
    assert (found.queue, found.nodes, found.held["cpu"], found.placed_at, found.finished_at) == (
        "default",
        ["n1", "n2"],
        2,
        NOW - 60,
        NOW - 5,
    )


def test_catalogue_changes_count_up_the_generation(store: Store) -> None:
    product = Product(name="o/p", owner="o", classification="public")
    licence = Licence(id="l1", tenant="acme", product="o/p", purposes=("research",))

    def generation() -> int:
        with store.read() as conn:
            return catalogue.generation(conn)

    assert generation() == 0
    assert store.write(lambda tx: catalogue.add_product(tx.conn, product, NOW)) is True
    assert store.write(lambda tx: catalogue.add_product(tx.conn, product, NOW)) is False
    assert generation() == 1
    store.write(lambda tx: catalogue.add_licence(tx.conn, licence, NOW))
    store.write(lambda tx: catalogue.revoke_licence(tx.conn, "o/p", "l1", NOW))
    store.write(lambda tx: catalogue.revoke_licence(tx.conn, "o/p", "l1", NOW))
    assert generation() == 3
    with store.read() as conn:
        assert catalogue.licences_of(conn, ["acme"], ["o/p"])["acme", "o/p"][0].revoked


def test_one_receipt_a_job(store: Store) -> None:
    store.write(lambda tx: ledger.add_receipt(tx.conn, "job-a", "run", "acme", {"total": "1.00 CNY"}, NOW))
    with pytest.raises(Exception, match=r"(?i)unique"):
        store.write(lambda tx: ledger.add_receipt(tx.conn, "job-a", "run", "acme", {"total": "2.00 CNY"}, NOW))
    with store.read() as conn:
        assert ledger.get_receipt(conn, "job-a") == {"total": "1.00 CNY"}


def test_revoking_a_token_keeps_the_first_time(store: Store) -> None:
    token = access.TokenRecord("t", "h", "viewer", None, None, NOW, None, None)
    store.write(lambda tx: access.add_token(tx.conn, token))
    store.write(lambda tx: access.revoke_token(tx.conn, "t", NOW + 1))
    again = store.write(lambda tx: access.revoke_token(tx.conn, "t", NOW + 2))
    assert again.revoked_at == NOW + 1


def test_a_second_server_is_refused(store: Store, url: str, tmp_path: Path) -> None:
    with sole_server(store, tmp_path / "one.lock"):
        other = Store(url)
        # Another lock file stands for another machine; only PostgreSQL can be shared that way.
        lock = tmp_path / ("two.lock" if url.startswith("postgresql") else "one.lock")
        with pytest.raises(ConflictError, match="another cpn server"), sole_server(other, lock):
            pass
        other.close()
    with sole_server(store, tmp_path / "one.lock"):
        pass


def test_many_moves_are_written_together_and_leave_their_events_in_order(store: Store) -> None:
    made = [queued(store, f"job-{number}") for number in range(3)]

    def place_all(tx: Transaction) -> None:
        changes = Changes(tx.conn)
        for job in made:
            run = run_record("c", ["n1"], job_id=job.id)
            changes.move_job(job, State.PLACED, Cause.DECIDED, at=NOW + 1, run_id=run.id, attempts=1, placed_at=NOW + 1)
            changes.add_run(replace(run, state="placed", cause="decided"))
        changes.write()
        changes.read([f"{job.id}-1" for job in made])
        for job in made:
            run, job = changes.run(f"{job.id}-1"), changes.job_of(job.id)
            for state, cause in ((State.STARTING, Cause.ACCEPTED), (State.RUNNING, Cause.STARTED)):
                run, job = changes.move_run(run, state, cause), changes.move_job(job, state, cause, at=NOW + 2)
        changes.write()

    store.write(place_all)
    with store.read() as conn:
        assert jobs.versions_of(conn, [job.id for job in made]) == dict.fromkeys((job.id for job in made), 5)
        assert [run.state for run in jobs.active_runs(conn)] == ["running"] * 3
        told = [(event.finish, event.run_id) for event in jobs.events_of(conn, "job-1")]
    assert told == [("submitted", None), ("queued", None), ("placed", "job-1-1"), ("starting", "job-1-1"), ("running", "job-1-1")]


def test_one_stale_move_among_many_stores_none(store: Store) -> None:
    made = [queued(store, f"job-{number}") for number in range(3)]
    store.write(lambda tx: jobs.touch_job(tx.conn, made[1], cancel_requested=True))

    def place_all(tx: Transaction) -> None:
        changes = Changes(tx.conn)
        for job in made:
            changes.move_job(job, State.PLACED, Cause.DECIDED, at=NOW)
        changes.write()

    with pytest.raises(StaleStateError, match="one of 3"):
        store.write(place_all)
    with store.read() as conn:
        assert [jobs.get_job(conn, job.id).state for job in made] == ["queued"] * 3
        assert jobs.versions_of(conn, ["job-0", "job-1", "nobody"]) == {"job-0": 2, "job-1": 3}


def test_what_was_moved_cannot_be_moved_from_where_it_stood_before(store: Store) -> None:
    job = queued(store, "job-a")
    with store.read() as conn:
        changes = Changes(conn)
        changes.move_job(job, State.PLACED, Cause.DECIDED, at=NOW)
        with pytest.raises(StaleStateError):
            changes.move_job(job, State.CANCELLED, Cause.CANCELLED_BY_USER, at=NOW)
