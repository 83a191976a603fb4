"""One lane of a run of kind map: an actor of Ray Data's that holds a part of the run's resources, with the user's process beside it.

Ray's worker is no place for the user's function: it is connected to the cluster. So the lane fetches the inputs as every run does,
starts a process on a leash (`map_process.py`, with a command's environment and working directory), and hands it one partition after
the other. What it made goes to the driver by a move where both are on one node, else as bytes. The lane ends with the run's driver,
and the process with the lane, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any

from cluster.backends.ray.claimed import claim
from cluster.backends.ray.map_host import lanes_of
from cluster.runs.leashed import Leashed, put_on_leash, read_report
from cluster.runs.limits import limits_of, memory_words, tasks_words
from cluster.runs.workspace import Workspace, describe, failure_category
from workloads.runners.partitions import as_parquet

MOST_LOG_BYTES = 64 * 1024
_PROCESS = str(Path(__file__).with_name("map_process.py"))


class LaneError(Exception):
    """The partition cannot be done; `category` says through whose doing."""

    def __init__(self, category: str, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.category, self.trace = category, trace


class MapLane:
    """Does partitions, each a row of a batch of one. `driver`: the node of the run's driver, and its folder for what arrives."""

    def __init__(self, run: dict[str, Any], driver: tuple[str, str]) -> None:
        import ray

        context = ray.get_runtime_context()
        self._run, self._driver, self._here = run, driver, context.get_node_id()
        self._name = f"{run['run_id']}-lane-{context.get_actor_id()}-{os.getpid()}"
        self._process: _Process | None = None

    def __call__(self, batch: Any) -> Any:
        """The file of a partition, or why there is none; never raises for what is the user's doing."""
        import pyarrow as pa  # type: ignore[import-untyped]

        (order,) = batch.to_pylist()
        found: dict[str, Any] = {
            "number": order["number"],
            "rows": 0,
            "schema": b"",
            "data": b"",
            "moved": False,
            "cpu_s": 0.0,
            "peak_memory_bytes": 0,
        }
        found |= {"category": "", "error": "", "trace": "", "log": ""}
        try:
            if self._process is None:
                self._process = _Process(self._name)
                self._process.start(self._run)
            found |= self._done(self._process, order)
        except LaneError as error:
            found |= {"category": error.category, "error": str(error), "trace": error.trace}
        except Exception as error:  # whatever breaks here, the run must hear of it
            found |= {"category": failure_category(error), "error": describe(error)}
        if self._process is not None:
            found["log"] = self._process.taken_log()
            if found["category"]:
                self._process.close()
                self._process = None
        columns = {name: pa.array([value], pa.large_binary() if name == "data" else None) for name, value in found.items()}
        return pa.table(columns)

    def _done(self, process: _Process, order: dict[str, Any]) -> dict[str, Any]:
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        report = process.do(order)
        path = process.output / f"{order['number']}.parquet"
        found = {"rows": pq.read_metadata(path).num_rows, "schema": pq.read_schema(path).serialize().to_pybytes()}
        found |= {name: report[name] for name in ("cpu_s", "peak_memory_bytes")}
        node, folder = self._driver
        if node == self._here:
            # One directory holds the folders of all runs of a node.
            path.replace(Path(folder, path.name))
            found["moved"] = True
        else:
            found["data"] = path.read_bytes()
            path.unlink()
        return found


