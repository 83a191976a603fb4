"""SQL over a job's inputs with DuckDB: checked before the job is accepted, confined while it runs.

`check_statement` proves a statement without data, in about a millisecond: one query, the job's inputs only,
and it binds against the published columns (see workloads.runners.proving). `run_statement` runs it on a
fresh connection that can read exactly the inputs' files and write nothing but its spill folder, with memory
and threads of the job's size, and streams the result into a Parquet file with the first rows as a preview.
"""

from __future__ import annotations

import atexit
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workloads.catalogue.product import Column, Format
from workloads.catalogue.tables import identifier, open_connection, plain_message, scan
from workloads.disclosure.terms import Rewritten, TableTerms
from workloads.errors import StatementError, StatementInterruptedError, TooManyRowsError
from workloads.resources import format_memory
from workloads.runners.preview import json_rows
from workloads.runners.proving import DaftVerdict, StatementProver
from workloads.runners.statement import read_statement
from workloads.runners.warm_duckdb import Engines, Terms

if TYPE_CHECKING:
    import duckdb

RESULT_NAME = "result.parquet"
PREVIEW_ROWS = 50
_BATCH_VALUES, _BATCH_ROWS_LEAST, _BATCH_ROWS_MOST = 2_000_000, 1024, 122_880
# Types that Parquet (as Arrow writes it) has no equal for, or would store in a form only DuckDB can read.
_TEXT_TYPES = frozenset({"interval", "union", "bit", "bignum", "variant", "geometry", "type", "time with time zone", "timetz"})

OnConnection = Callable[["duckdb.DuckDBPyConnection"], None]


@dataclass(frozen=True)
class InputTable:
    """One input as the statement sees it: a file on this machine."""

    path: Path
    format: Format


@dataclass(frozen=True)
class SqlOutcome:
    """A statement's result: JSON-safe first rows, and the whole of it in a Parquet file, or as such a file's `content` instead.

    `types` are DuckDB's words for the columns. Names that repeat get a number (`a`, `a_1`).
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    total_rows: int
    path: Path
    content: bytes | None = None

    @property
    def size_bytes(self) -> int:
        """Of the Parquet file."""
        return self.path.stat().st_size if self.content is None else len(self.content)


def check_statement(sql: str, inputs: Mapping[str, Sequence[Column]]) -> None:
    """Prove that `sql` is one query over `inputs` (name → published columns) that binds. Runs nothing.

    Raises StatementError with what is wrong in words that name the unknown table or column.
    """
    _prover().prove(sql, inputs)


def judge_for_daft(sql: str, inputs: Mapping[str, Sequence[Column]]) -> DaftVerdict:
    """Whether Daft can run a statement with the rows that DuckDB gives. Raises StatementError as check_statement does."""
    verdict = _prover().prove(sql, inputs, for_daft=True)
    assert verdict is not None, "it was asked for"
    return verdict


def permitted_statement(sql: str, tables: Sequence[TableTerms]) -> Rewritten:
    """What runs in place of a statement over tables whose owners limit what is disclosed. Raises StatementError, DisclosureError."""
    return _prover().rewrite(sql, tables)


def run_statement(
    sql: str, files: Mapping[str, InputTable], *, directory: Path, memory_bytes: int, threads: int,
    preview_rows: int = PREVIEW_ROWS, on_connection: OnConnection | None = None, engines: Engines | None = None, small_bytes: int = 0,
    max_rows: int | None = None,
) -> SqlOutcome:  # fmt: skip
    """Run a statement over files and write `directory`/result.parquet, which exists only after success.

    A result of at most `small_bytes` is not written but returned. Larger work spills into `directory`/spill. `on_connection` is given
    the connection before the statement runs; its `interrupt()`, from any thread, ends the running statement, and is lost between two of
    DuckDB's steps, so a caller repeats it until this function returns. Raises StatementInterruptedError
    then, and StatementError for everything that is the statement's doing. With `engines` the connection is
    lent by them, and spills where they do. A result of more than `max_rows` ends it with TooManyRowsError as soon as it has as many.
    """
    (directory / RESULT_NAME).unlink(missing_ok=True)
    spill = engines.folder if engines is not None else directory / "spill"
    hidden = [(str(table.path), f"input {name}") for name, table in files.items()] + [(str(spill), "spill"), (str(directory), ".")]
    terms = Terms.of([table.path for table in files.values()], memory_bytes, threads)
    with _plain_errors(hidden, memory_bytes), engines.lend(terms) if engines is not None else _own(terms, spill) as connection:
        if engines is not None:
            engines.read(connection, sql, files)
        else:
            read_statement(connection, sql, files)
        for name, table in files.items():
            connection.execute(f"CREATE TEMP VIEW {identifier(name)} AS FROM {scan(connection, table.format, table.path)}")
        if on_connection is not None:
            on_connection(connection)
        return _stream(connection.sql(sql), directory, preview_rows, small_bytes, max_rows)


@contextmanager
def _own(terms: Terms, spill: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB for one statement."""
    spill.mkdir(parents=True, exist_ok=True)
    with closing(open_connection()) as connection:
        terms.confine(connection, spill)
        yield connection


@cache
def _prover() -> StatementProver:
    prover = StatementProver()
    atexit.register(prover.close)
    return prover


