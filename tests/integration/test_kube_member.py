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


@pytest.mark.usefixtures("member")
def test_programs_of_kind_ray_are_planned_there_once_they_are_switched_on(market: Market) -> None:
    document = {
        "name": "rays", "tenant": "acme", "kind": "ray", "purpose": "research", "command": ["python", "main.py"],
        "files": {"main.py": "print(1)"}, "placement": {"clusters": ["lab"]},
    }  # fmt: skip
    acme, operator = market.acme, market.operator
    path = acme.write("rays.json", json.dumps(document))
    planned = acme("job", "plan", "-f", path, "-o", "json").document
    assert planned["chosen"] is None
    assert "has not switched it on" in json.dumps(planned)
    operator("cluster", "change", "lab", "--ray-jobs")
    assert acme("job", "plan", "-f", path, "-o", "json").document["chosen"] == "lab"


def test_an_agent_that_is_started_again_needs_no_other_join_token(market: Market, member: Path) -> None:
    tokens = {item["id"]: item for item in market.operator("token", "list", "-o", "json").document["items"] if item["cluster"] == "lab"}
    assert sorted(item["role"] for item in tokens.values()) == ["agent", "join"]
    kept = json.loads((member / "agent-token.json").read_text())
    assert (kept["cluster"], kept["joined"]) == ("lab", "yes")
    assert os.stat(member / "agent-token.json").st_mode & 0o077 == 0
