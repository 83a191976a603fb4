"""A Ray cluster joins by a token and one command, as the documents have it: the systemd unit's, run as it is written there."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.network import job, until
from tests.ray import ROOT, WAIT_S, SmallRay, processes_of
from tests.served import Cpn, ServedNetwork

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

NAME = "shanghai"
PRICES = ["--cpu-price", "0.40 CNY", "--memory-price", "0.02 CNY", "--transfer-price", "0.50 CNY"]
DOCUMENT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
UNIT = re.findall(r"^```ini\n(\[Unit\]\n.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)[0]
PROGRAM, ADDRESS, TOKEN_FILE, DIRECTORY = "/opt/cpn/bin/cpn", "127.0.0.1:6379", "/etc/ray/token", "/var/lib/cpn-agent"


def service() -> configparser.SectionProxy:
    """The unit's section on the service."""
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(UNIT)
    return unit["Service"]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedNetwork]:
    with ServedNetwork(tmp_path_factory.mktemp("joining") / "data", suspect_after_s=10.0, lost_after_s=60.0) as running:
        running.add_tenant()
        yield running


@pytest.fixture
def operator(network: ServedNetwork, tmp_path: Path) -> Cpn:
    return network.cpn(tmp_path / "operator")


def started(head: SmallRay, network: ServedNetwork, join_token: str, folder: Path) -> subprocess.Popen[str]:
    """The unit's service on this machine: its command with this machine's places, and its environment file."""
    here = {PROGRAM: shlex.join([sys.executable, "-m", "controlplane.cli.main"]), ADDRESS: head.address, TOKEN_FILE: str(head.token_file)}
    here[DIRECTORY] = str(folder)
    words = shlex.split(service()["ExecStart"])
    assert here.keys() <= set(words)
    command = [word for text in words for word in (shlex.split(here[text]) if text in here else [text])]
    told = {"CPN_SERVER": network.url, "CPN_JOIN_TOKEN": join_token}
    assert all(f"`{name}=…`" in DOCUMENT for name in told), "the environment file is described"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CPN_", "RAY_"))}
    with (folder.parent / "agent.log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, env={**kept, **told}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True)


@pytest.mark.slow
def test_a_cluster_joins_by_the_units_command_works_and_is_refused_a_second_use(
    ray_head: SmallRay, network: ServedNetwork, operator: Cpn, tmp_path: Path
) -> None:
    operator("cluster", "register", NAME, "--backend", "ray", "--jurisdiction", "CN-SH", "--no-join-token", *PRICES)
    join_token = operator("cluster", "token", NAME).out.strip()
    with started(ray_head, network, join_token, tmp_path / "agent") as agent:
        try:
            until(lambda: network.cluster(NAME)["health"] == "healthy", "it is healthy", WAIT_S)
            done = [network.submit(job("asks")), network.submit(job("says", kind="command", command=["sh", "-c", "echo said"]))]
            assert [network.wait(one["id"], seconds=WAIT_S)["state"] for one in done] == ["succeeded"] * 2
            assert network.operator.get(f"/jobs/{done[1]['id']}/logs").text == "said\n"
            used = operator(*joins(ray_head, tmp_path / "other"), status=4, CPN_JOIN_TOKEN=join_token)
            assert "used already" in used.err
        finally:
            agent.send_signal(signal.SIGTERM)
    assert agent.returncode == 0
    # The same command again needs the token no more, and ends as the unit says when its own is revoked.
    network.operator.delete(f"/tokens/{token_of_agent(network)}")
    with started(ray_head, network, join_token, tmp_path / "agent") as agent:
        assert agent.wait(WAIT_S) == int(service()["RestartPreventExitStatus"])
    assert service()["Restart"] == "always"
    until(lambda: not processes_of(str(tmp_path / "agent")), "nothing of it is left")


@pytest.mark.slow
def test_a_token_that_has_expired_or_is_anothers_joins_nothing(
    ray_head: SmallRay, network: ServedNetwork, operator: Cpn, tmp_path: Path
) -> None:  # fmt: skip
    for name in ("one", "two"):
        operator("cluster", "register", name, "--backend", "ray", "--jurisdiction", "CN-SH", "--no-join-token", *PRICES)
    short, long = (operator("cluster", "token", "one", "--expires-in", life).out.strip() for life in ("1s", "1h"))
    anothers = operator("agent", "two", *joins(ray_head, tmp_path / "two")[1:], status=4, CPN_JOIN_TOKEN=long)
    assert "'one'" in anothers.err
    tokens = network.ok(network.operator.get("/tokens"))["items"]
    ends = min(datetime.fromisoformat(item["expires_at"]) for item in tokens if item["role"] == "join" and item["cluster"] == "one")
    until(lambda: datetime.now(UTC) > ends, "the short one has expired")
    late = operator(*joins(ray_head, tmp_path / "one"), status=4, CPN_JOIN_TOKEN=short)
    assert "has expired; make another with `cpn cluster token one`" in late.err
    assert not (tmp_path / "one").exists()


def joins(head: SmallRay, folder: Path) -> list[str]:
    return ["agent", "--address", head.address, "--ray-token-file", str(head.token_file), "--data-dir", str(folder)]


def token_of_agent(network: ServedNetwork) -> str:
    """The token that the agent made for itself."""
    items = network.ok(network.operator.get("/tokens"))["items"]
    (found,) = (item["id"] for item in items if item["role"] == "agent" and item["cluster"] == NAME)
    return str(found)


def test_systemd_takes_the_unit_and_the_container_runs_the_same_command(tmp_path: Path) -> None:
    assert service()["EnvironmentFile"] == "/etc/cpn/agent.env"
    assert Path("/var/lib", service()["StateDirectory"]) == Path(DIRECTORY)
    (container,) = re.findall(r"^docker run .*?\n\n?```", DOCUMENT, re.MULTILINE | re.DOTALL)
    words = shlex.split(container.removesuffix("```").replace("\\\n", " "))
    assert shlex.split(service()["ExecStart"])[1:] == words[words.index("cpn") + 1 :]
    assert words[words.index("--env-file") + 1] == service()["EnvironmentFile"]
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd is not on this machine, so its own look at the unit is left out")
    unit = tmp_path / "cpn-agent.service"
    unit.write_text(UNIT.replace(PROGRAM, sys.executable))
    done = subprocess.run([verify, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
