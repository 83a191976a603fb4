"""TPC-H: the statements and the data that distributed SQL is measured and tested with."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from decimal import Decimal
from functools import cache
from pathlib import Path

from workloads.errors import DataUnavailableError

TABLES = ("customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier")


def queries(scale: float) -> dict[str, str]:
    """The 22 statements by name (`q1` …), with what depends on the scale factor (1: about 1 GB of text) filled in."""
    fraction = f"{Decimal('0.0001') / Decimal(str(scale)):.10f}"
    return {name: text.replace(":q11_fraction", fraction) for name, text in _texts().items()}


def make_data(directory: Path, scale: float) -> dict[str, Path]:
    """Write the tables as Parquet, one file each, by the program of the PyPI package tpchgen-cli; the files by table.

    Raises DataUnavailableError when the program is missing or fails.
    """
    beside = Path(sys.executable).parent
    program = shutil.which("tpchgen-cli", path=str(beside)) or shutil.which("tpchgen-cli")
    if program is None:
        raise DataUnavailableError("TPC-H data is made by tpchgen-cli, which is not installed here: pip install tpchgen-cli")
    directory.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        [program, "parquet", "-s", f"{scale:g}", "--output-dir", str(directory)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise DataUnavailableError(f"tpchgen-cli failed: {made.stderr.strip()[-500:] or made.returncode}")
    return {table: directory / f"{table}.parquet" for table in TABLES}


@cache
def _texts() -> dict[str, str]:
    text = Path(__file__).with_name("queries.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- (q\d+)$", text, flags=re.MULTILINE)
    return {name: statement.strip() for name, statement in zip(parts[1::2], parts[2::2], strict=True)}
