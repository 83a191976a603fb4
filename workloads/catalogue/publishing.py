"""What a data file holds: read once when a version is published, and promised from then on.

The whole file is read, not its header: every value of every column is decoded, so a truncated or broken
file is refused at publication and not in the middle of somebody's run. Parquet is read twice, by the two readers
that runs have: DuckDB (SQL) and Arrow (scripts), which also proves the pages' checksums where a file has them. An Arrow file
is proved before anything else looks into it, because its readers follow the lengths that it states.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.catalogue.lines import first_fault
from workloads.catalogue.locations import Measure, local_path, read_through, shown, suffix
from workloads.catalogue.product import Column, Format
from workloads.catalogue.tables import confined_connection, identifier, plain_message, scan
from workloads.errors import DataError

_MEMORY = "1GiB"
_BATCH_ROWS = 4096
_DELIMITERS = ",;|\t"


@dataclass(frozen=True)
class Described:
    """A file's facts. `columns` in the file's order, with DuckDB's types; `rows` without a CSV file's header."""

    format: Format
    size_bytes: int
    rows: int
    sha256: str
    columns: tuple[Column, ...]


def describe(uri: str, format: Format) -> Described:
    """Read the file at `uri` through. A file elsewhere is copied to a temporary folder for that.

    Raises DataUnavailableError when it cannot be read, DataError when it is broken, empty or of another format.
    """
    with tempfile.TemporaryDirectory(prefix="cpn-describe-") as folder:
        path = local_path(uri)
        if path is not None:
            found = read_through(uri)
        else:
            path = Path(folder) / f"data{suffix(uri)}"
            with path.open("wb") as target:
                found = read_through(uri, target=target)
        return _described(uri, path, format, found, Path(folder))


def difference(asked: Sequence[Column], found: Sequence[Column]) -> str:
    """What of these columns is not as it was asked for, in words; empty when all is."""
    before, after = ({column.name: column.type for column in columns} for columns in (asked, found))
    words = [f"{name} is {after[name]} instead of {kind}" for name, kind in before.items() if after.get(name, kind) != kind]
    words += [f"{name} is missing" for name in before if name not in after]
    words += [f"{name} is not asked for" for name in after if name not in before]
    return ", ".join(words) or ("" if [*asked] == [*found] else "their order differs")


def _described(uri: str, path: Path, format: Format, found: Measure, folder: Path) -> Described:
    import duckdb

    if found.size_bytes == 0:
        raise DataError(f"{shown(uri)} is empty")
    if format == "arrow":
        _prove_arrow(uri, path)
    hidden = [(str(path), shown(uri))]
    connection = confined_connection([path], {"memory_limit": _MEMORY, "threads": "1", "temp_directory": str(folder / "spill")})
    try:
        table = scan(connection, format, path)
        relation = connection.sql(f"FROM {table}")
        columns = tuple(Column(name=name, type=str(type_)) for name, type_ in zip(relation.columns, relation.types, strict=True))
        _check_columns(uri, format, columns)
        if format == "jsonl":
            _check_keys(uri, connection, table, columns)
        # A count of a column is answered without its values; a hash of them cannot be.
        counts = connection.execute(f"SELECT count(*), bit_xor(hash(COLUMNS(*))) FROM {table}").fetchall()
    except duckdb.Error as error:
        fault = first_fault(path) if format == "jsonl" else None
        raise DataError(f"{shown(uri)} cannot be read as {format}: {fault or plain_message(error, hidden)}") from error
    finally:
        connection.close()
    if format == "parquet":
        _read_by_arrow(uri, path)
    return Described(format=format, size_bytes=found.size_bytes, rows=int(counts[0][0]), sha256=found.sha256, columns=columns)


def _read_by_arrow(uri: str, path: Path) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as parquet  # type: ignore[import-untyped]

    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            for _ in file.iter_batches(_BATCH_ROWS):
                pass
    except pa.ArrowNotImplementedError:
        return  # a type that Arrow has no reader for; DuckDB has read it
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{shown(uri)} cannot be read as parquet: {plain_message(error, [(str(path), shown(uri))])}") from error


def _prove_arrow(uri: str, path: Path) -> None:
    """That it is an IPC file, and that each of its values is whole."""
    import pyarrow as pa

    batch = 0
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
            names = file.schema.names
            for batch in range(file.num_record_batches):
                file.get_batch(batch).validate(full=True)
    except (pa.ArrowException, OSError) as error:
        where = f"in record batch {batch}: " if batch else ""
        words = plain_message(error, [(str(path), shown(uri))])
        remedy = "; write it as an IPC file (pyarrow.feather.write_feather), not as a stream or as Feather 1" if not batch else ""
        raise DataError(f"{shown(uri)} cannot be read as arrow: {where}{words}{remedy}") from error
    if len({name.casefold() for name in names}) < len(names):
        raise DataError(f"{shown(uri)} has two columns whose names differ by case only, or not at all; rename one")


def _check_keys(uri: str, connection: Any, table: str, columns: tuple[Column, ...]) -> None:
    """A key that differs from another by case only is a column that stays empty."""
    names = {column.name.casefold() for column in columns}
    for column in columns:
        key, _, number = column.name.rpartition("_")
        if number.isdigit() and key.casefold() in names:
            (found,) = connection.execute(f"SELECT count({identifier(column.name)}) FROM {table}").fetchone()
            if not found:
                raise DataError(f"{shown(uri)} has the key {key!r} in two spellings that differ by case only; use one")


def _check_columns(uri: str, format: Format, columns: tuple[Column, ...]) -> None:
    if not columns:
        raise DataError(f"{shown(uri)} has no columns")
    if format == "csv" and len(columns) == 1 and any(mark in columns[0].name for mark in _DELIMITERS):
        raise DataError(f"{shown(uri)}: its lines have different numbers of fields; is it cut off, or no CSV file?")
