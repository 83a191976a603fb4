"""What a job delivered: the first rows, and the files, wherever they lie."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from controlplane.api import views
from controlplane.api.auth import Buyer, Plane
from controlplane.api.found_jobs import check_kept, load
from controlplane.api.schemas import ResultView
from controlplane.api.tenant_schemas import ResultPlace
from controlplane.incoming import PIECE_BYTES
from controlplane.result_store import MissingResultError, ResultStore, ResultStoreError, chunks
from controlplane.tokens import Principal
from controlplane.wiring import ControlPlane
from scheduler.errors import NotFoundError
from scheduler.lifecycle import State
from scheduler.store import access, placed_results, small_results
from scheduler.store.records import JobRecord, RunRecord
from workloads.catalogue.s3 import CHUNK_BYTES

router = APIRouter(tags=["jobs"])
FILE: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}
GONE: dict[int | str, dict[str, Any]] = {410: {"description": "It is not kept any more"}}


class _LargePieces(FileResponse):
    """Each piece is a thread's turn, which takes longer than reading a small one."""

    chunk_size = PIECE_BYTES


@dataclass(frozen=True)
class _Elsewhere:
    """A file in a store, of which the first bytes have come."""

    stream: IO[bytes]
    first: bytes
    size_bytes: int


def _delivered(plane: ControlPlane, principal: Principal, job_id: str) -> tuple[JobRecord, RunRecord]:
    job, runs = load(plane, principal, job_id)
    run = next((run for run in runs if run.id == job.run_id), None)
    if job.state != State.SUCCEEDED or run is None:
        raise HTTPException(409, f"the job is {job.state}; there is a result only when it has succeeded (`cpn job wait {job_id}`)")
    check_kept(plane, job, "result")
    return job, run


@router.get("/jobs/{job_id}/result", responses=GONE)
async def job_result(job_id: str, principal: Buyer, plane: Plane) -> ResultView:
    """The first rows of a table, and the files that the job delivered."""

    def work() -> ResultView:
        job, run = _delivered(plane, principal, job_id)
        return views.result_view(job, run, _place(plane, job, run))

    return await run_in_threadpool(work)


@router.get("/jobs/{job_id}/result/files/{name:path}", response_class=FileResponse, responses={**FILE, **GONE})
async def job_result_file(job_id: str, name: str, principal: Buyer, plane: Plane) -> Response:
    """One file of the result."""
    filename = name.rsplit("/", 1)[-1]

    def work() -> Path | bytes | _Elsewhere:
        job, run = _delivered(plane, principal, job_id)
        known = {file["name"]: file["size_bytes"] for file in run.files or []}
        if name not in known:
            raise NotFoundError(f"the result has no file {name!r}; it has: {', '.join(known) or 'none'}")
        with plane.store.read() as conn:
            placed = placed_results.of_runs(conn, [run.id]).get(run.id)
            small = small_results.get(conn, run.id, name)
        if placed is not None and placed.stored_at is not None:
            return _elsewhere(job, placed.url, run.id, name, known[name])
        return plane.files.result_path(run.id, name) if small is None else small

    found = await run_in_threadpool(work)
    if isinstance(found, Path):
        return _LargePieces(found, filename=filename)
    kind = mimetypes.guess_type(filename)[0] or "text/plain"
    headers = {"Content-Disposition": f'attachment; filename="{filename}"'}
    if isinstance(found, bytes):
        return Response(found, media_type=kind, headers=headers)
    headers["Content-Length"] = str(found.size_bytes)
    return StreamingResponse(chunks(found.stream, found.first), media_type=kind, headers=headers)


def _elsewhere(job: JobRecord, url: str, run_id: str, name: str, size_bytes: int) -> _Elsewhere:
    store = ResultStore(url)
    try:
        stream = store.open(run_id, name)
        first = store.read(stream, CHUNK_BYTES)
    except MissingResultError as error:
        words = f"the result of {job.id} is not where it was put: {error}; or submit the job again to have a new one"
        raise HTTPException(410, words) from error
    except ResultStoreError as error:
        raise HTTPException(503, f"the result of {job.id} cannot be read now: {error}; then try again") from error
    return _Elsewhere(stream, first, size_bytes)


def _place(plane: ControlPlane, job: JobRecord, run: RunRecord) -> ResultPlace:
    with plane.store.read() as conn:
        placed, tenant = placed_results.of_runs(conn, [run.id]).get(run.id), access.get_tenant(conn, job.tenant)
    if placed is not None and placed.stored_at is not None:
        return ResultPlace(state="stored", url=placed.url, message="")
    if tenant.result_store is None or not run.files:
        return ResultPlace(state="stored", url=None, message="")
    message = plane.shipments.standing(tenant.name).message
    return ResultPlace(state="waiting" if message else "moving", url=tenant.result_store, message=message)
