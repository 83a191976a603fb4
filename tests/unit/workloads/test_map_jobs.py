"""Kind map in a manifest: the function is proved to be there, and everything else is refused with its path and a remedy."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from workloads.map_jobs import MapStep
from workloads.runners.partitions import row_limit_fault
from workloads.spec import JobSpec

MAP: dict[str, Any] = {
    "name": "clean", "tenant": "acme", "kind": "map", "purpose": "research", "inputs": {"flights": "nyc/flights@1"},
    "files": {"clean.py": "def fn(table):\n    return table\n"}, "map": {"function": "clean.py"}, "resources": {"workers": 3},
}  # fmt: skip


def faults(change: dict[str, Any]) -> dict[tuple[str | int, ...], str]:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate({**MAP, **change})
    return {error["loc"]: error["msg"] for error in caught.value.errors()}


def of_file(text: str, function: str = "clean.py") -> dict[str, Any]:
    return {"files": {"clean.py": text}, "map": {"function": function}}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"map": {"function": "clean.py:fn", "rows": 1000, "columns": ["a"], "compression": "snappy", "output": "parquet"}},
        of_file("from lib import work as fn\n"),
        of_file("try:\n    import fast\n    def fn(t): return t\nexcept ImportError:\n    def fn(t): return t\n"),
        of_file("work = lambda t: t\n", "clean.py:work"),
        of_file("def fn(table, *, scale=2, **more):\n    return table\n"),
    ],
)
def test_json_reads_back_to_an_equal_spec(change: dict[str, Any]) -> None:
    spec = JobSpec.model_validate({**MAP, **change})
    assert JobSpec.model_validate(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"map": None}, ("map",), "kind map needs the field map"),
        ({"map": {"function": "other.py"}}, ("map", "function"), "'other.py' is not among files (clean.py)"),
        ({"map": {"function": "clean"}}, ("map", "function"), "pattern"),
        ({"map": {"function": "clean.py:work"}}, ("map", "function"), "clean.py defines no work at its top level (but fn)"),
        (of_file("def fn(table:\n"), ("files", "clean.py"), "line 1: '(' was never closed; correct it"),
        (of_file("async def fn(table):\n    return table\n"), ("map", "function"), "is an async function"),
        (of_file("def fn():\n    return 1\n"), ("map", "function"), "has to take one table"),
        (of_file("def fn(table, other):\n    return table\n"), ("map", "function"), "has to take one table"),
        (of_file("def fn(table, *, scale):\n    return table\n"), ("map", "function"), "has to take one table"),
        (of_file("class A:\n    def fn(self, table): return table\n"), ("map", "function"), "defines no fn at its top level"),
        ({"map": {"function": "clean.py", "output": "csv"}}, ("map", "output"), "'parquet'"),
        ({"map": {"function": "clean.py", "compression": "lz4"}}, ("map", "compression"), "'zstd'"),
        ({"map": {"function": "clean.py", "rows": 0}}, ("map", "rows"), "greater than or equal to 1"),
        ({"map": {"function": "clean.py", "batch": 1}}, ("map", "batch"), "not permitted"),
        ({"inputs": {}}, ("inputs",), "name one product at least"),
        ({"command": ["python", "clean.py"]}, ("command",), "takes no command"),
        ({"sql": "SELECT 1"}, ("sql",), "takes no sql"),
        ({"engine": "daft"}, ("engine",), "has no engine"),
        ({"runtime_env": {"env_vars": {"A": "1"}}}, ("runtime_env",), "takes no runtime_env"),
        ({"resources": {"workers": {"min": 1, "max": 2}}}, ("resources", "workers"), "a fixed number of workers"),
        ({"placement": {"same": "rack"}, "resources": {}}, ("placement", "same"), "one worker is alone there"),
        ({"env": {"CPN_RANK": "1"}}, ("env", "CPN_RANK"), "choose another name"),
        ({"kind": "command", "command": ["true"]}, ("map",), "kind command takes no map"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(change: dict[str, Any], path: tuple[str | int, ...], words: str) -> None:
    found = faults(change)
    assert words in found.get(path, ""), found


def test_too_many_partitions_are_refused_and_a_size_that_was_not_asked_for_never_is() -> None:
    assert row_limit_fault(MapStep(function="a.py", rows=10), [100_001]) == (
        "makes 10,001 partitions, and at most 10,000 are taken; give a larger number, or leave it out"
    )
    assert row_limit_fault(MapStep(function="a.py", rows=10), [100_000]) is None
    assert row_limit_fault(MapStep(function="a.py"), [10**12]) is None
