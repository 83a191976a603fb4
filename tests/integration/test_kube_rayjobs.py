"""Runs of kind ray as RayJobs: what is asked of KubeRay, and how its words become the run's. The operator is a stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.kubernetes.objects import name_of
from cluster.errors import RunRejectedError
from cluster.protocol import RunRequest, SmallFile
from tests.kube.applying import applied, dropped
from tests.kube.kubelet import Kubelet
from tests.kube.kuberay import API, install, running_kuberay, uninstall
from tests.kube.member import member, namespace
from tests.kube.scene import Scene, scene
from tests.ray_runs import command, request

pytestmark = [pytest.mark.kube, pytest.mark.timeout(240)]

SPACE = "rays"
PROGRAM = """
import json, os, pathlib, sys
print("a Ray at", os.environ["RAY_ADDRESS"], "as", sys.argv[1], flush=True)
env = json.loads(os.environ["RAY_JOB_CONFIG_JSON_ENV_VAR"])["runtime_env"]
pathlib.Path(os.environ["CPN_OUTPUT_DIR"], "answer.json").write_text(json.dumps(env["env_vars"]))
"""


@pytest.fixture(scope="module", autouse=True)
def kuberay(kubelet: Kubelet) -> Iterator[None]:
    install(kubelet.servers)
    yield
    uninstall(kubelet.servers)


def program(text: str, *nodes: str, **fields: Any) -> RunRequest:
    fields = {"command": ("python", "main.py", "x"), "files": {"main.py": text}, "cpu": 1.0, **fields}
    return request(nodes or ("node-1",), kind="ray", **fields)


def rayjob(here: Scene, run: RunRequest) -> dict[str, Any]:
    answer = here.operator.send("GET", f"{API}/namespaces/{SPACE}/rayjobs/{name_of(run.run_id)}", {})
    found: dict[str, Any] = answer.json() if answer.is_success else {}
    return found


async def gone(here: Scene, run: RunRequest) -> None:
    await here.backend.forget(run.run_id)
    await here.until(lambda: here.operator.names() == [] and not rayjob(here, run), "nothing of the run is left")


def test_a_program_has_a_ray_of_its_own_on_the_nodes_that_were_placed(kubelet: Kubelet, tmp_path: Path) -> None:
    run = program(PROGRAM, "node-2", "node-1", "node-1", runtime_env={"env_vars": {"COLOUR": "blue"}})

    async def scenario() -> None:
        with running_kuberay(kubelet.servers, SPACE):
            async with scene(kubelet, SPACE, tmp_path) as here:
                finished = await here.run(run)
                assert (finished.outcome, finished.message) == ("succeeded", "")
                assert here.log(run) == "a Ray at 10.0.0.1:6379 as x\n"
                (answer,) = finished.files
                assert isinstance(answer, SmallFile)
                assert (answer.name, answer.read()) == ("answer.json", b'{"COLOUR": "blue"}')
                ray = rayjob(here, run)["spec"]["rayClusterSpec"]
                assert [places_of(ray["headGroupSpec"])] == [["node-2"]]
                (group,) = ray["workerGroupSpecs"]
                assert (group["replicas"], places_of(group)) == (2, ["node-1"])
                assert group["rayStartParams"]["num-cpus"] == "1"
                (job,) = here.operator.items("pods", f"cpn.dev/job={run.job_id}")
                assert job["metadata"]["labels"]["cpn.dev/kind"] == "ray"
                await gone(here, run)

    asyncio.run(scenario())


def places_of(group: dict[str, Any]) -> list[str]:
    """The nodes that a group's pods may be on."""
    terms = group["template"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return [term["matchFields"][0]["values"][0] for term in terms]


def test_nothing_that_is_asked_for_is_unknown_to_the_published_kind(kubelet: Kubelet, tmp_path: Path) -> None:
    run = program(PROGRAM, "node-1", "node-2")

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path) as here:
            await here.backend.start(run)
            await here.until(lambda: bool(rayjob(here, run)), "the RayJob is made")
            made = rayjob(here, run)
            wanted = {"apiVersion": made["apiVersion"], "kind": "RayJob", "metadata": {"name": "probe", "namespace": SPACE}}
            with kubelet.servers.client() as api:
                assert dropped({"spec": made["spec"]}, applied(api, {**wanted, "spec": made["spec"]})) == []
                api.delete(f"{API}/namespaces/{SPACE}/rayjobs/probe")
            await here.backend.stop(run.run_id, outcome="cancelled", grace_s=1.0)
            assert (await here.ended(run)).outcome == "cancelled"
            await gone(here, run)

    asyncio.run(scenario())


def test_a_program_that_is_cancelled_takes_its_ray_along(kubelet: Kubelet, tmp_path: Path) -> None:
    run = program("import time\ntime.sleep(600)")

    async def scenario() -> None:
        with running_kuberay(kubelet.servers, SPACE):
            async with scene(kubelet, SPACE, tmp_path) as here:
                await here.started(run)
                await here.backend.stop(run.run_id, outcome="cancelled", grace_s=1.0)
                assert (await here.ended(run)).outcome == "cancelled"
                assert not rayjob(here, run)
                await gone(here, run)

    asyncio.run(scenario())


