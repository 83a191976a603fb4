"""The backend that goes by Ray's Job API keeps the promises of every backend, as far as it has what they are about."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.backends.ray import job_run
from cluster.backends.ray.job_backend import JobApiBackend
from cluster.backends.ray.job_words import job_name
from cluster.errors import AuthenticationError, RunRejectedError, UnreachableError
from cluster.model import Endpoint
from cluster.protocol import ClusterBackend, RunFinished, RunLog, RunRequest, RunStarted
from tests.contract.backend_suite import FAIL_EXIT_CODE, LOG_TEXT, BackendSuite, BehaviourName, Watch
from tests.fake_job_api import FakeJobApi, entry

NODE = "n1-6e310000"
WHY = "the cluster has Ray 2.9.3, the agent 2.60.0"
COMMANDS: dict[str, tuple[str, ...]] = {
    "ok": ("true",), "fail": ("sh", "-c", f"exit {FAIL_EXIT_CODE}"), "slow": ("sleep", "600"), "logs": ("printf", "%s", LOG_TEXT),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody here needs sparing by long looks."""
    monkeypatch.setattr(job_run, "LOOK_S", 0.02)
    monkeypatch.setattr(job_run, "FIRST_LOOK_S", 0.01)
    monkeypatch.setattr(job_run, "CLOCKS_APART_S", 0.1)


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[FakeJobApi]:
    found = FakeJobApi(tmp_path)
    yield found
    found.close()


def backend_of(dashboard: FakeJobApi, start_limit_s: float = 20.0, token: str = "secret") -> JobApiBackend:
    endpoint = Endpoint(dashboard="http://dashboard.test")
    return JobApiBackend(endpoint, WHY, start_limit_s=start_limit_s, forget_limit_s=5.0, api=dashboard.api(token))


def request(run_id: str, *command: str, **changes: object) -> RunRequest:
    run = RunRequest(
        run_id=run_id, job_id=run_id, attempt=1, epoch=7, kind="command", command=command or ("true",), cpu=1.0, memory_bytes=2**20,
        nodes=(NODE,), max_runtime_s=600.0,
    )  # fmt: skip
    return run.model_copy(update=changes)


def log_of(watch: Watch, run_id: str) -> str:
    return "".join(event.text for event in watch.of(run_id) if isinstance(event, RunLog))


