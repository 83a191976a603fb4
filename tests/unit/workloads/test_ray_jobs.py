"""Kind ray in a manifest, and what operators allow: everything else is refused with its path and a remedy."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from cluster.model import ClusterSpec
from tests.unit.workloads.samples import prices
from workloads.ray_jobs import RayJobs, RuntimeEnv, forbidden
from workloads.spec import JobSpec

RAY: dict[str, Any] = {
    "name": "sweep", "tenant": "acme", "kind": "ray", "purpose": "research", "command": ["python", "main.py"],
    "files": {"main.py": "", "lib/a.py": ""}, "resources": {"workers": 3},
}  # fmt: skip


def errors(model: type[BaseModel], document: dict[str, Any]) -> dict[tuple[str | int, ...], str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(document)
    return {error["loc"]: error["msg"] for error in caught.value.errors()}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"command": ["python3", "-m", "lib.a", "--epochs", "3"]},
        {"runtime_env": {"env_vars": {"A": "1"}, "py_modules": ["lib"], "pip": ["numpy", "torch[cuda]>=2.1,<3", "a-b==1.0.post1"]}},
    ],
)
def test_json_reads_back_to_an_equal_spec(more: dict[str, Any]) -> None:
    spec = JobSpec.model_validate({**RAY, **more})
    assert JobSpec.model_validate(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"command": ["bash", "main.sh"]}, ("command", 0), "kind ray runs a Python program"),
        ({"command": ["python"]}, ("command",), "names no script"),
        ({"command": ["python", "-c", "print(1)"]}, ("command",), "names no script"),
        ({"command": ["python", "-m"]}, ("command",), "names no script"),
        ({"command": []}, ("command",), "kind ray needs the field command"),
        ({"sql": "SELECT 1"}, ("sql",), "takes no sql"),
        ({"engine": "daft"}, ("engine",), "has no engine"),
        ({"resources": {"workers": {"min": 1, "max": 2}}}, ("resources", "workers"), "a fixed number of workers"),
        ({"env": {"RAY_ADDRESS": "x"}}, ("env", "RAY_ADDRESS"), "choose another name"),
        ({"runtime_env": {"conda": "base"}}, ("runtime_env", "conda"), "there are env_vars, py_modules, pip"),
        ({"runtime_env": {"working_dir": "."}}, ("runtime_env", "working_dir"), "is not taken"),
        ({"runtime_env": {"env_vars": {"RAY_AUTH_MODE": "disabled"}}}, ("runtime_env", "env_vars", "RAY_AUTH_MODE"), "choose another name"),
        ({"runtime_env": {"env_vars": {"A": "a\0b"}}}, ("runtime_env", "env_vars", "A"), "NUL"),
        ({"runtime_env": {"py_modules": ["other"]}}, ("runtime_env", "py_modules", 0), "no folder of the job's files"),
        ({"runtime_env": {"py_modules": ["lib/../lib"]}}, ("runtime_env", "py_modules", 0), "no folder of the job's files"),
        ({"runtime_env": {"pip": ["https://example.org/x.whl"]}}, ("runtime_env", "pip", 0), "pattern"),
        ({"runtime_env": {"pip": ["--index-url=x"]}}, ("runtime_env", "pip", 0), "pattern"),
        ({"runtime_env": {"pip": ["x @ file:///x"]}}, ("runtime_env", "pip", 0), "pattern"),
        ({"kind": "command", "runtime_env": {}}, ("runtime_env",), "kind command takes no runtime_env"),
    ],
)
def test_what_is_wrong_is_refused_with_its_path(change: dict[str, Any], path: tuple[str | int, ...], words: str) -> None:
    found = errors(JobSpec, {**RAY, **change})
    assert words in found[path], found


@pytest.mark.parametrize(
    ("rules", "path"),
    [
        ({"runtime_env": ["pip"]}, ("wheelhouse",)),
        ({"runtime_env": ["pip"], "wheelhouse": "wheels"}, ("wheelhouse",)),
        ({"runtime_env": ["env_vars"], "wheelhouse": "/wheels"}, ("wheelhouse",)),
        ({"runtime_env": ["conda"]}, ("runtime_env", 0)),
    ],
)
def test_rules_of_an_operator_that_cannot_be_kept_are_refused(rules: dict[str, Any], path: tuple[str | int, ...]) -> None:
    assert path in errors(RayJobs, rules)


def test_a_cluster_runs_none_until_its_operator_says_so_and_only_on_ray() -> None:
    member = {"name": "sh", "backend": "ray", "jurisdiction": "CN-SH", "prices": prices()}
    assert ClusterSpec.model_validate(member).ray_jobs is None
    spec = ClusterSpec.model_validate({**member, "ray_jobs": {}})
    assert spec.ray_jobs == RayJobs(runtime_env=("env_vars", "py_modules"))
    assert ClusterSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert "only a cluster of backend ray" in errors(ClusterSpec, {**member, "backend": "memory", "ray_jobs": {}})["ray_jobs",]


@pytest.mark.parametrize(
    ("asked", "rules", "words"),
    [
        (None, None, "kind ray: its operator has not switched it on"),
        (None, RayJobs(), None),
        (RuntimeEnv(), RayJobs(runtime_env=()), None),
        (RuntimeEnv(env_vars={"A": "1"}), RayJobs(), None),
        (
            RuntimeEnv(env_vars={"A": "1"}, pip=("x",)),
            RayJobs(),
            "kind ray: its operator does not allow runtime_env.pip (allowed: env_vars, py_modules)",
        ),
        (
            RuntimeEnv(env_vars={"A": "1"}),
            RayJobs(runtime_env=()),
            "kind ray: its operator does not allow runtime_env.env_vars (allowed: nothing)",
        ),
    ],
)
def test_why_a_cluster_does_not_run_a_job(asked: RuntimeEnv | None, rules: RayJobs | None, words: str | None) -> None:
    found = forbidden(asked, rules)
    assert (found[0] if found else None) == words
    assert not found or found[1]
