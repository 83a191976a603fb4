"""`cpn simulate` as a person runs it: the document it prints, and what it says when its input is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.controlplane.cli_documents import Command

COMMAND = Command("simulate")

PHILLY = "submit_s,duration_s,num_gpus,vc\n" + "".join(f"{10 * row},{30 + row % 7},{1 + row % 4},vc{row % 3}\n" for row in range(40))
FIGURES = {
    "jobs", "finished", "makespan_s", "mean_wait_s", "p50_wait_s", "p95_wait_s", "mean_jct_s", "mean_bounded_slowdown", "utilisation",
    "jain_fairness", "preemptions", "cycles", "decision_s", "jobs_per_s", "rejected",
}  # fmt: skip


@pytest.fixture
def trace(tmp_path: Path) -> list[str]:
    """Options that name a small trace."""
    (tmp_path / "jobs.csv").write_text(PHILLY)
    return ["--trace", str(tmp_path / "jobs.csv"), "--format", "philly", "--cluster", "T4=4"]


def test_the_document_has_the_figures_of_each_policy(trace: list[str]) -> None:
    policies = COMMAND.document(*trace, "--policy", "fifo,sjf,cpn", "--backfill", "easy")["policies"]
    assert list(policies) == ["fifo", "sjf", "cpn"]
    for found in policies.values():
        assert set(found) >= FIGURES
        assert (found["jobs"], found["finished"], found["rejected"]) == (40, 40, 0)
    assert policies["sjf"]["mean_wait_s"] != policies["fifo"]["mean_wait_s"]


def test_part_of_the_jobs_on_an_empty_system(trace: list[str]) -> None:
    found = COMMAND.document(*trace, "--policy", "fifo", "--jobs", "10:12")["policies"]["fifo"]
    assert (found["jobs"], found["makespan_s"]) == (2, 33.0 + 34.0)


def test_what_fits_nowhere_is_rejected_not_dropped(trace: list[str]) -> None:
    found = COMMAND.document(*trace[:-1], "T4=2", "--policy", "fifo")["policies"]["fifo"]
    assert (found["jobs"], found["finished"], found["rejected"]) == (40, 20, 20)


def test_json_stands_alone_and_the_bar_beside_it(trace: list[str]) -> None:
    result = COMMAND.run(*trace, "--policy", "fifo", "--progress", "-o", "json")
    assert result.exit_code == 0
    assert set(json.loads(result.stdout)) == {"policies"}
    assert "40 of 40 jobs" in result.stderr


def test_a_table_is_for_people(trace: list[str]) -> None:
    result = COMMAND.run(*trace, "--policy", "fifo,sjf")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines() if line.strip()][-2:] == ["fifo", "sjf"]


@pytest.mark.parametrize(
    ("options", "fault", "remedy"),
    [
        (["--policy", "fifi"], "no policy fifi", "policies: fifo, sjf"),
        (["--policy", ","], "no policy named", "policies: fifo"),
        (["--policy", "fifo", "--format", "cvs"], "no such format", "formats: openb, philly"),
        (["--policy", "fifo", "--jobs", "5"], "write two numbers like 0:1024", ""),
        (["--policy", "fifo", "--jobs", "40:50"], "the trace has 40 jobs", ""),
        (["--policy", "fifo", "--cluster", "procs=0"], "at least one unit", ""),
        (["--policy", "fifo", "--trace", "nowhere.csv"], "nowhere.csv: there is no such file", ""),
        (["--policy", "fifo", "--backfill", "some"], "--backfill", "none"),
        (["--policy", "fifo", "--plot", "picture.doc"], "must end in .png, .svg or .pdf", ""),
        (["--policy", "fifo", "--plot", "no/such/picture.png"], "there is no folder", ""),
    ],
)
def test_wrong_input_is_a_usage_error_that_says_what_to_do(trace: list[str], options: list[str], fault: str, remedy: str) -> None:
    result = COMMAND.run(*trace, *options)
    assert result.exit_code == 2
    assert fault in result.stderr
    assert remedy in result.stderr
    assert not result.stdout


def test_a_bad_row_is_named_by_file_line_and_column(trace: list[str], tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("submit_s,duration_s,num_gpus\n0,1,1\n1,nan,1\n")
    result = COMMAND.run(*trace, "--policy", "fifo", "--trace", str(path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{path}, line 3, column duration_s: " in result.stderr
