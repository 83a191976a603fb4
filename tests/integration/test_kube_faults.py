"""A Kubernetes member whose API server is away, refuses, forgets or is emptied: no work is done twice, and no run hangs."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.kubernetes import backend as backend_module
from cluster.backends.kubernetes import pod_attempt
from cluster.backends.kubernetes.access import Access
from cluster.backends.kubernetes.backend import KubernetesBackend
from cluster.backends.kubernetes.client import Answer, Document, Event, KubeClient
from cluster.errors import BusyError, ClusterError, ConflictError, ExpiredError, TransientError, UnreachableError
from cluster.protocol import RunFinished
from tests.kube.control_plane import ADMIN
from tests.kube.faulty import FaultyApi, running_faulty_api
from tests.kube.kubelet import MERGE, Kubelet
from tests.kube.member import FixedStock, member, settings_of
from tests.kube.scene import Scene, scene
from tests.ray_runs import request, script

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(300)]

SPACE = "faults"
COUNTS = "echo once >> {0}; sleep 0.5; echo done"


class Faulty(KubeClient):
    """A client whose calls fail as a test says: before or, `after` it was carried out, instead of its answer."""

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self.faults: list[tuple[str, str, ClusterError, bool]] = []
        self.watches: list[ClusterError] = []
        self.asked: list[str] = []

    async def ask(
        self, method: str, path: str, query: dict[str, str] | None = None, body: Document | None = None, content: str = ""
    ) -> Answer:  # fmt: skip
        self.asked.append(f"{method} {path}")
        fault = next((one for one in self.faults if one[0] == method and one[1] in path), None)
        if fault is None:
            return await super().ask(method, path, query, body, content)
        self.faults.remove(fault)
        if fault[3]:
            await super().ask(method, path, query, body, content)
        raise fault[2]

    async def watch(self, path: str, version: str, **how: Any) -> AsyncIterator[Event]:
        async for event in super().watch(path, version, **how):
            if self.watches:
                raise self.watches.pop()
            yield event


def faulty(kubelet: Kubelet, directory: Path) -> tuple[KubernetesBackend, Faulty]:
    client = Faulty(Access(kubelet.servers.kubeconfig(ADMIN), namespace=SPACE))
    return KubernetesBackend(client, FixedStock(kubelet), settings_of(SPACE), directory), client


async def forget(here: Scene, *run_ids: str) -> None:
    for run_id in run_ids:
        await here.backend.forget(run_id)
    await here.until(lambda: here.operator.names() == [], "nothing of the runs is left")


def test_answers_that_are_lost_and_servers_that_are_busy_make_nothing_twice(kubelet: Kubelet, tmp_path: Path) -> None:
    backend, client = faulty(kubelet, tmp_path / "agent")
    client.faults = [
        ("POST", "secrets", UnreachableError("the answer was lost"), True),
        ("PATCH", "services", ConflictError("409"), False),
        ("PATCH", "jobs", BusyError("429", 0.1), False),
        ("PATCH", "jobs", TransientError("500"), True),
    ]
    run = request(("node-1", "node-2"), command=("sh", "main.sh"), files={"main.sh": COUNTS.format(tmp_path / "ledger")})

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path, backend) as here:
            finished = await here.run(run)
            assert (finished.outcome, client.faults) == ("succeeded", [])
            assert len(here.operator.items("jobs")) == 2
            await forget(here, run.run_id)

    asyncio.run(scenario())
    assert (tmp_path / "ledger").read_text() == "once\n" * 2


def test_a_watch_that_is_cut_or_has_expired_goes_on_from_a_new_list(kubelet: Kubelet, tmp_path: Path) -> None:
    backend, client = faulty(kubelet, tmp_path / "agent")
    client.watches = [ExpiredError("410"), UnreachableError("cut")]
    run = script("node-1", COUNTS.format(tmp_path / "ledger"))

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path, backend) as here:
            finished = await here.run(run)
            assert (finished.outcome, here.log(run)) == ("succeeded", "done\n")
            assert client.watches == []
            await forget(here, run.run_id)

    asyncio.run(scenario())
    assert (tmp_path / "ledger").read_text() == "once\n"


def test_an_api_server_that_is_away_during_start_and_run_costs_nothing(kubelet: Kubelet, tmp_path: Path) -> None:
    go = tmp_path / "go"
    first = script("node-1", f'echo "one 第一"; until [ -e {go} ]; do sleep 0.05; done; echo two; echo once >> {tmp_path}/first')
    second = script("node-2", COUNTS.format(tmp_path / "second"))

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path) as here:
            await here.started(first)
            kubelet.servers.stop_api_server()
            await here.backend.start(second)
            go.touch()
            await here.until((tmp_path / "first").exists, "the work goes on meanwhile")
            assert not any(isinstance(event, RunFinished) for event in here.watch.of(first.run_id))
            await asyncio.to_thread(kubelet.servers.start_api_server)
            assert [(await here.ended(run)).outcome for run in (first, second)] == ["succeeded", "succeeded"]
            assert here.log(first) == "one 第一\ntwo\n"
            assert len(here.operator.items("jobs")) == 2
            await forget(here, first.run_id, second.run_id)

    asyncio.run(scenario())
    assert [(tmp_path / name).read_text() for name in ("first", "second")] == ["once\n", "once\n"]


RULES = [
    {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list", "watch", "delete"]},
    {"apiGroups": [""], "resources": ["secrets", "services"], "verbs": ["get", "list", "create", "patch", "delete"]},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
]


def grant(kubelet: Kubelet, rules: list[dict[str, Any]]) -> None:
    """Rights of the user `agent` in the namespace; those of before are taken away."""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "agent", "namespace": SPACE}, "rules": rules}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "agent", "namespace": SPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "agent"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "agent"}],
    }  # fmt: skip
    kubelet.servers.apply(role, binding)
    with kubelet.servers.client() as client:
        path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{SPACE}/roles/agent"
        client.put(path, json=role).raise_for_status()


def test_rights_that_are_taken_away_stop_nothing_and_are_used_again_when_they_are_back(kubelet: Kubelet, tmp_path: Path) -> None:
    go = tmp_path / "go"
    run = script("node-1", f"until [ -e {go} ]; do sleep 0.05; done; echo done")
    other = script("node-2", "true")

    async def scenario() -> None:
        backend = member(kubelet, SPACE, tmp_path, "agent")
        kubelet.servers.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}})
        grant(kubelet, RULES)
        async with scene(kubelet, SPACE, tmp_path, backend) as here:
            await here.started(run)
            grant(kubelet, [RULES[0] | {"verbs": ["get", "list", "watch"]}, RULES[1]])
            finished = await here.run(other)
            assert (finished.outcome, finished.category) == ("failed", "start_failed")
            assert "jobs" in finished.message
            assert "forbidden" in finished.message
            await here.backend.stop(run.run_id, outcome="cancelled", grace_s=1.0)
            grant(kubelet, RULES)
            assert (await here.ended(run)).outcome == "cancelled"
            await forget(here, run.run_id, other.run_id)

    asyncio.run(scenario())


def test_a_member_that_may_not_see_its_runs_any_more_says_so_until_it_may_again(
    kubelet: Kubelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(backend_module, "PATIENCE_S", 0.5)
    kubelet.servers.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}})
    grant(kubelet, RULES)
    run = script("node-1", COUNTS.format(tmp_path / "ledger"))

    async def inventory(here: Scene) -> str:
        try:
            return str(len((await here.backend.inventory()).nodes))
        except UnreachableError as error:
            return str(error)

    async def until(here: Scene, words: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        async with asyncio.timeout(60):
            while words not in await inventory(here):
                meanwhile()
                await asyncio.sleep(0.3)

    async def scenario(api: FaultyApi) -> None:
        client = KubeClient(Access(api.kubeconfig("agent"), namespace=SPACE))
        backend = KubernetesBackend(client, FixedStock(kubelet), settings_of(SPACE), tmp_path / "agent")
        async with scene(kubelet, SPACE, tmp_path, backend) as here:
            grant(kubelet, [*RULES[:2], RULES[2] | {"verbs": ["get", "list", "create", "patch", "delete"]}])
            await until(here, "the pods and Jobs of its runs cannot be watched: GET /apis/batch/v1/namespaces/faults/jobs: 403", api.cut)
            grant(kubelet, RULES)
            await until(here, "2")
            assert (await here.run(run)).outcome == "succeeded"
            await forget(here, run.run_id)

    with running_faulty_api(tmp_path, kubelet.servers) as api:
        asyncio.run(scenario(api))
    assert (tmp_path / "ledger").read_text() == "once\n"


def test_a_namespace_that_is_deleted_takes_its_runs_along(kubelet: Kubelet, tmp_path: Path) -> None:
    run, other = script("node-1", "sleep 600"), script("node-2", "true")

    async def scenario() -> None:
        async with scene(kubelet, "doomed", tmp_path) as here:
            await here.started(run)
            here.operator.send("DELETE", "/api/v1/namespaces/doomed", {}).raise_for_status()
            finished = await here.ended(run)
            assert (finished.outcome, finished.category) == ("lost", "lost")
            finished = await here.run(other)
            assert (finished.outcome, finished.category) == ("failed", "start_failed")

    asyncio.run(scenario())


def test_a_namespace_that_is_made_anew_takes_runs_again(kubelet: Kubelet, tmp_path: Path) -> None:
    run, other = script("node-1", "sleep 600"), script("node-2", COUNTS.format(tmp_path / "ledger"))

    async def scenario() -> None:
        async with scene(kubelet, "reborn", tmp_path) as here:
            await here.started(run)
            here.operator.send("DELETE", "/api/v1/namespaces/reborn", {}).raise_for_status()
            assert (await here.ended(run)).outcome == "lost"
            await here.until(lambda: here.operator.send("GET", "/api/v1/namespaces/reborn", {}).status_code == 404, "it is gone")
            kubelet.servers.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "reborn"}})
            assert (await here.run(other)).outcome == "succeeded"
            await forget(here, run.run_id, other.run_id)

    asyncio.run(scenario())
    assert (tmp_path / "ledger").read_text() == "once\n"


@pytest.mark.parametrize("off_s", [-900.0, 900.0], ids=["behind", "ahead"])
def test_an_agent_whose_clock_is_off_goes_by_the_clock_of_the_api_server(kubelet: Kubelet, tmp_path: Path, off_s: float) -> None:
    """Its pods go by theirs when they ask whether they have come too late."""
    client = KubeClient(Access(kubelet.servers.kubeconfig(ADMIN), namespace=SPACE), clock=lambda: time.time() + off_s)
    backend = KubernetesBackend(client, FixedStock(kubelet), settings_of(SPACE), tmp_path / "agent", start_limit_s=200.0)
    run = script("node-1", COUNTS.format(tmp_path / "ledger"))

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path, backend) as here:
            finished = await here.run(run)
            assert (finished.outcome, finished.message) == ("succeeded", "")
            (secret,) = here.operator.items("secrets", f"cpn.dev/run={run.run_id}")
            made_at = dt.datetime.fromisoformat(secret["metadata"]["creationTimestamp"]).timestamp()
            start_by = json.loads(base64.b64decode(secret["data"]["seating.json"]))["start_by"]
            assert abs(start_by - made_at - 200.0) < 30.0
            await forget(here, run.run_id)

    asyncio.run(scenario())
    assert (tmp_path / "ledger").read_text() == "once\n"


def test_a_server_that_is_too_busy_is_asked_again_when_it_says(kubelet: Kubelet, tmp_path: Path) -> None:
    run = request(("node-1", "node-2"), command=("sh", "main.sh"), files={"main.sh": COUNTS.format(tmp_path / "ledger")})
    message = {"kind": "Status", "code": 429, "reason": "TooManyRequests", "message": "the server is overloaded"}

    def busy(api: FaultyApi, *words: str, times: int, after_s: int) -> None:
        api.fail(*words, status=429, times=times, document=message, headers={"Retry-After": str(after_s)})

    async def scenario(api: FaultyApi) -> None:
        client = KubeClient(Access(api.kubeconfig(ADMIN), namespace=SPACE))
        backend = KubernetesBackend(client, FixedStock(kubelet), settings_of(SPACE), tmp_path / "agent")
        async with scene(kubelet, SPACE, tmp_path, backend) as here:
            busy(api, "POST", "/secrets", times=1, after_s=7)
            busy(api, "PATCH", "/jobs/", times=2, after_s=1)
            busy(api, "GET", "/log", times=6, after_s=1)
            begun = time.monotonic()
            await here.backend.start(run)
            finished = await here.ended(run)
            assert (finished.outcome, finished.message) == ("succeeded", "")
            assert time.monotonic() - begun >= 7 + 1 + 1, "as long as it asked"
            assert api.asked[f"POST /api/v1/namespaces/{SPACE}/secrets"] == 2, "and not more often"
            busy(api, "DELETE", times=3, after_s=1)
            await forget(here, run.run_id)

    with running_faulty_api(tmp_path, kubelet.servers) as api:
        asyncio.run(scenario(api))
    assert (tmp_path / "ledger").read_text() == "once\n" * 2


def test_a_node_that_is_gone_has_lost_its_runs(kubelet: Kubelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in's node stays; what Kubernetes does about one that does not answer is done by hand: its pods are taken off the books."""
    monkeypatch.setattr(pod_attempt, "LAST_WORDS_S", 0.5)
    run = request(("node-1", "node-2"), command=("sleep", "600"))

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path) as here:
            await here.started(run)
            (pod,) = [pod for pod in here.operator.items("pods", f"cpn.dev/run={run.run_id}") if pod["spec"]["nodeName"] == "node-2"]
            status = {"status": {"phase": "Failed", "reason": "NodeLost", "message": "Node node-2 which was running it is unresponsive"}}
            with kubelet.servers.client() as client:
                client.patch(
                    f"/api/v1/namespaces/{SPACE}/pods/{pod['metadata']['name']}/status", json=status, headers=MERGE
                ).raise_for_status()
            finished = await here.ended(run)
            assert (finished.outcome, finished.category) == ("lost", "lost")
            assert "NodeLost" in finished.message
            await forget(here, run.run_id)

    asyncio.run(scenario())
