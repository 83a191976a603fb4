"""A result table is converted piece by piece, however large it is."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from controlplane.cli import results

GROUPS, ROWS = 20, 10_000


class Watching(io.BytesIO):
    """Notes at every write how much memory columns take then."""

    def __init__(self) -> None:
        super().__init__()
        self.most, self.size = 0, 0

    def write(self, data: object) -> int:
        taken = memoryview(data).nbytes  # type: ignore[arg-type]
        self.size += taken
        self.most = max(self.most, pa.total_allocated_bytes())
        return taken


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_large_table_is_converted_in_little_memory(tmp_path: Path, form: str) -> None:
    columns = {name: pa.array(range(index, ROWS + index), pa.int64()) for index, name in enumerate("abcd")}
    table = pa.table(columns)
    path = tmp_path / "large.parquet"
    with parquet.ParquetWriter(path, table.schema, use_dictionary=False, compression="none") as writer:
        for _ in range(GROUPS):
            writer.write_table(table)
    whole, before, target = table.nbytes * GROUPS, pa.total_allocated_bytes(), Watching()
    results._convert(iter([path]), form, target, alone=True)  # type: ignore[arg-type]
    assert target.size > whole / 4
    assert target.most - before < whole / 4


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_several_files_are_one_table(tmp_path: Path, form: str) -> None:
    paths = [tmp_path / f"{number}.parquet" for number in range(3)]
    for number, path in enumerate(paths):
        parquet.write_table(pa.table({"n": [number, number + 10]}), path)
    target = io.BytesIO()
    results._convert(iter(paths), form, target, alone=False)  # type: ignore[arg-type]
    found = target.getvalue()
    if form == "parquet":
        assert parquet.read_table(io.BytesIO(found))["n"].to_pylist() == [0, 10, 1, 11, 2, 12]
    elif form == "json":
        assert [row["n"] for row in json.loads(found)] == [0, 10, 1, 11, 2, 12]
    else:
        assert found.decode().splitlines() == ['"n"', "0", "10", "1", "11", "2", "12"]
