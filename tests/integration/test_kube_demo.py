"""The demo's jobs on a Kubernetes member: the same results, to the byte, as on a Ray member."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import controlplane.demo
from cluster.protocol import RunFinished, RunRequest
from controlplane.demo.data import LOCATIONS, make_tables, replica_path
from tests.kube.kubelet import Kubelet
from tests.kube.scene import scene
from tests.ray import Connection, RayAgent, SmallRay, running
from tests.ray_runs import MIB, delivered, input_file, request

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(240)]

JOBS = Path(controlplane.demo.__file__).parent / "jobs"
NAMES = ("delay-by-visibility", "aircraft-by-maker", "carrier-report")


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A Ray member of this file's own, beside the Kubernetes one."""
    folder = tmp_path_factory.mktemp("ray")
    with running(SmallRay("demo", folder / "head")) as head, RayAgent(folder / "agent.log") as agent:
        yield agent.connect(head, folder / "data")


def demo_run(name: str, node: str, data: Path) -> RunRequest:
    """A job of the demo as a run, with every input as a replica of the node's own."""
    job: dict[str, Any] = yaml.safe_load((JOBS / f"{name}.yaml").read_text(encoding="utf-8"))
    inputs = {}
    for alias, ref in job["inputs"].items():
        table = ref.partition("/")[2].partition("@")[0]
        inputs[alias] = input_file(replica_path(data, LOCATIONS[table][0], table))
    files = {file: (JOBS / file).read_text(encoding="utf-8") for file in job.get("files", [])}
    command = ["0" if word == "0.4" else word for word in job.get("command", [])]
    return request((node,), kind=job["kind"], sql=job.get("sql"), command=command, files=files, inputs=inputs, memory_bytes=1024 * MIB)


def result(run: RunRequest, finished: RunFinished) -> tuple[Any, ...]:
    """All that a user gets."""
    assert finished.outcome == "succeeded", finished.message
    return finished.preview, [file.name for file in finished.files], delivered(finished), run.kind


def test_results_are_those_of_a_ray_member(kubelet: Kubelet, connection: Connection, tmp_path: Path) -> None:
    make_tables(tmp_path)
    here = [demo_run(name, "node-1", tmp_path) for name in NAMES]
    there = [demo_run(name, connection.node(), tmp_path) for name in NAMES]
    expected = [result(run, connection.run(run)) for run in there]

    async def scenario() -> list[tuple[Any, ...]]:
        async with scene(kubelet, "demo", tmp_path / "agent") as member:
            ends = [await member.run(run) for run in here]
            assert member.log(here[2]) == connection.log(there[2].run_id)
            return [result(run, end) for run, end in zip(here, ends, strict=True)]

    assert asyncio.run(scenario()) == expected


def test_a_statement_that_fails_says_so_in_the_same_words(kubelet: Kubelet, connection: Connection, tmp_path: Path) -> None:
    wrong = "SELECT 1 / 'x'"
    expected = connection.run(request((connection.node(),), kind="sql", sql=wrong))
    run = request(("node-1",), kind="sql", sql=wrong)

    async def scenario() -> RunFinished:
        async with scene(kubelet, "demo", tmp_path / "agent") as member:
            return await member.run(run)

    finished = asyncio.run(scenario())
    assert (finished.outcome, finished.category, finished.message) == (expected.outcome, expected.category, expected.message)
    assert finished.category == "statement"
