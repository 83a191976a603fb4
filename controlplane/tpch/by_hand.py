"""The peer of `cpn bench distributed-sql`: the same statement by a script that a person writes for Daft on Ray, without cpn.

It begins where a job begins, with a new process, and ends with the result as Parquet. Daft's own reader refuses the string types of newer
writers, so the script reads copies with plain ones, which are made beforehand and not counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from controlplane.network import NetworkError

_SCRIPT = """
import json, sys
import daft, ray
ask = json.load(open(sys.argv[1]))
ray.init(address=ask["address"], log_to_driver=False, logging_level="ERROR")
daft.set_runner_ray()
tables = {name: daft.read_parquet(path) for name, path in ask["tables"].items()}
daft.sql(ask["sql"], register_globals=False, **tables).write_parquet(ask["result"], write_mode="overwrite")
"""
_QUIET = {
    "DAFT_ANALYTICS_ENABLED": "0", "SCARF_NO_ANALYTICS": "true", "DAFT_PROGRESS_BAR": "0", "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
}  # fmt: skip
LIMIT_S = 1800.0


def plain_copies(files: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """The same tables with strings as every reader knows them, by their names."""
    folder.mkdir(parents=True, exist_ok=True)
    return {name: _plain_copy(path, folder / f"{name}.parquet") for name, path in files.items()}


def _plain_copy(source: Path, target: Path) -> Path:
    with pq.ParquetFile(source) as file:
        schema = pa.schema([field.with_type(_plain(field.type)) for field in file.schema_arrow])
        with pq.ParquetWriter(target, schema) as writer:
            for group in range(file.num_row_groups):
                writer.write_table(file.read_row_group(group).cast(schema))
    return target


def _plain(type_: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_string_view(type_) or pa.types.is_large_string(type_) else type_


def run_by_hand(address: str, token_file: Path, sql: str, tables: Mapping[str, Path], folder: Path) -> tuple[float | None, str]:
    """Seconds from the start of the process to its end; None, with the last line of what it said, when it fails.

    Raises NetworkError when it does not end within `LIMIT_S`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ask = {"address": address, "sql": sql, "tables": {name: str(path) for name, path in tables.items()}, "result": str(folder / "result")}
    asked = folder / "ask.json"
    asked.write_text(json.dumps(ask), encoding="utf-8")
    environment = {**os.environ, **_QUIET, "RAY_AUTH_TOKEN_PATH": str(token_file.absolute())}
    began = time.perf_counter()
    try:
        ended = subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(asked)], env=environment, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise NetworkError(f"the script for Daft did not end within {LIMIT_S:g} s") from error
    seconds = round(time.perf_counter() - began, 3)
    if ended.returncode:
        lines = ended.stderr.strip().splitlines()
        return None, lines[-1] if lines else f"exit {ended.returncode}"
    return seconds, ""
