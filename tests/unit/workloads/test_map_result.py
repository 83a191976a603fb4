"""The growing result of a job of kind map: files by number, one schema, and a preview."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workloads.runners.map_result import MapResult, SchemaMismatchError
from workloads.runners.partitions import Part, Partition, as_parquet, read_groups, schema_digest
from workloads.runners.process import InputPath

NUMBERS = pa.table({"n": [1, 2], "word": ["a", "b"]})


def add(result: MapResult, folder: Path, number: int, table: pa.Table) -> str:
    arrived = folder / f"{number}.arriving"
    pq.write_table(table, arrived)
    partition = Partition(number, "flights", 2 * number, 2 * number + 2)
    return str(result.add(partition, arrived, table.num_rows, table.schema.serialize().to_pybytes())["name"])


def test_parts_are_named_by_number_rows_and_schema_and_the_first_rows_are_shown(tmp_path: Path) -> None:
    result = MapResult(tmp_path, 3, {})
    digest = schema_digest(NUMBERS.schema)
    assert add(result, tmp_path, 2, NUMBERS) == f"part-00002-of-00003-2-rows-{digest}.parquet"
    assert add(result, tmp_path, 0, NUMBERS.slice(0, 0)) == f"part-00000-of-00003-0-rows-{digest}.parquet"
    assert result.preview() == {"columns": ("n", "word"), "types": ("BIGINT", "VARCHAR"), "rows": [(1, "a"), (2, "b")], "total_rows": 2}


def test_other_columns_are_named_with_their_partition(tmp_path: Path) -> None:
    result = MapResult(tmp_path, 3, {})
    add(result, tmp_path, 1, NUMBERS)
    with pytest.raises(SchemaMismatchError) as caught:
        add(result, tmp_path, 2, pa.table({"n": ["1"], "more": [1.5]}))
    assert str(caught.value) == (
        "partition 2 (rows 4 to 6 of input flights) came out with other columns than partition 1: n is string instead of int64, "
        "word is missing, more is new; return the same columns with the same types for every partition, for example by table.cast(schema)"
    )
    assert len(list(tmp_path.glob("part-*"))) == 1


def test_an_earlier_attempts_columns_hold_too(tmp_path: Path) -> None:
    earlier = {0: Part(0, 2, 5, schema_digest(NUMBERS.schema))}
    result = MapResult(tmp_path, 2, earlier)
    with pytest.raises(SchemaMismatchError, match=r"other columns \(n int64\) than those of an earlier attempt"):
        add(result, tmp_path, 1, NUMBERS.select(["n"]))
    assert result.preview() is None
    add(result, tmp_path, 1, NUMBERS)
    assert (result.preview() or {})["total_rows"] == 7


def test_a_csv_file_is_counted_and_rewritten_with_its_rows_in_order(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("n,word\n" + "".join(f"{n},w\n" for n in range(5000)))
    found = InputPath(path, "csv")
    (groups,) = read_groups({"a": found})
    assert groups.groups == ((5000, path.stat().st_size),)
    assert pq.read_table(as_parquet(found, tmp_path / "a.parquet", 2))["n"].to_pylist() == list(range(5000))
