"""The charts of deploy/helm as Helm itself reads them. CI has to have Helm, which is a wheel of the lock for Linux on x86-64."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

CHARTS = Path(__file__).parents[1] / "deploy" / "helm"
MISSING = "helm is not here: the lock has it for Linux on x86-64 alone; put it beside this Python"

Object = dict[str, Any]


def program() -> str:
    """Where Helm is; without it the test is left out, and fails in CI."""
    found = shutil.which("helm", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.fail(MISSING) if os.environ.get("CI") else pytest.skip(MISSING)
    return found


def helm(*arguments: str, values: Object | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Helm with values as a file and a home of its own."""
    with tempfile.TemporaryDirectory() as home:
        given = Path(home) / "values.json"
        given.write_text(json.dumps(values or {}))
        homes = {f"HELM_{kind}_HOME": f"{home}/{kind.lower()}" for kind in ("CACHE", "CONFIG", "DATA")}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HELM_", "KUBECONFIG"))}
        return subprocess.run(
            [program(), *arguments, *(("--values", str(given)) if values is not None else ())],
            env={**kept, **homes, **environment}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


def render(chart: str, values: Object, *options: str, namespace: str = "cpn", **environment: str) -> list[Object]:
    """The objects of a chart, in Helm's order."""
    text = _rendered(chart, json.dumps(values, sort_keys=True), options, namespace, tuple(sorted(environment.items())))
    return [item for item in yaml.safe_load_all(text) if item]


@functools.cache
def _rendered(chart: str, values: str, options: tuple[str, ...], namespace: str, environment: tuple[tuple[str, str], ...]) -> str:
    command = ("template", "cpn", str(CHARTS / chart), "--namespace", namespace, *options)
    done = helm(*command, values=json.loads(values), **dict(environment))
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(chart: str, values: Object) -> str:
    """What Helm says of values that it does not take."""
    done = helm("template", "cpn", str(CHARTS / chart), "--namespace", "cpn", values=values)
    assert done.returncode != 0, f"taken: {values}"
    return done.stderr


def of_kind(objects: list[Object], kind: str) -> Object:
    """The one object of a kind."""
    (found,) = [item for item in objects if item["kind"] == kind]
    return found


def pods_of(objects: list[Object]) -> dict[str, Object]:
    """The specs of all pods that objects make, by kind and name."""
    return {
        f"{item['kind']} {item['metadata']['name']}": item["spec"]["template"]["spec"]
        for item in objects
        if "template" in item.get("spec", {})
    }


def containers_of(pod: Object) -> list[Object]:
    """All containers of a pod's spec, in the order in which they run."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def unrestricted(pod: Object) -> list[str]:
    """What of a pod the profile `restricted` of Kubernetes' Pod Security Standards forbids; empty when it holds."""
    own, faults = pod.get("securityContext", {}), []
    for container in containers_of(pod):
        context, name = container.get("securityContext", {}), container["name"]
        merged = {**own, **context}
        if context.get("allowPrivilegeEscalation") is not False:
            faults.append(f"{name}: allowPrivilegeEscalation")
        if context.get("capabilities", {}).get("drop") != ["ALL"] or set(context["capabilities"].get("add", [])) - {"NET_BIND_SERVICE"}:
            faults.append(f"{name}: capabilities")
        if merged.get("runAsNonRoot") is not True or merged.get("runAsUser") == 0:
            faults.append(f"{name}: runAsNonRoot")
        if merged.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            faults.append(f"{name}: seccompProfile")
        if context.get("privileged"):
            faults.append(f"{name}: privileged")
        faults += [f"{name}: hostPort" for port in container.get("ports", []) if port.get("hostPort")]
    faults += [name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    return faults + [f"volume {volume['name']}" for volume in pod.get("volumes", []) if set(volume) - allowed - {"name"}]
