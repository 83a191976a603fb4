"""Readers of recorded work: what each format becomes, and what is refused with file, line and column."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

from scheduler.errors import TraceError
from scheduler.simulator.simulate import read_trace
from scheduler.traces.machines import ENDLESS, read_machines
from scheduler.traces.trace import Trace

OPENB = "cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,creation_time,deletion_time,scheduled_time"
PHILLY = "submit_s,duration_s,num_gpus,vc"
GAVEL = "arrival_s,job_type,num_workers,total_steps"
SPEEDS = "job_type,num_workers,k80_steps_per_s,v100_steps_per_s\nLM,1,2,8\nLM,2,3,12\n"
NODES = "cpu_milli,memory_mib,gpu,model"


def _swf(job: int = 1, **cells: object) -> str:
    """A line of a log; fields by their usual names."""
    names = ("submit", "wait", "run", "allocated", "cpu", "memory", "requested", "asked", "asked_memory", "status", "user")
    values = {"submit": 0, "run": 10, "allocated": 1, "requested": 1, "asked": 20, "user": 7, **cells}
    return " ".join(str(value) for value in (job, *(values.get(name, -1) for name in names), *[-1] * 6))


def _read(folder: Path, form: str, *lines: str) -> Trace:
    path = folder / "trace.txt"
    path.write_text("\n".join(lines) + "\n")
    (folder / "throughputs.csv").write_text(SPEEDS)
    return read_trace(path, form)


def test_a_swf_log_is_processors_and_requested_times(tmp_path: Path) -> None:
    trace = _read(
        tmp_path, "swf", "; Version: 2.2", "", _swf(1, submit=100), _swf(2, submit=105, allocated=-1, requested=8, asked=-1, user=-1),
        _swf(3, submit=90, run=0), _swf(4, submit=110, run=-1), _swf(5, submit=95, allocated=4, requested=2) + " ; a comment",
        _swf(6, submit=120, allocated=-1, requested=-1),
    )  # fmt: skip
    assert trace.submit_s.tolist() == [0.0, 5.0, 10.0, 25.0]  # Sorted, and counted from the first that ran.
    assert trace.workers.tolist() == [4, 1, 8, 0]
    assert (trace.work.tolist(), trace.limit.tolist()) == ([10.0] * 4, [20.0, 20.0, 10.0, 20.0])
    assert ([trace.groups[row] for row in trace.group], trace.dropped) == (["7", "7", "", "7"], 2)


def test_an_openb_list_has_shares_models_and_times(tmp_path: Path) -> None:
    trace = _read(
        tmp_path, "openb", OPENB, "4000,1024,1,470,T4|G2,LS,100,160,110", "1000,512,0,0,,BE,120,130,", "8000,1,2,1000,,LS,130,130,",
    )  # fmt: skip
    assert (trace.submit_s.tolist(), trace.work.tolist(), trace.dropped) == ([0.0, 20.0], [50.0, 10.0], 1)
    assert (trace.devices.tolist(), trace.gpu_milli.tolist()) == ([1, 0], [470, 1000])
    assert [trace.kinds[row].speeds for row in trace.kind] == [{"T4": 1.0, "G2": 1.0}, None]


def test_a_philly_job_is_a_worker_for_each_device(tmp_path: Path) -> None:
    trace = _read(tmp_path, "philly", PHILLY, "5,60,4,a", "0,30,1,b", "1,0,1,b")
    assert (trace.workers.tolist(), trace.devices.tolist(), trace.work.tolist()) == ([1, 4], [1, 1], [30.0, 60.0])
    assert ([trace.groups[row] for row in trace.group], trace.dropped) == (["b", "a"], 1)


def test_a_gavel_job_has_a_speed_on_each_model(tmp_path: Path) -> None:
    trace = _read(tmp_path, "gavel", GAVEL, "0,LM,1,80", "10,LM,2,120", "10,LM,2,0")
    assert [trace.kinds[row].speeds for row in trace.kind] == [{"K80": 2.0, "V100": 8.0}, {"K80": 3.0, "V100": 12.0}]
    assert (trace.work.tolist(), trace.workers.tolist(), trace.dropped) == ([80.0, 120.0], [1, 2], 1)


@pytest.mark.parametrize(("form", "lines"), [("swf", (_swf(1), _swf(2, submit=3))), ("philly", (PHILLY, "0,1,1,a", "2,3,1,b"))])
def test_a_gzipped_trace_is_the_same_trace(tmp_path: Path, form: str, lines: tuple[str, ...]) -> None:
    plain = _read(tmp_path, form, *lines)
    path = tmp_path / "trace.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    zipped = read_trace(path, form)
    assert (zipped.submit_s.tolist(), zipped.work.tolist(), zipped.groups) == (plain.submit_s.tolist(), plain.work.tolist(), plain.groups)


def test_rows_of_a_large_file_are_never_all_objects_at_once(tmp_path: Path) -> None:
    rows = 20_000
    path = tmp_path / "large.csv"
    path.write_text(f"{PHILLY}\n" + "".join(f"{rows - row},{1 + row % 60},{1 + row % 8},vc{row % 15}\n" for row in range(rows)))
    read_trace(path, "philly")
    tracemalloc.start()
    trace = read_trace(path, "philly")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Eighty bytes a job, a sorted column beside an unsorted one, and what arrays keep in reserve.
    assert peak / rows < 130
    assert (len(trace), trace.submit_s[0], trace.work[0]) == (rows, 0.0, 1 + (rows - 1) % 60)


def test_a_part_of_a_trace_begins_at_its_own_first_job(tmp_path: Path) -> None:
    part = _read(tmp_path, "philly", PHILLY, "0,1,1,a", "5,2,1,a", "9,3,1,b").part(1, 3)
    assert (part.submit_s.tolist(), part.work.tolist(), len(part)) == ([0.0, 4.0], [2.0, 3.0], 2)


@pytest.mark.parametrize(
    ("form", "lines", "line", "column"),
    [
        ("philly", (PHILLY, "0,1,1,a", "-1,1,1,a"), 3, "submit_s"),
        ("philly", (PHILLY, "0,-5,1,a"), 2, "duration_s"),
        ("philly", (PHILLY, "0,nan,1,a"), 2, "duration_s"),
        ("philly", (PHILLY, "inf,1,1,a"), 2, "submit_s"),
        ("philly", (PHILLY, "0,1,0,a"), 2, "num_gpus"),
        ("philly", (PHILLY, "0,1,1.5,a"), 2, "num_gpus"),
        ("philly", (PHILLY, "0,1"), 2, "num_gpus"),
        ("philly", (PHILLY, "0,1,x,a"), 2, "num_gpus"),
        ("gavel", (GAVEL, "0,LM,3,80"), 2, "job_type"),
        ("gavel", (GAVEL, "0,Bert,1,80"), 2, "job_type"),
        ("gavel", (GAVEL, "0,LM,0,80"), 2, "num_workers"),
        ("gavel", (GAVEL, "0,LM,1,-80"), 2, "total_steps"),
        ("gavel", (GAVEL, "0,LM,1,80", "NaN,LM,1,80"), 3, "arrival_s"),
        ("openb", (OPENB, "1,1,1,0,,LS,0,9,0"), 2, "gpu_milli"),
        ("openb", (OPENB, "1,1,1,1001,,LS,0,9,0"), 2, "gpu_milli"),
        ("openb", (OPENB, "-1,1,1,500,,LS,0,9,0"), 2, "cpu_milli"),
        ("openb", (OPENB, "1,1,1,500,,LS,20,9,"), 2, "deletion_time"),
        ("openb", (OPENB, "1,1,1,500,,LS,-2,9,"), 2, "creation_time"),
        ("swf", (_swf(1), _swf(2, submit=-5)), 2, "2 (submit)"),
        ("swf", ("; comment", _swf(1, run="nan")), 2, "4 (run time)"),
        ("swf", (_swf(1, run=-7),), 1, "4 (run time)"),
        ("swf", (_swf(1, requested="many"),), 1, "8 (requested processors)"),
        ("swf", (_swf(1, allocated=1.5),), 1, "5 (allocated processors)"),
        ("swf", (_swf(1), "2 0 0 10"), 2, ""),
        ("philly", ("submit_s,duration_s", "0,1"), 1, ""),
        ("openb", ("cpu_milli,memory_mib", "1,1"), 1, ""),
        ("gavel", ("arrival_s,job_type", "0,LM"), 1, ""),
        ("philly", ("",), 0, ""),
        ("swf", ("", ""), 0, ""),
    ],
)
def test_a_bad_row_is_refused_with_its_place(tmp_path: Path, form: str, lines: tuple[str, ...], line: int, column: str) -> None:
    with pytest.raises(TraceError) as caught:
        _read(tmp_path, form, *lines)
    assert (caught.value.file, caught.value.line, caught.value.column) == (str(tmp_path / "trace.txt"), line, column)


def test_what_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    for content, fault in (
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (gzip.compress(b"a" * 1000)[:20], "cannot be read"),
        (None, "no such file"),
    ):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(TraceError, match=fault):
            read_trace(path, "philly")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty"),
        (f"{NODES}\n", "has no node"),
        (f"{NODES}\n1,1,63,T4\n", "line 2, column gpu: 63 devices"),
        (f"{NODES}\n1,1,-1,T4\n", "line 2, column gpu: -1 is less"),
        ("cpu_milli,memory_mib,gpu\n1,1,1\n", "no column model"),
    ],
)
def test_a_useless_list_of_machines_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "nodes.csv"
    path.write_text(text)
    with pytest.raises(TraceError, match=fault):
        read_machines(str(path))


def test_machines_are_nodes_by_model_or_pools(tmp_path: Path) -> None:
    path = tmp_path / "nodes.csv"
    path.write_text(f"{NODES}\n8000,1,2,T4\n4000,1,1,G2\n2000,1,0,\n")
    nodes = read_machines(str(path))
    assert (nodes.models, nodes.model.tolist(), nodes.devices.tolist()) == (("", "G2", "T4"), [0, 1, 2], [0, 1, 2])
    pools = read_machines("K80=36, V100=4")
    assert (pools.models, pools.devices.tolist(), pools.cpu_milli.tolist()) == (("K80", "V100"), [36, 4], [ENDLESS, ENDLESS])


@pytest.mark.parametrize("spec", ["procs=0", "procs=4,K80=1", "K80=1,K80=2", "procs=-4", "=4", "procs=four", "nowhere.csv"])
def test_machines_that_are_none_are_refused_with_the_grammar(spec: str) -> None:
    with pytest.raises(TraceError, match=r"procs=256|pool needs a name|procs stands alone"):
        read_machines(spec)
