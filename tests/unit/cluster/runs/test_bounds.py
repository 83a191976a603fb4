"""What bounds a command, on real processes: memory of a whole tree, processes and threads, files; and what is said of it."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.runs.bounds import REST, TreeWatch, descendants, room_for_a_file
from cluster.runs.leashed import put_on_leash, read_report
from cluster.runs.limits import FEWEST_TASKS, FILE_VARIABLE, TASKS_VARIABLE, hint, limits_of, memory_words, most_tasks, tasks_words
from tests.ray import processes_of
from workloads.resources import GIB, MIB

GROWS = """
import time
held = []
for _ in range({mib}):
    held.append(b"x" * 2**20)
    time.sleep({pause})
print("done", flush=True)
"""
# What it had before is shared with each child, and none of them writes to it.
SHARES = """
import os, time
held = b"x" * (60 * 2**20)
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        time.sleep(1.0)
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
"""
SHARED_MEMORY = """
import mmap, time
held = mmap.mmap(-1, {mib} * 2**20)
for place in range(0, len(held), 4096):
    held[place] = 1
time.sleep(2)
"""
MAPS_A_FILE = """
import mmap, os, time
with open("large", "wb") as file:
    for _ in range(200):
        file.write(b"x" * 2**20)
with open("large", "rb") as file:
    seen = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    assert sum(seen[place] for place in range(0, len(seen), 4096)) > 0
    time.sleep(0.5)
"""
LIMITS: dict[str, Any] = {"memory_bytes": 64 * MIB, "shared": True, "tasks": 100, "open_files": 256, "file_bytes": GIB}


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Runs a program under limits; its last report, and what it printed. Nothing of it is left."""

    def bounded(program: str, *argv: str, **limits: Any) -> tuple[dict[str, Any], str]:
        output = tmp_path / "output"
        with output.open("wb") as out:
            leashed = put_on_leash(
                argv or [sys.executable, "-c", program], output=out, env={"PATH": os.environ["PATH"], "FOLDER": str(tmp_path)},
                cwd=tmp_path, limits=LIMITS | limits, max_runtime_s=60.0,
            )  # fmt: skip
        with os.fdopen(os.dup(leashed.status), "rb") as status:
            reports = [read_report(line) for line in status]
        leashed.process.wait(20)
        leashed.close()
        assert processes_of(f"FOLDER={tmp_path}") == {}
        return reports[-1], output.read_text()

    return bounded


def test_a_program_that_grows_beyond_its_memory_is_ended(run: Any) -> None:
    end, said = run(GROWS.format(mib=4096, pause=0.001))
    assert (end["reason"], end["exit"], said) == ("memory", -9, "")
    assert 64 * MIB < end["took"] < 256 * MIB, "found out before it could take much more"
    assert end["peak_memory_bytes"] >= end["took"]


def test_one_that_takes_all_at_once_is_ended_too(run: Any) -> None:
    end, said = run("held = bytearray(b'x') * (3 * 2**30); print('done')")
    assert (end["reason"], said) == ("memory", "")
    assert end["took"] < 2 * GIB


def test_children_are_counted_together_and_detached_ones_with_them(run: Any) -> None:
    child = f"{sys.executable} -c 'held = b\"x\" * (30 * 2**20); import time; time.sleep(30)'"
    end, said = run("", "sh", "-c", f"{child} & setsid {child} & {child} & wait; echo done")
    assert (end["reason"], said) == ("memory", "")
    assert end["took"] < 200 * MIB


def test_a_program_within_its_memory_goes_on_and_its_peak_is_told(run: Any) -> None:
    end, said = run(GROWS.format(mib=40, pause=0.01))
    assert (end["reason"], end["exit"], said.strip()) == (None, 0, "done")
    assert 40 * MIB < end["peak_memory_bytes"] < 64 * MIB


def test_what_processes_share_after_a_fork_counts_once(run: Any) -> None:
    end, _ = run(SHARES, memory_bytes=100 * MIB)
    assert (end["reason"], end["exit"]) == (None, 0)
    assert end["peak_memory_bytes"] < 100 * MIB


@pytest.mark.parametrize(("shared", "reason"), [(True, "memory"), (False, None)])
def test_shared_memory_counts_where_it_is_the_runs_own(run: Any, shared: bool, reason: str | None) -> None:
    end, _ = run(SHARED_MEMORY.format(mib=150), shared=shared)
    assert end["reason"] == reason


def test_files_that_are_mapped_do_not_count(run: Any) -> None:
    end, _ = run(MAPS_A_FILE)
    assert (end["reason"], end["exit"]) == (None, 0)


# Bombs that would end by themselves: what is not caught at once takes the machine from all else that is tested on it.
TREE_OF_511 = 'b() { if [ "$1" -gt 0 ]; then b $(($1 - 1)) & b $(($1 - 1)) & fi; sleep 30; }; b 8'
ROW_OF_600 = "i=0; while [ $i -lt 600 ]; do setsid sleep 30 & i=$((i + 1)); done; sleep 30"


@pytest.mark.parametrize("bomb", [TREE_OF_511, ROW_OF_600])
def test_a_fork_bomb_is_ended_with_all_that_it_made(run: Any, bomb: str) -> None:
    end, _ = run("", "sh", "-c", bomb, memory_bytes=GIB)
    assert end["reason"] == "tasks"
    assert end["took"] > 100


