"""What agents call: sync, logs, result files. An agent's token opens its own cluster only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from cluster.deposits import Grant
from cluster.model import LeasePolicy
from cluster.protocol import AheadFile, ResultFile, SyncReply, SyncRequest
from cluster.scaling import Wanted
from controlplane.api import direct
from controlplane.api.arrivals import announces_uploads, brings_results, with_results
from controlplane.api.auth import AgentOf, Plane
from controlplane.api.deposit_schemas import DepositTold
from controlplane.api.looking import look
from controlplane.deposit_store import NotAsToldError
from controlplane.deposits import Told
from controlplane.files import NoRoomError, TooLargeError
from controlplane.result_store import ResultStoreError
from controlplane.tokens import Principal
from controlplane.wiring import ControlPlane
from scheduler.bells import agent_bell, job_bell
from scheduler.store import fleet, jobs, outbox
from scheduler.store.records import ACTIVE
from scheduler.store.small_results import Contents

router = APIRouter(prefix="/agents/{cluster}", tags=["agents"])
LOOK_AGAIN_S = 5.0
MAX_LOG_PIECE = 4 * 1024**2
NOT_TAKEN: dict[int | str, dict[str, Any]] = {413: {"description": "Too large"}, 507: {"description": "The disk is full"}}
TAKEN_LATER: dict[int | str, dict[str, Any]] = {
    202: {"description": "It is still being proved"}, 413: {"description": "Too large"}, 424: {"description": "Its store cannot be used"},
}  # fmt: skip
TAKING_S = 10.0
BYTES = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}


def _own_cluster(principal: Principal, cluster: str) -> None:
    if principal.cluster != cluster:
        raise HTTPException(403, f"this token is bound to the cluster {principal.cluster!r}")


@direct.post(router, "/sync", response_model=SyncReply)
async def sync(cluster: str, report: SyncRequest, principal: AgentOf, plane: Plane) -> Response:
    """Report and receive: the answer waits up to `wait_s` for instructions, but not so long that the member would seem silent."""
    _own_cluster(principal, cluster)
    contents: Contents = {}
    if brings_results(report):
        on_disk = announces_uploads(report)
        prove = partial(with_results, plane.files, report, plane.deposits.size)
        arrived = await run_in_threadpool(prove) if on_disk else prove()
        report, contents = arrived
    deadline = time.monotonic() + min(report.wait_s, plane.health.suspect_after_s / 2)
    with plane.bells.listen_async(agent_bell(cluster)) as rung:
        done, instructions = await asyncio.wrap_future(plane.sync(cluster, report, contents))
        plane.saw(done)
        if done.undelivered:
            await run_in_threadpool(plane.tidy, done)
        if done.superseded:
            return _reply(plane, superseded=True)
        unwanted, told = await _unwanted(plane, cluster), await _ahead(plane, cluster)
        ahead = told
        while (
            ahead == told
            and not (instructions or done.census_wanted or plane.stopping.is_set())
            and (left := deadline - time.monotonic()) > 0
        ):
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK_AGAIN_S)):
                    await rung.wait()
            rung.clear()
            if (found := await look(plane, _pending, plane, cluster, report.agent_id)) is None:
                return _reply(plane, superseded=True)
            instructions, ahead = found, await _ahead(plane, cluster)
    return _reply(
        plane, instructions, census_wanted=done.census_wanted, unwanted=unwanted, ahead=ahead, wanted=done.wanted,
        on_lease_lost=done.on_lease_lost,
    )  # fmt: skip


async def _unwanted(plane: ControlPlane, cluster: str) -> tuple[str, ...]:
    """The copies that may not lie at a cluster any more."""
    known = plane.withdrawals.known(cluster)
    return await run_in_threadpool(plane.withdrawals.look, cluster) if known is None else known


async def _ahead(plane: ControlPlane, cluster: str) -> tuple[AheadFile, ...]:
    """What jobs that wait are going to read at a cluster."""
    known = plane.prefetch.known(cluster)
    return await run_in_threadpool(plane.prefetch.look, cluster) if known is None else known


def _reply(
    plane: ControlPlane, instructions: Sequence[str] = (), *, superseded: bool = False, census_wanted: bool = False,
    unwanted: tuple[str, ...] = (), ahead: tuple[AheadFile, ...] = (), wanted: tuple[Wanted, ...] = (),
    on_lease_lost: LeasePolicy = "stop",
) -> Response:  # fmt: skip
    """A SyncReply. Instructions are passed on as they were stored."""
    reply = SyncReply(
        lease_s=plane.settings.lease_s, on_lease_lost=on_lease_lost, max_result_bytes=plane.settings.max_result_bytes,
        superseded=superseded, census_wanted=census_wanted, unwanted=unwanted, ahead=ahead, wanted=wanted,
    )  # fmt: skip
    head = reply.model_dump_json(exclude={"instructions"})
    return Response(f'{{"instructions":[{",".join(instructions)}],{head[1:]}', media_type="application/json")


def _pending(plane: ControlPlane, cluster: str, agent_id: str) -> list[str] | None:
    """What waits to be carried out, as JSON; None when another agent speaks for the cluster now."""
    with plane.store.read() as conn:
        return outbox.pending_texts(conn, cluster) if fleet.get_cluster(conn, cluster).agent_id == agent_id else None


def _job_of_current(plane: ControlPlane, cluster: str, run_id: str, epoch: int) -> str:
    with plane.store.read() as conn:
        run = jobs.get_run(conn, run_id)
        current = run is not None and jobs.get_job(conn, run.job_id).run_id == run_id
    if run is None or not current or run.cluster != cluster or run.epoch != epoch or run.state not in ACTIVE:
        raise HTTPException(409, f"run {run_id!r} is not current; forget it")
    return run.job_id


@router.post("/runs/{run_id}/log", status_code=204, openapi_extra=BYTES)
async def append_log(
    cluster: str, run_id: str, request: Request, principal: AgentOf, plane: Plane, epoch: int, offset: Annotated[int, Query(ge=0)]
) -> Response:
    """A piece of a run's log at its byte offset."""
    _own_cluster(principal, cluster)
    data = await request.body()
    if len(data) > MAX_LOG_PIECE:
        raise HTTPException(413, f"send at most {MAX_LOG_PIECE} bytes of log at a time")
    job_id = await run_in_threadpool(_job_of_current, plane, cluster, run_id, epoch)
    await run_in_threadpool(plane.files.append_log, run_id, offset, data)
    plane.bells.ring(job_bell(job_id))
    return Response(status_code=204)


