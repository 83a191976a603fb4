"""Results that come with the report of their run's end: stored with it, for current runs only, and removed like any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cluster.backends.memory import Behaviour
from cluster.protocol import Observation, RunFinished, SmallFile, SyncRequest
from scheduler.store import fleet, jobs, small_results
from scheduler.store.session import StoreUnavailableError
from tests.network import PATIENT, Network, job, until

ROWS = SmallFile.of("rows.parquet", b"rows")


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """A network whose runs go on until they are stopped."""
    with Network(tmp_path / "data", max_result_bytes=100, **PATIENT) as network:
        network.add_tenant()
        network.add_cluster("sh", script=lambda _run: Behaviour(duration_s=600))
        yield network


def report(network: Network, job_id: str, *files: SmallFile, epoch: int | None = None) -> httpx.Response:
    """Tell in the agent's name that the run of a job succeeded."""
    with network.plane.store.read() as conn:
        agent_id = fleet.get_cluster(conn, "sh").agent_id
        run = jobs.get_run(conn, jobs.get_job(conn, job_id).run_id or "")
    assert agent_id is not None
    assert run is not None
    event = RunFinished(run_id=run.id, outcome="succeeded", at=network.plane.clock.now(), files=files)
    told = SyncRequest(
        agent_id=agent_id, reachable=True, observations=(Observation(epoch=run.epoch if epoch is None else epoch, event=event),)
    )  # fmt: skip
    with network.client("agent", cluster="sh") as agent:
        return agent.post("/agents/sh/sync", content=told.model_dump_json(), headers={"Content-Type": "application/json"})


def running(network: Network) -> str:
    return str(network.wait(network.submit(job(retry={"attempts": 1}))["id"], "running")["id"])


def stored(network: Network) -> dict[str, int]:
    """Bytes of small results by run."""
    with network.plane.store.read() as conn:
        return small_results.sizes(conn)


def test_a_small_result_comes_with_the_end_and_is_kept_like_any_other(network: Network) -> None:
    job_id = running(network)
    other = SmallFile.of("deep/more of it.bin", b"more")
    assert report(network, job_id, ROWS, other).status_code == 200
    assert network.wait(job_id)["state"] == "succeeded"
    result = network.ok(network.operator.get(f"/jobs/{job_id}/result"))
    assert result["files"] == [file.plain().model_dump() for file in (ROWS, other)]
    for file in (ROWS, other):
        assert network.operator.get(f"/jobs/{job_id}/result/files/{file.name}").content == file.read()
    assert list(stored(network).values()) == [8]
    answer = network.operator.get(f"/jobs/{job_id}/result/files/deep/more of it.bin")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="more of it.bin"'
    # What is told again, because its answer was lost, changes nothing.
    assert report(network, job_id, SmallFile.of("rows.parquet", b"other rows")).status_code == 200
    assert network.operator.get(f"/jobs/{job_id}/result/files/rows.parquet").content == b"rows"


@pytest.mark.parametrize(
    ("files", "cause", "words"),
    [
        ([ROWS.model_copy(update={"sha256": "0" * 64})], "infrastructure", "rows.parquet did not arrive as announced"),
        ([ROWS.model_copy(update={"size_bytes": 5})], "infrastructure", "rows.parquet did not arrive as announced"),
        ([ROWS.model_copy(update={"content": "?"})], "infrastructure", ""),
        ([SmallFile.of("../rows", b"rows")], "infrastructure", "not an acceptable name"),
        ([SmallFile.of("large", b"x" * 101)], "result", "with large the result is over the limit of 100 bytes"),
        ([SmallFile.of(name, b"x" * 51) for name in ("one", "two")], "result", "over the limit of 100 bytes"),
    ],
)
def test_a_success_whose_small_result_cannot_be_kept_is_a_failure_that_leaves_nothing(
    network: Network, files: list[SmallFile], cause: str, words: str
) -> None:
    job_id = running(network)
    assert report(network, job_id, *files).status_code == 200
    done = network.wait(job_id)
    assert (done["state"], done["cause"]) == ("failed", cause)
    assert words in done["message"]
    assert stored(network) == {}


def test_of_a_run_that_is_not_current_nothing_is_kept(network: Network) -> None:
    job_id = running(network)
    assert report(network, job_id, ROWS, epoch=7).status_code == 200
    assert network.job(job_id)["state"] == "running"
    assert stored(network) == {}


def test_a_small_result_is_there_with_the_end_or_not_at_all(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = running(network)

    def full(*_arguments: object) -> None:
        raise StoreUnavailableError("the database does not answer: database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(small_results, "put", full)
        assert report(network, job_id, ROWS).status_code == 503
    assert network.job(job_id)["state"] == "running"
    assert stored(network) == {}
    assert report(network, job_id, ROWS).status_code == 200
    assert network.wait(job_id)["state"] == "succeeded"
    assert stored(network) == {network.job(job_id)["run_id"]: 4}


def test_small_results_are_removed_when_they_were_kept_long_enough(tmp_path: Path) -> None:
    with Network(tmp_path / "data", keep_results_bytes=3, keep_interval_s=0.05, **PATIENT) as network:
        network.add_tenant()
        network.add_cluster("sh", script=lambda _run: Behaviour(duration_s=600))
        job_id = running(network)
        assert report(network, job_id, ROWS).status_code == 200
        until(lambda: network.job(job_id)["result_removed_at"] is not None, "it is removed")
        assert stored(network) == {}
        assert network.operator.get(f"/jobs/{job_id}/result/files/rows.parquet").status_code == 410
