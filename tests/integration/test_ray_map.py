"""Functions of users' own over partitions, on a real Ray: in processes of their own, each finished partition once, and nothing left."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.protocol import ResultFile, RunFinished, RunPart, RunRequest
from tests.network import until
from tests.ray import WAIT_S, Connection, SmallRay, processes_of
from tests.ray_runs import input_file, request
from workloads.map_jobs import MapStep

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

ROWS, PART = 40, 10


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two files: 40 rows of Parquet, 20 of CSV."""
    folder = tmp_path_factory.mktemp("inputs")
    pq.write_table(pa.table({"n": range(ROWS), "word": ["w"] * ROWS}), folder / "first.parquet", row_group_size=15)
    (folder / "second.csv").write_text("n,word\n" + "".join(f"{n},v\n" for n in range(100, 120)))
    return {"first": input_file(folder / "first.parquet"), "second": input_file(folder / "second.csv")}


def mapping(node: str, text: str, inputs: dict[str, Any], *, workers: int = 1, **fields: Any) -> RunRequest:
    files = {"step.py": text, **fields.pop("files", {})}
    usual: dict[str, Any] = {"map": MapStep(function="step.py", rows=PART), "files": files, "inputs": inputs}
    return request((node,) * workers, kind="map", **{**usual, **fields})


def ended(end: RunFinished) -> tuple[str, str | None]:
    return end.outcome, end.category


def table(directory: str, files: Sequence[ResultFile]) -> Any:
    return pa.concat_tables([pq.read_table(Path(directory, file.name)) for file in files])


WHOLE = """
import os, sys
import pyarrow as pa, pyarrow.compute as pc
import lib

def fn(table):
    print("a line of", table.num_rows)
    names = ",".join(sorted(name for name in os.environ if name.startswith(("RAY_", "CPN_RAY"))))
    return table.append_column("twice", pc.multiply(table["n"], lib.TWO)).append_column("secrets", pa.array([names] * table.num_rows))
"""


def test_a_function_is_given_every_row_once_in_processes_without_secrets(member: Connection, node: str, inputs: dict[str, Any]) -> None:
    run = mapping(node, WHOLE, inputs, workers=2, files={"lib.py": "TWO = 2\n", "json.py": "raise RuntimeError('not for ours')\n"})
    end = member.run(run)
    assert ended(end) == ("succeeded", None), (end, member.log(run.run_id))
    found = table(end.directory, end.files)
    assert sorted(found["n"].to_pylist()) == [*range(ROWS), *range(100, 120)]
    assert found["twice"].to_pylist() == [2 * n for n in found["n"].to_pylist()]
    assert set(found["secrets"].to_pylist()) == {""}
    assert [file.name[:17] for file in end.files] == [f"part-{number:05d}-of-0000"[:17] for number in range(6)]
    assert {event.file.name for event in member.events(run.run_id) if isinstance(event, RunPart)} == {file.name for file in end.files}
    assert end.preview is not None
    assert (end.preview.columns, end.preview.total_rows, end.preview.rows[0][0]) == (("n", "word", "twice", "secrets"), 60, 0)
    (step, last) = member.metrics(run.run_id)[-1]
    assert (step, last["partitions_done"], last["partitions"], last["rows"]) == (6, 6, 6, 60)
    assert last["rows_per_s"] > 0
    assert "a line of 10" in member.log(run.run_id).splitlines()


BAD = {
    "an exception": (
        "def fn(table):\n    if table['n'][0].as_py() == 20:\n        inner(table)\n    return table\n"
        "def inner(table):\n    raise KeyError('no such')\n",
        "exit", ("fn failed on partition 2 of 4 (rows 20 to 30 of input first): KeyError: 'no such'", 'File "step.py", line 6, in inner'),
    ),
    "an exit": ("import os\ndef fn(table):\n    os._exit(3)\n", "exit", ("the function's process ended (exit code 3) before",)),
    "other columns": (
        "import pyarrow as pa\ndef fn(table):\n    n = table['n'][0].as_py()\n"
        "    return table if n < 20 else table.set_column(0, 'n', pa.array(['x'] * len(table)))\n",
        "schema", ("came out with other columns than partition", "return the same columns with the same types for every partition"),
    ),
}  # fmt: skip


def test_what_a_function_does_wrong_is_told_with_its_partition(member: Connection, node: str, inputs: dict[str, Any]) -> None:
    runs = {what: mapping(node, text, {"first": inputs["first"]}) for what, (text, _, _) in BAD.items()}
    for run in runs.values():
        member.start(run)
    for what, (_, category, words) in BAD.items():
        end = member.end_of(runs[what].run_id)
        assert ended(end) == ("failed", category), f"{what}: {end.message} {member.log(runs[what].run_id)}"
        assert all(word in end.message for word in words), (what, end.message)
        assert not end.files