class _Process:
    """The user's process, from its start to the end of its leash."""

    def __init__(self, name: str) -> None:
        root, self._lock = claim(name)
        self._workspace = Workspace.within(root)
        self.output = self._workspace.output
        self._log, self._ends = bytearray(), dict[str, Any]()
        self._leashed: Leashed | None = None

    def start(self, run: dict[str, Any]) -> None:
        """Fetch the inputs, and wait until the function is loaded. Raises LaneError, DataError."""
        self._run, root = run, self._workspace.root
        # It is given what a command is given.
        self._workspace.fill({**run, "kind": "command"})
        threads = max(int(run["cpu"]) // lanes_of(run), 1)
        inputs = {
            alias: str(as_parquet(found, root / f"{alias}.parquet", threads)) for alias, found in self._workspace.inputs.items()
        }  # fmt: skip
        pipes = {name: root / name for name in ("orders", "reports")}
        for path in pipes.values():
            os.mkfifo(path, 0o600)
        # Open for both, so that neither side waits for the other and an end shows by the leash alone.
        self._orders, self._reports = (os.open(path, os.O_RDWR | os.O_CLOEXEC) for path in pipes.values())
        step, config = run["map"], root / "process.json"
        file, _, function = step["function"].partition(":")
        config.write_text(json.dumps({
            "function": [file, function or "fn"], "inputs": inputs, "columns": step["columns"], "compression": step["compression"],
            "threads": threads, "output": str(self.output), **{name: str(path) for name, path in pipes.items()},
        }), encoding="utf-8")  # fmt: skip
        environment = self._workspace.environment({**run, "accelerator_devices": (), "cpu": threads}, 0, None)
        self._log_read, log_write = os.pipe()
        try:
            self._leashed = put_on_leash(
                [sys.executable, _PROCESS, str(config)],
                output=log_write,
                env=environment,
                cwd=self._workspace.work,
                remove=root,
                no_new_privs=True,
                limits=limits_of(run, self._workspace.work, lanes=lanes_of(run)),
                away=True,
                pass_fds=[self._lock],
            )
        finally:
            os.close(log_write)
        self._rest = {self._reports: b"", self._leashed.status: b""}
        self._answer()

    def do(self, order: dict[str, Any]) -> dict[str, Any]:
        """The report on a partition. Raises LaneError."""
        os.write(self._orders, json.dumps(order).encode() + b"\n")
        return self._answer()

    def close(self) -> None:
        """End it, and remove what it had."""
        if self._leashed is not None:
            self._leashed.stop(0.0)
            # Until nothing of it is left.
            while os.read(self._leashed.status, 65536):
                pass
            self._leashed.close()
            for descriptor in (self._orders, self._reports, self._log_read):
                os.close(descriptor)
        self._workspace.remove()
        os.close(self._lock)

    def taken_log(self) -> str:
        """What the process wrote since the last call, or the end of it."""
        if self._leashed is None:
            return ""
        with contextlib.suppress(BlockingIOError):
            os.set_blocking(self._log_read, False)
            self._log += os.read(self._log_read, MOST_LOG_BYTES)
        data, self._log = bytes(self._log[-MOST_LOG_BYTES:]), bytearray()
        return data.decode(errors="replace")

    def _answer(self) -> dict[str, Any]:
        """The next report of the process. Raises LaneError for what went wrong in it, and when it has ended."""
        assert self._leashed is not None
        while True:
            readable, _, _ = select.select([self._reports, self._leashed.status, self._log_read], [], [])
            if self._log_read in readable:
                self._log += os.read(self._log_read, MOST_LOG_BYTES)
                del self._log[:-MOST_LOG_BYTES]
            for line in (self._lines(self._reports) or ()) if self._reports in readable else ():
                report: dict[str, Any] = json.loads(line)
                if "error" in report:
                    raise LaneError("exit", report["error"], report["trace"])
                return report
            if self._reports not in readable and self._leashed.status in readable:
                self._take_end()

    def _take_end(self) -> None:
        """What the leash says. Raises LaneError when the process has ended."""
        assert self._leashed is not None
        lines = self._lines(self._leashed.status)
        for line in lines or ():
            self._ends |= read_report(line)
        if "refused" in self._ends:
            raise LaneError("infrastructure", f"the function's process could not be started: {self._ends['message']}")
        code = self._ends.get("exit")
        if self._ends.get("reason") == "memory":
            raise LaneError("out_of_memory", memory_words(self._ends["took"], self._run, lanes_of(self._run)))
        if self._ends.get("reason") == "tasks":
            raise LaneError("beyond_grant", tasks_words(self._ends["took"], self._run))
        if code is not None or lines is None:
            by = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
            hint = "; if it needed more memory than it had, ask for more in resources.memory" if by == "SIGKILL" else ""
            raise LaneError("exit", f"the function's process ended ({by}) before the partition was done{hint}")

    def _lines(self, descriptor: int) -> list[bytes] | None:
        """The lines that have come whole; None when no more will come."""
        data = os.read(descriptor, 65536)
        *lines, self._rest[descriptor] = (self._rest[descriptor] + data).split(b"\n")
        return lines if data else None
