"""Can this Ray cluster become a member, driven from this machine? Every check by itself, quick ones first.

The first part asks the head and its dashboard over the network and takes milliseconds, or a few seconds where nothing
answers (`LIMIT_S` for each question). The second part connects as the agent will (`probing.py`) and has the nodes look at themselves;
it is left out when the first one failed.
"""

from __future__ import annotations

import contextlib
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.backends.ray.choosing import BY_OPERATOR, ONLY_DASHBOARD, choose
from cluster.backends.ray.gcs import HeadFacts, cluster_id, head_facts
from cluster.backends.ray.probing import MOST_NODES, ClusterFacts, NodeFacts, probe
from cluster.backends.ray.versions import Versions
from cluster.checks import CLOCK_S, FREE_BYTES, Check, CheckName, Examination, clock_found, failed, failures, passed, skipped
from cluster.drivers import ACTORS, JOB_API_RUNS, Driver
from cluster.errors import AuthenticationError, ClusterError, UnreachableError
from cluster.model import Endpoint

LIMIT_S = 5.0
_AFTER_HEAD: tuple[CheckName, ...] = ("ray-version", "python-version")
_AFTER_DRIVER: tuple[CheckName, ...] = ("nodes", "node-package", "node-disk", "node-clock")
Probe = Callable[[str, Path | None], ClusterFacts]


def examine(endpoint: Endpoint, own: Versions, *, probe_nodes: Probe = probe) -> Examination:
    """Look at everything. Blocks: milliseconds to a few seconds for the head, `probing.PROBE_S` at most for the nodes."""
    checks, token = _token(endpoint.token_file)
    if endpoint.dashboard and (endpoint.driver == "job-api" or (endpoint.driver == "auto" and not endpoint.address)):
        why = BY_OPERATOR if endpoint.driver == "job-api" else ONLY_DASHBOARD
        return Examination((*checks, *_by_job_api(endpoint, token, None, why if not failures(checks) else "")), _own_id(endpoint, token))
    checks = [*_address(endpoint.address), *checks]
    if failures(checks):
        rest: tuple[CheckName, ...] = ("head", *_AFTER_HEAD, "dashboard", "driver", *_AFTER_DRIVER)
        return Examination((*checks, *skipped(rest, "the address or the token file has to be corrected first")))
    facts, answer = _head(endpoint.address, token)
    checks += answer
    driver = _driver(endpoint, own, facts)
    if facts is not None and driver.way == "job-api":
        return Examination((*checks, *_by_job_api(endpoint, token, facts, driver.why)), facts.cluster_id)
    checks += _versions(facts, own) if facts else skipped(_AFTER_HEAD, "the head did not answer")
    checks += _dashboard(endpoint.dashboard, token, facts)
    if facts is None or failures(checks):
        checks += skipped(("driver", *_AFTER_DRIVER), "what failed above comes first")
    else:
        checks += _nodes(endpoint, own, probe_nodes)
    return Examination(tuple(checks), facts.cluster_id if facts else "")


def _driver(endpoint: Endpoint, own: Versions, facts: HeadFacts | None) -> Driver:
    """How an agent here would drive it; actors where the head does not say."""
    try:
        return choose(endpoint, own) if facts is not None else ACTORS
    except ClusterError:
        return ACTORS


def _by_job_api(endpoint: Endpoint, token: str, facts: HeadFacts | None, why: str) -> list[Check]:
    """What has to be so where a cluster is driven by its Job API; nothing is looked at where there is no reason `why`."""
    names: tuple[CheckName, ...] = ("dashboard", "job-api")
    if not why:
        return skipped(names, "the token file has to be corrected first")
    checks = _dashboard(endpoint.dashboard, token, facts, needed=True)
    if failures(checks):
        return [*checks, *skipped(names[1:], "the dashboard did not answer as it should")]
    try:
        _fetch(f"{endpoint.dashboard.rstrip('/')}/api/v0/nodes?limit=1", token)
    except (OSError, ValueError) as error:
        remedy = "start the head with its dashboard whole (`pip install ray[default]`): the Job API and the state API are needed"
        return [*checks, failed("job-api", f"{endpoint.dashboard} does not list its nodes ({error})", remedy, "dashboard")]
    return [*checks, passed("job-api", f"it will be driven by Ray's Job API ({why}), which runs {JOB_API_RUNS}")]


