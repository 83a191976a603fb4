"""deploy/helm/cpn, the control plane's chart, as an operator renders it with right and wrong values."""

from __future__ import annotations

from typing import Any

import pytest
from typer.main import get_command

from controlplane.cli.main import app
from tests.charts import CHARTS, containers_of, helm, of_kind, pods_of, refusal, render, unrestricted

URL = "postgresql://cpn:secret@db:5432/cpn"
LEAST: dict[str, Any] = {"database": {"url": URL}}
ALL: dict[str, Any] = {
    **LEAST,
    "image": {"repository": "registry.example.org/cpn", "tag": "1.2.3", "pullSecrets": ["pull"]},
    "ingress": {"enabled": True, "className": "nginx", "host": "cpn.example.org", "tlsSecret": "cpn-tls", "annotations": {"a.b/c": "0"}},
    "podDisruptionBudget": {"enabled": True}, "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "settings": {"CPN_KEEP_LOGS_DAYS": "30"}, "storage": {"className": "fast", "size": "5Gi"},
    "nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "cpn", "operator": "Exists"}], "podAnnotations": {"x/y": "z"},
}  # fmt: skip


def server_of(values: dict[str, Any]) -> dict[str, Any]:
    (found,) = pods_of([of_kind(render("cpn", values), "Deployment")]).values()
    return found


