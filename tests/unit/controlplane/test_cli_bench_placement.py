"""`cpn bench placement`: the document it prints, and what it says when its input is wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.unit.controlplane.cli_documents import Command

COMMAND = Command("bench", "placement")

NODES = "sn,cpu_milli,memory_mib,gpu,model\n" + "".join(f"n{row},32000,65536,4,{'T4' if row % 2 else 'G2'}\n" for row in range(8))
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\n" + "".join(
    f"p{row},{asks}\n" for row, asks in enumerate(["4000,1024,1,1000", "2000,1024,1,470", "1000,1024,1,320", "2000,1024,0,0"] * 8)
)
FIGURES = ["allocation_at_100", "allocation_at_100_sd", "allocation_at_130", "placements_per_s", "p99_decision_us"]


@pytest.fixture
def lists(tmp_path: Path) -> list[str]:
    """Options that name a small list of nodes and one of pods, gzipped."""
    (tmp_path / "nodes.csv").write_text(NODES)
    (tmp_path / "pods.csv.gz").write_bytes(gzip.compress(PODS.encode()))
    return ["--nodes", str(tmp_path / "nodes.csv"), "--pods", str(tmp_path / "pods.csv.gz")]


def test_the_document_is_the_published_one(lists: list[str]) -> None:
    document = COMMAND.document(*lists, "--policies", "all", "--seeds", "42,43,44", "--tune", "1.3")
    assert list(document) == ["protocol", "nodes", "gpus", "policies"]
    assert (document["protocol"], document["nodes"], document["gpus"]) == ("openb-inflation", 8, 32)
    assert list(document["policies"]) == ["random", "dotprod", "clustering", "packing", "bestfit", "fgd", "cpn"]
    for figures in document["policies"].values():
        assert list(figures) == FIGURES
        assert 50.0 < figures["allocation_at_100"] <= figures["allocation_at_130"] <= 100.0


def test_policies_are_shown_in_the_order_asked_for(lists: list[str]) -> None:
    assert list(COMMAND.document(*lists, "--policies", "cpn,bestfit,cpn", "--seeds", "1")["policies"]) == ["cpn", "bestfit"]


def test_json_stands_alone_and_progress_beside_it(lists: list[str]) -> None:
    result = COMMAND.run(*lists, "--policies", "bestfit", "--seeds", "1,2", "--window", "1", "--progress", "-o", "json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["nodes"] == 8
    assert result.stderr.startswith("bestfit: 2 runs of ")


def test_a_window_is_for_our_own_policy(lists: list[str]) -> None:
    assert COMMAND.document(*lists, "--policies", "cpn", "--window", "8", "--seeds", "1")["policies"]["cpn"]["allocation_at_130"] > 50.0
    result = COMMAND.run(*lists, "--policies", "bestfit", "--window", "8")
    assert result.exit_code == 2
    assert "only cpn sees more than one" in result.stderr


def test_a_table_is_for_people(lists: list[str]) -> None:
    result = COMMAND.run(*lists, "--policies", "bestfit,cpn", "--seeds", "1")
    assert result.exit_code == 0
    assert "of 32 on 8 nodes" in result.stdout
    assert [line.split()[0] for line in result.stdout.splitlines()[-2:]] == ["bestfit", "cpn"]


@pytest.mark.parametrize(
    ("options", "fault", "remedy"),
    [
        (["--policies", "best"], "no policy best", "policies: all, or of random, dotprod"),
        (["--policies", ","], "no policy named", "policies: all"),
        (["--seeds", "1,x"], "--seeds '1,x'", "like 42,43,44"),
        (["--seeds", "-1"], "--seeds '-1'", "like 42,43,44"),
        (["--seeds", ""], "--seeds ''", "like 42,43,44"),
        (["--tune", "0"], "--tune 0.0", "above 0"),
        (["--tune", "nan"], "--tune nan", "above 0"),
        (["--tune", "inf"], "--tune inf", "up to 100"),
        (["--window", "0"], "--window", "greater than or equal to 1"),
        (["--nodes", "nowhere.csv"], "nowhere.csv: cannot be read", "columns of nodes: cpu_milli"),
        (["--pods", "nowhere.csv"], "nowhere.csv: cannot be read", "of pods: cpu_milli"),
    ],
)
def test_wrong_input_is_a_usage_error_that_says_what_to_do(lists: list[str], options: list[str], fault: str, remedy: str) -> None:
    result = COMMAND.run(*lists, *options)
    assert result.exit_code == 2
    assert fault in result.stderr
    assert remedy in result.stderr
    assert not result.stdout


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ("p,1,1,9,1000", "line 2, column num_gpu"),
        ("p,-1,1,1,1000", "line 2, column cpu_milli"),
        ("p,1,nan,1,1000", "line 2, column memory_mib"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_column(lists: list[str], tmp_path: Path, row: str, place: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(f"name,cpu_milli,memory_mib,num_gpu,gpu_milli\n{row}\n")
    result = COMMAND.run(*lists, "--pods", str(path))
    assert result.exit_code == 2
    assert f"{path}, {place}: " in result.stderr