def test_more_processes_than_there_may_be_are_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = TreeWatch(GIB, 3)
    monkeypatch.setattr("cluster.runs.bounds.descendants", lambda _root, most: list(range(most + 1)))
    monkeypatch.setattr(watch, "_held", lambda _: pytest.fail("they may double meanwhile"))
    assert watch.look() == "tasks"
    assert (watch.took, watch.due > time.monotonic()) == (4, True)


def test_threads_count_like_processes(run: Any) -> None:
    program = "import threading, time\nfor _ in range(150): threading.Thread(target=time.sleep, args=(30,)).start()"
    assert run(program)[0]["reason"] == "tasks"


def test_a_file_grows_no_further_than_it_may_and_the_program_is_told(run: Any) -> None:
    end, said = run("", "sh", "-c", "head -c 5000000 /dev/zero > file; ls -l file | cut -d' ' -f5; ulimit -n", file_bytes=MIB)
    assert (end["reason"], end["exit"]) == (None, 0)
    assert "File too large" in said
    assert said.split()[-2:] == [str(MIB), "256"]


def test_without_limits_only_what_the_kernel_grants_anyway_bounds_it(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as out:
        leashed = put_on_leash(["sh", "-c", "ulimit -n"], output=out, env={"PATH": os.environ["PATH"]}, cwd=tmp_path)
    leashed.process.wait(20)
    leashed.close()
    assert int((tmp_path / "output").read_text()) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_children_of_threads_are_found() -> None:
    program = "import subprocess, threading\nt = threading.Thread(target=lambda: subprocess.run(['sleep', '5']))\nt.start(); t.join()"
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", program], dict(os.environ))
    try:
        until = time.monotonic() + 20
        while len(found := descendants(pid)) < 1 and time.monotonic() < until:
            time.sleep(0.02)
        assert len(found) == 1
        assert pid in descendants(os.getpid())
    finally:
        for one in (*found, pid):
            os.kill(one, 9)
        os.waitpid(pid, 0)


def test_looks_come_sooner_near_the_limit_and_never_take_much_of_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("cluster.runs.bounds.time.monotonic", lambda: clock[0])
    watch = TreeWatch(10 * GIB, None)
    assert watch.due == 100.25, "nothing is held yet"
    monkeypatch.setattr(watch, "_held", lambda _: ({1: 10 * GIB - 200 * MIB}, 1))
    assert watch.look() is None
    assert watch.due == pytest.approx(100.0 + 200 / 2048)

    def slow(_: list[int]) -> tuple[dict[int, int], int]:
        clock[0] += 0.05
        return {1: 10 * GIB - 1}, 1

    monkeypatch.setattr(watch, "_held", slow)
    assert watch.look() is None
    assert watch.due == pytest.approx(clock[0] + 0.05 * REST)


RUN = {"kind": "command", "cpu": 1.0, "memory_bytes": 2 * GIB}


def test_limits_follow_from_what_a_run_was_granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (FILE_VARIABLE, TASKS_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    found = limits_of(RUN, tmp_path)
    assert found is not None
    assert (found["memory_bytes"], found["tasks"], found["shared"]) == (2 * GIB, FEWEST_TASKS, True)
    assert 0 < found["file_bytes"] <= room_for_a_file(str(tmp_path)) + GIB
    assert limits_of(RUN | {"kind": "sql"}, tmp_path) is None, "that process is ours"
    assert limits_of(RUN | {"kind": "map"}, tmp_path) is None, "that too"
    lane = limits_of(RUN | {"kind": "map", "cpu": 4.0}, tmp_path, lanes=4)
    assert lane is not None
    assert GIB // 2 < lane["memory_bytes"] < GIB
    program = limits_of(RUN | {"kind": "ray"}, tmp_path)
    assert program is not None
    assert (program["memory_bytes"] > 2 * GIB, program["shared"]) == (True, False)
    assert most_tasks(64.0) == 64 * 128


@pytest.mark.parametrize(("named", "file_bytes", "tasks"), [("5", 5 * GIB, 5), ("0", None, FEWEST_TASKS), ("much", None, FEWEST_TASKS)])
def test_an_operator_may_say_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, file_bytes: int | None, tasks: int
) -> None:
    monkeypatch.setenv(FILE_VARIABLE, named)
    monkeypatch.setenv(TASKS_VARIABLE, named)
    found = limits_of(RUN, tmp_path)
    assert found is not None
    assert found["tasks"] == tasks
    assert file_bytes is None or found["file_bytes"] == file_bytes


def test_words_say_what_was_used_what_was_granted_and_what_to_do() -> None:
    assert memory_words(3 * GIB, RUN) == (
        "out of memory: it used 3,072 MiB of the 2GiB that resources.memory grants to a worker; ask for more memory, or hold less at a time"
    )
    assert "of the 512 MiB that each of the 4 processes of a worker has of its 2GiB" in memory_words(GIB, RUN, 4)
    assert tasks_words(1500, RUN).startswith("it had 1,500 processes and threads at once, more than the 1,024 that a worker with 1 cores")
    assert hint(["head: error writing: File too large"], LIMITS).startswith("; no file of a run may be larger than 1.0 GiB")
    assert hint(["something else"], LIMITS) == ""
    assert hint(["File too large"], None) == ""