@router.put("/runs/{run_id}/files/{name:path}", status_code=204, openapi_extra=BYTES, responses=NOT_TAKEN)
async def put_file(cluster: str, run_id: str, name: str, request: Request, principal: AgentOf, plane: Plane, epoch: int) -> Response:
    """A file of a run's result; it counts when the run's success is reported."""
    _own_cluster(principal, cluster)
    await run_in_threadpool(_job_of_current, plane, cluster, run_id, epoch)
    with _refusals():
        await plane.files.receive(run_id, name, _chunks(request))
    return Response(status_code=204)


@router.get("/runs/{run_id}/room", status_code=204, responses=NOT_TAKEN)
async def result_room(
    cluster: str, run_id: str, principal: AgentOf, plane: Plane, epoch: int, name: str, size_bytes: Annotated[int, Query(ge=0)]
) -> Response:
    """Whether a file of this size would be taken now as one of the run's result, so that one that is too large is not sent."""
    _own_cluster(principal, cluster)
    await run_in_threadpool(_job_of_current, plane, cluster, run_id, epoch)
    with _refusals():
        await run_in_threadpool(plane.files.check_room, run_id, name, size_bytes)
    return Response(status_code=204)


@router.post("/runs/{run_id}/parts:take-over")
async def take_over_parts(cluster: str, run_id: str, principal: AgentOf, plane: Plane, epoch: int) -> list[ResultFile]:
    """Make the parts that earlier attempts of the run's job brought this run's own, and tell them: a run of kind map leaves them out."""
    _own_cluster(principal, cluster)
    job_id = await run_in_threadpool(_job_of_current, plane, cluster, run_id, epoch)
    return await run_in_threadpool(plane.take_over_parts, job_id, run_id)


@router.post("/runs/{run_id}/deposit")
async def ask_deposit(cluster: str, run_id: str, principal: AgentOf, plane: Plane, epoch: int) -> Grant | None:
    """Where a run that is about to start may put a large result itself; null where there is no store for it. Not to be logged."""
    _own_cluster(principal, cluster)
    await run_in_threadpool(_job_of_current, plane, cluster, run_id, epoch)
    return await run_in_threadpool(plane.deposits.grant, run_id, epoch)


@router.post("/runs/{run_id}/deposit:take", status_code=204, responses=TAKEN_LATER)
async def take_deposit(cluster: str, run_id: str, told: DepositTold, principal: AgentOf, plane: Plane, epoch: int) -> Response:
    """Make what a run has put into its store the run's result; it counts when the run's success is reported. 202: ask again."""
    _own_cluster(principal, cluster)
    await run_in_threadpool(_job_of_current, plane, cluster, run_id, epoch)
    try:
        with _refusals():
            done = await plane.deposits.take(Told(run_id, epoch, told.token, tuple(told.files)), TAKING_S)
    except NotAsToldError as error:
        raise HTTPException(422, str(error)) from error
    except ResultStoreError as error:
        raise HTTPException(424, str(error)) from error
    return Response(status_code=204 if done else 202)


@contextmanager
def _refusals() -> Iterator[None]:
    """Why a file is not taken, as problems."""
    try:
        yield
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    except TooLargeError as error:
        raise HTTPException(413, str(error)) from error
    except NoRoomError as error:
        raise HTTPException(507, str(error)) from error


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        if chunk:
            yield chunk
