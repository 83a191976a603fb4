"""The result of a job of kind map as it grows: one Parquet file for each partition, all with the same columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workloads.runners.partitions import Part, Partition, schema_digest
from workloads.runners.preview import json_rows
from workloads.runners.sql import PREVIEW_ROWS

_REMEDY = "return the same columns with the same types for every partition, for example by table.cast(schema)"


class SchemaMismatchError(Exception):
    """A partition came out with other columns than the others."""


class MapResult:
    """Files in a folder. `earlier` are parts that lie elsewhere already, by number; `of` is the number of all."""

    def __init__(self, folder: Path, of: int, earlier: Mapping[int, Part]) -> None:
        self._folder, self._of = folder, of
        self.parts = dict(earlier)
        self._first: tuple[int, Any] | None = None
        self._digest = next((part.schema for part in self.parts.values()), None)

    def add(self, partition: Partition, arrived: Path, rows: int, schema: bytes) -> dict[str, Any]:
        """Take in the file of a finished partition: `{"name", "size_bytes"}`. Raises SchemaMismatchError."""
        import pyarrow as pa  # type: ignore[import-untyped]

        columns = pa.ipc.read_schema(pa.py_buffer(schema))
        part = Part(partition.number, self._of, rows, schema_digest(columns))
        if self._digest is not None and part.schema != self._digest:
            raise SchemaMismatchError(self._words(partition, columns))
        self._digest = part.schema
        self._first = self._first or (partition.number, columns)
        size = arrived.stat().st_size
        arrived.replace(self._folder / part.name)
        self.parts[part.number] = part
        return {"name": part.name, "size_bytes": size}

    def preview(self) -> dict[str, Any] | None:
        """The first rows of the first partition that lies here; None where none does."""
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        here = [part for _, part in sorted(self.parts.items()) if (self._folder / part.name).exists()]
        if not here:
            return None
        path = self._folder / next((part for part in here if part.rows), here[0]).name
        rows: list[tuple[object, ...]] = []
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(PREVIEW_ROWS):
                rows = json_rows(batch, PREVIEW_ROWS)
                break
            names = tuple(file.schema_arrow.names)
        total = sum(part.rows for part in self.parts.values())
        return {"columns": names, "types": _types(path), "rows": rows, "total_rows": total}

    def _words(self, partition: Partition, columns: Any) -> str:
        here = f"partition {partition.number} (rows {partition.start:,} to {partition.stop:,} of input {partition.alias})"
        if self._first is None:
            found = ", ".join(f"{field.name} {field.type}" for field in columns)
            return f"{here} came out with other columns ({found}) than those of an earlier attempt; {_REMEDY}"
        number, first = self._first
        return f"{here} came out with other columns than partition {number}: {_difference(first, columns)}; {_REMEDY}"


def _difference(first: Any, second: Any) -> str:
    before = {field.name: str(field.type) for field in first}
    after = {field.name: str(field.type) for field in second}
    words = [f"{name} is {after[name]} instead of {kind}" for name, kind in before.items() if name in after and after[name] != kind]
    words += [f"{name} is missing" for name in before if name not in after]
    words += [f"{name} is new" for name in after if name not in before]
    return ", ".join(words) or "their order, or whether they may be null, differs"


def _types(path: Path) -> tuple[str, ...]:
    """DuckDB's words for the columns."""
    from workloads.catalogue.tables import confined_connection, scan

    connection = confined_connection([path], {"threads": "1"})
    try:
        return tuple(str(type_) for type_ in connection.sql(f"FROM {scan(connection, 'parquet', path)} LIMIT 0").types)
    finally:
        connection.close()
