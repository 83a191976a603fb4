"""Logs of jobs: of the whole run or of one worker, as they are or as they grow."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from controlplane.api.auth import Buyer, Plane
from controlplane.api.found_jobs import check_kept, load
from controlplane.tokens import Principal
from controlplane.wiring import ControlPlane
from scheduler.bells import job_bell
from scheduler.errors import NotFoundError
from scheduler.lifecycle import FINAL, State

router = APIRouter(tags=["jobs"])
LOOK_AGAIN_S = 5.0
# Lines of rank 0 say nothing of it.
OF_ANOTHER = re.compile(rb"\[rank (\d+)\] ")
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, 410: {"description": "It is not kept any more"},
}  # fmt: skip


class OneWorker:
    """The lines of one worker in the log of a gang, without the prefix that says whose they are. Fed in pieces, in order.

    `skip` bytes of them are left out, so that a reader can go on where it was.
    """

    def __init__(self, worker: int, skip: int = 0) -> None:
        self._worker, self._skip, self._rest = worker, skip, b""

    def feed(self, data: bytes) -> bytes:
        """What of a piece belongs to the worker; a line that is not whole waits for its end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return self._left(b"".join(self._own(line) + b"\n" for line in lines if self._is_own(line)))

    def end(self) -> bytes:
        """What is left when nothing follows."""
        rest, self._rest = self._rest, b""
        return self._left(self._own(rest)) if rest and self._is_own(rest) else b""

    def _is_own(self, line: bytes) -> bool:
        found = OF_ANOTHER.match(line)
        return (int(found[1]) if found else 0) == self._worker

    def _own(self, line: bytes) -> bytes:
        return OF_ANOTHER.sub(b"", line, count=1) if self._worker else line

    def _left(self, data: bytes) -> bytes:
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        return data[skipped:]


@router.get("/jobs/{job_id}/logs", response_class=StreamingResponse, responses=ANSWERS)
async def job_logs(
    job_id: str, principal: Buyer, plane: Plane, follow: bool = False,
    offset: Annotated[int, Query(ge=0, description="of the log, or with `worker` of that worker's part of it")] = 0,
    worker: Annotated[int | None, Query(ge=0, description="only the lines of this worker, by rank")] = None,
) -> StreamingResponse:  # fmt: skip
    """The log of the current run from a byte offset; with `follow`, on through further attempts until the job has ended."""
    job, _ = await run_in_threadpool(load, plane, principal, job_id)
    await run_in_threadpool(check_kept, plane, job, "log")
    most = job.parsed().resources.most
    if worker is not None and worker >= most:
        raise NotFoundError(f"the job has no worker {worker}; it has {'only worker 0' if most == 1 else f'workers 0 to {most - 1}'}")
    part = OneWorker(worker, offset) if worker is not None and most > 1 else None
    pieces = _log_stream(plane, principal, job_id, follow, 0 if part else offset, part)
    return StreamingResponse(pieces, media_type="text/plain; charset=utf-8")


async def _log_stream(
    plane: ControlPlane, principal: Principal, job_id: str, follow: bool, offset: int, part: OneWorker | None
) -> AsyncIterator[bytes]:
    run_id: str | None = None
    logs = plane.files.logs
    with plane.bells.listen_async(job_bell(job_id)) as rung:
        while True:
            rung.clear()
            job, _ = await run_in_threadpool(load, plane, principal, job_id)
            if job.run_id != run_id:
                if run_id is not None:
                    offset = 0
                    yield (part.end() if part else b"") + f"--- attempt {job.attempts} ---\n".encode()
                run_id = job.run_id
            while run_id and (piece := await run_in_threadpool(logs.read, run_id, offset)).data:
                offset = piece.end
                if piece.dropped:
                    yield logs.gap_words(piece.dropped)
                if shown := part.feed(piece.data) if part else piece.data:
                    yield shown
            if not follow or State(job.state) in FINAL or plane.stopping.is_set():
                if last := (part.end() if part else b"") + (logs.end_words(run_id) if run_id else b""):
                    yield last
                return
            await _until(rung)


async def _until(rung: asyncio.Event) -> None:
    # A look every few seconds covers what another server did.
    try:
        await asyncio.wait_for(rung.wait(), LOOK_AGAIN_S)
    except TimeoutError:
        return
