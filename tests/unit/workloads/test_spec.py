"""Job specs: what is accepted, what is refused and where, and that JSON reads back to an equal spec."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from workloads.spec import MAX_FILE_BYTES, JobSpec, split_ref

SQL = {"name": "delay-by-carrier", "tenant": "acme", "kind": "sql", "purpose": "research", "sql": "SELECT 1"}
COMMAND = {"name": "train", "tenant": "acme", "kind": "training", "purpose": "research", "command": ["python", "train.py"]}


def errors(document: dict[str, Any]) -> dict[tuple[str | int, ...], str]:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate(document)
    return {error["loc"]: error["msg"] for error in caught.value.errors()}


@pytest.mark.parametrize(
    "document",
    [
        SQL,
        {**SQL, "inputs": {"flights": "nycflights/flights@1"}, "budget": "5.00 CNY", "deadline": "2026-12-01T08:00:00+08:00",
         "max_runtime": "1h0.001ms", "placement": {"jurisdictions": ["CN-SH"], "labels": {"tier": "gold"}, "clusters": ["sh-1"]},
         "resources": {"cpu": 0.5, "memory": "1.1GiB"}, "priority": "high", "retry": {"attempts": 5, "on": ["exit", "infrastructure"]}},
        {**COMMAND, "files": {"src/train.py": "print(1)\n", "notes.txt": "数据 é"}, "env": {"A": "1"},
         "resources": {"workers": 4, "memory": "80GB", "accelerator": {"model": "H200", "count": 8}}, "placement": {"same": "rack"}},
        {**COMMAND, "resources": {"accelerator": {"model": "H200", "share": 0.333}}},
        {**COMMAND, "resources": {"accelerator": {"any_of": [{"model": "H200", "speed": 1.5}, {"model": "A100"}], "count": 2}}},
    ],
)  # fmt: skip
def test_json_reads_back_to_an_equal_spec(document: dict[str, Any]) -> None:
    spec = JobSpec.model_validate(document)
    dumped = spec.model_dump(mode="json")
    stored = json.loads(json.dumps(dumped))
    assert JobSpec.model_validate(dumped) == spec
    assert JobSpec.model_validate(stored) == spec
    assert JobSpec.model_validate_json(json.dumps(dumped)) == spec
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    assert JobSpec.model_validate(spec.model_dump()) == spec


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"deadline": 1764547200}, ("deadline",)),
        ({"deadline": "1764547200"}, ("deadline",)),
        ({"deadline": "2026-12-01T08:00:00"}, ("deadline",)),
        ({"max_runtime": 600}, ("max_runtime",)),
        ({"max_runtime": "0s"}, ("max_runtime",)),
        ({"budget": 5}, ("budget",)),
        ({"budget": "5.00"}, ("budget",)),
        ({"resources": {"memory": 1024}}, ("resources", "memory")),
        ({"resources": {"workers": 2}, "engine": "duckdb"}, ("resources", "workers")),
        ({"resources": {"workers": 2, "cpu": 0.5}}, ("resources", "cpu")),
        ({"resources": {"cpu": 0.5}, "engine": "daft"}, ("resources", "cpu")),
        ({"engine": "spark"}, ("engine",)),
        ({"resources": {"workers": {"min": 1, "max": 2}}}, ("resources", "workers")),
        ({"resources": {"workers": 0}}, ("resources", "workers")),
        ({"resources": {"workers": "2"}}, ("resources", "workers")),
        ({"resources": {"workers": [2, 8]}}, ("resources", "workers")),
        ({"resources": {"workers": True}}, ("resources", "workers")),
        ({"resources": {"workers": {"min": 8, "max": 2}}}, ("resources", "workers")),
        ({"resources": {"workers": {"min": 2}}}, ("resources", "workers", "max")),
        ({"resources": {"workers": {"min": 0, "max": 2}}}, ("resources", "workers", "min")),
        ({"resources": {"workers": {"min": 1, "max": 5000}}}, ("resources", "workers", "max")),
        ({"resources": {"workers": {"min": 1, "max": 2, "step": 1}}}, ("resources", "workers", "step")),
        ({"placement": {"clusters": "sh-1"}}, ("placement", "clusters")),
        ({"placement": {"jurisdictions": ["cn"]}}, ("placement", "jurisdictions", 0)),
        ({"placement": {"prefer": "fastest"}}, ("placement", "prefer")),
        ({"placement": {"same": "rack"}}, ("placement", "same")),
        ({"placement": {"same": "room"}}, ("placement", "same")),
        *(
            ({"resources": {"accelerator": {"model": "H200", "share": share}}}, ("resources", "accelerator", "share"))
            for share in (0, 1, 1.5, -0.25, 0.0001, 0.33333, "0.25", True)
        ),
        ({"resources": {"accelerator": {}}}, ("resources", "accelerator")),
        (
            {**COMMAND, "sql": None, "resources": {"workers": {"min": 1, "max": 2}, "accelerator": {"any_of": [{"model": "A100"}]}}},
            ("resources",),
        ),
        ({"resources": {"accelerator": {"model": "H200", "any_of": [{"model": "A100"}]}}}, ("resources", "accelerator")),
        ({"resources": {"accelerator": {"any_of": [{"model": "A100"}, {"model": "A100", "speed": 2}]}}}, ("resources", "accelerator")),
        ({"resources": {"accelerator": {"any_of": [{"model": "A100", "speed": 0}]}}}, ("resources", "accelerator", "any_of", 0, "speed")),
        ({"resources": {"accelerator": {"any_of": [{"model": "A100"}], "precision": "fp8"}}}, ("resources", "accelerator", "precision")),
        ({"resources": {"accelerator": {"model": "A100", "precision": "fp16"}}}, ("resources", "accelerator")),
        ({"resources": {"accelerator": {"any_of": [{"model": ""}]}}}, ("resources", "accelerator", "any_of", 0, "model")),
        ({"resources": {"accelerator": {"model": "H200", "count": 2, "share": 0.5}}}, ("resources", "accelerator", "share")),
        ({"retry": {"attempts": 0}}, ("retry", "attempts")),
        ({"sql": "  "}, ("sql",)),
        ({"sql": None}, ("sql",)),
        ({"command": ["ls"]}, ("command",)),
        ({"env": {"A": "1"}}, ("env",)),
        ({"inputs": {"flights": "nycflights/flights"}}, ("inputs", "flights")),
        ({"inputs": {"flights": "nycflights/flights@1\n"}}, ("inputs", "flights")),
        ({"name": "Not A Name"}, ("name",)),
        ({"unknown": 1}, ("unknown",)),
    ],
)
def test_refused_with_the_path(change: dict[str, Any], path: tuple[str | int, ...]) -> None:
    assert set(errors({**SQL, **change})) == {path}


def test_workers_are_a_number_or_a_range() -> None:
    fixed, elastic = (JobSpec.model_validate({**COMMAND, "resources": {"workers": value}}) for value in (4, {"min": 2, "max": 8}))
    assert (fixed.resources.fewest, fixed.resources.most, fixed.resources.is_elastic) == (4, 4, False)
    assert (elastic.resources.fewest, elastic.resources.most, elastic.resources.is_elastic) == (2, 8, True)
    assert elastic.model_dump(mode="json")["resources"]["workers"] == {"min": 2, "max": 8}
    assert JobSpec.model_validate(elastic.model_dump(mode="json")) == elastic
    assert elastic.resources.with_workers(3).workers == 3
    assert (
        "write one, like 4, or a range, like {min: 2, max: 8}" in errors({**COMMAND, "resources": {"workers": "4"}})["resources", "workers"]
    )
    assert "min 8 is more than max 2" in errors({**COMMAND, "resources": {"workers": {"min": 8, "max": 2}}})["resources", "workers"]


def test_one_worker_is_in_no_group_with_others() -> None:
    found = errors({**COMMAND, "placement": {"same": "zone"}})
    assert found == {("placement", "same"): "one worker is alone in its zone; ask for more resources.workers, or leave it out"}


def test_all_faults_are_told_at_once() -> None:
    found = errors({**SQL, "kind": "command", "env": {"CPN_TOKEN": "x", "B": "a\0b"}})
    assert set(found) == {("command",), ("sql",), ("env", "CPN_TOKEN"), ("env", "B")}
    assert "set by cpn" in found["env", "CPN_TOKEN"]


@pytest.mark.parametrize("path", ["a/../b", "a//b", "a/./b", "a/", ".."])
def test_files_stay_in_the_working_directory(path: str) -> None:
    assert all(loc[:2] == ("files", path) for loc in errors({**COMMAND, "files": {path: ""}}))


def test_a_file_is_no_folder_of_another() -> None:
    assert "file and a folder" in errors({**COMMAND, "files": {"a": "", "a/b": ""}})["files", "a/b"]


def test_files_have_a_limit_in_bytes() -> None:
    JobSpec.model_validate({**COMMAND, "files": {"a": "x" * MAX_FILE_BYTES}})
    assert "32 MiB" in errors({**COMMAND, "files": {"a": "é" * (MAX_FILE_BYTES // 2 + 1)}})[("files",)]


def test_command_arguments_hold_no_nul() -> None:
    assert set(errors({**COMMAND, "command": ["python", "a\0"]})) == {("command", 1)}


def test_spec_is_frozen() -> None:
    with pytest.raises(ValidationError):
        JobSpec.model_validate(SQL).name = "other"  # type: ignore[misc]


def test_rank_and_deadline_in_seconds() -> None:
    spec = JobSpec.model_validate({**SQL, "priority": "low", "deadline": "1970-01-01T01:00:00+00:00"})
    assert (spec.rank, spec.deadline_s()) == (-100, 3600.0)


def test_split_ref() -> None:
    assert split_ref("nycflights/flights@12") == ("nycflights/flights", 12)
    for bad in ("nycflights/flights", "flights@1", "a/b@0", "a/b@1\n", "a/b@²", "a/b@-1", "a\n/b@1"):
        with pytest.raises(ValueError, match="owner/product@version"):
            split_ref(bad)
