"""Members and their nodes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from cluster.model import NO_RAY, NO_STORE, NO_WHEELS, RUN_RAY, ClusterSpec
from controlplane.api import views
from controlplane.api.auth import Operator, Plane, Reader
from controlplane.api.joining_schemas import ClusterRuns
from controlplane.api.paging import Cursor, Limit, page_of
from controlplane.api.schemas import ClusterPatch, ClusterView, NodeView, Page
from controlplane.api.windows import window_view
from controlplane.deposit_store import DepositStore
from controlplane.endpoint import check_endpoint
from controlplane.result_store import ResultStoreError
from controlplane.tokens import Principal
from controlplane.wiring import ControlPlane
from monitoring.capacity import measure, use_by_node
from scheduler import acts
from scheduler.bells import CYCLE, agent_bell
from scheduler.chain import Act
from scheduler.dispatch import order_stop
from scheduler.errors import ConflictError, InvalidError, NotFoundError, Problem
from scheduler.freeze import World, read_world
from scheduler.store import audit, catalogue, fleet, jobs
from scheduler.store.audit import Entry
from scheduler.store.records import WindowRecord
from scheduler.store.session import Transaction
from scheduler.windows import MAINTENANCE

router = APIRouter(tags=["clusters"])
FLEET = "fleet"
NULLED = ("carbon", "ray_jobs", "result_store")


def cluster_views(world: World, principal: Principal) -> list[ClusterView]:
    """Every member, by name. Of reservations only operators and whom they are for learn."""
    use, capacity = use_by_node(world.runs), measure(world.clusters, world.nodes, world.runs)
    running = Counter(run.cluster for run in world.runs)
    found = [
        views.cluster_view(
            cluster, [row for row in world.nodes if row.cluster == cluster.name], use, running[cluster.name], capacity, world.now
        )
        for cluster in world.clusters
    ]
    for view in found:
        view.windows = [window_view(item, world.now) for item in world.windows if item.cluster == view.name and _may_see(principal, item)]
    return found


def _may_see(principal: Principal, window: WindowRecord) -> bool:
    if window.purpose == MAINTENANCE or principal.role == "operator":
        return True
    return window.tenant is not None and principal.may_see_tenant(window.tenant)


def _view(plane: ControlPlane, name: str, principal: Principal) -> ClusterView:
    with plane.store.read() as conn:
        found = {view.name: view for view in cluster_views(read_world(conn, plane.clock.now()), principal)}
    if name not in found:
        raise NotFoundError(f"there is no cluster {name!r}")
    return found[name]


@router.post("/clusters", status_code=201)
async def register_cluster(spec: ClusterSpec, principal: Operator, plane: Plane) -> ClusterView:
    """Register a member. In push mode every check of its endpoint must pass now, and it must not be a member under another name."""
    if spec.backend == "memory" and not plane.settings.allow_simulated:
        message = "the memory backend runs nothing; start the server with CPN_ALLOW_SIMULATED=1 to try the scheduler with it"
        raise InvalidError((Problem("backend", "simulated", message),))
    _check_packages(spec)
    remote_id = ""
    if spec.mode == "push" and spec.backend != "memory":
        remote_id = await run_in_threadpool(check_endpoint, spec.backend, spec.endpoint)
    await run_in_threadpool(_try_store, plane, spec.result_store)
    now = plane.clock.now()

    def work(tx: Transaction) -> None:
        fleet.add_cluster(tx.conn, spec, now, remote_id)
        audit.append(tx.conn, [acts.of_cluster(Act.CLUSTER_REGISTERED, spec, principal.token_id, now)])

    await asyncio.wrap_future(plane.write(work))
    plane.bells.ring(FLEET)
    return await run_in_threadpool(_view, plane, spec.name, principal)


def _check_packages(spec: ClusterSpec) -> None:
    """Raises InvalidError for packages that a cluster's jobs of kind ray could never have."""
    if spec.backend == "kubernetes" and spec.ray_jobs is not None and "pip" in spec.ray_jobs.runtime_env:
        raise InvalidError((Problem("ray_jobs.runtime_env", "backend", NO_WHEELS),))


@router.get("/clusters")
async def list_clusters(principal: Reader, plane: Plane, cursor: Cursor = None, limit: Limit = 100) -> Page[ClusterView]:
    """All members, by name."""

    def work() -> Page[ClusterView]:
        with plane.store.read() as conn:
            return page_of(cluster_views(read_world(conn, plane.clock.now()), principal), lambda view: view.name, cursor, limit)

    return await run_in_threadpool(work)


@router.get("/clusters/{name}")
async def get_cluster(name: str, principal: Reader, plane: Plane) -> ClusterView:
    """One member."""
    return await run_in_threadpool(_view, plane, name, principal)


@router.get("/clusters/{name}/runs")
async def list_cluster_runs(name: str, _principal: Operator, plane: Plane) -> ClusterRuns:
    """The runs that are placed, starting or running: what a cluster may have something of."""

    def work() -> ClusterRuns:
        with plane.store.read() as conn:
            cluster, active = fleet.get_cluster(conn, name), jobs.active_runs(conn)
        here = [run.id for run in active if run.cluster == name]
        return ClusterRuns(
            cluster=name, remote_id=cluster.remote_id, here=here, elsewhere=[run.id for run in active if run.cluster != name]
        )

    return await run_in_threadpool(work)


