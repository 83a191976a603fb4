"""What user code is given: nothing of ours, the run's facts last."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from workloads.runners.process import InputPath, RunIdentity, RunPaths, environment, gang_document, inputs_document, resolve_command

RUN = RunIdentity(job_id="job-1", run_id="run-1", attempt=2, rank=1, world_size=4)
PATHS = RunPaths(Path("/w"), Path("/w/output"), Path("/w/inputs.json"), Path("/w/progress"), Path("/w/gang.json"))
INPUTS = {"flights": InputPath(Path("/store/a.parquet"), "parquet"), "weather_2013": InputPath(Path("/store/b.csv"), "csv")}


def test_only_listed_variables_pass() -> None:
    base = {
        "PATH": "/bin", "LANG": "C.UTF-8", "LC_ALL": "C", "TZ": "UTC", "CUDA_VISIBLE_DEVICES": "0", "HOME": "/root", "TMPDIR": "/tmp",
        "CPN_TOKEN": "secret", "CPN_DATABASE_URL": "secret", "RAY_AUTH_TOKEN": "secret", "RAY_ADDRESS": "x",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "PYTHONPATH": "/x", "LD_PRELOAD": "/x.so", "KUBECONFIG": "/k", "SSH_AUTH_SOCK": "/s", "PGPASSWORD": "secret",
    }  # fmt: skip
    made = environment(base, RUN, PATHS, {}, {})
    assert "secret" not in made.values()
    assert {name for name in made if name in base} == {"PATH", "LANG", "LC_ALL", "TZ", "CUDA_VISIBLE_DEVICES", "HOME", "TMPDIR"}
    assert (made["HOME"], made["TMPDIR"]) == ("/w", "/w/tmp")


def test_the_runs_facts() -> None:
    made = environment({}, RUN, PATHS, INPUTS, {})
    expected = {
        "CPN_JOB_ID": "job-1", "CPN_RUN_ID": "run-1", "CPN_ATTEMPT": "2", "CPN_RANK": "1", "RANK": "1", "WORLD_SIZE": "4",
        "CPN_WORLD_SIZE": "4", "CPN_INPUTS": "/w/inputs.json", "CPN_OUTPUT_DIR": "/w/output", "CPN_PROGRESS_FILE": "/w/progress",
        "CPN_INPUT_FLIGHTS": "/store/a.parquet", "CPN_INPUT_WEATHER_2013": "/store/b.csv",
    }  # fmt: skip
    assert {name: made[name] for name in expected} == expected
    assert "MASTER_ADDR" not in made


def test_the_jobs_own_variables_win_over_the_base_and_not_over_the_run() -> None:
    made = environment({"PATH": "/bin"}, RUN, PATHS, INPUTS, {"PATH": "/mine", "MODEL": "x", "RANK": "0", "CPN_RUN_ID": "another"})
    assert (made["PATH"], made["MODEL"], made["RANK"], made["CPN_RUN_ID"]) == ("/mine", "x", "1", "run-1")


def test_a_gang_is_told_where_rank_0_listens() -> None:
    made = environment({}, RUN, PATHS, {}, {"MASTER_PORT": "1"}, master=("10.0.0.1", 29500))
    assert (made["MASTER_ADDR"], made["MASTER_PORT"]) == ("10.0.0.1", "29500")


def test_a_worker_with_accelerators_is_told_which_and_how_much_of_one() -> None:
    made = environment({}, replace(RUN, devices=(0, 3)), PATHS, {}, {"CPN_ACCELERATOR_DEVICES": "7"})
    assert made["CPN_ACCELERATOR_DEVICES"] == "0,3"
    assert "CPN_ACCELERATOR_SHARE" not in made
    shared = environment({}, replace(RUN, devices=(2,), share=0.25), PATHS, {}, {})
    assert (shared["CPN_ACCELERATOR_DEVICES"], shared["CPN_ACCELERATOR_SHARE"]) == ("2", "0.25")


def test_inputs_document() -> None:
    assert json.loads(inputs_document(INPUTS)) == {
        "flights": {"path": "/store/a.parquet", "format": "parquet"},
        "weather_2013": {"path": "/store/b.csv", "format": "csv"},
    }


def test_a_leading_python_is_this_interpreter() -> None:
    assert resolve_command(("python", "train.py", "python")) == [sys.executable, "train.py", "python"]
    assert resolve_command(["python3"]) == [sys.executable]
    assert resolve_command(["/usr/bin/python3", "x"]) == ["/usr/bin/python3", "x"]
    assert resolve_command(["torchrun", "x"]) == ["torchrun", "x"]


def test_a_gang_that_is_resized_is_told_where_to_look() -> None:
    assert "CPN_GANG_FILE" not in environment({}, RUN, PATHS, {}, {})
    assert environment({}, replace(RUN, elastic=True), PATHS, {}, {"CPN_GANG_FILE": "mine"})["CPN_GANG_FILE"] == "/w/gang.json"
    assert json.loads(gang_document(2, ["n1", "n4"])) == {"generation": 2, "world_size": 2, "nodes": ["n1", "n4"]}
