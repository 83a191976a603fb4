"""Inputs as Daft reads them: Parquet, a few row groups at a time, by Arrow, with the types that the statement was translated for.

Each process that reads has its own places of the files (`use_files`), for an input lies elsewhere on every node. Daft's own reader
does not know the types of strings that newer writers of Parquet use, and this one costs no more.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workloads.errors import StatementError
from workloads.runners.daft_types import Type

# Before the first import of Daft, which reports its use otherwise.
os.environ["DAFT_ANALYTICS_ENABLED"] = "0"
os.environ["SCARF_NO_ANALYTICS"] = "true"
os.environ["DAFT_PROGRESS_BAR"] = "0"

from daft.dataframe import DataFrame
from daft.io.pushdowns import Pushdowns
from daft.io.source import DataSource, DataSourceTask
from daft.recordbatch import RecordBatch
from daft.schema import Schema

if TYPE_CHECKING:
    from workloads.runners.daft_dialect import DaftTable

BATCH_ROWS = 131_072
_TASK_ROWS_LEAST = 262_144
_files: dict[str, Path] = {}
_failures: list[str] = []


def use_files(files: Mapping[str, Path]) -> None:
    """Where this process finds the inputs, by alias."""
    _files.clear()
    _failures.clear()
    _files.update(files)


def read_failure() -> str | None:
    """What went wrong while this process read, since `use_files`. Daft may lose an error and answer with the rows that it has."""
    return _failures[0] if _failures else None


def table(alias: str, found: DaftTable, types: Mapping[str, Type], parts: int) -> DataFrame:
    """An input as the statement names it, to be read in about `parts` parts or fewer."""
    names = {new: old for old, new in found.columns}
    return _ParquetInput(alias, names, {new: types[old] for new, old in names.items()}, parts).read()


class _ParquetInput(DataSource):
    """`names`: the statement's name of a column → its own."""

    def __init__(self, alias: str, names: dict[str, str], types: dict[str, Type], parts: int) -> None:
        self._alias, self._names, self._types, self._parts = alias, names, types, parts

    @property
    def name(self) -> str:
        return self._alias

    @property
    def schema(self) -> Schema:
        return Schema.from_pyarrow_schema(_arrow_schema(self._types))

    async def get_tasks(self, pushdowns: Pushdowns) -> AsyncIterator[DataSourceTask]:
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        # Daft filters what is read here, so the columns of its filter belong to it.
        needed = None if pushdowns.columns is None else {*pushdowns.columns, *pushdowns.filter_required_column_names()}
        wanted = [name for name in self._names if needed is None or name in needed]
        # A count of rows needs a column to count.
        wanted = wanted or list(self._names)[:1]
        with pq.ParquetFile(_files[self._alias]) as file:
            rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        least = max(_TASK_ROWS_LEAST, sum(rows) // max(self._parts, 1))
        names = {name: self._names[name] for name in wanted}
        groups: list[int] = []
        for group in range(len(rows)):
            groups.append(group)
            if sum(rows[one] for one in groups) >= least or group == len(rows) - 1:
                yield _Part(self._alias, tuple(groups), names, self._types)
                groups = []


class _Part(DataSourceTask):
    def __init__(self, alias: str, groups: tuple[int, ...], names: dict[str, str], types: dict[str, Type]) -> None:
        self._alias, self._groups, self._names, self._types = alias, groups, names, types

    @property
    def schema(self) -> Schema:
        return Schema.from_pyarrow_schema(_arrow_schema({name: self._types[name] for name in self._names}))

    async def read(self) -> AsyncIterator[RecordBatch]:
        try:
            for batch in self._batches():
                yield batch
        except Exception as error:
            _failures.append(str(error))
            raise

    def _batches(self) -> Iterator[RecordBatch]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = _arrow_schema({name: self._types[name] for name in self._names})
        with pq.ParquetFile(_files[self._alias]) as file:
            for batch in file.iter_batches(
                BATCH_ROWS, row_groups=list(self._groups), columns=list(self._names.values()), use_threads=False
            ):
                arrays = [
                    self._checked(batch.column(old)).cast(field.type) for old, field in zip(self._names.values(), schema, strict=True)
                ]
                yield RecordBatch.from_arrow_record_batches([pa.RecordBatch.from_arrays(arrays, schema=schema)], schema)

    def _checked(self, array: Any) -> Any:
        """NaN is the greatest number to DuckDB, and none to Daft."""
        import pyarrow as pa
        import pyarrow.compute as pc  # type: ignore[import-untyped]

        if pa.types.is_float64(array.type) and pc.any(pc.is_nan(array)).as_py():
            raise StatementError(f"input {self._alias} holds NaN, which Daft compares otherwise than DuckDB; use engine: duckdb")
        return array


def _arrow_schema(types: Mapping[str, Type]) -> Any:
    import pyarrow as pa

    plain = {
        "whole": pa.int64(), "double": pa.float64(), "text": pa.large_string(), "date": pa.date32(), "timestamp": pa.timestamp("us"),
        "boolean": pa.bool_(),
    }  # fmt: skip
    return pa.schema([
        pa.field(name, pa.decimal128(found.digits, found.scale) if found.kind == "decimal" else plain[found.kind])
        for name, found in types.items()
    ])  # fmt: skip
