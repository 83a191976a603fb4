"""Batches: many submissions in one request and one commit, each with its own verdict.

A manifest that is wrong, or that the rights forbid, takes no other with it. The items are judged and stored in their order, as if
submitted one after the other; what is accepted is made durable by one commit, or, when that fails, none of it is.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from controlplane.api import direct
from controlplane.api.auth import Buyer, Plane
from controlplane.api.batch_schemas import BatchItem, BatchVerdict, ItemVerdict, JobBatch
from controlplane.api.job_ids import new_job_id
from controlplane.api.jobs import KEY, own_tenant
from controlplane.api.problems import TITLES, faults_of
from controlplane.api.schemas import FieldProblem, ProblemView
from controlplane.settings import Settings
from controlplane.submissions import refused
from controlplane.tokens import Principal
from controlplane.wiring import ControlPlane
from scheduler.admission import Admitted, Offer, examine, settle_engine, submit_batch
from scheduler.arrays import examine_size
from scheduler.errors import ConflictError, InvalidError, Problem, RefusedError, SchedulerError
from scheduler.store import audit
from scheduler.store.audit import Entry
from scheduler.store.rows import dumps
from scheduler.store.session import Connection
from workloads.arrays import read_array
from workloads.spec import NAME_PATTERN, JobSpec

TOO_LARGE: dict[int | str, dict[str, Any]] = {413: {"description": "More than one request may carry"}}
KINDS: tuple[tuple[type[SchedulerError], str, int], ...] = (
    (RefusedError, "refused", 403), (InvalidError, "invalid", 422), (ConflictError, "conflict", 409),
)  # fmt: skip
NAMED = re.compile(NAME_PATTERN)
Errors = dict[int, RefusedError | InvalidError | ConflictError]


class BoundedRoute(direct.DirectRoute):
    """A route that reads no more of a body than CPN_MAX_BATCH_BYTES."""

    async def short(self, request: Request) -> Response | None:
        """The usual answer, given the body that was read."""
        request._body = await _body_of(request, request.app.state.plane.settings.max_batch_bytes)
        return await super().short(request)


async def _body_of(request: Request, most: int) -> bytes:
    announced = request.headers.get("content-length", "")
    pieces, size = [], int(announced) if announced.isdecimal() else 0
    if size <= most:
        size = 0
        async for piece in request.stream():
            pieces.append(piece)
            if (size := size + len(piece)) > most:
                break
    if size > most:
        raise HTTPException(
            413, f"the body is larger than the {most:,} bytes that a batch may have here; send fewer items at once, or have the "
            "operator raise CPN_MAX_BATCH_BYTES",
        )  # fmt: skip
    return b"".join(pieces)


router = APIRouter(tags=["jobs"])


@direct.post(router, "/jobs:batch", kind=BoundedRoute, responses=TOO_LARGE, response_model=BatchVerdict)
async def submit_batch_of_jobs(batch: JobBatch, principal: Buyer, plane: Plane) -> Response:
    """Submit many jobs. What is accepted is durable when this answers, by one commit; what is refused takes no other with it.

    Items are judged and stored in their order. Sent again under the same keys it gives the same answers.
    """
    most = plane.settings.max_batch
    if len(batch.items) > most:
        message = f"{len(batch.items):,} items are more than the {most:,} that a batch may have here; send several batches"
        raise InvalidError((Problem("items", "too-large", message),))
    now = plane.clock.now()
    offers, errors = await run_in_threadpool(_examined, plane, principal, batch.items, now)
    admitted: dict[int, Admitted] = {}
    if offers:
        given = list(offers.values())
        write = plane.write(lambda tx: submit_batch(tx, plane.bells, given, submitted_by=principal.token_id, now=now))
        answers = await asyncio.wrap_future(write)
        for at, answer in zip(offers, answers, strict=True):
            if isinstance(answer, Admitted):
                admitted[at] = answer
            elif isinstance(answer, InvalidError | RefusedError):
                errors[at] = type(answer)(tuple(_below_job(answer.problems)))
            else:
                errors[at] = answer
    _count(plane, [offers[at].spec for at, answer in admitted.items() if answer.new], errors)
    verdicts = [_verdict(at, admitted.get(at), errors.get(at)) for at in range(len(batch.items))]
    verdict = BatchVerdict(accepted=len(admitted), refused=len(errors), items=verdicts)
    return Response(verdict.model_dump_json(), media_type=direct.JSON)


def _examined(plane: ControlPlane, principal: Principal, items: list[BatchItem], now: float) -> tuple[dict[int, Offer], Errors]:
    """What may be stored, by index, and why the others may not. For a thread: a statement is proved in another process."""
    offers: dict[int, Offer] = {}
    errors: Errors = {}
    entries: list[Entry] = []
    with plane.store.read() as conn:
        examiner = _Examiner(conn, principal, plane.settings, now)
        for at, item in enumerate(items):
            try:
                judged = examiner.examine(item)
                offers[at] = Offer(judged.spec, new_job_id(), item.idempotency_key, judged.document)
            except (InvalidError, RefusedError) as error:
                errors[at] = error
                if isinstance(error, RefusedError):
                    entries += refused(JobSpec.model_validate(item.job), error, principal.token_id, now)
    if entries:
        plane.store.write(lambda tx: audit.append(tx.conn, entries))
    return offers, errors


@dataclass(frozen=True)
class _Judged:
    """A job that may be stored, with the engine of its statement, and as it is stored."""

    spec: JobSpec
    document: dict[str, Any]

    def named(self, name: str) -> _Judged:
        """The same under another name."""
        return _Judged(self.spec.model_copy(update={"name": name}), {**self.document, "name": name})


class _Examiner:
    """Judges the items of one batch. Those that differ in nothing but their names are read and judged together, which is right for as
    long as admission looks at nothing that grows with what was submitted."""

    def __init__(self, conn: Connection, principal: Principal, settings: Settings, now: float) -> None:
        self._conn, self._principal, self._one_worker_s, self._now = conn, principal, settings.sql_one_worker_s, now
        self._max_array = self._left = settings.max_array
        self._max_files = settings.max_files_bytes
        self._may_wait = settings.flexible_waits > 0
        self._known: dict[str, InvalidError | RefusedError | _Judged] = {}

    def examine(self, item: BatchItem) -> _Judged:
        """The item's job when it may be stored. Raises InvalidError, RefusedError."""
        if item.idempotency_key is not None and not KEY.match(item.idempotency_key):
            raise InvalidError((Problem("idempotency_key", "pattern", "use 1 to 200 visible ASCII characters"),))
        like = dumps({**item.job, "name": ""})
        known, name = self._known.get(like), item.job.get("name")
        try:
            if isinstance(known, _Judged) and isinstance(name, str) and NAMED.fullmatch(name):
                judged = known.named(name)
            else:
                spec = JobSpec.model_validate(item.job)
                own_tenant(self._principal, spec)
                judged = self._judge(like, spec)
            self._bound(judged.spec)
        except ValidationError as error:
            raise InvalidError(tuple(_below_job(faults_of(error.errors())))) from error
        except (InvalidError, RefusedError) as error:
            raise type(error)(tuple(_below_job(error.problems))) from error
        return judged

    def _judge(self, like: str, spec: JobSpec) -> _Judged:
        if like not in self._known:
            try:
                settled = settle_engine(self._conn, spec, self._one_worker_s)
                examine(self._conn, settled, self._now, may_wait=self._may_wait)
                self._known[like] = _Judged(settled, settled.model_dump(mode="json"))
            except (InvalidError, RefusedError) as error:
                self._known[like] = error
        known = self._known[like]
        if not isinstance(known, _Judged):
            raise known
        return known.named(spec.name)

    def _bound(self, spec: JobSpec) -> None:
        """A job has no more than it may have, and the arrays of one batch have together no more tasks than one array may have."""
        examine_size(spec, self._max_array, self._max_files)
        if spec.array is None:
            return
        size = read_array(spec.array).size
        if size > self._left:
            message = f"the arrays of a batch may have {self._max_array:,} tasks together; submit this one in another batch"
            raise InvalidError((Problem("array", "too-large", message),))
        self._left -= size


