"""Runs as Jobs on a real Kubernetes control plane: gangs, results, reasons, and what is left of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from cluster.backends.kubernetes.records import RESULT_BYTES
from cluster.errors import RunRejectedError
from cluster.protocol import RunFinished, RunRequest, RunStarted
from tests.kube.kubelet import Kubelet
from tests.kube.local_pod import MISSING_IMAGE
from tests.kube.scene import Scene, scene
from tests.ray_runs import command, delivered, request, script

pytestmark = [pytest.mark.kube, pytest.mark.timeout(240)]

SPACE = "runs"


def gang(text: str, *nodes: str, **fields: object) -> RunRequest:
    return request(nodes or ("node-1", "node-2"), command=("sh", "main.sh"), files={"main.sh": text}, **fields)


def test_a_gang_knows_its_ranks_and_where_rank_0_is(kubelet: Kubelet, tmp_path: Path) -> None:
    run = gang('echo "$RANK of $WORLD_SIZE at $MASTER_ADDR:$MASTER_PORT in $CPN_RUN_ID"', "node-1", "node-1", "node-2")

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path) as here:
            assert (await here.run(run)).outcome == "succeeded"
            lines = sorted(here.log(run).replace("[rank 1] ", "").replace("[rank 2] ", "").splitlines())
            assert [line.split(" at ")[0] for line in lines] == ["0 of 3", "1 of 3", "2 of 3"]
            assert len({line.split(" at ")[1] for line in lines}) == 1
            pods = here.operator.items("pods", f"cpn.dev/job={run.job_id}")
            places = {pod["metadata"]["labels"]["cpn.dev/rank"]: pod["spec"]["nodeName"] for pod in pods}
            assert places == {"0": "node-1", "1": "node-1", "2": "node-2"}
            await here.backend.forget(run.run_id)
            await here.until(lambda: here.operator.names() == [], "nothing of the run is left")

    asyncio.run(scenario())


def test_a_gang_without_room_for_all_runs_nothing_and_says_what_the_scheduler_said(kubelet: Kubelet, tmp_path: Path) -> None:
    run = gang(f"touch {tmp_path}/begun", "node-1", "node-1", cpu=5.0)

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path, start_limit_s=3.0) as here:
            finished = await here.run(run)
            assert (finished.outcome, finished.category) == ("failed", "start_failed")
            assert "Unschedulable: 0/2 nodes are available" in finished.message
            assert not any(isinstance(event, RunStarted) for event in here.watch.of(run.run_id))
            await here.until(lambda: here.operator.names("jobs", "pods") == [], "its Jobs are gone")
            await here.backend.forget(run.run_id)

    asyncio.run(scenario())
    assert not (tmp_path / "begun").exists()


def test_a_worker_that_fails_ends_the_gang_as_it_ended(kubelet: Kubelet, tmp_path: Path) -> None:
    run = gang('[ "$RANK" = 1 ] && exit 7; sleep 600')

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path) as here:
            finished = await here.run(run)
            assert (finished.outcome, finished.category, finished.exit_code) == ("failed", "exit", 7)
            await here.backend.forget(run.run_id)
            await here.until(lambda: here.operator.names() == [], "nothing of the run is left")

    asyncio.run(scenario())


@pytest.mark.slow
def test_an_image_that_cannot_be_had_is_said_when_the_time_to_start_is_over(kubelet: Kubelet, tmp_path: Path) -> None:
    run = command("node-1", "true")

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path, image=MISSING_IMAGE, start_limit_s=2.0) as here:
            finished = await here.run(run)
            assert (finished.outcome, finished.category) == ("failed", "start_failed")
            assert f'within 2 s: ImagePullBackOff: Back-off pulling image "{MISSING_IMAGE}"' in finished.message
            await here.backend.forget(run.run_id)
            await here.until(lambda: here.operator.names() == [], "nothing of the run is left")

    asyncio.run(scenario())


def test_results_come_through_the_log_up_to_its_limit(kubelet: Kubelet, tmp_path: Path) -> None:
    text = 'head -c {0} /dev/zero | tr "\\0" x > "$CPN_OUTPUT_DIR/large"; echo small > "$CPN_OUTPUT_DIR/small"'
    fits, beyond = script("node-1", text.format(300_000)), script("node-2", text.format(RESULT_BYTES))

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path) as here:
            await here.backend.start(beyond)
            finished = await here.run(fits)
            assert {file.name: file.size_bytes for file in finished.files} == {"large": 300_000, "small": 6}
            assert (Path(finished.directory) / "large").read_bytes() == b"x" * 300_000
            finished = await here.ended(beyond)
            assert (finished.outcome, finished.category, finished.files) == ("failed", "result", ())
            assert f"over the {RESULT_BYTES} bytes" in finished.message
            await forget(here, fits, beyond)

    asyncio.run(scenario())


def test_an_agent_that_ends_before_it_has_told_the_end_leaves_the_result_to_the_next(kubelet: Kubelet, tmp_path: Path) -> None:
    run = script("node-1", 'echo whole > "$CPN_OUTPUT_DIR/result"')

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path) as here:
            await here.run(run)
        journal = tmp_path / "journal" / f"{run.run_id}.jsonl"
        lines = journal.read_text().splitlines(keepends=True)
        assert "finished" in json.loads(lines[-1])
        journal.write_text("".join(lines[:-1]))
        async with scene(kubelet, SPACE, tmp_path) as here:
            finished = await here.ended(run)
            assert (finished.outcome, delivered(finished)) == ("succeeded", b"whole\n")
            await forget(here, run)

    asyncio.run(scenario())


@pytest.mark.slow
def test_time_limits_and_progress_are_those_of_every_member(kubelet: Kubelet, tmp_path: Path) -> None:
    run = script("node-1", """echo '{"step": 1, "metrics": {"loss": 0.5}}' >> $CPN_PROGRESS_FILE; sleep 600""", max_runtime_s=1.5)

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path) as here:
            finished = await here.run(run)
            assert (finished.outcome, finished.category) == ("failed", "max_runtime")
            told = [(event.step, event.metrics) for event in here.watch.of(run.run_id) if event.type == "progress"]
            assert told == [(1, {"loss": 0.5})]
            assert finished.usage.wall_s > 0
            await forget(here, run)

    asyncio.run(scenario())


def test_a_job_or_pod_that_somebody_deletes_is_a_lost_run_and_is_not_made_again(kubelet: Kubelet, tmp_path: Path) -> None:
    first, second = script("node-1", "sleep 600"), script("node-2", "sleep 600")

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path) as here:
            await asyncio.gather(here.started(first), here.started(second))
            (job,) = here.operator.items("jobs", f"cpn.dev/job={first.job_id}")
            (pod,) = here.operator.items("pods", f"cpn.dev/job={second.job_id}")
            here.operator.delete("jobs", job["metadata"]["name"])
            here.operator.delete("pods", pod["metadata"]["name"])
            for run in (first, second):
                finished = await here.ended(run)
                assert (finished.outcome, finished.category) == ("lost", "lost")
                assert "by somebody else" in finished.message
            await here.until(lambda: here.operator.names("jobs", "pods") == [], "nothing runs any more")
            await forget(here, first, second)

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_run_that_is_stopped_before_it_could_start_leaves_nothing(kubelet: Kubelet, tmp_path: Path) -> None:
    run = command("node-1", "true")

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path, image=MISSING_IMAGE) as here:
            await here.backend.start(run)
            await here.until(lambda: here.operator.names("pods") != [], "its pod waits")
            await here.backend.stop(run.run_id, outcome="preempted", grace_s=1.0)
            finished = await here.ended(run)
            assert (finished.outcome, finished.category) == ("preempted", "preempted")
            assert here.operator.names("jobs", "pods") == []
            await forget(here, run)

    asyncio.run(scenario())


@pytest.mark.slow
def test_an_agent_removes_what_belongs_to_no_run(kubelet: Kubelet, tmp_path: Path) -> None:
    run, other = script("node-1", "sleep 600"), script("node-1", "sleep 600")

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path) as here:
            await asyncio.gather(here.started(run), here.started(other))
        operator = here.operator
        (secret,) = operator.items("secrets", f"cpn.dev/job={run.job_id}")
        with kubelet.servers.client() as client:
            # As one that somebody restored from a backup: nobody knows its run, and nothing of it takes it along.
            path = f"/apis/batch/v1/namespaces/{SPACE}/jobs"
            (job,) = operator.items("jobs", f"cpn.dev/job={run.job_id}")
            merge = {"Content-Type": "application/merge-patch+json"}
            client.patch(
                f"{path}/{job['metadata']['name']}", json={"metadata": {"ownerReferences": None}}, headers=merge
            ).raise_for_status()
        operator.delete("secrets", secret["metadata"]["name"])
        async with scene(kubelet, SPACE, tmp_path / "another") as here:
            await here.until(lambda: operator.items("pods", f"cpn.dev/job={run.job_id}") == [], "the orphan is gone")
            assert len(operator.items("pods", f"cpn.dev/job={other.job_id}")) == 1
            await here.backend.stop(other.run_id, outcome="cancelled", grace_s=1.0)
            await here.ended(other)
            await forget(here, other)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "map", "command": ("true",)}, "kind map, which Kubernetes members do not run"),
        ({"command": ()}, "no command"),
        ({"kind": "sql", "sql": "SELECT 1", "engine": "daft"}, "leave out engine"),
        ({"command": ("true",), "accelerator_model": "H200", "accelerator_count": 0.5}, "ask for count 1"),
        ({"command": ("true",), "accelerator_model": "H200", "accelerator_count": 1.0}, "accelerators of model H200"),
        ({"command": ("true",), "files": {"data": "x" * 800_000}}, "bring files in an image or as a product"),
    ],
)
def test_what_cannot_run_there_is_refused_with_what_to_do(kubelet: Kubelet, tmp_path: Path, fields: dict[str, object], words: str) -> None:
    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path) as here:
            with pytest.raises(RunRejectedError, match=words):
                await here.backend.start(request(("node-1",), **fields))

    asyncio.run(scenario())


async def forget(here: Scene, *runs: RunRequest) -> None:
    for run in runs:
        assert any(isinstance(event, RunFinished) for event in here.watch.of(run.run_id))
        await here.backend.forget(run.run_id)
    await here.until(lambda: here.operator.names() == [], "nothing of the runs is left")
