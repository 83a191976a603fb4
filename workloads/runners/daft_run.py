"""A statement on Daft, with the rows and the types that DuckDB would give: translated, run by whatever runner Daft is set to, and cast.

The result is checked into DuckDB's types exactly: a number that they do not hold ends the run as it would there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.catalogue.product import Column
from workloads.catalogue.tables import confined_connection, identifier, scan
from workloads.errors import StatementError, TooManyRowsError
from workloads.runners.daft_dialect import DaftStatement, to_daft
from workloads.runners.daft_types import Type, UntranslatableError, column_type
from workloads.runners.sql import PREVIEW_ROWS, RESULT_NAME, InputTable, SqlOutcome, unique_names, writable, write_batches
from workloads.runners.statement import read_statement

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# The beginning of the last line of a trace.
_RAISED = re.compile(r"^[\w.]*(?:Error|Exception): ", re.MULTILINE)
_MOST_WORDS = 400


@dataclass(frozen=True)
class DaftPlan:
    """A translated statement, the types of its inputs' columns, and the shape of its result as DuckDB says."""

    statement: DaftStatement
    types: Mapping[str, Mapping[str, Type]]
    columns: tuple[str, ...]
    column_types: tuple[str, ...]
    schema: Any


def plan_statement(sql: str, files: Mapping[str, InputTable]) -> DaftPlan:
    """Prove and translate a statement over files. Raises StatementError, also with the reason why Daft cannot run it."""
    connection = confined_connection([table.path for table in files.values()], {"threads": "1"})
    try:
        columns: dict[str, Sequence[Column]] = {}
        for name, table in files.items():
            found = connection.sql(f"FROM {scan(connection, table.format, table.path)} LIMIT 0")
            columns[name] = [Column(name=column, type=str(type_)) for column, type_ in zip(found.columns, found.types, strict=True)]
        return plan_over(connection, sql, columns)
    finally:
        connection.close()


def plan_over(connection: Any, sql: str, inputs: Mapping[str, Sequence[Column]]) -> DaftPlan:
    """The same over columns; makes views on `connection`. Raises StatementError."""
    read_statement(connection, sql, inputs)
    for name, columns in inputs.items():
        declared = ", ".join(f"CAST(NULL AS {column.type}) AS {identifier(column.name)}" for column in columns)
        connection.execute(f"CREATE TEMP VIEW {identifier(name)} AS SELECT {declared} LIMIT 0")
    try:
        statement = to_daft(connection, sql, inputs)
    except UntranslatableError as error:
        raise StatementError(f"Daft cannot run it: {error}") from error
    relation = connection.sql(sql)
    names = unique_names(relation.columns)
    empty = writable(relation, names).limit(0).to_arrow_table()
    types = {alias: {column.name: found for column in columns if (found := column_type(column.type))} for alias, columns in inputs.items()}
    return DaftPlan(statement, types, names, tuple(str(type_).strip('"') for type_ in relation.types), empty.schema)


def run_plan(
    plan: DaftPlan, files: Mapping[str, Path], *, directory: Path, parts: int, preview_rows: int = PREVIEW_ROWS, max_rows: int | None = None
) -> SqlOutcome:  # fmt: skip
    """Run on the runner that Daft is set to, and write `directory`/result.parquet, which exists only after success.

    `parts`: into how many parts large inputs are cut. Raises StatementError, TooManyRowsError.
    """
    import daft
    from daft.exceptions import DaftCoreException, DaftTypeError

    from workloads.runners.daft_scan import read_failure, table, use_files

    use_files(files)
    (directory / RESULT_NAME).unlink(missing_ok=True)
    frames = {found.name: table(alias, found, plan.types[alias], parts) for alias, found in plan.statement.tables.items()}
    try:
        # Whole before the first row is taken: Daft's streams end in silence where a part of the work failed.
        frame = daft.sql(plan.statement.sql, register_globals=False, **frames).collect(num_preview_rows=None)
        if failure := read_failure():
            raise StatementError(failure)
        if max_rows is not None and len(frame) > max_rows:
            raise TooManyRowsError(max_rows)
        return write_batches(
            _cast(frame.to_arrow_iter(), plan.schema), plan.schema, plan.columns, plan.column_types, directory, preview_rows
        )
    except StatementError:
        raise
    except (DaftCoreException, DaftTypeError, ValueError) as error:
        raise StatementError(f"on Daft: {plain_words(error)}") from error


def _cast(batches: Iterator[Any], schema: Any) -> Iterator[Any]:
    """Each batch in DuckDB's types; Arrow refuses what would lose something."""
    import pyarrow as pa  # type: ignore[import-untyped]

    for batch in batches:
        arrays = [_column(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _column(column: Any, wanted: Any) -> Any:
    import pyarrow as pa

    # Arrow knows no way from a decimal to a narrower whole number but through 64 bits.
    if pa.types.is_decimal(column.type) and pa.types.is_integer(wanted):
        column = column.cast(pa.int64())
    return column.cast(wanted)


def plain_words(error: BaseException) -> str:
    """What went wrong in one line, without the traces of other processes, which tell of their machines."""
    text = _COLOUR.sub("", str(error))
    raised = [match.end() for match in _RAISED.finditer(text)]
    if raised and 'File "' in text:
        text = text[raised[-1] :]
    words = " ".join(text.split())
    return words if len(words) <= _MOST_WORDS else f"{words[:_MOST_WORDS]}…"