@router.patch("/clusters/{name}")
async def change_cluster(name: str, patch: ClusterPatch, principal: Operator, plane: Plane) -> ClusterView:
    """Change labels, prices, bandwidth, the lease's end, carbon, the level of security, the store of results or the rules for kind ray.

    Running jobs keep their quotes. Each field replaces all of what was there: prices without tariffs take these away. A null takes
    carbon, result_store or ray_jobs away, and changes nothing else.
    """
    given = {field: getattr(patch, field) for field in patch.model_fields_set}
    changes = {field: value for field, value in given.items() if value is not None or field in NULLED}

    def work(tx: Transaction) -> None:
        before = fleet.get_cluster(tx.conn, name).spec
        spec = before.model_copy(update=changes)
        if spec.ray_jobs is not None and spec.backend not in RUN_RAY:
            raise InvalidError((Problem("ray_jobs", "backend", NO_RAY),))
        if spec.result_store is not None and spec.backend != "kubernetes":
            raise InvalidError((Problem("result_store", "backend", NO_STORE),))
        if "ray_jobs" in changes:
            _check_packages(spec)
        fleet.update_cluster(tx.conn, name, spec=spec)
        audit.append(tx.conn, acts.of_change(before, spec, principal.token_id, plane.clock.now()))
        if "security_level" in changes:
            catalogue.count_up(tx.conn)  # A decision that is under way rests on the level.
        tx.after_commit(lambda: plane.bells.ring(CYCLE))

    await run_in_threadpool(_try_store, plane, patch.result_store)
    await asyncio.wrap_future(plane.write(work))
    plane.shipments.look()
    return await run_in_threadpool(_view, plane, name, principal)


def _try_store(plane: ControlPlane, url: str | None) -> None:
    """Raises InvalidError when runs could not put results into a store that is named."""
    if url is not None:
        try:
            DepositStore(url).try_grant(plane.clock.now())
        except ResultStoreError as error:
            raise InvalidError((Problem("result_store", "store", str(error)),)) from error


@router.delete("/clusters/{name}", status_code=204)
async def remove_cluster(name: str, principal: Operator, plane: Plane) -> Response:
    """Forget a member that runs nothing."""

    def work(tx: Transaction) -> None:
        running = jobs.active_runs(tx.conn, name)
        if running:
            raise ConflictError(f"cluster {name!r} still has {len(running)} runs; drain it first (`cpn cluster drain {name}`)")
        fleet.remove_cluster(tx.conn, name)
        audit.append(tx.conn, [Entry(Act.CLUSTER_REMOVED, name, principal.token_id, plane.clock.now())])

    await asyncio.wrap_future(plane.write(work))
    plane.bells.ring(FLEET)
    return Response(status_code=204)


async def _set_cordon(
    plane: ControlPlane, principal: Principal, name: str, cordon: str, also: Callable[[Transaction], None] | None = None
) -> ClusterView:  # fmt: skip
    def work(tx: Transaction) -> None:
        fleet.update_cluster(tx.conn, name, cordon=cordon)
        audit.append(tx.conn, [Entry(Act.CLUSTER_CORDONED, name, principal.token_id, plane.clock.now(), {"cordon": cordon})])
        if also is not None:
            also(tx)
        tx.after_commit(lambda: plane.bells.ring(CYCLE))

    await asyncio.wrap_future(plane.write(work))
    return await run_in_threadpool(_view, plane, name, principal)


@router.post("/clusters/{name}:cordon")
async def cordon_cluster(name: str, principal: Operator, plane: Plane) -> ClusterView:
    """Place nothing new there; what runs goes on."""
    return await _set_cordon(plane, principal, name, "cordoned")


@router.post("/clusters/{name}:uncordon")
async def uncordon_cluster(name: str, principal: Operator, plane: Plane) -> ClusterView:
    """Use it again."""
    return await _set_cordon(plane, principal, name, "open")


@router.post("/clusters/{name}:drain")
async def drain_cluster(name: str, principal: Operator, plane: Plane) -> ClusterView:
    """Place nothing new there and move what runs: each run is stopped and its job goes back to its queue."""
    now = plane.clock.now()

    def stop_all(tx: Transaction) -> None:
        for run in jobs.active_runs(tx.conn, name):
            order_stop(tx.conn, run, "preempted", now)
        tx.after_commit(lambda: plane.bells.ring(agent_bell(name)))

    return await _set_cordon(plane, principal, name, "draining", stop_all)


@router.get("/nodes")
async def list_nodes(
    _principal: Reader, plane: Plane, cluster: str | None = None, cursor: Cursor = None, limit: Limit = 100
) -> Page[NodeView]:
    """Nodes with what runs hold of them, by cluster and name."""

    def work() -> Page[NodeView]:
        with plane.store.read() as conn:
            if cluster is not None:
                fleet.get_cluster(conn, cluster)
            rows, use = fleet.list_nodes(conn, cluster), use_by_node(jobs.active_runs(conn, cluster))
        shown = [views.node_view(row, use.get((row.cluster, row.node.name), views.NO_USE)) for row in rows]
        return page_of(shown, lambda view: f"{view.cluster}/{view.name}", cursor, limit)

    return await run_in_threadpool(work)
