"""Could the agent of a cluster run on this machine? Everything that it needs, looked at by itself, and nothing changed by it.

A join token is not used, no run is touched, and the server does not take the doctor for an agent.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cluster.checks import CLOCK_S, FREE_BYTES, Check, CheckName, clock_found, clock_off_s, failed, failures, passed, skipped
from cluster.model import BackendName, Endpoint
from controlplane.agent_client import AgentClient
from controlplane.api.joining_schemas import AgentStanding
from controlplane.endpoint import Look, examine_endpoint
from controlplane.errors import ClientError, NotReachableError, RequestInvalidError, RequestRefusedError
from controlplane.joining import MakeClient, kept

_AFTER_SERVER: tuple[CheckName, ...] = ("server-token", "server-version", "server-clock", "identity")


@dataclass(frozen=True)
class AgentPlan:
    """The agent that is to run: `directory` is its own, else one below `agents`; a join token goes before another one."""

    cluster: str | None
    token: str
    join_token: str
    backend: BackendName
    endpoint: Endpoint
    directory: Path | None
    agents: Path


class Diagnosis(BaseModel):
    """All checks in order. `ok`: none failed. `cluster` is null where neither the command nor the server named it."""

    model_config = ConfigDict(extra="forbid")

    cluster: str | None
    ok: bool
    checks: list[Check]


def diagnose(
    plan: AgentPlan, make_client: MakeClient, *, package: str = "", look: Look = examine_endpoint,
    now: Callable[[], float] = time.time,
) -> Diagnosis:  # fmt: skip
    """Look at everything. Blocks for some seconds; `now` is this machine's clock in seconds since the epoch.

    `package` is the version of cpn here, if not that which is installed.
    """
    own = package or importlib.metadata.version("cpn")
    found = look(plan.backend, plan.endpoint)
    server, standing = _server(plan, make_client, own, found.cluster_id, now)
    name = plan.cluster or (standing.cluster if standing else None)
    checks = [*_directory(plan.directory or (plan.agents / name if name else plan.agents)), *server, *found.checks]
    return Diagnosis(cluster=name, ok=not failures(checks), checks=checks)


def _server(
    plan: AgentPlan, make_client: MakeClient, own: str, cluster_id: str, now: Callable[[], float]
) -> tuple[list[Check], AgentStanding | None]:  # fmt: skip
    asked_at = now()
    try:
        standing = _standing(plan, make_client, cluster_id)
    except (NotReachableError, RequestInvalidError) as error:
        remedy = "name the server's URL with `cpn --server URL` or CPN_SERVER; this machine must reach it without a proxy"
        return [failed("server", str(error), remedy), *skipped(_AFTER_SERVER, "the server did not answer")], None
    except RequestRefusedError as error:
        remedy = "give --join a token of `cpn cluster token CLUSTER`, or set CPN_TOKEN to one of the role agent for this cluster"
        answered = passed("server", "the server answers")
        return [answered, failed("server-token", str(error), remedy), *skipped(_AFTER_SERVER[1:], "the token was refused")], None
    except ClientError as error:
        remedy = "look whether the URL is that of a cpn server of this version, and at its log"
        return [failed("server", str(error), remedy), *skipped(_AFTER_SERVER, "the server did not answer as it should")], None
    off_s = clock_off_s(standing.at.timestamp(), asked_at, now())
    found = [passed("server", "the server answers"), _token_found(standing, plan.backend), _version(standing, own)]
    return [*found, clock_found("server-clock", "the server's clock", off_s, CLOCK_S), _identity(standing, cluster_id)], standing


def _standing(plan: AgentPlan, make_client: MakeClient, cluster_id: str) -> AgentStanding:
    """What the token opens that the agent would use: one that it has joined with before, else the join token, else its own."""
    if not plan.join_token:
        assert plan.cluster is not None
        return _ask(make_client, plan.token, lambda client: client.standing(plan.cluster or "", cluster_id))
    known = kept(plan.join_token, plan.cluster, plan.directory, plan.agents)
    if known is not None:
        try:
            return _ask(make_client, known.token, lambda client: client.standing(known.cluster, cluster_id))
        except RequestRefusedError:
            pass
    return _ask(make_client, plan.join_token, lambda client: client.look_at_join(plan.cluster, cluster_id))


def _ask(make_client: MakeClient, token: str, question: Callable[[AgentClient], AgentStanding]) -> AgentStanding:
    with make_client(token) as client:
        return question(client)


def _token_found(standing: AgentStanding, backend: BackendName) -> Check:
    if standing.backend != backend:
        remedy = f"give --backend {standing.backend}, or the token of a cluster of backend {backend}"
        return failed("server-token", f"the cluster {standing.cluster} is of backend {standing.backend}, not {backend}", remedy)
    kind = "the join token can be used" if standing.role == "join" else "the agent's token is valid"
    until = f", until {standing.expires_at:%Y-%m-%d %H:%M} UTC" if standing.expires_at else ""
    return passed("server-token", f"{kind} for the cluster {standing.cluster}{until}")


def _version(standing: AgentStanding, own: str) -> Check:
    if standing.version == own:
        return passed("server-version", f"cpn {own} there and here")
    remedy = f"install cpn {standing.version} on this machine and on the cluster's nodes, or upgrade the server"
    return failed("server-version", f"the server runs cpn {standing.version}, this machine has {own}", remedy)


def _identity(standing: AgentStanding, cluster_id: str) -> Check:
    if standing.known_as is not None:
        remedy = f"use the token of {standing.known_as}, or forget that member first (`cpn cluster remove {standing.known_as}`)"
        return failed("identity", f"this cluster is the member {standing.known_as} already", remedy)
    if not cluster_id:
        return skipped(["identity"], "the cluster did not tell its id")[0]
    return passed("identity", "this cluster is no member under another name")


def _directory(folder: Path) -> list[Check]:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"cpn")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        remedy = "choose another --data-dir, or let this user write there"
        return [
            failed("work-directory", f"{folder} cannot be written: {error.strerror}", remedy),
            *skipped(["disk"], "it cannot be written"),
        ]
    written, said = passed("work-directory", f"{folder} can be written"), f"{free / FREE_BYTES:.1f} GiB free at {folder}"
    if free >= FREE_BYTES:
        return [written, passed("disk", said)]
    return [written, failed("disk", f"{said}; 1 GiB is needed", "free some, or choose another --data-dir")]
