"""What a pod tells of its worker, as lines of its container's log: the one way out of a pod that every cluster has.

Each line is a JSON object. News of the worker (see cluster/runs/outbox.py) are numbered from 1, so a reader that begins anew knows what
it has; each tells the start again. Files of the result come in pieces before the news of the end. A line that is none of these was
written by something else, like the interpreter of an image without the cpn package; the last of them are kept for people.

A kubelet keeps a container's log up to a size (10 MiB unless its operator says otherwise) and drops the oldest beyond that. Who follows
loses nothing by it. What a reader missed is told as missing in the user's log, and a result that cannot be read whole fails its run.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cluster.runs.outbox import Batch
from cluster.runs.workspace import read_chunk

LOG_BYTES = 16 * 1024 * 1024
RESULT_BYTES = 4 * 1024 * 1024
PIECE_BYTES = 48 * 1024
LINE_BYTES = 8 * 1024 * 1024
_STRAY_LINES, _STRAY_LETTERS = 5, 300


class RecordWriter:
    """Writes records; `write` takes a whole line."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write, self._number = write, 0
        self._started: float | None = None

    def batch(self, batch: Batch) -> None:
        """News of the worker."""
        self._number += 1
        self._started = batch.get("started", self._started)
        self._line({"n": self._number, "since": self._started, "news": batch})

    def file(self, folder: Path, name: str, size_bytes: int) -> None:
        """A file of the result, whole. Raises OSError when it cannot be read, or has become shorter."""
        offset = 0
        while offset < size_bytes:
            piece = read_chunk(folder, name, offset, min(PIECE_BYTES, size_bytes - offset))
            if not piece:
                raise OSError(f"the result file {name} became shorter while it was read")
            self._line({"file": name, "offset": offset, "data": base64.b64encode(piece).decode()})
            offset += len(piece)

    def _line(self, record: dict[str, Any]) -> None:
        self._write(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


class RecordReader:
    """Reads one pod's records. `taken` are those that are known already, `files` those of the result as far as they have come."""

    def __init__(self, taken: int = 0) -> None:
        self.taken = taken
        self.files: dict[str, bytearray] = {}
        self._strays: deque[str] = deque(maxlen=_STRAY_LINES)
        self._rest = b""

    @property
    def strays(self) -> str:
        """The last lines that are no records."""
        return "\n".join(self._strays)

    def strays_of(self, words: str) -> None:
        """Keep words of somebody else that say why there is no more."""
        self._strays.append(words[:_STRAY_LETTERS])

    def again(self) -> None:
        """The log comes once more from its beginning."""
        self._rest = b""
        self._strays.clear()

    def feed(self, data: bytes) -> Iterator[Batch]:
        """The news in the next bytes that were not taken before, each with its number as `n`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        # No record is as long as that.
        self._rest = self._rest[:LINE_BYTES]
        for line in lines:
            batch = self._take(line)
            if batch is not None:
                yield batch

    def _take(self, line: bytes) -> Batch | None:
        record = _record(line)
        if record is None:
            if line.strip():
                self._strays.append(line.decode("utf-8", "replace")[:_STRAY_LETTERS])
            return None
        if "file" in record:
            self._piece(record)
            return None
        number, missed = record["n"], record["n"] - self.taken - 1
        if missed < 0:
            return None
        self.taken = number
        return {**(_with_gap(record, missed) if missed else record["news"]), "n": number}

    def _piece(self, record: dict[str, Any]) -> None:
        """A piece that came before is not taken twice."""
        held = self.files.setdefault(record["file"], bytearray())
        if record["offset"] == len(held) and len(held) < RESULT_BYTES:
            held += record["data"]


def _with_gap(record: dict[str, Any], missed: int) -> Batch:
    """News after others that nobody can read any more."""
    words = f"\n[cpn] {missed} pieces of what this worker told were dropped by its cluster before they were read\n"
    news = {**record["news"], "log": words + record["news"].get("log", "")}
    return news if record["since"] is None else {**news, "started": record["since"]}


def _record(line: bytes) -> dict[str, Any] | None:
    """A line as a record, None when it is none."""
    if not line.startswith(b"{"):
        return None
    try:
        record = json.loads(line)
        if isinstance(record.get("n"), int) and isinstance(record["news"], dict) and isinstance(record["since"], float | None):
            return dict(record)
        if isinstance(record.get("file"), str) and isinstance(record["offset"], int):
            return {**record, "data": base64.b64decode(record["data"], validate=True)}
    except (ValueError, KeyError, TypeError, binascii.Error):
        pass
    return None
