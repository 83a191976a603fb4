"""Quotas: what is refused, what is warned of, and what queues used lately."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scheduler.errors import InvalidError
from scheduler.freeze import freeze
from scheduler.quotas import HALF_LIVES, ceiling, kept, recent_use, refuse_faults, warnings
from scheduler.store.records import PastRun, QueueRecord
from tests.records import GIB, NOW, candidate, job_spec, machine, member, run, world_of

CAPACITY = {"cpu": 64.0, "memory": 256.0 * GIB, "H200": 8.0}


def queue(name: str, parent: str | None = None, **amounts: dict[str, float]) -> QueueRecord:
    """A stored queue."""
    return QueueRecord(name, 1.0, None, NOW, parent, **amounts)


def faults(asked: QueueRecord, *others: QueueRecord) -> dict[str, str]:
    """Path → what is refused there and why."""
    try:
        refuse_faults(asked, others, {"H200", "A100"})
    except InvalidError as error:
        return {item.path: f"{item.reason}: {item.message}" for item in error.problems}
    return {}


@pytest.mark.parametrize(
    ("asked", "path", "words"),
    [
        (queue("a", "b"), "parent", "unknown: there is no queue 'b'; there are: x, y, z"),
        (queue("a", "a"), "parent", "cycle: the queues would form a circle (a below a)"),
        (queue("x", "z"), "parent", "a circle (x below z below y below x); choose a parent that is not below 'x'"),
        (queue("a", quota={"H100": 1.0}), "quota.H100", "there is no resource 'H100'; name one of: cpu, memory, A100, H200"),
        (queue("a", borrow_limit={"gpu": 1.0}), "borrow_limit.gpu", "unknown: there is no resource 'gpu'"),
        (queue("a", lend_limit={"cpu": 1.0}), "lend_limit.cpu", "no_quota: there is no quota of cpu that could be lent"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_path(asked: QueueRecord, path: str, words: str) -> None:
    found = faults(asked, *(item for item in (queue("x"), queue("y", "x"), queue("z", "y")) if item.name != asked.name))
    assert list(found) == [path]
    assert words in found[path]


def test_every_fault_is_named() -> None:
    assert list(faults(queue("a", "b", quota={"gpu": 1.0}, lend_limit={"cpu": 1.0}))) == ["parent", "quota.gpu", "lend_limit.cpu"]


def test_a_good_queue_is_not_refused() -> None:
    assert not faults(queue("a", "x", quota={"cpu": 8.0, "H200": 2.0}, borrow_limit={"A100": 1.0}, lend_limit={"cpu": 0.0}), queue("x"))


@pytest.mark.parametrize(
    ("amounts", "most", "keeps"),
    [
        ({}, np.inf, 0.0),
        ({"quota": {"cpu": 8.0}}, np.inf, 0.0),
        ({"quota": {"cpu": 8.0}, "borrow_limit": {"cpu": 4.0}}, 12.0, 0.0),
        ({"borrow_limit": {"cpu": 4.0}}, 4.0, 0.0),
        ({"quota": {"cpu": 8.0}, "lend_limit": {"cpu": 2.0}}, np.inf, 6.0),
        ({"quota": {"cpu": 8.0}, "lend_limit": {"cpu": 0.0}}, np.inf, 8.0),
        ({"quota": {"cpu": 8.0}, "lend_limit": {"cpu": 9.0}}, np.inf, 0.0),
    ],
)
def test_limits_make_a_ceiling_and_what_is_kept(amounts: dict[str, Any], most: float, keeps: float) -> None:
    asked = queue("a", **amounts)
    assert (ceiling(asked, "cpu"), kept(asked, "cpu")) == (most, keeps)


@pytest.mark.parametrize(
    ("queues", "expected"),
    [
        ([queue("a", quota={"cpu": 64.0})], []),
        ([queue("a", quota={"cpu": 65.0})], ["quotas at the top come to 65 cpu, more than the network's 64 cpu"]),
        ([queue("a", quota={"cpu": 40.0}), queue("b", quota={"cpu": 40.0})], ["quotas at the top come to 80 cpu, more than the network's"]),
        ([queue("a", quota={"A100": 1.0})], ["quotas at the top come to 1 A100, more than the network's 0 A100"]),
        ([queue("a", quota={"cpu": 8.0}), queue("b", "a", quota={"cpu": 5.0}), queue("c", "a", quota={"cpu": 3.0})], []),
        ([queue("a", quota={"cpu": 8.0}), queue("b", "a", quota={"cpu": 9.0})],
         ["quotas of the queues below it come to 9 cpu, more than its own 8 cpu"]),
        ([queue("a"), queue("b", "a", quota={"memory": 4.0 * GIB})], ["come to 4 GiB memory, more than its own 0 GiB memory"]),
        ([queue("b", "c", quota={"cpu": 9.0}), queue("c", quota={"cpu": 4.0}, borrow_limit={"cpu": 2.0})],
         ["its quota of 9 cpu is more than c may hold (6 cpu)"]),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_warned_of(queues: list[QueueRecord], expected: list[str]) -> None:
    found = warnings(queues[0], queues, CAPACITY)
    assert len(found) == len(expected)
    assert all(words in warning for words, warning in zip(expected, found, strict=True))


def past(begin: float, end: float, *, cpu: float = 1.0, workers: int = 1, queue: str = "default") -> PastRun:
    """A run that ended, its times counted back from now."""
    held = {"cpu": cpu, "memory_bytes": GIB, "accelerator_model": None, "accelerator_count": 0}
    return PastRun(queue, ["n1"] * workers, held, NOW - begin, NOW - end)


@pytest.mark.parametrize(
    ("runs", "cpu"),
    [
        ([], 0.0),
        ([past(1e9, 0.0, cpu=8.0)], 8.0),
        ([past(1e9, 100.0, cpu=8.0)], 4.0),
        ([past(100.0, 0.0, cpu=8.0)], 4.0),
        ([past(1e9, 200.0, cpu=8.0)], 2.0),
        ([past(100.0, 0.0, cpu=2.0, workers=3)], 3.0),
        ([past(100.0, 0.0), past(1e9, 100.0)], 1.0),
        ([past(1e9, HALF_LIVES * 100.0, cpu=100.0)], 100.0 / 2**HALF_LIVES),
        ([past(-50.0, -90.0)], 0.0),
    ],
    ids=["nothing", "always", "until a half-life ago", "since a half-life ago", "two half-lives ago", "a gang", "one after the other",
         "what is read at the latest", "a clock that was ahead"],
)  # fmt: skip
def test_past_use_halves_with_each_half_life(runs: list[PastRun], cpu: float) -> None:
    assert recent_use(runs, NOW, 100.0).get("default", {}).get("cpu", 0.0) == pytest.approx(cpu)


def test_what_runs_now_counts_up_to_now() -> None:
    running = replace(run("sh", ["n1"], cpu=4, accelerator={"model": "H200", "count": 2}), placed_at=NOW - 100.0)
    assert recent_use([running], NOW, 100.0) == {"default": {"cpu": 2.0, "memory": GIB / 2, "H200": 1.0}}


def test_the_tree_is_frozen_by_rows() -> None:
    queues = [
        queue("a", "z", quota={"cpu": 8.0, "gone": 1.0}, borrow_limit={"cpu": 2.0}, lend_limit={"cpu": 3.0}),
        queue("default"), queue("z", borrow_limit={"memory": float(GIB)}),
    ]  # fmt: skip
    world = replace(world_of(member(), nodes=[machine()], queues=queues), past={"z": {"cpu": 1.5}})
    found = freeze(world, [candidate(world, job_spec())], {}).snapshot.queues
    assert found.parent.tolist() == [2, -1, -1]
    assert found.quota.tolist() == [[8, 0], [0, 0], [0, 0]]
    assert found.ceiling.tolist() == [[10, np.inf], [np.inf, np.inf], [np.inf, GIB]]
    assert found.kept.tolist() == [[5, 0], [0, 0], [0, 0]]
    assert found.used.tolist() == [[0, 0], [0, 0], [1.5, 0]]
