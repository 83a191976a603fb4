"""Inputs of other formats written anew as Parquet for engines that read row groups, by the reader that statements have.

The copies are files without a name: they are gone with the process that made them, however that ends. The cut into row groups depends
on the rows alone, so that processes on different nodes, each with a copy of its own, mean the same rows by a row group's number.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from workloads.catalogue.product import Format
from workloads.catalogue.tables import confined_connection, plain_message, scan
from workloads.errors import DataError
from workloads.runners.sql import writable

GROUP_ROWS = 122_880
_LEAST_MEMORY = 256 * 1024 * 1024


class _Input(Protocol):
    @property
    def path(self) -> Path: ...

    @property
    def format(self) -> Format: ...


class ParquetCopies:
    """Copies in a folder's filesystem, kept until `close` or the end of the process."""

    def __init__(self, folder: Path, *, memory_bytes: int, threads: int) -> None:
        self._folder, self._memory_bytes, self._threads = folder, max(memory_bytes, _LEAST_MEMORY), threads
        self._files: list[IO[bytes]] = []

    def of(self, inputs: Mapping[str, _Input]) -> dict[str, Path]:
        """Each input as a Parquet file, by alias: itself where it is one. Raises DataError, OSError."""
        return {alias: one.path if one.format == "parquet" else self._copy(alias, one) for alias, one in sorted(inputs.items())}

    def close(self) -> None:
        """Nobody reads them any more."""
        while self._files:
            self._files.pop().close()

    def _copy(self, alias: str, one: _Input) -> Path:
        import duckdb
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        # It stays open, for it has no name to be opened by again.
        file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        self._files.append(file)
        settings = {"threads": str(self._threads), "memory_limit": f"{self._memory_bytes}B", "temp_directory": ""}
        connection = confined_connection([one.path], settings)
        try:
            relation = connection.sql(f"FROM {scan(connection, one.format, one.path)}")
            reader = writable(relation, relation.columns).to_arrow_reader(GROUP_ROWS)
            with pq.ParquetWriter(file, reader.schema) as writer:
                for table in _exactly(reader, reader.schema, GROUP_ROWS):
                    writer.write_table(table, row_group_size=GROUP_ROWS)
        except (duckdb.Error, pa.ArrowException) as error:
            raise DataError(f"input {alias} cannot be read as {one.format}: {plain_message(error, [(str(one.path), alias)])}") from error
        finally:
            connection.close()
        file.flush()
        return Path(f"/proc/self/fd/{file.fileno()}")


def _exactly(batches: Iterable[Any], schema: Any, rows: int) -> Iterator[Any]:
    """Tables of so many rows each, but for the last one."""
    import pyarrow as pa

    held: list[Any] = []
    count = 0
    for batch in batches:
        rest = batch
        while rest.num_rows:
            part = rest.slice(0, rows - count)
            rest, count = rest.slice(part.num_rows), count + part.num_rows
            held.append(part)
            if count == rows:
                yield pa.Table.from_batches(held, schema)
                held, count = [], 0
    if held:
        yield pa.Table.from_batches(held, schema)
