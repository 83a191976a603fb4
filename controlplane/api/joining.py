"""How agents come in: what their token opens, and join tokens, which become an agent's token once.

A join token travels in commands, units and container definitions; the agent's own token never does. The agent makes its token
itself, keeps it on its disk and sends only the hash, so that a call whose answer was lost can be made again: the same hash is
accepted twice, another one is a second use and is refused.
"""

from __future__ import annotations

import importlib.metadata
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.concurrency import run_in_threadpool

from controlplane.api.auth import AgentOf, Allow, Plane
from controlplane.api.joining_schemas import AgentStanding, Joined, JoinRequest
from controlplane.api.views import maybe_moment, moment
from controlplane.tokens import JOIN, Principal
from controlplane.wiring import ControlPlane
from scheduler.errors import NotFoundError, Problem, RefusedError
from scheduler.store import fleet
from scheduler.store.records import TokenRecord
from workloads.spec import Name

router = APIRouter(tags=["agents"])


class AllowJoin(Allow):
    """A dependency that lets a join token pass, and says of one that is over why it is."""

    def __init__(self) -> None:
        super().__init__(JOIN)

    async def __call__(self, request: Request, plane: Plane) -> Principal:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        found = await run_in_threadpool(plane.tokens.find, secret.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            raise HTTPException(401, "the join token is unknown; make one with `cpn cluster token CLUSTER`")
        if found.role != JOIN:
            raise HTTPException(403, f"this is no join token but one of the role {found.role}; make one with `cpn cluster token CLUSTER`")
        return Principal(found.id, found.role, found.tenant, found.cluster)


Joiner = Annotated[Principal, Depends(AllowJoin())]


@router.get("/agents/{cluster}")
async def get_standing(cluster: Name, principal: AgentOf, plane: Plane, remote_id: str = "") -> AgentStanding:
    """What an agent's token opens; changes nothing. `remote_id`: the own id of the cluster that it is to speak for."""
    if principal.cluster != cluster:
        raise HTTPException(403, f"this token is bound to the cluster {principal.cluster!r}")
    return await run_in_threadpool(_standing, plane, plane.tokens.by_id(principal.token_id), remote_id)


@router.get("/agents:join")
async def look_at_join(principal: Joiner, plane: Plane, cluster: Name | None = None, remote_id: str = "") -> AgentStanding:
    """Whether a join token can be used now, for which cluster; it is not used by that."""
    token = await run_in_threadpool(plane.tokens.by_id, principal.token_id)
    await run_in_threadpool(plane.tokens.check_join, token, cluster)
    return await run_in_threadpool(_standing, plane, token, remote_id)


@router.post("/agents:join")
async def join(request: JoinRequest, principal: Joiner, plane: Plane) -> Joined:
    """Use a join token: from now on the agent's own token is valid, and the join token is not."""
    token = await run_in_threadpool(plane.tokens.by_id, principal.token_id)
    made = await run_in_threadpool(plane.tokens.join, token, request.cluster, request.agent_token_sha256)
    return Joined(cluster=made.cluster or "", token_id=made.id)


def _standing(plane: ControlPlane, token: TokenRecord, remote_id: str) -> AgentStanding:
    name = token.cluster or ""
    with plane.store.read() as conn:
        try:
            spec = fleet.get_cluster(conn, name).spec
        except NotFoundError as error:
            message = f"the cluster {name!r} of this token is no member any more; register it again (`cpn cluster register`)"
            raise RefusedError((Problem("cluster", "unknown", message),)) from error
        other = fleet.known_as(conn, name, remote_id)
    return AgentStanding(
        cluster=name, backend=spec.backend, mode=spec.mode, role="join" if token.role == JOIN else "agent",
        expires_at=maybe_moment(token.expires_at), version=importlib.metadata.version("cpn"), at=moment(plane.clock.now()), known_as=other,
    )  # fmt: skip