def _stream(relation: Any, directory: Path, preview_rows: int, small_bytes: int, max_rows: int | None) -> SqlOutcome:
    import pyarrow as pa  # type: ignore[import-untyped]

    columns, types = unique_names(relation.columns), tuple(str(type_).strip('"') for type_ in relation.types)
    batch_rows = min(max(_BATCH_VALUES // len(columns), _BATCH_ROWS_LEAST), _BATCH_ROWS_MOST)
    reader = writable(relation, columns).to_arrow_reader(batch_rows)
    schema = pa.schema([field.with_name(name) for field, name in zip(reader.schema, columns, strict=True)])
    batches = reader if max_rows is None else at_most(reader, max_rows)
    first = _first_batches(batches, small_bytes)
    if small_bytes and sum(batch.nbytes for batch in first) <= small_bytes:
        outcome = _small(first, schema, columns, types, directory, preview_rows)
        if outcome.size_bytes <= small_bytes:
            return outcome
    return write_batches(itertools.chain(first, batches), schema, columns, types, directory, preview_rows)


def at_most(batches: Iterable[Any], rows: int) -> Iterator[Any]:
    """The same batches, as long as they have no more rows together. Raises TooManyRowsError."""
    left = rows
    for batch in batches:
        left -= batch.num_rows
        if left < 0:
            raise TooManyRowsError(rows)
        yield batch


def _first_batches(batches: Iterable[Any], size: int) -> list[Any]:
    """All batches, or where they are more than that, the first that are of more than this size together; none for size 0."""
    first: list[Any] = []
    left = size
    for batch in batches if size else ():
        first.append(batch)
        left -= batch.nbytes
        if left < 0:
            break
    return first


def _small(
    batches: Iterable[Any], schema: Any, columns: tuple[str, ...], types: tuple[str, ...], directory: Path, preview_rows: int
) -> SqlOutcome:
    """A result in memory."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    rows, total = _write(sink, batches, schema, preview_rows)
    return SqlOutcome(columns, types, rows, total, directory / RESULT_NAME, sink.getvalue().to_pybytes())


def write_batches(
    batches: Iterable[Any], schema: Any, columns: tuple[str, ...], types: tuple[str, ...], directory: Path, preview_rows: int
) -> SqlOutcome:
    """Write a result batch by batch into `directory`; memory holds one batch, however long the result is."""
    directory.mkdir(parents=True, exist_ok=True)
    partial, path = directory / f".{RESULT_NAME}.part", directory / RESULT_NAME
    try:
        rows, total = _write(partial, batches, schema, preview_rows)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return SqlOutcome(columns, types, rows, total, path)


def _write(sink: Any, batches: Iterable[Any], schema: Any, preview_rows: int) -> tuple[tuple[tuple[object, ...], ...], int]:
    """Write batches as Parquet; the first rows, and how many there are."""
    import pyarrow as pa
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    rows: list[tuple[object, ...]] = []
    total = 0
    with pq.ParquetWriter(sink, schema) as writer:
        for batch in batches:
            renamed = pa.RecordBatch.from_arrays(batch.columns, schema=schema)
            writer.write_batch(renamed)
            if len(rows) < preview_rows:
                rows.extend(json_rows(renamed, preview_rows - len(rows)))
            total += renamed.num_rows
    return tuple(rows), total


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names with a number after those that repeat; letter case does not make names differ."""
    taken = {name.casefold() for name in names}
    seen: set[str] = set()
    unique = []
    for name in names:
        chosen = name
        if name.casefold() in seen:
            chosen = next(candidate for number in itertools.count(1) if (candidate := f"{name}_{number}").casefold() not in taken)
        seen.add(chosen.casefold())
        taken.add(chosen.casefold())
        unique.append(chosen)
    return tuple(unique)


def writable(relation: Any, columns: Sequence[str]) -> Any:
    """The relation with columns of types that Parquet lacks as text."""
    needs_text = [_has_text_type(type_) for type_ in relation.types]
    if not any(needs_text):
        return relation
    return relation.project(", ".join(
        f"#{place}{'::VARCHAR' if text else ''} AS {identifier(name)}"
        for place, (name, text) in enumerate(zip(columns, needs_text, strict=True), start=1)
    ))  # fmt: skip


def _has_text_type(type_: Any) -> bool:
    if str(type_.id).casefold() in _TEXT_TYPES:
        return True
    if str(type_.id).casefold() not in ("list", "array", "struct", "map"):
        return False
    return any(_has_text_type(child) for _, child in type_.children if hasattr(child, "id"))


@contextmanager
def _plain_errors(hidden: Sequence[tuple[str, str]], memory_bytes: int) -> Iterator[None]:
    """Turn what DuckDB and Arrow raise into StatementError without places of this machine."""
    import duckdb
    import pyarrow as pa

    try:
        yield
    except duckdb.InterruptException as error:
        raise StatementInterruptedError("the statement was interrupted") from error
    except duckdb.OutOfMemoryException as error:
        raise StatementError(_out_of_memory(memory_bytes)) from error
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        # DuckDB's errors after the first batch come through Arrow as OSError with DuckDB's own words.
        message = str(error)
        if message.startswith("INTERRUPT Error"):
            raise StatementInterruptedError("the statement was interrupted") from error
        if message.startswith("Out of Memory Error"):
            raise StatementError(_out_of_memory(memory_bytes)) from error
        raise StatementError(plain_message(error, hidden)) from error


def _out_of_memory(memory_bytes: int) -> str:
    size = format_memory(memory_bytes)
    return f"the statement needs more than its {size} of memory; ask for more in resources.memory, or reduce the rows first"
