"""How the inputs of a job of kind map are cut into partitions, and how the files of its result are named.

The cut depends on the published data and the manifest alone, so every attempt, wherever it runs, cuts alike, and a partition that one
attempt finished is known to the next by the name of its file: its number, of how many, its rows, and the first letters of a checksum
of its schema. Rows are cut between row groups of a Parquet file where that makes partitions of a usual size, because half a row group
costs as much to read as all of it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.errors import StatementError
from workloads.map_jobs import MOST_PARTITIONS, MapStep
from workloads.runners.process import InputPath

TARGET_BYTES = 64 * 1024 * 1024
# A row group is cut only where it is much larger than a partition should be.
_LARGE = 2
# As Parquet lies in memory, a text file is smaller; it is cut by what it has on disk.
_DIGEST = 12
_PART = re.compile(rf"^part-(\d{{5}})-of-(\d{{5}})-(\d+)-rows-([0-9a-f]{{{_DIGEST}}})\.parquet$")


@dataclass(frozen=True)
class Partition:
    """The rows from `start` on, up to `stop`, of one input; numbers count from 0 over all inputs."""

    number: int
    alias: str
    start: int
    stop: int


@dataclass(frozen=True)
class Part:
    """The file of a finished partition."""

    number: int
    of: int
    rows: int
    schema: str

    @property
    def name(self) -> str:
        """As the file is called."""
        return f"part-{self.number:05d}-of-{self.of:05d}-{self.rows}-rows-{self.schema}.parquet"


@dataclass(frozen=True)
class Groups:
    """An input as it lies in its file: rows, and bytes uncompressed, of each row group in order."""

    alias: str
    groups: tuple[tuple[int, int], ...]


def cut(inputs: Iterable[Groups], rows: int | None, target_bytes: int = TARGET_BYTES) -> tuple[Partition, ...]:
    """All partitions, input by input in the order of their names. Every row is in one of them; of an input without rows there is one,
    which is empty, so that its function is heard of the columns.

    At most MOST_PARTITIONS of a size that was not asked for; what `rows` asks for is the caller's to bound.
    """
    known = sorted(inputs, key=lambda item: item.alias)
    total = sum(size for item in known for _, size in item.groups)
    target = max(target_bytes, -(-total * _LARGE // MOST_PARTITIONS))
    found: list[Partition] = []
    for item in known:
        spans = _by_rows(sum(count for count, _ in item.groups), rows) if rows else _by_size(item.groups, target)
        found += [Partition(len(found) + place, item.alias, start, stop) for place, (start, stop) in enumerate(spans or [(0, 0)])]
    return tuple(found)


def _by_rows(total: int, rows: int) -> list[tuple[int, int]]:
    return [(start, min(start + rows, total)) for start in range(0, total, rows)]


def _by_size(groups: Sequence[tuple[int, int]], target: int) -> list[tuple[int, int]]:
    """Whole row groups together up to the target; one that is much larger by itself, in parts."""
    spans: list[tuple[int, int]] = []
    begin = position = size = 0

    def close() -> None:
        nonlocal begin, size
        if position > begin:
            spans.append((begin, position))
        begin, size = position, 0

    for count, amount in groups:
        if size and size + amount > target:
            close()
        if amount >= _LARGE * target and count > 1:
            close()
            step = -(-count // min(-(-amount // target), count))
            spans += [(position + start, position + stop) for start, stop in _by_rows(count, step)]
            position += count
            begin = position
        else:
            position, size = position + count, size + amount
    close()
    return spans


def read_groups(inputs: Mapping[str, InputPath]) -> Iterator[Groups]:
    """How the files are laid out; where they have no row groups, their rows are counted. Raises StatementError."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    for alias, found in inputs.items():
        if found.format != "parquet":
            yield Groups(alias, ((_count(found), max(found.path.stat().st_size, 1)),))
            continue
        try:
            footer = pq.read_metadata(found.path)
        except (pa.ArrowException, OSError) as error:
            raise StatementError(f"input {alias} cannot be read as Parquet: {error}") from error
        groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
        yield Groups(alias, tuple((group.num_rows, group.total_byte_size) for group in groups))


def _count(found: InputPath) -> int:
    from workloads.catalogue.tables import confined_connection, scan

    connection = confined_connection([found.path], {"threads": "1"})
    try:
        return int(connection.execute(f"SELECT count(*) FROM {scan(connection, found.format, found.path)}").fetchall()[0][0])
    finally:
        connection.close()


def as_parquet(found: InputPath, target: Path, threads: int) -> Path:
    """The input as a Parquet file: itself, or what is written to `target` with the rows in their order."""
    if found.format == "parquet":
        return found.path
    from workloads.catalogue.tables import confined_connection, literal, scan

    connection = confined_connection([found.path, target], {"threads": str(threads)})
    try:
        connection.execute(f"COPY (FROM {scan(connection, found.format, found.path)}) TO {literal(str(target))} (FORMAT parquet)")
    finally:
        connection.close()
    return target


def schema_digest(schema: Any) -> str:
    """Of an Arrow schema's columns, with their types: what two files of one table have in common."""
    return hashlib.sha256(schema.to_string(show_field_metadata=False, show_schema_metadata=False).encode()).hexdigest()[:_DIGEST]


def read_part(name: str) -> Part | None:
    """What a file's name says; None for one that is no part."""
    match = _PART.match(name)
    return Part(int(match[1]), int(match[2]), int(match[3]), match[4]) if match else None


def finished(names: Iterable[str], of: int) -> dict[int, Part]:
    """By number, the partitions whose files have these names and belong to a cut into so many."""
    parts = [part for name in names if (part := read_part(name)) is not None and part.of == of]
    return {part.number: part for part in sorted(parts, key=lambda part: part.name)}


def row_limit_fault(step: MapStep, rows: Iterable[int]) -> str | None:
    """Why a job over inputs of so many rows would have too many partitions; None when it has not."""
    if step.rows is None:
        return None
    size = step.rows
    many = sum(max(-(-count // size), 1) for count in rows)
    if many <= MOST_PARTITIONS:
        return None
    return f"makes {many:,} partitions, and at most {MOST_PARTITIONS:,} are taken; give a larger number, or leave it out"
