"""`python -m cluster.runs.sql_driver`: run one statement on DuckDB, in the working directory of its run.

The run stands in `run.json` beside the working directory, its inputs in the file that CPN_INPUTS names, and the result goes to
CPN_OUTPUT_DIR. For backends without warm workers: the process is the statement's own and ends with it.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from cluster.runs.outcome import write_outcome
from cluster.runs.workspace import STATEMENT_NAME, describe, failure_category
from workloads.runners.sql import InputTable, run_statement


def sql_command() -> list[str]:
    """The argument list to start. `-P`: what the job brings in its working directory is not to be found by our own imports."""
    return [sys.executable, "-P", "-m", "cluster.runs.sql_driver"]


def given_statement(root: Path) -> tuple[dict[str, Any], dict[str, InputTable]]:
    """The request of the run whose workspace is at `root`, and its inputs."""
    run: dict[str, Any] = json.loads((root / STATEMENT_NAME).read_text(encoding="utf-8"))
    found = json.loads(Path(os.environ["CPN_INPUTS"]).read_text(encoding="utf-8"))
    return run, {alias: InputTable(Path(entry["path"]), entry["format"]) for alias, entry in found.items()}


def main() -> int:
    """Run, and write down how it ended."""
    output = Path(os.environ["CPN_OUTPUT_DIR"])
    root = output.parent
    run, tables = given_statement(root)
    threads = max(math.ceil(run["cpu"]), 1)
    try:
        outcome = run_statement(
            run["sql"], tables, directory=output, memory_bytes=run["memory_bytes"], threads=threads, max_rows=run.get("max_rows")
        )
    except Exception as error:  # whatever breaks here, the run must end
        write_outcome(root, {"outcome": "failed", "category": failure_category(error), "message": describe(error)})
        return 1
    preview = {"columns": outcome.columns, "types": outcome.types, "rows": outcome.rows, "total_rows": outcome.total_rows}
    write_outcome(root, {"outcome": "succeeded", "category": None, "message": "", "preview": preview})
    return 0


if __name__ == "__main__":
    sys.exit(main())
