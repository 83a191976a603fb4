"""`python -m cluster.backends.ray.daft_driver`: drive one statement on Daft, in the working directory of its run.

The run stands in `run.json` beside the working directory, its inputs in the file that CPN_INPUTS names, and the result goes to
CPN_OUTPUT_DIR. Within one node this process does the work itself, with all of the run's cores there; over several nodes it drives a
process on each of them (`daft_actors.py`), which end with it.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.backends.ray.daft_actors import Crew
from cluster.backends.ray.daft_process import ADDRESS_VARIABLE, GROUP_VARIABLE
from cluster.backends.ray.daft_share import Share, prepare_daft, quiet_daft, shares, wait_beyond_memory
from cluster.backends.ray.session import NAMESPACE
from cluster.runs.outcome import write_outcome
from cluster.runs.sql_driver import given_statement
from cluster.runs.workspace import describe, failure_category
from workloads.errors import DataError, StatementError, TooManyRowsError
from workloads.runners.daft_run import plain_words, plan_statement, run_plan
from workloads.runners.parquet_copies import ParquetCopies
from workloads.runners.sql import InputTable, SqlOutcome, run_statement

START_LIMIT_S = 60.0
_PARTS_PER_CORE = 4
# Whoever holds it says how the run ended.
_over = threading.Lock()


def main() -> int:
    """Run, and write down how it ended."""
    output = Path(os.environ["CPN_OUTPUT_DIR"])
    root = output.parent
    run, tables = given_statement(root)
    usage: dict[str, float] = {}
    try:
        outcome = _run(run, tables, output, usage)
        _over.acquire()
    except TimeoutError as error:
        write_outcome(root, {"outcome": "failed", "category": "start_failed", "message": str(error)})
        return 1
    except Exception as error:  # whatever breaks here, the run must end
        words = describe(error) if isinstance(error, DataError | StatementError) else f"{type(error).__name__}: {plain_words(error)}"
        write_outcome(root, {"outcome": "failed", "category": failure_category(error), "message": words})
        return 1
    preview = {"columns": outcome.columns, "types": outcome.types, "rows": outcome.rows, "total_rows": outcome.total_rows}
    write_outcome(root, {"outcome": "succeeded", "category": None, "message": "", "preview": preview, "usage": usage})
    return 0


def _run(run: dict[str, Any], tables: dict[str, InputTable], output: Path, usage: dict[str, float]) -> SqlOutcome:
    """On Daft, or on DuckDB where that is allowed and Daft does not run it."""
    try:
        return _on_daft(run, tables, output, usage)
    except StatementError as error:
        if isinstance(error, TooManyRowsError) or not run["or_duckdb"]:
            raise
        print(f"[cpn] {error}; it runs on DuckDB on the first worker", flush=True)
        return _on_duckdb(run, tables, output)


def _on_daft(run: dict[str, Any], tables: dict[str, InputTable], output: Path, usage: dict[str, float]) -> SqlOutcome:
    found = shares(run["nodes"])
    return _within_a_node(run, found[0], tables, output) if len(found) == 1 else _over_nodes(run, tables, output, usage)


def _within_a_node(run: dict[str, Any], share: Share, tables: dict[str, InputTable], output: Path) -> SqlOutcome:
    """By threads of this process, whose use its leash counts."""
    prepare_daft(run, share)
    import daft

    plan = plan_statement(run["sql"], tables)
    daft.set_runner_native(num_threads=share.cores(run))
    copies = _copies(run, share, output)
    files = copies.of(tables)
    _end_when(lambda: wait_beyond_memory(run, share), output.parent)
    return run_plan(plan, files, directory=output, parts=_PARTS_PER_CORE * share.cores(run), max_rows=run.get("max_rows"))


def _over_nodes(run: dict[str, Any], tables: dict[str, InputTable], output: Path, usage: dict[str, float]) -> SqlOutcome:
    quiet_daft()
    import ray

    ray.init(
        address=os.environ[ADDRESS_VARIABLE], namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False
    )
    crew = Crew(run, os.environ[GROUP_VARIABLE])
    # While their processes start.
    plan = plan_statement(run["sql"], tables)
    # To cut the work, this process reads how many rows lie where.
    copies = _copies(run, shares(run["nodes"])[0], output)
    files = copies.of(tables)
    try:
        crew.use(START_LIMIT_S)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise cause if isinstance(cause, DataError) else RuntimeError(str(cause)) from error
    except ray.exceptions.RayActorError as error:
        raise RuntimeError(f"a worker of the run is gone: {plain_words(error)}") from error
    _end_when(crew.wait_beyond_memory, output.parent)
    parts = _PARTS_PER_CORE * max(int(run["cpu"]), 1) * len(run["nodes"])
    try:
        outcome = run_plan(plan, files, directory=output, parts=parts, max_rows=run.get("max_rows"))
        usage |= crew.used()
    except StatementError as error:
        if crew.is_alive():
            raise
        # Not the statement's fault, whatever Daft says of it: the run may be tried again.
        raise RuntimeError(f"a worker of the run is gone: {error}") from error
    return outcome


def _copies(run: dict[str, Any], share: Share, output: Path) -> ParquetCopies:
    return ParquetCopies(output.parent, memory_bytes=share.memory_bytes(run) // 2, threads=share.cores(run))


def _end_when(wait: Callable[[], str], root: Path) -> None:
    """End the run, and with it its workers, before a node's memory is taken from others: when `wait` returns why."""

    def watch() -> None:
        words = wait()
        if words and _over.acquire(blocking=False):
            write_outcome(root, {"outcome": "failed", "category": "statement", "message": words})
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_duckdb(run: dict[str, Any], tables: dict[str, InputTable], output: Path) -> SqlOutcome:
    import ray

    # What Daft's workers held is given back, the first worker's too, whose memory this takes.
    ray.shutdown()
    threads, max_rows = max(int(run["cpu"]), 1), run.get("max_rows")
    return run_statement(run["sql"], tables, directory=output, memory_bytes=run["memory_bytes"], threads=threads, max_rows=max_rows)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # All is written down. Ray's own leave would take the better part of a second; what the run holds ends with its supervisor's group.
    os._exit(code)