def _own_id(endpoint: Endpoint, token: str) -> str:
    """The cluster's own id where its head answers too; empty where only the dashboard can be reached."""
    if endpoint.address:
        with contextlib.suppress(ClusterError):
            return cluster_id(endpoint.address, token, LIMIT_S).hex()
    return ""


def _address(address: str) -> list[Check]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        remedy = "give the address of the cluster's head (its GCS), like 10.0.0.5:6379"
        return [failed("address", f"{address!r} is not HOST:PORT", remedy, "address")]
    try:
        with socket.create_connection((host, int(port)), timeout=LIMIT_S):
            return [passed("address", f"something listens at {address}")]
    except OSError as error:
        remedy = "start the cluster, correct the address, or register it with mode pull and run `cpn agent` on one of its machines"
        return [failed("address", f"nothing answers at {address} ({error})", remedy, "address")]


def _token(token_file: str) -> tuple[list[Check], str]:
    """The token, and a check only where the file is not good."""
    if not token_file:
        return [], ""
    try:
        token = Path(token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no text"
        remedy = "name a file on this machine that this user may read and that holds the cluster's token"
        return [failed("token", f"{token_file} cannot be read: {why}", remedy, "token_file")], ""
    if not token or not token.isprintable() or not token.isascii():
        found = f"{token_file} is empty" if not token else f"{token_file} holds more than one line of plain text"
        return [failed("token", found, "it must hold the cluster's token and nothing else", "token_file")], ""
    return [], token


def _head(address: str, token: str) -> tuple[HeadFacts | None, list[Check]]:
    try:
        facts = head_facts(address, token, LIMIT_S)
    except AuthenticationError as error:
        remedy = "name the file that holds this cluster's token" if token else "this cluster wants a token: name the file that holds it"
        return None, [passed("head", f"a Ray head answers at {address}"), failed("token", str(error), remedy, "token_file")]
    except UnreachableError as error:
        remedy = "give the address of the head's GCS (`ray start` prints it; 6379 by default), not that of its dashboard or Ray Client"
        return None, [failed("head", str(error), remedy, "address"), *skipped(("token",), "the head did not answer")]
    accepted = "the head accepts the token" if token else "the head asks for no token; anyone who reaches it may use it"
    return facts, [passed("head", f"the Ray head at {address} answers"), passed("token", accepted)]


def _versions(facts: HeadFacts, own: Versions) -> list[Check]:
    checks = []
    names: tuple[tuple[CheckName, str, str, str], ...] = (
        ("ray-version", "Ray", facts.ray_version, own.ray), ("python-version", "Python", facts.python_version, own.python),
    )  # fmt: skip
    for name, what, theirs, ours in names:
        if theirs == ours:
            checks.append(passed(name, f"{what} {theirs} there and here"))
        else:
            remedy = f"run the agent with {what} {theirs or 'of the same version'}, or the cluster with {ours}: Ray connects only the same"
            checks.append(failed(name, f"the cluster has {what} {theirs or '(unknown)'}, this machine {ours}", remedy, "address"))
    return checks


def _dashboard(url: str, token: str, facts: HeadFacts | None, *, needed: bool = False) -> list[Check]:
    """The dashboard, where one is named: that it answers, takes the token and belongs to the same head."""
    if not url:
        return []
    remedy = "give the dashboard's URL, like http://10.0.0.5:8265" + ("" if needed else ", or leave it out: jobs do not need it")
    if not url.startswith(("http://", "https://")):
        return [failed("dashboard", f"{url!r} is no URL", remedy, "dashboard")]
    try:
        answer = _fetch(f"{url.rstrip('/')}/api/version", token)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return [
                failed(
                    "dashboard", f"the dashboard at {url} refuses the token ({error.code})", "name this cluster's token file", "token_file"
                )
            ]
        return [failed("dashboard", f"{url} answers {error.code}, so it is no Ray dashboard", remedy, "dashboard")]
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or error
        return [failed("dashboard", f"no Ray dashboard answers at {url} ({why})", remedy, "dashboard")]
    if facts is not None and facts.session and answer.get("session_name") != facts.session:
        return [failed("dashboard", f"the dashboard at {url} belongs to another Ray cluster than the head", remedy, "dashboard")]
    return [passed("dashboard", f"the dashboard at {url} answers and belongs to the head")]


def _fetch(url: str, token: str) -> dict[str, Any]:
    """A JSON object. The environment's proxies are not used: the token is for the named machine alone."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=LIMIT_S) as response:
        found = json.loads(response.read(65_536))
    if not isinstance(found, dict):
        raise ValueError("its answer is no JSON object")
    return found


def _nodes(endpoint: Endpoint, own: Versions, probe_nodes: Probe) -> list[Check]:
    try:
        facts = probe_nodes(endpoint.address, Path(endpoint.token_file) if endpoint.token_file else None)
    except ClusterError as error:
        remedy = "run the agent on a machine of the cluster (mode pull, `cpn agent`): Ray lets only its own nodes connect"
        return [
            failed("driver", f"this machine cannot connect: {error}", remedy, "address"),
            *skipped(_AFTER_DRIVER, "nothing is connected"),
        ]
    checks = [passed("driver", "this machine can connect as the agent does"), _answering(facts)]
    if not facts.nodes:
        return [*checks, *skipped(_AFTER_DRIVER[1:], "no node answered")]
    return [*checks, _packages(facts.nodes, own), _disks(facts.nodes), _clocks(facts.nodes)]


def _answering(facts: ClusterFacts) -> Check:
    asked = len(facts.nodes) + len(facts.silent)
    said = f"{len(facts.nodes)} of {asked} nodes answer" + (
        f" ({facts.living} live; the first {MOST_NODES} are asked)" if facts.living > asked else ""
    )
    if facts.nodes and not facts.silent:
        return passed("nodes", said)
    silent = f"; silent: {_listed(facts.silent)}" if facts.silent else ""
    return failed("nodes", said + silent, "look at these nodes with `ray status` and `ray list nodes`; each must be able to start a worker")


def _packages(nodes: tuple[NodeFacts, ...], own: Versions) -> Check:
    wrong = [f"{node.name} ({node.package or 'none'})" for node in nodes if node.package != own.package]
    if not wrong:
        return passed("node-package", f"cpn {own.package} on every node that answered")
    remedy = f"install cpn {own.package} into the Python that runs Ray on each node; its workers import it"
    return failed("node-package", f"another cpn than {own.package} on {_listed(wrong)}", remedy)


def _disks(nodes: tuple[NodeFacts, ...]) -> Check:
    wrong = [f"{node.name}: {node.work_directory} cannot be written ({node.writable})" for node in nodes if node.writable]
    wrong += [
        f"{node.name}: {node.free_bytes / FREE_BYTES:.1f} GiB free at {node.work_directory}"
        for node in nodes if not node.writable and node.free_bytes < FREE_BYTES
    ]  # fmt: skip
    if not wrong:
        return passed("node-disk", f"{min(node.free_bytes for node in nodes) / FREE_BYTES:.1f} GiB or more are free where runs work")
    return failed(
        "node-disk", _listed(wrong), "free 1 GiB there, or start Ray on the node with CPN_WORK_DIR set to a larger disk of its user's"
    )


def _clocks(nodes: tuple[NodeFacts, ...]) -> Check:
    worst = max(nodes, key=lambda node: abs(node.clock_off_s))
    return clock_found("node-clock", f"the clock of {worst.name}", worst.clock_off_s, CLOCK_S)


def _listed(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