# Says which partitions it is given, and waits at the third until it is told to go on.
SLOW = """
import os, time
def fn(table):
    number = table["n"][0].as_py() // 10
    open(os.environ["CALLS"], "a").write(f"{number}\\n")
    while number >= 2 and not os.path.exists(os.environ["CALLS"] + ".go"):
        time.sleep(0.02)
    return table
"""


def test_what_an_attempt_finished_is_not_computed_again(member: Connection, node: str, inputs: dict[str, Any], tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    first = mapping(node, SLOW, {"first": inputs["first"]}, env={"CALLS": str(calls)})
    member.start(first)

    def parts() -> tuple[ResultFile, ...]:
        return tuple(event.file for event in member.events(first.run_id) if isinstance(event, RunPart))

    def begun() -> bool:
        return calls.exists() and bool({"2", "3"} & set(calls.read_text().split()))

    until(lambda: len(parts()) == 2 and begun(), "two partitions are finished, the third is begun", WAIT_S)
    # A lane that dies is replaced, and does over again what it had begun alone.
    (lane,) = [pid for pid, line in processes_of(f"/{first.run_id}-lane-").items() if "map_process" in line]
    calls.write_text("0\n1\n")
    # The folder is named for the worker of Ray that it belongs to.
    os.kill(int(Path(f"/proc/{lane}/cwd").readlink().parent.name.rpartition("-")[2]), signal.SIGKILL)
    until(begun, "another lane begins one of those that are left", WAIT_S)
    (driver,) = [pid for pid, command in processes_of(f"/{first.run_id}-0/").items() if "map_driver" in command and "leash" not in command]
    os.kill(driver, signal.SIGKILL)
    assert ended(member.end_of(first.run_id)) == ("failed", "infrastructure")
    calls.with_suffix(".go").touch()
    job = {"job_id": first.job_id, "run_id": f"{first.job_id}-2", "attempt": 2, "parts": parts()}
    end = member.run(first.model_copy(update=job))
    assert ended(end) == ("succeeded", None), (end, member.log(str(job["run_id"])))
    counted = Counter(calls.read_text().split())
    assert (counted["0"], counted["1"]) == (1, 1), counted
    assert end.brought == tuple(file.name for file in parts())
    assert [file.name[:10] for file in end.files] == [f"part-{number:05d}" for number in range(4)]
    fresh = [file for file in end.files if file.name not in end.brought]
    assert table(end.directory, fresh)["n"].to_pylist() == list(range(20, ROWS))


def test_a_run_that_is_cancelled_leaves_nothing(member: Connection, node: str, inputs: dict[str, Any], tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    run = mapping(node, SLOW, {"first": inputs["first"]}, env={"CALLS": str(calls)})
    member.start(run)
    until(lambda: calls.exists() and "2" in calls.read_text().split(), "the third partition is begun", WAIT_S)
    assert any("map_process" in line for line in processes_of(f"/{run.run_id}-lane-").values())
    member.stop(run.run_id)
    end = member.end_of(run.run_id)
    assert ended(end) == ("cancelled", "cancelled")
    until(lambda: not processes_of(f"/{run.run_id}"), "no process of the run is left", WAIT_S)
    until(lambda: not member.left(run.run_id), "nothing of the run is left in Ray", WAIT_S)
    assert member.metrics(run.run_id)[-1][1]["partitions"] == 4


# Waits with its first partition until there is a lane on each of two nodes, whose directories differ.
MEETS = """
import os, time
import pyarrow as pa

def fn(table):
    place = os.getcwd().partition("/runs/")[0]
    open(os.path.join(os.environ["MEETING"], place.replace("/", "_")), "w").close()
    while len(os.listdir(os.environ["MEETING"])) < 2:
        time.sleep(0.02)
    return table.append_column("place", pa.array([place] * table.num_rows))
"""


def test_partitions_are_worked_on_at_two_nodes(
    member: Connection, node: str, second: str, ray_head: SmallRay, inputs: dict[str, Any], tmp_path: Path
) -> None:
    usual = {"map": MapStep(function="step.py", rows=PART), "files": {"step.py": MEETS}, "env": {"MEETING": str(tmp_path)}}
    run = request((node, second), kind="map", inputs=inputs, **usual)
    end = member.run(run)
    assert ended(end) == ("succeeded", None), (end, member.log(run.run_id))
    found = table(end.directory, end.files)
    assert sorted(found["n"].to_pylist()) == [*range(ROWS), *range(100, 120)]
    assert set(found["place"].to_pylist()) == {ray_head.work_directories[0], ray_head.work_directories[-1]}
