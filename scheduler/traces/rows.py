"""Rows of text files, plain or gzipped, one at a time; what is wrong with one is told with file, line and column."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scheduler.errors import TraceError

LARGEST = 2**53


@dataclass(frozen=True)
class Row:
    """The cells of one line. Numbers are finite and within bounds, or a TraceError says where they are not."""

    file: str
    line: int
    cells: Mapping[str, str]

    def fault(self, message: str, column: str = "") -> TraceError:
        """Something is wrong here."""
        return TraceError(message, file=self.file, line=self.line, column=column)

    def text(self, column: str) -> str:
        """A cell without the spaces around it; empty where the row is too short."""
        return (self.cells.get(column) or "").strip()

    def number(self, column: str, *, least: float = 0.0) -> float:
        """A cell that must be a number, not below `least`."""
        text = self.text(column)
        if not text:
            raise self.fault("there is no value; a number is needed", column)
        try:
            value = float(text)
        except ValueError:
            raise self.fault(f"{text!r} is not a number", column) from None
        if not math.isfinite(value) or value > LARGEST:
            raise self.fault(f"{text!r} is not a finite number", column)
        if value < least:
            raise self.fault(f"{text} is less than {least:g}", column)
        return value

    def whole(self, column: str, *, least: int = 0) -> int:
        """A cell that must be a whole number, not below `least`."""
        value = self.number(column, least=least)
        if value != int(value):
            raise self.fault(f"{self.text(column)!r} is not a whole number", column)
        return int(value)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1."""
    try:
        with _open(path) as file:
            yield from enumerate(file, start=1)
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(f"cannot be read: {error}", file=str(path)) from error
    except UnicodeDecodeError as error:
        raise TraceError("is not text in UTF-8", file=str(path)) from error


def _open(path: Path) -> IO[str]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rt", encoding="utf-8-sig", newline="") if zipped else path.open(encoding="utf-8-sig", newline="")


def table(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Rows of a CSV file with a header that has at least these columns; others are kept too."""
    reader = csv.reader(text for _, text in lines(path))
    try:
        header = [name.strip() for name in next(reader, [])]
        if not any(header):
            raise TraceError("is empty", file=str(path))
        missing = [name for name in columns if name not in header]
        if missing:
            raise TraceError(f"the header has no column {', '.join(missing)}; it has {', '.join(header)}", file=str(path), line=1)
        for cells in reader:
            if cells:
                yield Row(str(path), reader.line_num, dict(zip(header, cells, strict=False)))
    except csv.Error as error:
        raise TraceError(str(error), file=str(path), line=reader.line_num) from error
