"""Results of jobs: shown, converted, downloaded and proved against their checksums."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from controlplane.cli.failures import CommandError, usage
from controlplane.cli.output import Cell, grid, heading, say
from controlplane.cli.text import size
from workloads.runners.partitions import read_part

if TYPE_CHECKING:
    from cluster.protocol import Preview, ResultFile
    from controlplane.api.schemas import ResultView
    from controlplane.api.tenant_schemas import ResultPlace
    from controlplane.client import Client

BATCH_ROWS = 10_000


def print_result(view: ResultView) -> None:
    """The first rows, if it is a table, the files, and where they lie, unless that is the server's directory."""
    if view.preview is not None:
        print_preview(view.preview)
    if view.files:
        if view.preview is not None:
            heading("Files")
        grid(["FILE", ">SIZE", "SHA-256"], [(file.name, size(file.size_bytes), file.sha256[:12]) for file in view.files])
        _say_where(view.place)
    if view.preview is None and not view.files:
        say("the job delivered nothing; files that it writes to CPN_OUTPUT_DIR become its result")


def _say_where(place: ResultPlace) -> None:
    if place.state == "waiting":
        say(f"with the server until {place.url} can be used: {place.message}")
    elif place.url is not None:
        say(f"in {place.url}" if place.state == "stored" else f"on the way to {place.url}")


def print_preview(preview: Preview, rest: str = "; all with --format csv") -> None:
    """The first rows of a table; `rest` says how more are had."""
    numeric = [any(word in kind for word in ("INT", "DOUBLE", "FLOAT", "DECIMAL")) and "[" not in kind for kind in preview.types]
    headers = [f">{name}" if right else name for name, right in zip(preview.columns, numeric, strict=True)]
    grid(headers, [[_value(value) for value in row] for row in preview.rows], none="no rows")
    left = preview.total_rows - len(preview.rows)
    rows = "1 row" if preview.total_rows == 1 else f"{preview.total_rows:,} rows"
    say(rows + (f", the first {len(preview.rows)} shown{rest}" if left > 0 else ""))


def _value(value: object) -> Cell:
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, int | str) and not isinstance(value, bool) else json.dumps(value, ensure_ascii=False)


def download_all(client: Client, view: ResultView, folder: Path) -> None:
    """Write every file of a result under a folder. Raises CommandError for one that did not arrive as announced."""
    for file in view.files:
        target = folder / _inside(file.name)
        _fetch(client, view, file, target)
        say(f"{target}  {size(file.size_bytes)}")
    if not view.files:
        say("the job delivered no files")


def write_table(client: Client, view: ResultView, form: Literal["json", "csv", "parquet"], out: BinaryIO | None = None) -> None:
    """Write the whole result table to standard output. Raises CommandError when the result is no table."""
    tables = [file for file in view.files if file.name.endswith(".parquet")]
    parts = [file for file in tables if read_part(file.name) is not None]
    tables = parts or tables[:1]
    if not tables or (view.preview is None and not parts):
        names = ", ".join(file.name for file in view.files) or "none"
        raise usage(f"the result is no table; its files: {names}", "get them with --download DIR")
    target = out or sys.stdout.buffer
    if form == "parquet" and target.isatty():
        raise usage("Parquet is not for a terminal", "send it to a file: … --format parquet > result.parquet")
    with tempfile.TemporaryDirectory(prefix="cpn-result-") as folder:
        _convert(_fetched(client, view, tables, Path(folder)), form, target, alone=len(tables) == 1)
    target.flush()


def _fetched(client: Client, view: ResultView, tables: Sequence[ResultFile], folder: Path) -> Iterator[Path]:
    """One file after the other, each removed before the next comes."""
    for file in tables:
        path = folder / "result.parquet"
        _fetch(client, view, file, path)
        yield path
        path.unlink()


def _fetch(client: Client, view: ResultView, file: ResultFile, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        client.download(view.job_id, file.name, target)
        with target.open("rb") as stream:
            arrived = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise CommandError(f"{target} cannot be written ({error.strerror})") from error
    if arrived != file.sha256:
        target.unlink()
        raise CommandError(f"{file.name} did not arrive as it was delivered (its checksum differs); try again")


def _inside(name: str) -> Path:
    """A result file's name as a path that stays in the folder. Raises CommandError for one that would leave it."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise CommandError(f"the result has a file called {name!r}, which is no plain name; it is not written")
    return Path(*parts)


def _convert(paths: Iterator[Path], form: Literal["json", "csv", "parquet"], target: BinaryIO, *, alone: bool) -> None:
    """Files of the same columns, one after the other, as one table. `alone`: there is one."""
    if form == "parquet" and alone:
        for path in paths:
            with path.open("rb") as stream:
                shutil.copyfileobj(stream, target)
        return
    write = {"csv": _write_csv, "json": _write_json, "parquet": _write_parquet}[form]
    write(_files(paths), target)


def _files(paths: Iterator[Path]) -> Iterator[Any]:
    import pyarrow.parquet as parquet  # type: ignore[import-untyped]

    for path in paths:
        # Buffered ahead, the whole file would be in memory before the end.
        yield parquet.ParquetFile(path, pre_buffer=False)


def _batches(files: Iterable[Any]) -> Iterator[Any]:
    for file in files:
        yield from file.iter_batches(BATCH_ROWS)


def _write_parquet(files: Iterator[Any], target: BinaryIO) -> None:
    import pyarrow.parquet as parquet

    first = next(files)
    with parquet.ParquetWriter(target, first.schema_arrow) as writer:
        for batch in _batches(itertools.chain([first], files)):
            writer.write_batch(batch)


def _write_csv(files: Iterator[Any], target: BinaryIO) -> None:
    """Lines with a header. Values that CSV has no form for are text: lists and structures as JSON, others as Python writes them."""
    import pyarrow as pa
    from pyarrow import csv

    plain = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_string, pa.types.is_date, pa.types.is_timestamp)
    first = next(files)
    schema = pa.schema([
        field if any(test(field.type) for test in plain) else pa.field(field.name, pa.string()) for field in first.schema_arrow
    ])  # fmt: skip
    with csv.CSVWriter(target, schema) as writer:
        for batch in _batches(itertools.chain([first], files)):
            columns = [
                column if column.type == field.type else pa.array([_text(value) for value in column.to_pylist()], pa.string())
                for column, field in zip(batch.columns, schema, strict=True)
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict | tuple) else str(value)


def _write_json(files: Iterator[Any], target: BinaryIO) -> None:
    """An array with one object for each row."""
    target.write(b"[")
    separator = b"\n"
    for batch in _batches(files):
        for row in batch.to_pylist():
            target.write(separator + json.dumps(row, ensure_ascii=False, default=str).encode())
            separator = b",\n"
    target.write(b"\n]\n")