def _below_job(problems: Iterable[Problem]) -> Iterator[Problem]:
    for item in problems:
        yield replace(item, path=f"job.{item.path}" if item.path else "job")


def _count(plane: ControlPlane, stored: list[JobSpec], errors: Errors) -> None:
    if stored:
        plane.metrics.saw_submission(sum(read_array(spec.array).size if spec.array else 1 for spec in stored))
    for error in errors.values():
        if isinstance(error, RefusedError):
            plane.metrics.saw_refusal(error.problems[0].reason)


def _verdict(at: int, admitted: Admitted | None, error: RefusedError | InvalidError | ConflictError | None) -> ItemVerdict:
    if error is None:
        assert admitted is not None
        return ItemVerdict(index=at, verdict="accepted", id=admitted.id, new=admitted.new)
    kind, status = next((kind, status) for of, kind, status in KINDS if isinstance(error, of))
    found = (Problem("idempotency_key", "conflict", str(error)),) if isinstance(error, ConflictError) else error.problems
    problem = ProblemView(
        type=f"urn:cpn:problem:{kind}", title=TITLES[kind], status=status, detail=str(error),
        errors=[FieldProblem(path=f"items.{at}.{item.path}", reason=item.reason, message=item.message) for item in found],
    )  # fmt: skip
    return ItemVerdict(index=at, verdict="refused", problem=problem)
