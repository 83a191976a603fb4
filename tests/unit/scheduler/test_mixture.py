"""What the network was asked for lately: classes of stored jobs, read again after a minute, and handed on to decisions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scheduler.engine.snapshot import Weights
from scheduler.freeze import freeze
from scheduler.mixture import FRESH_S, LAST, Mixture, Scoring, classes_of, mix_of
from scheduler.store.changes import Changes
from scheduler.store.migrate import migrate
from scheduler.store.session import Store
from tests.contract.test_store import columns
from tests.records import job_spec, machine, member, world_of

GPU = {"model": "H200", "count": 2}
NOW = 1_000_000.0


def asked(**resources: Any) -> Any:
    """Resources as they are stored."""
    return job_spec(resources=resources).model_dump(mode="json")["resources"]


def test_like_jobs_are_one_class_with_all_their_workers() -> None:
    either = {"any_of": [{"model": "H200"}, {"model": "A100", "speed": 0.5}]}
    found = classes_of([
        asked(cpu=2), asked(cpu=2, memory="9GiB"), asked(cpu=1, accelerator=GPU, workers=3), asked(cpu=1, accelerator={**GPU, "count": 2}),
        asked(cpu=1, accelerator={"model": "H200", "share": 0.25}), asked(cpu=1, accelerator=either),
    ])  # fmt: skip
    assert found == (
        ((1.0, 250, ("H200",)), 1), ((1.0, 1000, ("A100", "H200")), 1), ((1.0, 2000, ("H200",)), 4), ((2.0, 0, ()), 2),
    )  # fmt: skip


def test_classes_become_arrays_over_the_resources_that_there_are() -> None:
    mix = mix_of([((1.0, 1000, ("A100", "H200")), 3), ((2.0, 0, ()), 5), ((1.0, 500, ("gone",)), 1)], ("cpu", "memory", "A100", "H200"))
    assert (mix.cpu.tolist(), mix.milli.tolist(), mix.count.tolist()) == ([1.0, 2.0, 1.0], [1000, 0, 500], [3, 5, 1])
    assert mix.models.tolist() == [[True, True], [False, False], [False, False]]
    assert mix_of([], ("cpu", "memory", "A100")).models.shape == (0, 1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'cpn.sqlite'}")
    migrate(opened)
    yield opened
    opened.close()


def submitted(store: Store, first: int, count: int, **resources: Any) -> None:
    def work(tx: Any) -> None:
        changes = Changes(tx.conn)
        for number in range(first, first + count):
            changes.add_job({**columns(f"job-{number}"), "spec": {"resources": asked(**resources)}})
        changes.write()

    store.write(work)


def test_the_last_jobs_count_and_are_read_again_after_a_minute(store: Store) -> None:
    mixture = Mixture()
    submitted(store, 0, 3, cpu=7)
    submitted(store, 3, LAST, cpu=1)
    with store.read() as conn:
        assert mixture.classes(conn, NOW) == (((1.0, 0, ()), LAST),)
    submitted(store, LAST + 3, 1, cpu=2)
    with store.read() as conn:
        assert mixture.classes(conn, NOW + FRESH_S) == (((1.0, 0, ()), LAST),)
        assert mixture.classes(conn, NOW + FRESH_S + 1) == (((1.0, 0, ()), LAST - 1), ((2.0, 0, ()), 1))


def test_decisions_are_told_where_there_are_accelerators(store: Store) -> None:
    submitted(store, 0, 1, cpu=2, accelerator=GPU)
    scoring = Scoring(Weights(price=5.0))
    with store.read() as conn:
        plain = scoring.on(conn, freeze(world_of(member(), nodes=[machine()]), [], {})).snapshot
        assert (plain.weights.price, plain.mix) == (5.0, None)
        found = scoring.on(conn, freeze(world_of(member(), nodes=[machine(models={"H200": 2})]), [], {})).snapshot
    assert found.mix is not None
    assert (found.mix.milli.tolist(), found.mix.models.tolist(), found.mix.count.tolist()) == ([2000], [[True]], [1])
