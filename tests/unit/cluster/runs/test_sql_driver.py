"""The process of one statement, as pods and Daft's drivers start it: its end is written down, also where it returns too many rows."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cluster.runs.outcome import read_outcome
from cluster.runs.sql_driver import sql_command
from cluster.runs.workspace import STATEMENT_NAME


@pytest.mark.parametrize(("max_rows", "ended"), [(None, ("succeeded", None)), (5, ("succeeded", None)), (4, ("failed", "max_rows"))])
def test_a_statement_ends_as_its_limit_of_rows_has_it(tmp_path: Path, max_rows: int | None, ended: tuple[str, str | None]) -> None:
    output = tmp_path / "output"
    output.mkdir()
    run: dict[str, Any] = {"sql": "SELECT * FROM range(5)", "cpu": 1.0, "memory_bytes": 2**28}
    (tmp_path / STATEMENT_NAME).write_text(json.dumps(run if max_rows is None else {**run, "max_rows": max_rows}))
    (tmp_path / "inputs.json").write_text("{}")
    given = {"CPN_OUTPUT_DIR": str(output), "CPN_INPUTS": str(tmp_path / "inputs.json")}
    subprocess.run(sql_command(), env={**os.environ, **given}, cwd=tmp_path, timeout=60, check=False)
    told = read_outcome(tmp_path)
    assert told is not None
    assert (told["outcome"], told["category"]) == ended
    assert (output / "result.parquet").exists() is (ended[0] == "succeeded")