class TestJobApiBackend(BackendSuite):
    timeout_s = 30.0

    @pytest.fixture(autouse=True)
    def _keep(self, dashboard: FakeJobApi) -> None:
        self.dashboard = dashboard

    @pytest.fixture
    def backend(self, dashboard: FakeJobApi) -> ClusterBackend:
        return backend_of(dashboard)

    def another(self, backend: ClusterBackend) -> ClusterBackend:  # noqa: ARG002
        return backend_of(self.dashboard)

    def make_run(self, run_id: str, behaviour: BehaviourName, *, workers: int = 1, node: str | None = None) -> RunRequest:
        assert workers == 1
        return request(run_id, *COMMANDS[behaviour], nodes=(node or NODE,))

    def test_the_inventory_says_how_it_is_driven(self, backend: ClusterBackend) -> None:
        async def scenario(_watch: Watch) -> None:
            found = await backend.inventory()
            assert (found.driver.way, found.driver.why, found.resizes, found.version) == ("job-api", WHY, False, "ray 2.9.3")
            assert [(node.name, node.cpu, node.labels) for node in found.nodes] == [(NODE, 4.0, {"tier": "gold"})]

        self.check(backend, scenario)

    @pytest.mark.parametrize(
        "changes",
        [{"kind": "sql", "sql": "SELECT 1", "command": ()}, {"nodes": (NODE, NODE)}, {"accelerator_count": 0.5}, {"command": ()}],
        ids=["sql", "gang", "share", "no command"],
    )
    def test_what_the_job_api_cannot_do_is_rejected(self, backend: ClusterBackend, changes: dict[str, object]) -> None:
        async def scenario(_watch: Watch) -> None:
            with pytest.raises(RunRejectedError, match="Job API"):
                await backend.start(request("a-1", **changes))

        self.check(backend, scenario)
        assert self.dashboard.jobs == {}

    def test_a_run_is_bound_to_its_node_and_its_resources(self, backend: ClusterBackend) -> None:
        self.dashboard.nodes = [entry("n1", "10.0.0.1", gpu=2), entry("n2", "10.0.0.2"), entry("n3", "10.0.0.2")]

        async def scenario(watch: Watch) -> None:
            await backend.inventory()
            for run in (request("a-1", accelerator_count=2.0), request("b-1", nodes=("n3-6e330000",))):
                await backend.start(run)
                await watch.first(run.run_id, RunFinished)

        self.check(backend, scenario)
        first, second = (self.dashboard.jobs[job_name(name)].document for name in ("a-1", "b-1"))
        assert (first["entrypoint_num_cpus"], first["entrypoint_num_gpus"], first["entrypoint_memory"]) == (1.0, 2.0, 2**20)
        assert (first["entrypoint_resources"], "entrypoint_label_selector" in first) == ({"node:10.0.0.1": 0.001}, False)
        assert second["entrypoint_label_selector"] == {"ray.io/node-id": self.dashboard.nodes[2]["node_id"]}

    def test_a_run_that_does_not_fit_now_is_not_handed_over(self, backend: ClusterBackend) -> None:
        async def scenario(watch: Watch) -> None:
            await backend.start(request("a-1", "sleep", "600", cpu=3.0))
            await watch.first("a-1", RunStarted)
            await backend.start(request("b-1", cpu=2.0))
            await backend.start(request("c-1", cpu=1.0))
            await watch.first("c-1", RunFinished)
            assert job_name("b-1") not in self.dashboard.jobs
            await self.release(backend, watch, "a-1")
            await watch.first("b-1", RunFinished)

        self.check(backend, scenario)

    def test_what_others_use_is_not_free(self) -> None:
        node = self.dashboard.nodes[0]["node_id"]
        self.dashboard.used = {node: {"CPU": [3.5, 4.0]}}
        backend = backend_of(self.dashboard, start_limit_s=0.1)

        async def scenario(watch: Watch) -> None:
            await backend.start(request("a-1"))
            finished = await watch.first("a-1", RunFinished)
            assert (finished.outcome, finished.category) == ("failed", "start_failed")
            assert finished.message == f"not started within 0.1 s: {NODE} has 0.5 CPU free, and 1 are needed"

        self.check(backend, scenario)
        assert self.dashboard.jobs == {}

    def test_a_job_that_ray_starts_too_late_runs_nothing(self, tmp_path: Path) -> None:
        self.dashboard.hold, late = True, tmp_path / "late"
        backend = backend_of(self.dashboard, start_limit_s=0.1)

        async def scenario(watch: Watch) -> None:
            await backend.start(request("a-1", "touch", str(late)))
            finished = await watch.first("a-1", RunFinished)
            assert (finished.outcome, finished.category) == ("failed", "start_failed")
            assert "Ray did not start it within 0.1 s" in finished.message
            backend._forget_limit_s = 0.1
            with pytest.raises(UnreachableError, match="cannot be removed now"):
                await backend.forget("a-1")
            self.dashboard.start(job_name("a-1"))
            process = self.dashboard.jobs[job_name("a-1")].process
            assert process is not None
            assert await asyncio.to_thread(process.wait, 20) == 0
            backend._forget_limit_s = 10.0
            await backend.forget("a-1")

        self.check(backend, scenario)
        assert not late.exists()
        assert self.dashboard.jobs == {}

    def test_a_head_that_forgot_has_lost_the_run(self, backend: ClusterBackend) -> None:
        async def scenario(watch: Watch) -> None:
            await backend.start(request("a-1", "sleep", "600"))
            await watch.first("a-1", RunStarted)
            job = self.dashboard.jobs.pop(job_name("a-1"))
            finished = await watch.first("a-1", RunFinished)
            assert (finished.outcome, finished.category) == ("lost", "lost")
            self.dashboard.jobs["gone"] = job

        self.check(backend, scenario)

    def test_a_head_that_is_away_loses_nothing(self, backend: ClusterBackend) -> None:
        async def scenario(watch: Watch) -> None:
            await backend.start(request("a-1", "sh", "-c", "echo on; sleep 0.2"))
            await watch.first("a-1", RunStarted)
            self.dashboard.away = True
            with pytest.raises(UnreachableError, match="no Ray dashboard answers"):
                await backend.inventory()
            asked = len(self.dashboard.asked)
            async with asyncio.timeout(10):
                while len(self.dashboard.asked) < asked + 3:
                    await asyncio.sleep(0.01)
            assert not any(isinstance(event, RunFinished) for event in watch.of("a-1"))
            self.dashboard.away = False
            assert (await watch.first("a-1", RunFinished)).outcome == "succeeded"
            assert log_of(watch, "a-1") == "on\n"

        self.check(backend, scenario)

    def test_a_submission_whose_answer_was_lost_is_not_made_twice(self, backend: ClusterBackend) -> None:
        self.dashboard.used = {}
        answered = self.dashboard._submit

        def lost(document: dict[str, object]) -> object:
            self.dashboard._submit = answered  # type: ignore[method-assign]
            answered(document)
            raise __import__("httpx").ReadTimeout("no answer")

        self.dashboard._submit = lost  # type: ignore[method-assign, assignment]

        async def scenario(watch: Watch) -> None:
            await backend.start(request("a-1"))
            assert (await watch.first("a-1", RunFinished)).outcome == "succeeded"

        self.check(backend, scenario)
        assert self.dashboard.asked.count("POST /api/jobs/") == 1

    def test_what_is_no_run_of_ours_is_left_alone(self, backend: ClusterBackend) -> None:
        other = self.dashboard._submit({
            "submission_id": job_name("x"), "metadata": {}, "entrypoint": "true", "runtime_env": {"working_dir": "gcs://x"},
        }) if self.dashboard.packages.setdefault("x", _empty_zip()) else None  # fmt: skip
        assert other is not None

        async def scenario(watch: Watch) -> None:
            assert await backend.adopt() == ()
            await backend.forget("x")
            assert watch.events == []

        self.check(backend, scenario)
        assert job_name("x") in self.dashboard.jobs

    def test_a_wrong_token_is_told(self) -> None:
        with pytest.raises(AuthenticationError, match="refuses the token"):
            asyncio.run(backend_of(self.dashboard, token="wrong").open())


def _empty_zip() -> bytes:
    return b"PK\x05\x06" + bytes(18)
