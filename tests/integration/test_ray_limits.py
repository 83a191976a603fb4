"""What user code may hold, on a real Ray: who takes more than it was granted ends alone, in words that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.protocol import RunFinished, RunRequest
from cluster.runs.bounds import room_for_a_file
from tests.kills.field import Field
from tests.network import job, until
from tests.ray import GIB, WAIT_S, Connection, SmallRay
from tests.ray_runs import MIB, command, input_file, request, script
from workloads.map_jobs import MapStep
from workloads.ray_jobs import RayJobs

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

GROW = "held = []\nwhile True:\n    held.append(b'x' * 2**20)\n"
# Gradient boosting uses OpenMP, the forest joblib, the product of matrices BLAS.
LEARN = """
import os
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

rng = np.random.default_rng(1)
x = rng.random((4000, 20))
y = (x @ x.T).sum(axis=1) > 20000 * x.mean()
for model in (HistGradientBoostingClassifier(max_iter=20), RandomForestClassifier(n_estimators=20, n_jobs=-1)):
    print(type(model).__name__, model.fit(x, y).score(x, y) > 0.5)
print(os.environ["OMP_NUM_THREADS"], os.environ["LOKY_MAX_CPU_COUNT"])
"""


def python(node: str, text: str, **fields: Any) -> RunRequest:
    return command(node, "python", "main.py", files={"main.py": text}, **fields)


def ended(end: RunFinished) -> tuple[str, str | None]:
    return end.outcome, end.category


def test_who_takes_too_much_memory_is_ended_and_its_neighbour_lives_on(member: Connection, node: str, ray_head: SmallRay) -> None:
    neighbour = script(node, "echo here; while [ ! -e go ]; do sleep 0.05; done; echo done")
    member.start(neighbour)
    until(lambda: "here" in member.log(neighbour.run_id), "the neighbour runs", WAIT_S)
    end = member.run(python(node, GROW, memory_bytes=96 * MIB))
    assert (ended(end), end.exit_code) == (("failed", "out_of_memory"), -9)
    assert end.message.startswith("out of memory: it used ")
    assert end.message.endswith(" MiB of the 96MiB that resources.memory grants to a worker; ask for more memory, or hold less at a time")
    assert 96 * MIB < end.usage.peak_memory_bytes < 512 * MIB
    (ray_head.runs / f"{neighbour.run_id}-0" / "work" / "go").touch()
    assert ended(member.end_of(neighbour.run_id)) == ("succeeded", None)
    assert member.log(neighbour.run_id).split() == ["here", "done"]


def test_children_that_take_too_much_together_are_ended_together(member: Connection, node: str) -> None:
    child = "python3 -c \"held = b'x' * (40 * 2**20); import time; time.sleep(60)\""
    end = member.run(script(node, f"{child} & setsid {child} & {child} & wait", memory_bytes=100 * MIB))
    assert ended(end) == ("failed", "out_of_memory")
    assert "of the 100MiB that resources.memory grants" in end.message


def test_one_worker_of_a_gang_that_takes_too_much_ends_the_gang(member: Connection, node: str) -> None:
    text = f"import os, time\nif os.environ['RANK'] == '0':\n    time.sleep(600)\n{GROW}"
    end = member.run(python(node, text, kind="training", workers=2))
    assert ended(end) == ("failed", "out_of_memory")


def test_a_fork_bomb_is_ended_with_all_that_it_made(member: Connection, node: str) -> None:
    # Of 2,047 processes, so that it ends by itself.
    bomb = 'bomb() { if [ "$1" -gt 0 ]; then bomb $(($1 - 1)) & bomb $(($1 - 1)) & fi; sleep 60; }; bomb 10'
    end = member.run(script(node, bomb, memory_bytes=4 * GIB))
    assert ended(end) == ("failed", "beyond_grant")
    assert "processes and threads at once, more than the 1,024 that a worker with 1 cores may have" in end.message


def test_a_file_that_would_fill_the_disk_is_the_programs_failure(member: Connection, node: str, ray_head: SmallRay) -> None:
    text = f"truncate -s {room_for_a_file(str(ray_head.runs)) + 8 * GIB} file && echo made"
    end = member.run(script(node, text))
    assert (ended(end), end.exit_code) == (("failed", "exit"), 1)
    assert "File too large" in end.message
    assert "no file of a run may be larger than " in end.message
    assert "CPN_RUN_FILE_GIB" in end.message


def test_a_program_that_learns_is_not_hurt(member: Connection, node: str) -> None:
    run = python(node, LEARN, kind="training", cpu=2.0, memory_bytes=512 * MIB)
    end = member.run(run)
    assert ended(end) == ("succeeded", None), end.message
    assert member.log(run.run_id).split() == ["HistGradientBoostingClassifier", "True", "RandomForestClassifier", "True", "2", "2"]


def test_a_program_of_kind_ray_has_its_memory_beside_what_ray_takes(member: Connection, node: str) -> None:
    text = "import ray\nray.init()\nheld = b'x' * (40 * 2**20)\nprint(len(ray.get(ray.put(held))) // 2**20)\n"
    usual: dict[str, Any] = {"kind": "ray", "ray_jobs": RayJobs(), "command": ("python", "main.py")}
    fits = request((node,), files={"main.py": text}, **usual)
    end = member.run(fits)
    assert (ended(end), member.log(fits.run_id).split()) == (("succeeded", None), ["40"]), end.message
    end = member.run(request((node,), files={"main.py": text + GROW}, **usual))
    assert ended(end) == ("failed", "out_of_memory")
    assert "of the 64MiB that resources.memory grants" in end.message


def test_a_function_over_partitions_that_takes_too_much_is_named_with_its_partition(member: Connection, node: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": range(40)}), tmp_path / "rows.parquet")
    text = f"def fn(table):\n    if table['n'][0].as_py() < 10:\n        return table\n    {GROW.replace(chr(10), chr(10) + '    ')}"
    end = member.run(request(
        (node,), kind="map", map=MapStep(function="step.py", rows=10), files={"step.py": text}, cpu=2.0, memory_bytes=256 * MIB,
        inputs={"rows": input_file(tmp_path / "rows.parquet")},
    ))  # fmt: skip
    assert ended(end) == ("failed", "out_of_memory"), end.message
    assert "of 4 (rows " in end.message
    assert "of the 128 MiB that each of the 2 processes of a worker has of its 256MiB (resources.memory)" in end.message


def test_a_job_is_tried_again_after_it_only_where_it_asks_for_that(ray_head: SmallRay, tmp_path: Path) -> None:
    asked = {"kind": "command", "command": ["python", "-c", GROW], "resources": {"cpu": 1, "memory": "64MiB"}}
    with Field(tmp_path, ray_head) as field:
        once = field.network.submit(job("once", **asked))
        twice = field.network.submit(job("twice", **asked, retry={"attempts": 2, "on": ["exit"]}))
        for submitted, attempts in ((once, 1), (twice, 2)):
            done = field.network.wait(submitted["id"], seconds=WAIT_S)
            assert (done["state"], done["cause"], done["attempts"]) == ("failed", "out_of_memory", attempts)
            assert "of the 64MiB that resources.memory grants to a worker; ask for more memory" in done["message"]
