"""Captured decisions, for `cpn capture` and `cpn replay`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from controlplane.api.auth import Operator, Plane
from controlplane.captures import pieces
from scheduler.errors import ConflictError, NotFoundError

router = APIRouter(tags=["captures"])
GZIPPED: dict[int | str, dict[str, Any]] = {200: {"content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}}}}


@router.get("/captures", response_class=StreamingResponse, responses=GZIPPED)
async def captured_decisions(
    _principal: Operator, plane: Plane, last: Annotated[int | None, Query(ge=1, description="this many of the newest; else all")] = None
) -> StreamingResponse:
    """The decisions that this server keeps, the oldest first: gzipped lines of JSON, each a snapshot with its plan.

    A server keeps decisions when it is started with CPN_CAPTURE=N.
    """
    if not plane.captures.most:
        raise ConflictError("this server keeps no decisions; start it with CPN_CAPTURE=100 to keep the last hundred")
    paths = await run_in_threadpool(plane.captures.newest, last)
    if not paths:
        raise NotFoundError("no decision has been kept yet; one is made as soon as a job waits")
    return StreamingResponse(pieces(paths), media_type="application/gzip")
