"""deploy/helm/cpn-agent beside what `cpn cluster manifest` prints: the same objects, whatever is asked for; and wrong values."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cluster.backends.kubernetes.manifest import DIRECTORY, AgentManifest, port_of
from controlplane.agent_signs import ALIVE, ANSWERED, write_sign
from controlplane.cli.main import app
from tests.charts import CHARTS, containers_of, helm, of_kind, pods_of, refusal, render, unrestricted

SERVER, TOKEN = "https://cpn.example.org", "cpn_join_x"
LEAST: dict[str, Any] = {"cluster": "lab", "server": SERVER, "joinToken": TOKEN}
MANIFEST = AgentManifest("lab", SERVER, "cpn:0.1.0", join_token=TOKEN)
SPACE = {"namespace": {"create": True}}


def by_name(objects: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(item["kind"], item["metadata"]["name"]): item for item in objects}


@pytest.mark.parametrize(
    ("values", "wanted", "namespace"),
    [
        ({**LEAST, **SPACE}, MANIFEST, "cpn"),
        (
            {**LEAST, **SPACE, "server": "http://10.0.0.1:8642", "networkPolicy": {"enabled": True}, "storage": {"enabled": False}},
            AgentManifest("lab", "http://10.0.0.1:8642", "cpn:0.1.0", "runs", TOKEN, None, True), "runs",
        ),
        (
            {
                **SPACE, "cluster": "north-1", "server": SERVER, "existingSecret": "cpn-agent-join", "networkPolicy": {"enabled": True},
                "image": {"repository": "registry.example.org:5000/cpn", "tag": "1.2.3"}, "storage": {"size": "5Gi"},
                "localQueue": "team-a", "dataClaims": ["lake=/data/lake", "other=/data/other"],
            },
            AgentManifest(
                "north-1", SERVER, "registry.example.org:5000/cpn:1.2.3", "cpn", None, "5Gi", True, "team-a",
                ("lake=/data/lake", "other=/data/other"),
            ),
            "cpn",
        ),
    ],
    ids=["least", "address", "all"],
)  # fmt: skip
def test_the_chart_and_the_command_give_the_same_objects(values: dict[str, Any], wanted: AgentManifest, namespace: str) -> None:
    assert by_name(render("cpn-agent", values, namespace=namespace)) == by_name(wanted.objects())


@pytest.mark.parametrize(
    "more",
    [
        {},
        {
            "settings": {"CPN_CACHE_GIB": "200"}, "podAnnotations": {"x/y": "z"}, "nodeSelector": {"a": "b"},
            "networkPolicy": {"enabled": True},
            "tolerations": [{"operator": "Exists"}], "image": {"pullSecrets": ["pull"]}, "storage": {"className": "fast"},
        },
    ],
    ids=["least", "all"],
)  # fmt: skip
def test_the_linter_finds_nothing(more: dict[str, Any]) -> None:
    done = helm("lint", "--strict", str(CHARTS / "cpn-agent"), values={**LEAST, **more})
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_agent_keeps_to_the_restricted_profile_and_is_called_as_the_command_line_has_it() -> None:
    (pod,) = pods_of(MANIFEST.objects()).values()
    assert unrestricted(pod) == []
    (agent,) = containers_of(pod)
    assert agent["securityContext"]["readOnlyRootFilesystem"] is True
    name, *words = agent["args"]
    get_command(app).commands[name].make_context(name, list(words))  # type: ignore[attr-defined]
    assert words[words.index("--data-dir") + 1] == DIRECTORY


def test_the_join_token_is_in_a_secret_alone_and_another_one_starts_the_agent_anew() -> None:
    objects = MANIFEST.objects()
    assert of_kind(objects, "Secret")["stringData"] == {"token": TOKEN}
    assert not [item["kind"] for item in objects if TOKEN in str(item) and item["kind"] != "Secret"]

    def template(token: str) -> Any:
        return of_kind(AgentManifest("lab", SERVER, "cpn:1", join_token=token).objects(), "Deployment")["spec"]["template"]

    assert template("one") == template("one") != template("two")


def test_rights_beyond_the_namespace_are_to_look_alone() -> None:
    (role,) = [item for item in MANIFEST.objects() if item["kind"] == "ClusterRole"]
    assert role["rules"]
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} <= {"get", "list", "watch", "create"}
    assert {resource for rule in role["rules"] for resource in rule["resources"]} <= {
        "nodes", "pods", "namespaces", "selfsubjectaccessreviews",
    }  # fmt: skip
    assert "*" not in str([item.get("rules") for item in MANIFEST.objects()])


def test_probes_see_whether_the_agent_lives_and_was_answered(tmp_path: Path) -> None:
    (agent,) = containers_of(*pods_of(MANIFEST.objects()).values())

    def holds(probe: str) -> bool:
        command = [word.replace(DIRECTORY, str(tmp_path)) for word in agent[probe]["exec"]["command"]]
        return subprocess.run(command, stderr=subprocess.DEVNULL, timeout=60, check=False).returncode == 0

    assert not holds("livenessProbe")
    write_sign(tmp_path, ALIVE)
    assert (holds("startupProbe"), holds("livenessProbe"), holds("readinessProbe")) == (True, True, False)
    write_sign(tmp_path, ANSWERED)
    assert holds("readinessProbe")
    os.utime(tmp_path / ANSWERED, (0, 0))
    assert (holds("livenessProbe"), holds("readinessProbe")) == (True, False)


@pytest.mark.parametrize(("server", "port"), [("https://a", 443), ("http://a", 80), ("https://a:8443/x", 8443), ("http://[::1]:7", 7)])
def test_the_policy_lets_the_agent_out_to_the_servers_port(server: str, port: int) -> None:
    assert port_of(server) == port
    objects = render("cpn-agent", {**LEAST, "server": server, "networkPolicy": {"enabled": True, "apiServerPorts": [6443]}})
    egress = of_kind(objects, "NetworkPolicy")["spec"]["egress"]
    assert [item["port"] for item in egress[1]["ports"]] == sorted({port, 6443})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cluster": ""}, "cluster: the name that this cluster is registered under is needed"),
        ({"cluster": "Lab"}, "cluster: Does not match pattern"),
        ({"server": ""}, "server: the control plane's URL is needed"),
        ({"server": "cpn.example.org"}, "server: Does not match pattern"),
        ({"joinToken": ""}, "joinToken: the agent joins with a token, once; make one with `cpn cluster token lab`"),
        ({"existingSecret": "x"}, "joinToken and existingSecret are both set; leave one of them out"),
        ({"settings": {"CPN_SERVER": "x"}}, "settings.CPN_SERVER: the chart sets this itself"),
        ({"storage": {"size": 1}}, "storage.size: Invalid type. Expected: string, given: integer"),
        ({"networkPolicy": {"apiServerPorts": []}}, "networkPolicy.apiServerPorts: Array must have at least 1 items"),
        ({"localQueue": "Team A"}, "localQueue: Does not match pattern"),
        ({"dataClaims": ["lake"]}, "dataClaims.0: Does not match pattern"),
        ({"replicas": 2}, "Additional property replicas is not allowed"),
    ],
)
def test_wrong_values_are_refused_with_their_path(wrong: dict[str, Any], words: str) -> None:
    assert words in refusal("cpn-agent", {**LEAST, **wrong})