@pytest.mark.slow
def test_an_exit_code_is_the_programs_own(kubelet: Kubelet, tmp_path: Path) -> None:
    run = program("raise SystemExit(7)")

    async def scenario() -> None:
        with running_kuberay(kubelet.servers, SPACE):
            async with scene(kubelet, SPACE, tmp_path) as here:
                finished = await here.run(run)
                assert (finished.outcome, finished.category, finished.exit_code) == ("failed", "exit", 7)
                await gone(here, run)

    asyncio.run(scenario())


@pytest.mark.slow
def test_an_agent_that_begins_anew_goes_on_with_what_runs(kubelet: Kubelet, tmp_path: Path) -> None:
    run = program(f"import os, time\nwhile not os.path.exists('{tmp_path}/go'): time.sleep(0.02)\nprint('went on')")

    async def scenario() -> None:
        with running_kuberay(kubelet.servers, SPACE):
            async with scene(kubelet, SPACE, tmp_path / "one") as here:
                await here.started(run)
            async with scene(kubelet, SPACE, tmp_path / "two") as here:
                (tmp_path / "go").touch()
                assert (await here.ended(run)).outcome == "succeeded"
                assert here.log(run) == "went on\n"
                await gone(here, run)

    asyncio.run(scenario())


def test_what_kuberay_says_of_a_job_that_it_does_not_start_is_the_runs_end(kubelet: Kubelet, tmp_path: Path) -> None:
    run = program(PROGRAM)

    async def scenario() -> None:
        with running_kuberay(kubelet.servers, SPACE, refuses="the webhook says no"):
            async with scene(kubelet, SPACE, tmp_path) as here:
                finished = await here.run(run)
                assert (finished.outcome, finished.category) == ("failed", "start_failed")
                assert finished.message == "KubeRay did not start it: Failed: the webhook says no"
                await gone(here, run)

    asyncio.run(scenario())


def test_an_operator_that_does_nothing_is_waited_for_as_long_as_for_pods(kubelet: Kubelet, tmp_path: Path) -> None:
    run = program(PROGRAM)

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path, start_limit_s=0.5) as here:
            finished = await here.run(run)
            assert (finished.outcome, finished.category) == ("failed", "start_failed")
            assert finished.message == "it did not start within 0.5 s: KubeRay has not looked at it yet"
            await gone(here, run)

    asyncio.run(scenario())


def test_a_rayjob_that_somebody_deletes_is_a_lost_run(kubelet: Kubelet, tmp_path: Path) -> None:
    run = program(PROGRAM)

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path) as here:
            await here.backend.start(run)
            await here.until(lambda: bool(rayjob(here, run)), "the RayJob is made")
            await here.until(lambda: bool(here.backend._board.jobs(run.run_id)), "its making was seen")
            here.operator.send("DELETE", f"{API}/namespaces/{SPACE}/rayjobs/{name_of(run.run_id)}", {})
            finished = await here.ended(run)
            assert (finished.outcome, finished.message) == ("lost", "its Job was deleted by somebody else")
            await gone(here, run)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"command": ()}, "kind ray and has no command"),
        ({"cpu": 0.5}, "Ray on Kubernetes have whole ones; ask for cpu: 1"),
        ({"runtime_env": {"pip": ["torch"]}}, "ask the operator for an image that has them"),
    ],
)
def test_what_a_rayjob_cannot_be_is_refused_with_what_to_do(kubelet: Kubelet, tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path) as here:
            with pytest.raises(RunRejectedError, match=words):
                await here.backend.start(program(PROGRAM, **fields))

    asyncio.run(scenario())


def test_without_kuberay_such_a_run_is_refused_and_taken_once_it_is_there(kubelet: Kubelet, tmp_path: Path) -> None:
    run = program(PROGRAM)
    uninstall(kubelet.servers)

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path) as here:
            with pytest.raises(RunRejectedError, match=r"has no RayJob \(ray.io/v1\).*ask its operator for KubeRay 1.0 or later"):
                await here.backend.start(run)
            install(kubelet.servers)
            await here.backend.start(run)
            await here.until(lambda: bool(rayjob(here, run)), "the RayJob is made")
            await here.backend.stop(run.run_id, outcome="cancelled", grace_s=1.0)
            await here.ended(run)
            await gone(here, run)

    asyncio.run(scenario())


def test_an_agent_without_the_right_to_rayjobs_runs_all_else_and_says_what_is_missing(kubelet: Kubelet, tmp_path: Path) -> None:
    namespace(kubelet, SPACE)
    everything = {"apiGroups": ["", "batch"], "resources": ["*"], "verbs": ["*"]}
    head = {"metadata": {"name": "without-rays", "namespace": SPACE}}
    group = "rbac.authorization.k8s.io"
    binding: dict[str, Any] = {"roleRef": {"apiGroup": group, "kind": "Role", "name": "without-rays"}}
    binding["subjects"] = [{"apiGroup": group, "kind": "User", "name": "agent"}]
    with kubelet.servers.client() as api:
        applied(api, {"apiVersion": f"{group}/v1", "kind": "Role", **head, "rules": [everything]})
        applied(api, {"apiVersion": f"{group}/v1", "kind": "RoleBinding", **head, **binding})

    async def scenario() -> None:
        async with scene(kubelet, SPACE, tmp_path, member(kubelet, SPACE, tmp_path, "agent")) as here:
            with pytest.raises(RunRejectedError, match=r"no right to the cluster's RayJobs.* give it the rights of cpn's manifest"):
                await here.backend.start(program(PROGRAM))
            run = command("node-1", "true")
            assert (await here.run(run)).outcome == "succeeded"
            await gone(here, run)

    asyncio.run(scenario())