@pytest.mark.parametrize("values", [LEAST, ALL], ids=["least", "all"])
def test_the_linter_finds_nothing(values: dict[str, Any]) -> None:
    done = helm("lint", "--strict", str(CHARTS / "cpn"), values=values)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_has_what_a_control_plane_is_made_of_and_the_rest_when_it_is_asked_for() -> None:
    assert sorted(item["kind"] for item in render("cpn", LEAST)) == ["Deployment", "Job", "PersistentVolumeClaim", "Secret", "Service"]
    everything = render("cpn", ALL)
    assert sorted(item["kind"] for item in everything) == [
        "Deployment", "Ingress", "Job", "PersistentVolumeClaim", "PodDisruptionBudget", "Secret", "Service", "ServiceMonitor",
    ]  # fmt: skip
    assert {item["metadata"]["namespace"] for item in everything} == {"cpn"}
    labels = of_kind(everything, "Deployment")["spec"]["template"]["metadata"]["labels"]
    for chosen in (
        of_kind(everything, "Service")["spec"]["selector"], of_kind(everything, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of_kind(everything, "Deployment")["spec"]["selector"]["matchLabels"],
    ):  # fmt: skip
        assert chosen.items() <= labels.items()
    watched = of_kind(everything, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert watched.items() <= of_kind(everything, "Service")["metadata"]["labels"].items()


def test_the_database_is_named_in_a_secret_and_nowhere_else() -> None:
    objects = render("cpn", LEAST)
    assert of_kind(objects, "Secret")["stringData"] == {"url": URL}
    assert not [item["kind"] for item in objects if "secret@db" in str(item) and item["kind"] != "Secret"]
    theirs = render("cpn", {"database": {"existingSecret": "mine", "existingSecretKey": "dsn"}})
    assert "Secret" not in {item["kind"] for item in theirs}
    for pod in pods_of(theirs).values():
        for container in containers_of(pod):
            assert container["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "mine", "key": "dsn"}


def test_pods_keep_to_the_restricted_profile_and_know_no_credentials_of_kubernetes() -> None:
    pods = pods_of(render("cpn", ALL))
    assert len(pods) == 2
    for name, pod in pods.items():
        assert unrestricted(pod) == [], name
        assert pod["automountServiceAccountToken"] is False
        # Kubernetes would set CPN_PORT for a Service that is called cpn.
        assert pod["enableServiceLinks"] is False
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in containers_of(pod))


def test_every_pod_calls_cpn_with_options_that_it_has() -> None:
    called = [container["args"] for pod in pods_of(render("cpn", ALL)).values() for container in containers_of(pod)]
    assert sorted(words[0] for words in called) == ["migrate", "migrate", "serve"]
    for name, *words in called:
        command = get_command(app).commands[name]  # type: ignore[attr-defined]
        command.make_context(name, list(words), resilient_parsing=False)


def test_the_server_waits_for_the_migration_and_is_asked_whether_it_lives() -> None:
    pod = server_of(LEAST)
    assert pod["initContainers"][0]["args"][:2] == ["migrate", "--check"]
    (server,) = pod["containers"]
    assert server["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert server["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert server["startupProbe"]["periodSeconds"] * server["startupProbe"]["failureThreshold"] == 120
    assert of_kind(render("cpn", LEAST), "Deployment")["spec"]["strategy"] == {"type": "Recreate"}


def test_another_image_is_another_job_and_the_same_one_is_the_same() -> None:
    def name(values: dict[str, Any]) -> str:
        return str(of_kind(render("cpn", values), "Job")["metadata"]["name"])

    assert name(LEAST) == name({**LEAST, "settings": {"CPN_CAPTURE": "3"}})
    assert name(LEAST) != name({**LEAST, "image": {"tag": "1.2.3"}})
    assert name(LEAST) != name({"database": {"url": URL + "2"}})


def test_without_a_migration_job_the_server_starts_at_once() -> None:
    objects = render("cpn", {**LEAST, "migration": {"enabled": False}})
    assert "Job" not in {item["kind"] for item in objects}
    assert "initContainers" not in pods_of(objects)["Deployment cpn"]


def test_what_may_be_seen_without_a_token_is_not_let_in_from_outside() -> None:
    ingress = of_kind(render("cpn", ALL), "Ingress")["spec"]
    assert [path["path"] for path in ingress["rules"][0]["http"]["paths"]] == ["/v1"]
    assert ingress["tls"] == [{"hosts": ["cpn.example.org"], "secretName": "cpn-tls"}]


def test_settings_become_variables_of_the_server_alone() -> None:
    assert {"name": "CPN_KEEP_LOGS_DAYS", "value": "30"} in server_of(ALL)["containers"][0]["env"]
    assert "CPN_KEEP_LOGS_DAYS" not in str(of_kind(render("cpn", ALL), "Job"))


def test_a_budget_is_of_the_version_that_the_cluster_has() -> None:
    assert of_kind(render("cpn", ALL), "PodDisruptionBudget")["apiVersion"] == "policy/v1"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "database: the URL of a PostgreSQL is needed; set database.url to postgresql://USER:PASSWORD@HOST:5432/DATABASE"),
        ({"database": {"url": URL, "existingSecret": "x"}}, "database: url and existingSecret are both set; leave one of them out"),
        ({"database": {"url": "mysql://db"}}, "database.url: Does not match pattern"),
        ({**LEAST, "replicas": 2}, "replicas: 2 servers cannot share a database"),
        ({**LEAST, "replicas": "1"}, "replicas: Invalid type. Expected: integer, given: string"),
        ({**LEAST, "replica": 1}, "Additional property replica is not allowed"),
        ({**LEAST, "image": {"pullPolicy": "Sometimes"}}, 'must be one of the following: "Always", "IfNotPresent", "Never"'),
        ({**LEAST, "migration": {"wait": "ten"}}, "migration.wait: Does not match pattern"),
        ({**LEAST, "storage": {"size": "big"}}, "storage.size: Does not match pattern"),
        ({**LEAST, "settings": {"KEEP": "1"}}, "settings: Additional property KEEP is not allowed"),
        ({**LEAST, "settings": {"CPN_CAPTURE": 1}}, "settings.CPN_CAPTURE: Invalid type. Expected: string, given: integer"),
        ({**LEAST, "settings": {"CPN_PORT": "1"}}, "settings.CPN_PORT: the chart sets this itself; leave it out"),
        ({**LEAST, "ingress": {"enabled": True}}, "ingress.host: an Ingress needs the name that people call the server by"),
        ({**LEAST, "ingress": {"paths": ["v1"]}}, "ingress.paths.0: Does not match pattern '^/'"),
        ({**LEAST, "probes": {"startupS": 1}}, "probes.startupS: Must be greater than or equal to 10"),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_with_their_path(wrong: dict[str, Any], words: str) -> None:
    assert words in refusal("cpn", wrong)
