"""Maintenance and reservations: times at which nodes are not for everybody."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import replace

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from controlplane.api.auth import Operator, Plane, Reader
from controlplane.api.paging import Cursor, Limit, page_of
from controlplane.api.schemas import Page
from controlplane.api.views import moment
from controlplane.api.window_schemas import MaintenanceRequest, ReservationRequest, WindowView
from controlplane.wiring import ControlPlane
from scheduler.bells import CYCLE
from scheduler.store import access, fleet
from scheduler.store.records import WindowRecord
from scheduler.store.session import Transaction
from scheduler.store.windows import add_window, get_window, list_windows, remove_window
from scheduler.windows import MAINTENANCE, RESERVATION, Known, fewest_nodes, refuse_faults, taken_nodes

router = APIRouter(tags=["windows"])


def window_view(item: WindowRecord, now: float) -> WindowView:
    """A stored window as it is shown."""
    return WindowView(
        name=item.name, purpose=item.purpose, cluster=item.cluster, nodes=list(item.nodes), tenant=item.tenant, queue=item.queue,  # type: ignore[arg-type]
        reason=item.reason, begins_at=moment(item.begins_at), ends_at=moment(item.ends_at), created_at=moment(item.created_at),
        standing="over" if item.ends_at <= now else "now" if item.begins_at <= now else "planned",
    )  # fmt: skip


async def _add(plane: ControlPlane, asked: WindowRecord, cpu: float = 0.0, memory_bytes: int = 0) -> WindowView:
    def work(tx: Transaction) -> WindowRecord:
        now, rows = asked.created_at, fleet.list_nodes(tx.conn)
        known = Known(
            nodes={cluster.name: [row for row in rows if row.cluster == cluster.name] for cluster in fleet.list_clusters(tx.conn)},
            queues=frozenset(item.name for item in fleet.list_queues(tx.conn)),
            tenants=frozenset(tenant.name for tenant in access.list_tenants(tx.conn)), windows=list_windows(tx.conn, now),
        )  # fmt: skip
        window = asked
        if cpu > 0 or memory_bytes > 0:
            refuse_faults(window, replace(known, windows=()), now)
            here = known.nodes[window.cluster]
            window = replace(window, nodes=list(fewest_nodes(here, cpu, memory_bytes, taken_nodes(window, known.windows, here))))
        refuse_faults(window, known, now)
        add_window(tx.conn, window)
        tx.after_commit(lambda: plane.bells.ring(CYCLE))
        return window

    return window_view(await asyncio.wrap_future(plane.write(work)), asked.created_at)


async def _listed(plane: ControlPlane, purpose: str, cursor: str | None, limit: int) -> Page[WindowView]:
    def work() -> Sequence[WindowView]:
        now = plane.clock.now()
        with plane.store.read() as conn:
            return sorted((window_view(item, now) for item in list_windows(conn, now, purpose)), key=lambda item: item.name)

    return page_of(await run_in_threadpool(work), lambda view: view.name, cursor, limit)


async def _one(plane: ControlPlane, purpose: str, name: str) -> WindowView:
    def work() -> WindowView:
        with plane.store.read() as conn:
            return window_view(get_window(conn, purpose, name), plane.clock.now())

    return await run_in_threadpool(work)


async def _remove(plane: ControlPlane, purpose: str, name: str) -> Response:
    def work(tx: Transaction) -> None:
        remove_window(tx.conn, purpose, name)
        tx.after_commit(lambda: plane.bells.ring(CYCLE))

    await asyncio.wrap_future(plane.write(work))
    return Response(status_code=204)


@router.post("/maintenance", status_code=201)
async def create_maintenance(request: MaintenanceRequest, _principal: Operator, plane: Plane) -> WindowView:
    """Announce maintenance: nothing is started there that could run into it, and nothing while it lasts."""
    name = request.name or f"maintenance-{secrets.token_hex(4)}"
    return await _add(plane, WindowRecord(
        name=name, purpose=MAINTENANCE, cluster=request.cluster, nodes=list(request.nodes), tenant=None, queue=None, reason=request.reason,
        begins_at=request.begins_at.timestamp(), ends_at=request.ends_at.timestamp(), created_at=plane.clock.now(),
    ))  # fmt: skip


@router.get("/maintenance")
async def list_maintenance(_principal: Reader, plane: Plane, cursor: Cursor = None, limit: Limit = 100) -> Page[WindowView]:
    """Maintenance that is not over, by name."""
    return await _listed(plane, MAINTENANCE, cursor, limit)


@router.get("/maintenance/{name}")
async def get_maintenance(name: str, _principal: Reader, plane: Plane) -> WindowView:
    """One maintenance."""
    return await _one(plane, MAINTENANCE, name)


@router.delete("/maintenance/{name}", status_code=204)
async def remove_maintenance(name: str, _principal: Operator, plane: Plane) -> Response:
    """Call it off, or end it early."""
    return await _remove(plane, MAINTENANCE, name)


@router.post("/reservations", status_code=201)
async def create_reservation(request: ReservationRequest, _principal: Operator, plane: Plane) -> WindowView:
    """Reserve nodes for a tenant or a queue: others start nothing there that could run into it, and nothing while it lasts.

    With `cpu` and `memory` instead of nodes, few whole nodes that together have so much are chosen now.
    """
    window = WindowRecord(
        name=request.name, purpose=RESERVATION, cluster=request.cluster, nodes=list(request.nodes), tenant=request.tenant,
        queue=request.queue, reason="", begins_at=request.begins_at.timestamp(), ends_at=request.ends_at.timestamp(),
        created_at=plane.clock.now(),
    )  # fmt: skip
    return await _add(plane, window, request.cpu, request.memory or 0)


@router.get("/reservations")
async def list_reservations(_principal: Operator, plane: Plane, cursor: Cursor = None, limit: Limit = 100) -> Page[WindowView]:
    """Reservations that are not over, by name."""
    return await _listed(plane, RESERVATION, cursor, limit)


@router.get("/reservations/{name}")
async def get_reservation(name: str, _principal: Operator, plane: Plane) -> WindowView:
    """One reservation."""
    return await _one(plane, RESERVATION, name)


@router.delete("/reservations/{name}", status_code=204)
async def remove_reservation(name: str, _principal: Operator, plane: Plane) -> Response:
    """Give the nodes back to everybody."""
    return await _remove(plane, RESERVATION, name)
