"""Small result files travel with the report of their run's end, as many as fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import shipping
from cluster.protocol import (
    SmallFile,
)
from tests.unit.cluster.docks import dock, end, file
from tests.virtual_time import virtual


@virtual
async def test_small_files_are_told_with_the_end_and_uploaded_by_nobody() -> None:
    async with dock() as found:
        files = (SmallFile.of("rows.parquet", b"rows"),)
        found.accept(end(files=files))
        assert found.told() == [end(files=files)]
        assert found.control.files == {}


@virtual
async def test_a_large_file_beside_a_small_one_is_uploaded_alone(tmp_path: Path) -> None:
    async with dock() as found:
        files = (SmallFile.of("small", b"rows"), file(tmp_path, "large"))
        found.accept(end(files=files, directory=str(tmp_path)))
        assert await found.ended() == end(files=files)
        assert found.control.files == {("a-1", "large"): b"rows"}


@virtual
async def test_one_report_carries_no_more_of_results_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "MOST_CONTENT", 2 * len(SmallFile.of("rows", b"x" * 30).content))
    runs = [f"r{number}-1" for number in range(5)]
    async with dock(*runs) as found:
        found.accept(*(end(run_id, files=(SmallFile.of("rows", b"x" * 30),)) for run_id in runs))
        told: list[list[str]] = []
        while batch := found.shipping.batch(1000):
            told.append([item.event.run_id for item in batch])
            found.shipping.accepted(len(batch))
        assert told == [runs[:2], runs[2:4], runs[4:]]
    async with dock() as found:
        found.accept(end(files=(SmallFile.of("rows", b"x" * 300),)))
        assert len(found.shipping.batch(1000)) == 1, "one goes however large it is"
