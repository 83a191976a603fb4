"""`python -P -m cluster.backends.ray.map_driver`: drive one run of kind map, from the cut of its inputs to its last partition.

The run stands in `run.json` beside the working directory, its inputs in the file that CPN_INPUTS names. Ray Data gives the partitions
to lanes (`map_lane.py`) within the run's placement group. A partition counts as finished once its file lies in CPN_OUTPUT_DIR and is
named in `parts.jsonl`, from where it is brought to the control plane; those that earlier attempts brought there are left out.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from cluster.backends.ray.census import namespace_of
from cluster.backends.ray.daft_process import ADDRESS_VARIABLE, GROUP_VARIABLE
from cluster.backends.ray.map_host import PARTS_NAME, lanes_of
from cluster.backends.ray.map_lane import MapLane
from cluster.runs.outcome import write_outcome
from cluster.runs.workspace import STATEMENT_NAME, describe, failure_category
from workloads.map_jobs import MapStep
from workloads.runners.map_result import MapResult, SchemaMismatchError
from workloads.runners.partitions import Partition, cut, finished, read_groups
from workloads.runners.process import InputPath

TOLD_EVERY_S = 0.5
LOOK_S, LOOKS = 2.0, 2


class FunctionError(Exception):
    """A partition was not done; `category` says through whose doing."""

    def __init__(self, category: str, message: str) -> None:
        super().__init__(message)
        self.category = category


def main() -> int:
    """Run, and write down how it ended."""
    root = Path(os.environ["CPN_OUTPUT_DIR"]).parent
    run: dict[str, Any] = json.loads((root / STATEMENT_NAME).read_text(encoding="utf-8"))
    found = json.loads(Path(os.environ["CPN_INPUTS"]).read_text(encoding="utf-8"))
    inputs = {alias: InputPath(Path(entry["path"]), entry["format"]) for alias, entry in found.items()}
    # Ray lets workers import from where a driver stands, and there the user's files lie.
    os.chdir(root)
    course = Course(run, root)
    try:
        preview = course.drive(inputs)
    except (FunctionError, SchemaMismatchError) as error:
        category = error.category if isinstance(error, FunctionError) else "schema"
        end: dict[str, Any] = {"outcome": "failed", "category": category, "message": str(error)}
    except Exception as error:  # whatever breaks here, the run must end
        end = {"outcome": "failed", "category": failure_category(error), "message": describe(error)}
    else:
        end = {"outcome": "succeeded", "category": None, "message": "", "preview": preview}
    write_outcome(root, end | {"usage": course.usage})
    return 0 if end["outcome"] == "succeeded" else 1


class Course:
    """One run's way through its partitions."""

    def __init__(self, run: dict[str, Any], root: Path) -> None:
        self._run, self._root = run, root
        self._step = MapStep.model_validate(run["map"])
        self._arriving = root / "arriving"
        self._began = 0.0
        self._news, self._telling = threading.Event(), threading.Lock()
        self._rows = self._rows_before = 0
        self.usage = {"cpu_s": 0.0, "peak_memory_bytes": 0}

    def drive(self, inputs: dict[str, InputPath]) -> dict[str, Any] | None:
        """All partitions to their end; the preview of the result. Raises FunctionError, SchemaMismatchError, StatementError."""
        self._plan = cut(read_groups(inputs), self._step.rows)
        earlier = finished((part["name"] for part in self._run["parts"]), len(self._plan))
        self._result = MapResult(Path(os.environ["CPN_OUTPUT_DIR"]), len(self._plan), earlier)
        self._left = sum(one.stop - one.start for one in self._plan)
        for number in earlier:
            self._count(self._plan[number])
        self._rows_before = self._rows
        if earlier:
            print(f"[cpn] {len(earlier)} of {len(self._plan)} partitions were finished by earlier attempts", flush=True)
        self._arriving.mkdir(mode=0o700)
        todo = [one for one in self._plan if one.number not in earlier]
        self._began = time.monotonic()
        self._tell()
        threading.Thread(target=self._keep_telling, daemon=True).start()
        if todo:
            self._through_ray_data(todo)
        missing = len(self._plan) - len(self._result.parts)
        if missing:
            raise RuntimeError(f"Ray Data ended with {missing} partitions missing")
        self._tell()
        return self._result.preview()

    def _through_ray_data(self, todo: list[Partition]) -> None:
        import ray
        import ray.data

        group = self._connect()
        lanes, workers = lanes_of(self._run), len(self._run["nodes"])
        amounts: dict[str, Any] = {"num_cpus": self._run["cpu"] / lanes, "memory": self._run["memory_bytes"] // lanes}
        if self._run["accelerator_count"]:
            amounts["num_gpus"] = self._run["accelerator_count"]
        items = [{"number": one.number, "alias": one.alias, "start": one.start, "stop": one.stop} for one in todo]
        _prepare(group)
        driver = (ray.get_runtime_context().get_node_id(), str(self._arriving))
        request = {name: value for name, value in self._run.items() if name != "parts"}
        done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            MapLane, fn_constructor_args=(request, driver), batch_size=1, batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(lanes * workers, len(items))), **amounts,
        )  # fmt: skip
        batch: Any
        for batch in done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for found in batch.to_pylist():
                self._take(found)

    def _connect(self) -> Any:
        """The run's placement group, which is watched from then on, after connecting in a namespace of the run's own."""
        import ray
        from ray._raylet import PlacementGroupID
        from ray.job_config import JobConfig
        from ray.util.placement_group import PlacementGroup

        ray.init(
            address=os.environ[ADDRESS_VARIABLE], namespace=namespace_of(self._run["run_id"]), log_to_driver=False,
            logging_level=logging.ERROR, configure_logging=False, job_config=JobConfig(metadata={"cpn_run": self._run["run_id"]}),
        )  # fmt: skip
        group = PlacementGroup(PlacementGroupID(bytes.fromhex(os.environ[GROUP_VARIABLE])))
        threading.Thread(target=_watch, args=(group, self._root), daemon=True).start()
        return group

    def _take(self, found: dict[str, Any]) -> None:
        """One partition is over."""
        partition = self._plan[found["number"]]
        if found["log"]:
            print(found["log"], end="" if found["log"].endswith("\n") else "\n", flush=True)
        if found["category"]:
            raise FunctionError(found["category"], _words(found, partition, len(self._plan), self._step))
        arrived = self._arriving / f"{partition.number}.parquet"
        if not found["moved"]:
            arrived.write_bytes(found["data"])
        part = self._result.add(partition, arrived, found["rows"], found["schema"])
        with (self._root / PARTS_NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps(part) + "\n")
        self.usage["cpu_s"] += found["cpu_s"]
        self.usage["peak_memory_bytes"] = max(self.usage["peak_memory_bytes"], found["peak_memory_bytes"])
        self._count(partition)
        self._news.set()

    def _count(self, partition: Partition) -> None:
        self._rows += partition.stop - partition.start
        self._left -= partition.stop - partition.start

    def _tell(self) -> None:
        """How far it is, where every run's progress is read."""
        with self._telling:
            self._write_progress()

    def _keep_telling(self) -> None:
        """Now and then while there is news; the last news too, however long the next partition takes."""
        while self._news.wait():
            self._news.clear()
            self._tell()
            time.sleep(TOLD_EVERY_S)

    def _write_progress(self) -> None:
        metrics: dict[str, float] = {
            "partitions_done": len(self._result.parts), "partitions": len(self._plan), "rows": self._rows,
        }  # fmt: skip
        if self._rows > self._rows_before:
            metrics["rows_per_s"] = (self._rows - self._rows_before) / max(time.monotonic() - self._began, 1e-6)
            metrics["left_s"] = self._left / metrics["rows_per_s"]
        with open(os.environ["CPN_PROGRESS_FILE"], "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": len(self._result.parts), "metrics": metrics}) + "\n")


def _prepare(group: Any) -> None:
    """Ray Data within the group, and quiet."""
    import ray.data
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.scheduling_strategy = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)


def _words(found: dict[str, Any], partition: Partition, partitions: int, step: MapStep) -> str:
    place = f"partition {partition.number} of {partitions} (rows {partition.start:,} to {partition.stop:,} of input {partition.alias})"
    if found["category"] != "exit":
        return f"{place}: {found['error']}"
    return f"{step.place[1]} failed on {place}: {found['error']}" + (f"\n{found['trace']}" if found["trace"] else "")


def _watch(group: Any, root: Path) -> None:
    """End the run when its placement group is not whole any more: its nodes are gone, and a bundle of theirs cannot come back."""
    from ray.util import placement_group_table

    broken = 0
    while broken < LOOKS:
        time.sleep(LOOK_S)
        broken = broken + 1 if placement_group_table(group).get("state") != "CREATED" else 0
    message = "a node of the run is gone, and its part of the placement group with it"
    write_outcome(root, {"outcome": "lost", "category": "lost", "message": message})
    os._exit(1)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # Nothing of Ray's is to be waited for: what the run has there ends with this process.
    os._exit(status)
