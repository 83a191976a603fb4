"""The choice of an engine goes by what is known before the run, and says why."""

from __future__ import annotations

import pytest

from workloads.engines import Worker, choose, estimate_bytes

GIB = 1024**3
WORKER = Worker(cpu=2.0, memory_bytes=4 * GIB)


@pytest.mark.parametrize(
    ("size", "refusal", "engine", "words"),
    [
        (GIB, None, "duckdb", "about 1GiB of input fit the 4GiB of one worker"),
        (5 * GIB, None, "daft", "about 5GiB of input are more than the 4GiB of one worker"),
        (5 * GIB, "GROUPING SETS", "duckdb", "Daft cannot run it: GROUPING SETS"),
        (GIB, "GROUPING SETS", "duckdb", "Daft cannot run it: GROUPING SETS"),
    ],
)
def test_an_open_choice_goes_by_size(size: int, refusal: str | None, engine: str, words: str) -> None:
    found = choose("auto", 4, WORKER, size, refusal=refusal)
    assert (found.engine, found.workers, found.asked_workers) == (engine, 4 if engine == "daft" else 1, 4)
    assert words in found.reason


def test_an_open_choice_goes_by_time_too() -> None:
    found = choose("auto", 2, Worker(1.0, 64 * GIB), 40 * GIB, refusal=None, limit_s=60.0)
    assert (found.engine, found.workers) == ("daft", 2)
    assert "more than 60 s" in found.reason
    assert choose("auto", 2, Worker(1.0, 64 * GIB), 40 * GIB, refusal=None, limit_s=600.0).engine == "duckdb"


def test_one_worker_and_a_named_engine_leave_nothing_to_choose() -> None:
    assert choose("auto", 1, WORKER, 50 * GIB, refusal=None).engine == "duckdb"
    assert choose("daft", 1, WORKER, 1, refusal=None).engine == "daft"
    named = choose("duckdb", 1, WORKER, 50 * GIB, refusal=None)
    assert (named.engine, named.reason) == ("duckdb", "the job asks for it")


def test_inputs_are_estimated_by_rows_and_types() -> None:
    assert estimate_bytes([(1000, ["BIGINT", "DECIMAL(15,2)", "DATE"]), (10, ["VARCHAR"])]) == 1000 * 28 + 10 * 32
    assert estimate_bytes([]) == 0
