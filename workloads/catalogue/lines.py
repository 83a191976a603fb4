"""What is wrong with a file of JSON lines, by the line: found in a pass of its own, once DuckDB has refused the file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

_GZIP = b"\x1f\x8b"


def first_fault(path: Path) -> str | None:
    """The first line that is no JSON object, in words; None when all are. Lines count from 1, empty ones count too."""
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    try:
        with gzip.open(path) if packed else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip() and (fault := _fault(line)) is not None:
                    return f"line {number} {fault}"
    except (EOFError, OSError):
        return "it ends in the middle of what it compresses" if packed else None
    return None


def _fault(line: bytes) -> str | None:
    try:
        found = json.loads(line.decode("utf-8"), object_pairs_hook=list)
    except UnicodeDecodeError:
        return "is not in UTF-8"
    except (ValueError, RecursionError):
        return "is no JSON; is the file cut off?"
    if not line.lstrip().startswith(b"{"):
        return "is no object; write one object a line, without a list around them"
    names = [name for name, _ in found]
    if not names or not all(names):
        return "has a key without a name" if names else "is an empty object"
    folded = [name.casefold() for name in names]
    twice = next((name for name in names if folded.count(name.casefold()) > 1), None)
    return None if twice is None else f"has the key {twice!r} twice, or another that differs from it by case only"
