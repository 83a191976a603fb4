"""Queues."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from cluster.computing_power import rated_models
from controlplane.api.auth import Operator, Plane, Reader
from controlplane.api.paging import Cursor, Limit, page_of
from controlplane.api.queue_schemas import QueuePatch, QueueRequest, QueueView
from controlplane.api.queue_views import queue_views
from controlplane.api.schemas import Page
from controlplane.wiring import ControlPlane
from scheduler.bells import CYCLE
from scheduler.chain import Act
from scheduler.errors import NotFoundError
from scheduler.freeze import read_world
from scheduler.quotas import refuse_faults
from scheduler.store import audit, fleet, jobs
from scheduler.store.audit import Entry
from scheduler.store.records import QueueRecord
from scheduler.store.session import Transaction

router = APIRouter(tags=["queues"])


def _views(plane: ControlPlane) -> list[QueueView]:
    with plane.store.read() as conn:
        world = read_world(conn, plane.clock.now(), plane.settings.history_half_life_s)
        counts = {(queue, state): count for queue, state, count, _ in jobs.count_by_state(conn)}
    return queue_views(world, counts)


def _models(tx: Transaction) -> set[str]:
    """The accelerators that a quota may name: those that are there, and those that would be rated if they were."""
    return {item.model for row in fleet.list_nodes(tx.conn) for item in row.node.accelerators} | rated_models()


@router.post("/queues", status_code=201)
async def create_queue(request: QueueRequest, principal: Operator, plane: Plane) -> QueueView:
    """Create a queue, at the top or below another. Shares go by weight among sisters; a quota is guaranteed.

    Jobs wait in the queues at the ends of the tree; those that wait in a queue when others are created below it stay and go first.
    """
    now = plane.clock.now()
    terms: dict[str, Any] = {"weight": 1.0, "max_running": None, **request.columns()}

    def work(tx: Transaction) -> None:
        refuse_faults(QueueRecord(**{**terms, "created_at": now}), fleet.list_queues(tx.conn), _models(tx))
        fleet.add_queue(tx.conn, now=now, **terms)
        audit.append(tx.conn, [Entry(Act.QUEUE_CREATED, request.name, principal.token_id, now, request.columns())])

    await asyncio.wrap_future(plane.write(work))
    return await get_queue(request.name, principal, plane)


@router.patch("/queues/{name}")
async def change_queue(name: str, patch: QueuePatch, principal: Operator, plane: Plane) -> QueueView:
    """Change a queue's terms, or move it with all below it to another parent. What runs goes on."""
    columns: dict[str, Any] = patch.columns()

    def work(tx: Transaction) -> None:
        queue = fleet.get_queue(tx.conn, name)
        others = [item for item in fleet.list_queues(tx.conn) if item.name != name]
        refuse_faults(replace(queue, **columns), others, _models(tx) | set(queue.quota))
        fleet.update_queue(tx.conn, name, **columns)
        audit.append(tx.conn, [Entry(Act.QUEUE_CHANGED, name, principal.token_id, plane.clock.now(), columns)])
        tx.after_commit(lambda: plane.bells.ring(CYCLE))

    await asyncio.wrap_future(plane.write(work))
    return await get_queue(name, principal, plane)


@router.get("/queues")
async def list_queues(_principal: Reader, plane: Plane, cursor: Cursor = None, limit: Limit = 100) -> Page[QueueView]:
    """All queues, by name."""
    return page_of(await run_in_threadpool(_views, plane), lambda view: view.name, cursor, limit)


@router.get("/queues/{name}")
async def get_queue(name: str, _principal: Reader, plane: Plane) -> QueueView:
    """One queue."""
    found = {view.name: view for view in await run_in_threadpool(_views, plane)}
    if name not in found:
        raise NotFoundError(f"there is no queue {name!r}")
    return found[name]
