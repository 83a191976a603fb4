"""A Kubernetes member as its operator makes one: registered, its manifest applied, its agent with the manifest's own command and account.

There is no kubelet that gives a pod its account, so the agent's process is given a kubeconfig with the account's token beside that command.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.backends.kubernetes.manifest import DIRECTORY, NAME
from controlplane.agent_signs import ALIVE, ANSWERED
from tests.acceptance.market import Market, open_market
from tests.charts import containers_of, of_kind, pods_of
from tests.kube import kuberay
from tests.kube.accounts import account_token
from tests.kube.applying import applied
from tests.kube.kubelet import Kubelet
from tests.network import until
from tests.served import Cpn, command, environment

pytestmark = [pytest.mark.kube, pytest.mark.slow, pytest.mark.timeout(600)]

SPACE, WAIT_S = "lab", 300.0
PRICES = ("--cpu-price", "0.40 CNY", "--memory-price", "0.02 CNY", "--transfer-price", "0.50 CNY")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    with open_market(tmp_path_factory.mktemp("market")) as opened:
        yield opened


def start_agent(kubelet: Kubelet, objects: list[dict[str, Any]], folder: Path) -> subprocess.Popen[bytes]:
    """The agent's own command and environment, in a folder that stands for its volume."""
    (container,) = containers_of(*pods_of(objects).values())
    secret = of_kind(objects, "Secret")["stringData"]
    given = {item["name"]: item.get("value") or secret[item["valueFrom"]["secretKeyRef"]["key"]] for item in container["env"]}
    with kubelet.servers.client() as api:
        config = kubelet.servers.kubeconfig(NAME, account_token(api, SPACE, NAME))
    words = [word.replace(DIRECTORY, str(folder)) for word in container["args"]]
    with (folder.parent / "agent.log").open("ab") as log:
        return subprocess.Popen(
            command(*words, "--kubeconfig", str(config)), env=environment(**given), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


@pytest.fixture(scope="module")
def member(market: Market, kubelet: Kubelet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The member lab, healthy; the folder of its agent."""
    operator = market.operator
    operator("cluster", "register", "lab", "--backend", "kubernetes", "--jurisdiction", "CN-SH", "--no-join-token", *PRICES)
    said = operator("cluster", "manifest", "lab", "--namespace", SPACE, "--image", "local/cpn:1", "--server-url", market.network.url)
    objects = list(yaml.safe_load_all(said.out))
    with kubelet.servers.client() as api:
        for item in objects:
            applied(api, item)
    folder = tmp_path_factory.mktemp("agent") / "volume"
    folder.mkdir()
    process = start_agent(kubelet, objects, folder)
    try:
        until(lambda: seen(operator)["health"] == "healthy", f"the member is healthy: {folder}", WAIT_S)
        yield folder
    finally:
        process.terminate()
        assert process.wait(WAIT_S) == 0


def seen(operator: Cpn) -> dict[str, Any]:
    found: dict[str, Any] = operator("cluster", "show", "lab", "-o", "json").document
    return found


def test_the_member_is_counted_and_says_how_it_is_driven(market: Market, member: Path) -> None:
    shown = seen(market.operator)
    assert shown["backend_version"].startswith("kubernetes v1.20")
    assert (shown["nodes_ready"], shown["driver"]["way"]) == (2, "pods")
    assert shown["runs_only"].startswith("jobs of kind sql by DuckDB, command, training, and ray where it has KubeRay")
    assert (member / ALIVE).exists()
    assert (member / ANSWERED).exists()


@pytest.mark.usefixtures("member")
def test_a_job_runs_there(market: Market) -> None:
    document = {
        "name": "hello", "tenant": "acme", "kind": "command", "purpose": "research", "command": ["sh", "-c", "echo hello from lab"],
        "placement": {"clusters": ["lab"]}, "resources": {"cpu": 1, "memory": "256MiB"},
    }  # fmt: skip
    acme = market.acme
    done = acme("job", "submit", "-f", acme.write("hello.json", json.dumps(document)), "--wait", "-o", "json").document
    assert (done["state"], done["cluster"]) == ("succeeded", "lab")
    assert acme("job", "logs", done["id"]).out == "hello from lab\n"


HELLO = {
    "name": "hello", "tenant": "acme", "kind": "command", "purpose": "research", "command": ["true"],
    "placement": {"clusters": ["lab"]}, "resources": {"cpu": 1, "memory": "256MiB"},
}  # fmt: skip
RAYS = {**HELLO, "kind": "ray", "command": ["python", "main.py"], "files": {"main.py": "print(1)"}}

ON_DAFT = {"kind": "sql", "command": [], "sql": "SELECT carrier FROM flights", "inputs": {"flights": "nyc/flights@1"}}


def planned(cpn: Cpn, document: dict[str, Any]) -> tuple[str, list[dict[str, str]]]:
    """Where a job would go, and what stands against it at the member lab."""
    found = cpn("job", "plan", "-f", cpn.write("planned.json", json.dumps(document)), "-o", "json").document
    (lab,) = [item for item in found["verdicts"] if item["cluster"] == "lab"]
    return found["chosen"], lab["obstacles"]


@pytest.mark.usefixtures("member")
@pytest.mark.parametrize(
    ("fields", "message", "remedy"),
    [
        ({**ON_DAFT, "engine": "daft"}, "a statement for Daft", "leave out engine"),
        ({"resources": {"accelerator": {"model": "H200", "share": 0.5}}}, "a share of an accelerator", "ask for whole accelerators"),
        ({**RAYS, "resources": {"cpu": 0.5}}, "a node of Ray with 0.5 cores", "ask for whole cores (resources.cpu: 1)"),
        ({**RAYS, "runtime_env": {"pip": ["torch"]}}, "brings packages (runtime_env.pip)", "leave runtime_env.pip out"),
        ({"files": {"data.csv": "x" * 700_000}}, "brings 684 KiB of files", "bring files in the image or as a product"),
    ],
)  # fmt: skip
def test_what_it_cannot_run_is_refused_in_the_plan_with_what_to_do(
    market: Market, fields: dict[str, Any], message: str, remedy: str
) -> None:
    chosen, obstacles = planned(market.acme, {**HELLO, **fields})
    assert chosen is None
    (found,) = [item for item in obstacles if item["reason"] == "kind_unsupported"]
    assert message in found["message"]
    assert remedy in found["remedy"]


@pytest.mark.usefixtures("member")
def test_programs_of_kind_ray_are_planned_there_once_kuberay_is_there_and_they_are_switched_on(market: Market, kubelet: Kubelet) -> None:
    acme, operator = market.acme, market.operator
    chosen, (found,) = planned(acme, RAYS)
    assert (chosen, found["reason"]) == (None, "kind_unsupported")
    assert found["message"] == "the cluster has no RayJob (ray.io/v1), by which Kubernetes members run kind ray"
    assert found["remedy"] == "ask its operator for KubeRay 1.0 or later, or choose another cluster"
    assert seen(operator)["lacks"] == [f"{found['message']}; {found['remedy']}"]
    assert "the cluster has no RayJob" in operator("cluster", "show", "lab").out
    kuberay.install(kubelet.servers)
    try:
        until(lambda: seen(operator)["lacks"] == [], "its agent has seen that it came", WAIT_S)
        chosen, (found,) = planned(acme, RAYS)
        assert (chosen, "has not switched it on" in found["message"]) == (None, True)
        operator("cluster", "change", "lab", "--ray-jobs")
        assert planned(acme, RAYS) == ("lab", [])
    finally:
        kuberay.uninstall(kubelet.servers)
    until(lambda: seen(operator)["lacks"] != [], "its agent has seen that it went", WAIT_S)
    assert planned(acme, RAYS)[0] is None


@pytest.mark.usefixtures("member")
def test_an_elastic_gang_keeps_the_workers_that_it_was_placed_with_and_is_quoted_and_charged_for_these(market: Market) -> None:
    command = ["sh", "-c", "echo rank $CPN_RANK of $CPN_WORLD_SIZE"]
    resources = {"cpu": 4, "memory": "256MiB", "workers": {"min": 2, "max": 9}}
    asked = {**HELLO, "name": "elastic", "command": command, "resources": resources}
    acme = market.acme
    done = acme("job", "submit", "-f", acme.write("elastic.json", json.dumps(asked)), "--wait", "-o", "json").document
    assert (done["state"], done["cluster"], len(done["nodes"])) == ("succeeded", "lab", 4), "there is room for four on two nodes"
    said = acme("job", "logs", done["id"]).out
    assert sorted(line[line.rindex("rank") :] for line in said.splitlines()) == [f"rank {rank} of 4" for rank in range(4)]
    (run,) = done["runs"]
    assert (run["workers"], run["resizing_to"]) == (4, None)
    receipt = acme("job", "receipt", done["id"], "-o", "json").document
    for document in (done["quote"], receipt):
        (cores,) = [line for line in document["lines"] if line["item"] == "cpu"]
        assert cores["detail"] == "4 cores, 4 workers"


def test_an_agent_that_is_started_again_needs_no_other_join_token(market: Market, member: Path) -> None:
    tokens = {item["id"]: item for item in market.operator("token", "list", "-o", "json").document["items"] if item["cluster"] == "lab"}
    assert sorted(item["role"] for item in tokens.values()) == ["agent", "join"]
    kept = json.loads((member / "agent-token.json").read_text())
    assert (kept["cluster"], kept["joined"]) == ("lab", "yes")
    assert os.stat(member / "agent-token.json").st_mode & 0o077 == 0
