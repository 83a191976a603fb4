"""The audit log: read it, take it along, verify its chain, and prove that no run lay outside the terms of its data."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime
from starlette.concurrency import run_in_threadpool

from controlplane.api.audit_schemas import AuditFault, AuditRowView, AuditVerdict, ProofView
from controlplane.api.auth import Allow, Plane, Reader
from controlplane.api.paging import Cursor, Limit, decode_number, encode
from controlplane.api.schemas import Page
from controlplane.tokens import Principal
from controlplane.wiring import ControlPlane
from scheduler.chain import Act, Verifier
from scheduler.proof import Prover
from scheduler.store import audit, catalogue
from scheduler.store.audit import Wanted

router = APIRouter(tags=["audit"])
Auditor = Annotated[Principal, Depends(Allow("operator", "viewer"))]
PIECE = 5000
MOST_VERIFIED = 100_000
FOREVER = 1e12
Hash = Annotated[str | None, Query(pattern="^[0-9a-f]{64}$", description="a head hash that was kept elsewhere")]
Since = Annotated[AwareDatetime | None, Query(alias="from", description="acts from then on")]
Until = Annotated[AwareDatetime | None, Query(alias="to", description="acts before then")]
LINES: dict[int | str, dict[str, Any]] = {200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}}


@router.get("/audit")
async def list_audit_rows(
    principal: Reader, plane: Plane, cursor: Cursor = None, limit: Limit = 100, since: Since = None, until: Until = None,
    product: Annotated[str | None, Query(max_length=127)] = None, tenant: Annotated[str | None, Query(max_length=63)] = None,
    subject: Annotated[str | None, Query(max_length=400, description="the job, licence, token, cluster, …")] = None,
    act: Act | None = None,
) -> Page[AuditRowView]:  # fmt: skip
    """Acts, the newest first. A buyer sees those of its tenant: its jobs, licences and tokens."""
    if tenant is not None and not principal.may_see_tenant(tenant):
        raise HTTPException(403, f"your token is bound to the tenant {principal.tenant!r}")
    wanted = Wanted(
        product=product, tenant=principal.tenant if principal.role == "buyer" else tenant, subject=subject, act=act.value if act else None,
        since=since.timestamp() if since else None, until=until.timestamp() if until else None,
    )  # fmt: skip
    before = decode_number(cursor)

    def work() -> Page[AuditRowView]:
        with plane.store.read() as conn:
            found = audit.listed(conn, wanted, before, limit + 1)
        more = encode(str(found[limit - 1].sequence)) if len(found) > limit else None
        return Page(items=[AuditRowView.of(row) for row in found[:limit]], next_cursor=more)

    return await run_in_threadpool(work)


@router.get("/audit:export", response_class=StreamingResponse, responses=LINES)
async def export_audit_log(_principal: Auditor, plane: Plane) -> StreamingResponse:
    """The whole log, the oldest row first, each a line of JSON, for `cpn audit verify --file`."""
    return StreamingResponse(_lines(plane), media_type="application/x-ndjson")


async def _lines(plane: ControlPlane) -> AsyncIterator[bytes]:
    def piece(after: int) -> tuple[int, bytes]:
        with plane.store.read() as conn:
            rows = audit.after(conn, after, PIECE)
        return (rows[-1].sequence if rows else after), b"".join(json.dumps(row.shown()).encode() + b"\n" for row in rows)

    after = 0
    while True:
        after, lines = await run_in_threadpool(piece, after)
        if not lines:
            return
        yield lines


@router.get("/audit:verify")
async def verify_audit_log(
    _principal: Auditor, plane: Plane, head: Hash = None, cursor: Annotated[str | None, Query(max_length=4000)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_VERIFIED, description="rows of this page")] = 20_000,
) -> AuditVerdict:  # fmt: skip
    """Whether rows were changed, removed, put in or moved since they were written, a page of the log at a time."""
    after, verifier = _resumed(cursor) if cursor is not None else (0, Verifier(head))

    def work() -> AuditVerdict:
        with plane.store.read() as conn:
            rows = audit.after(conn, after, limit)
        verifier.feed(rows)
        following = None if len(rows) < limit else _paused(rows[-1].sequence, verifier)
        faults = verifier.close() if following is None else verifier.faults
        return AuditVerdict(
            rows=verifier.rows, head=verifier.last, faults=[AuditFault.of(fault) for fault in faults], faults_count=verifier.faults_count,
            next_cursor=following,
        )  # fmt: skip

    return await run_in_threadpool(work)


def _paused(after: int, verifier: Verifier) -> str:
    return base64.urlsafe_b64encode(json.dumps({"after": after, **verifier.state()}).encode()).decode().rstrip("=")


def _resumed(cursor: str) -> tuple[int, Verifier]:
    """Where a page begins, and what is known by then. Answers 400 for what is no cursor of ours."""
    try:
        state = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        after, rows, expected = (int(state.pop(name)) for name in ("after", "rows", "expected"))
        missing = [[int(first), int(last)] for first, last in state.pop("missing")]
        return after, Verifier(
            rows=rows, expected=expected, missing=missing, last=str(state["last"]), head=state["head"], found_head=bool(state["found_head"])
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HTTPException(400, "the cursor is not one that this API gave; start without a cursor") from error


@router.get("/audit:prove")
async def prove_product_terms(
    _principal: Auditor, plane: Plane, product: Annotated[str, Query(max_length=127)], since: Since = None, until: Until = None
) -> ProofView:
    """Every run that read a product, where and under which licence, judged anew by what held when it was placed. Reads the whole log."""
    begin, end = since.timestamp() if since else None, until.timestamp() if until else None

    def work() -> ProofView:
        prover = Prover(product, begin, end)
        with plane.store.read() as conn:
            catalogue.get_product(conn, product)
            # First the runs: what is placed while the log is read need not be in it.
            known = audit.runs_over(conn, product, begin or 0.0, FOREVER if end is None else end)
            prover.take(audit.all_rows(conn))
        prover.compare(known)
        return ProofView.of(prover.proof())

    return await run_in_threadpool(work)
