"""How a data file is read as a table: one way for publishing and for running, so that both see the same columns.

The shape of a CSV file (delimiter, quoting, header, types) is found once over the whole file, never over a
sample, and then fixed: a value far down that does not fit a guessed type would end a run that was planned
well. So are the columns of a file of JSON lines, one object a line. Parquet and Arrow (IPC files, which is what Feather 2 is) carry their
types. DuckDB reads all of them, confined to the files it is given; an Arrow file through Arrow's own reader, batch by batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workloads.catalogue.product import Format

if TYPE_CHECKING:
    import duckdb

_CLOSED = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_extension_repositories": "forbidden",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",
    "enable_external_file_cache": "false",
}
_NO_TYPE = '"NULL"'
_NONE = "(empty)"  # DuckDB's word for a delimiter, quote or escape that a file does not use


def confined_connection(paths: Sequence[Path], settings: Mapping[str, str]) -> duckdb.DuckDBPyConnection:
    """A fresh in-memory DuckDB that reads exactly these files (see `confine`)."""
    connection = open_connection()
    confine(connection, paths, settings)
    return connection


def open_connection() -> duckdb.DuckDBPyConnection:
    """A fresh in-memory DuckDB without extensions, still to be confined. To make one takes several times as long as a small statement."""
    import duckdb

    return duckdb.connect(config={**_CLOSED})


def confine(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], settings: Mapping[str, str]) -> None:
    """Let a fresh connection, and all others on the same DuckDB, read exactly these files: no network, no variables of this process.

    Nothing of a file is kept for a later read. Time zone UTC, so that a result does not depend on the machine; and no setting can be
    changed any more.
    """
    allowed = ", ".join(literal(str(path)) for path in paths)
    given = "".join(f"SET {name} = {literal(value)}; " for name, value in settings.items())
    connection.execute(
        f"{given}SET allowed_paths = [{allowed}]; SET enable_external_access = false; "
        "SET GLOBAL TimeZone = 'UTC'; SET lock_configuration = true"
    )


def scan(connection: duckdb.DuckDBPyConnection, format: Format, path: Path) -> str:
    """What stands for a file's rows behind FROM, on this connection. Text is read through once for its shape. Raises duckdb.Error."""
    if format == "arrow":
        return _registered(connection, path)
    file = literal(str(path))
    if format == "parquet":
        return f"read_parquet({file})"
    return _csv(connection, file) if format == "csv" else _json_lines(connection, file)


def _registered(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    import pyarrow.dataset as dataset  # type: ignore[import-untyped]

    name = f"arrow:{path}"
    connection.register(name, dataset.dataset(path, format="ipc"))
    return identifier(name)


def _json_lines(connection: duckdb.DuckDBPyConnection, file: str) -> str:
    form = "format = 'newline_delimited', records = 'true'"
    found = connection.execute(f"DESCRIBE FROM read_json({file}, {form}, sample_size = -1)").fetchall()
    # A column of nothing but nulls has no type that could be written down.
    columns = ", ".join(f"{literal(name)}: {literal('VARCHAR' if type_ == _NO_TYPE else type_)}" for name, type_, *_ in found)
    return f"read_json({file}, {form}, columns = {{{columns}}})"


def _csv(connection: duckdb.DuckDBPyConnection, file: str) -> str:
    result = connection.execute(f"SELECT * FROM sniff_csv({file}, sample_size = -1)")
    names = [column[0] for column in result.description or ()]
    shape = dict(zip(names, result.fetchall()[0], strict=True))
    columns = ", ".join(f"{literal(column['name'])}: {literal(column['type'])}" for column in shape["Columns"])
    options = {
        "auto_detect": "false", "columns": f"{{{columns}}}", "header": str(shape["HasHeader"]).lower(), "skip": str(shape["SkipRows"]),
        "delim": _text(shape["Delimiter"]), "quote": _text(shape["Quote"]), "escape": _text(shape["Escape"]),
        "comment": _text(shape["Comment"]), "new_line": _text(shape["NewLineDelimiter"]),
    }  # fmt: skip
    for option, found in (("dateformat", shape["DateFormat"]), ("timestampformat", shape["TimestampFormat"])):
        if found:
            options[option] = literal(found)
    return f"read_csv({file}, {', '.join(f'{name} = {value}' for name, value in options.items())})"


def identifier(name: str) -> str:
    """A name quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text quoted for SQL."""
    return "'" + text.replace("'", "''") + "'"


def plain_message(error: Exception, replaced: Iterable[tuple[str, str]] = ()) -> str:
    """DuckDB's words without their class, advice and excerpt of the statement, and with places of this machine replaced."""
    text = str(error)
    for tail in ("\n\nLINE ", "\n\nPossible solutions", "\nPossible Solution", "\nPossible fixes", "\n\nSee also "):
        text = text.partition(tail)[0]
    head, separator, rest = text.partition(": ")
    if separator and head.endswith("Error"):
        text = rest
    for found, instead in sorted(replaced, key=lambda pair: -len(pair[0])):
        text = text.replace(found, instead)
    return " ".join(text.split())


def _text(found: str) -> str:
    return literal("" if found == _NONE else found)
