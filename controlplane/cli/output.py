"""What a command prints: tables for people, the API's own documents as JSON or YAML for programs.

Tables are never cut off: on a terminal long cells wrap, and elsewhere a line is as long as it needs to be.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from controlplane.cli.text import MISSING, printable

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    M = TypeVar("M", bound=BaseModel)

Format = Literal["table", "json", "yaml"]
Cell = str | int | float | None
WIDE = 10_000

_STYLES = {
    "succeeded": "green", "healthy": "green", "chosen": "bold green", "possible": "green", "met": "green",
    "passed": "green", "skipped": "dim",
    "failed": "red", "lost": "red", "refused": "red", "revoked": "red", "missing": "red",
    "running": "cyan", "starting": "cyan", "placed": "cyan", "suspect": "yellow",
    "busy": "yellow", "cordoned": "yellow", "draining": "yellow",
    "cancelled": "dim", "preempted": "yellow",
}  # fmt: skip


def show(document: M, output: Format, table: Callable[[M], None]) -> None:
    """Print one document in the form asked for."""
    if output == "table":
        table(document)
    else:
        print_document(document.model_dump(mode="json"), output)


def print_document(document: Any, output: Format) -> None:
    """Print plain data for a program."""
    if output == "yaml":
        import yaml

        print(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), end="")
    else:
        print(json.dumps(document, indent=2, ensure_ascii=False))


def console(*, stderr: bool = False) -> Console:
    """A console that cuts nothing off."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDE, highlight=False, emoji=False, markup=False)


def cell(value: Cell) -> Text:
    """A value as a cell; states carry their colour."""
    from rich.text import Text

    text = MISSING if value is None or value == "" else printable(str(value))
    return Text(text, style=_STYLES.get(text, ""))


def grid(headers: Sequence[str], rows: Iterable[Sequence[Cell]], *, none: str = "", title: str = "") -> None:
    """A table. A header that begins with `>` belongs to a column of numbers. `none` is printed when there is no row."""
    from rich import box
    from rich.table import Table

    cells = [[cell(value) for value in row] for row in rows]
    out = console()
    if title:
        out.print(title, style="bold")
    if not cells:
        out.print(none or "none", style="dim")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for header in headers:
        numeric = header.startswith(">")
        table.add_column(header.removeprefix(">"), justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
    for row in cells:
        table.add_row(*row)
    _put(out, table)


def fields(pairs: Iterable[tuple[str, Cell]]) -> None:
    """One thing's fields, one a line."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, cell(value))
    _put(console(), table)


def _put(out: Console, table: Table) -> None:
    """The table without the spaces that fill its last column."""
    with out.capture() as captured:
        out.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def heading(text: str) -> None:
    """A heading after an empty line."""
    out = console()
    out.print()
    out.print(text, style="bold")


def say(text: str = "") -> None:
    """A line for a person on standard output."""
    print(printable(text), flush=True)


def note(text: str) -> None:
    """A line for a person beside the output, on standard error, so that a program's JSON stays whole."""
    print(printable(text), file=sys.stderr)
