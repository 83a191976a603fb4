"""The process of a user's function, without Ray: what it reads, what it writes, and what it tells of errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.backends.ray import map_process
from cluster.backends.ray.map_process import Reader


@contextmanager
def process(folder: Path, text: str) -> Iterator[Any]:
    """A process that serves orders; call it with one for the report."""
    (folder / "step.py").write_text(text)
    pq.write_table(pa.table({"n": range(10), "word": ["w"] * 10}), folder / "in.parquet", row_group_size=4)
    for name in ("orders", "reports"):
        os.mkfifo(folder / name)
    config = folder / "config.json"
    config.write_text(json.dumps({
        "function": ["step.py", "fn"], "inputs": {"a": str(folder / "in.parquet")}, "columns": ["n"], "compression": "zstd", "threads": 1,
        "output": str(folder), "orders": str(folder / "orders"), "reports": str(folder / "reports"),
    }))  # fmt: skip
    orders, reports = (os.open(folder / name, os.O_RDWR) for name in ("orders", "reports"))
    child = subprocess.Popen([sys.executable, map_process.__file__, str(config)], cwd=folder, env={})

    def ask(order: dict[str, Any] | None = None) -> dict[str, Any]:
        if order is not None:
            os.write(orders, json.dumps(order).encode() + b"\n")
        found: dict[str, Any] = json.loads(os.read(reports, 65536))
        return found

    try:
        yield ask
    finally:
        child.kill()
        child.wait()
        os.close(orders)
        os.close(reports)


ORDER = {"number": 3, "alias": "a", "start": 2, "stop": 9}


def test_rows_are_read_given_and_written(tmp_path: Path) -> None:
    with process(tmp_path, "import pyarrow.compute as pc\ndef fn(t): return t.append_column('m', pc.add(t['n'], 1))\n") as ask:
        assert ask() == {"ready": True}
        report = ask(ORDER)
        assert (report["number"], report["cpu_s"] >= 0, report["peak_memory_bytes"] > 0) == (3, True, True)
    found = pq.read_table(tmp_path / "3.parquet")
    assert found.to_pydict() == {"n": list(range(2, 9)), "m": list(range(3, 10))}


@pytest.mark.parametrize(
    ("text", "error", "trace"),
    [
        ("import nowhere\n", "ModuleNotFoundError: No module named 'nowhere'", 'File "step.py", line 1'),
        ("fn = 3\n", "TypeError: fn in step.py is no function", ""),
        ("def fn(t): return [1]\n", "TypeError: the function returned list, and has to return a pyarrow Table", ""),
        ("import sys\ndef fn(t): sys.exit(2)\n", "SystemExit: 2", 'File "step.py", line 2, in fn'),
        ("def fn(t): return t['m']\n", "KeyError", 'File "step.py", line 1, in fn'),
    ],
)
def test_what_goes_wrong_is_told_from_the_users_own_lines_on(tmp_path: Path, text: str, error: str, trace: str) -> None:
    with process(tmp_path, text) as ask:
        report = ask()
        if report == {"ready": True}:
            report = ask(ORDER)
    assert error in report["error"]
    assert trace in report["trace"]
    assert "map_process" not in report["trace"]


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_any_rows_of_any_layout_are_read(tmp_path: Path, size: int) -> None:
    pq.write_table(pa.table({"n": range(10)}), tmp_path / "in.parquet", row_group_size=size)
    reader = Reader({"a": str(tmp_path / "in.parquet")}, [])
    for start in range(10):
        for stop in range(start, 11):
            found = reader.read("a", start, stop)
            assert (found.schema.names, found["n"].to_pylist()) == (["n"], list(range(start, stop)))
