"""`cpn serve` killed with SIGKILL, at moments that a seed chooses: nothing acknowledged is lost, nothing takes effect twice."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from cluster.backends.memory import Behaviour
from cluster.protocol import RunRequest
from tests.acceptance.market import PATIENT, Market, manifest, open_market, work
from tests.network import job, node, until
from tests.served import ServedNetwork, rest_of

# A server starts many times here, which takes long where others use the machine too.
pytestmark = pytest.mark.timeout(600)
THREADS, JOBS_EACH = 4, 10
WITHIN_S = 120.0


class Burst:
    """Clients that submit at the same time, each job under a key of its own and again until it is acknowledged."""

    def __init__(self, network: ServedNetwork) -> None:
        self.acknowledged: dict[str, str] = {}
        self.faults: list[str] = []
        self._network = network
        self._threads = [threading.Thread(target=self._submit_all, args=(number,), daemon=True) for number in range(THREADS)]

    def __enter__(self) -> Burst:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(WITHIN_S)
        assert not any(thread.is_alive() for thread in self._threads)

    def _submit_all(self, number: int) -> None:
        with httpx.Client(headers=self._network.bearer(self._network.operator_token()), trust_env=False, timeout=30) as client:
            for key in (f"job-{number}-{count}" for count in range(JOBS_EACH)):
                while key not in self.acknowledged:
                    self._submit(client, key)

    def _submit(self, client: httpx.Client, key: str) -> None:
        try:
            answer = client.post(f"{self._network.url}/v1/jobs", json=job(key), headers={"Idempotency-Key": key})
        except httpx.TransportError:
            time.sleep(0.02)
            return
        if answer.is_success:
            self.acknowledged[key] = answer.json()["id"]
        elif answer.status_code != 503:
            self.faults.append(answer.text)
            self.acknowledged[key] = ""


def lasting(seed: int) -> Callable[[RunRequest], Behaviour]:
    """A script whose runs take from nothing to a second, by seed and run."""
    return lambda run: Behaviour(duration_s=random.Random(f"{seed}/{run.run_id}").choice([0.0, 0.2, 0.5, 1.0]))


@pytest.fixture
def killable(tmp_path: Path) -> Iterator[ServedNetwork]:
    """A served network whose members give a killed server time to come back."""
    with ServedNetwork(tmp_path / "data", **PATIENT) as network:
        network.add_tenant()
        yield network


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_acknowledged_job_is_kept_and_done_once(killable: ServedNetwork, seed: int) -> None:
    chance, total = random.Random(seed), THREADS * JOBS_EACH
    for name in ("one", "two"):
        killable.add_cluster(name, node(cpu=3), script=lasting(seed))
    with Burst(killable) as burst:
        for least in sorted(chance.sample(range(1, total - 5), 2)):
            until(lambda least=least: len(burst.acknowledged) >= least, f"{least} jobs are acknowledged", WITHIN_S)
            # The kill falls anywhere into what the server does next.
            time.sleep(chance.uniform(0, 0.1))
            killable.kill_server()
            killable.start_server()
    assert burst.faults == []
    assert len(burst.acknowledged) == total
    _all_done_once(killable, list(burst.acknowledged.values()))


def test_running_and_waiting_jobs_go_on_as_if_nothing_had_happened(killable: ServedNetwork) -> None:
    killable.add_cluster("sh", node(cpu=2), script=lambda _run: Behaviour(duration_s=2.0))
    ids = [killable.submit(job(f"job-{number}"))["id"] for number in range(6)]
    until(lambda: len(_in_state(killable, "running")) == 2, "as many run as there is room for", WITHIN_S)
    assert _in_state(killable, "queued")
    killable.kill_server()
    killable.start_server()
    _all_done_once(killable, ids)


def _in_state(network: ServedNetwork, state: str) -> list[str]:
    return [item["id"] for item in network.ok(network.operator.get("/jobs", params={"state": state, "limit": 1000}))["items"]]


def _all_done_once(network: ServedNetwork, ids: Sequence[str]) -> None:
    """Each of these jobs, and no other, succeeded in its first run, was started once and settled once."""
    for job_id in ids:
        done = network.wait(job_id, seconds=WITHIN_S)
        assert (done["state"], done["attempts"], len(done["runs"])) == ("succeeded", 1, 1)
        assert [state for state, _ in network.moves(job_id)].count("succeeded") == 1
        assert network.ok(network.operator.get(f"/jobs/{job_id}/receipt"))["run_id"] == done["run_id"]
    assert sorted(_in_state(network, "succeeded")) == sorted(set(ids))
    assert len(network.ok(network.operator.get("/jobs", params={"limit": 1000}))["items"]) == len(ids)
    started = [Counter(memory.started) for memory in network.clusters.values()]
    assert sum(started, Counter()) == {f"{job_id}-1": 1 for job_id in ids}
    assert [fault for memory in network.clusters.values() for fault in memory.violations] == []


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """A market whose server may be killed; each test starts it again."""
    with open_market(tmp_path_factory.mktemp("shop")) as opened:
        yield opened


def test_who_waits_at_the_command_line_is_told_and_gets_the_result(shop: Market) -> None:
    shop.operator("cluster", "cordon", "sh")
    waiting = shop.acme.start("job", "submit", "-f", manifest(shop.acme, "patient"), "--wait")
    assert waiting.stderr is not None
    told = iter(waiting.stderr.readline, "")
    assert "submitted job-" in next(told)
    assert any("cordoned" in line for line in told)
    shop.network.kill_server()
    assert any("the server does not answer; trying again (the job is safe)" in line for line in told)
    shop.network.start_server()
    shop.operator("cluster", "uncordon", "sh")
    said = rest_of(waiting)
    assert said.status == 0
    assert "2 rows" in said.out


def test_a_followed_log_goes_on_where_the_server_broke_off(shop: Market) -> None:
    job_id = shop.acme("job", "submit", "-f", work(shop.acme, "talk"), "-o", "json").document["id"]
    following = shop.acme.start("job", "logs", "-f", job_id)
    assert following.stdout is not None
    lines = [following.stdout.readline() for _ in range(2)]
    shop.network.kill_server()
    shop.network.start_server()
    lines += [following.stdout.readline() for _ in range(4)]
    shop.acme("job", "cancel", job_id)
    said = rest_of(following)
    lines += said.out.splitlines(keepends=True)
    assert said.status == 0
    assert lines == [f"line {number}\n" for number in range(len(lines))]
