"""The HTTP application: routes under /v1, problem details for every error, deny by default."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from prometheus_client.exposition import choose_encoder
from starlette.concurrency import run_in_threadpool

from controlplane.api import (
    access,
    agents,
    audit,
    batches,
    captures,
    clusters,
    job_logs,
    jobs,
    joining,
    ledger,
    links,
    problems,
    products,
    queues,
    results,
    speeds,
    statements,
    tenants,
    usage,
    windows,
)
from controlplane.api.auth import deny_undeclared
from controlplane.api.describe import PROBLEMS, describe
from controlplane.api.direct import DirectApp
from controlplane.wiring import ControlPlane
from scheduler.store.session import ping

VERSION = "0.1.0"
PREFIX = "/v1"
# Routes are tried in this order; what is called for every job comes first.
PARTS = (agents, jobs, results, batches, job_logs, joining, clusters, products, queues, tenants, access, captures, windows, speeds, links,
         audit, statements, usage, ledger)  # fmt: skip


def create_app(plane: ControlPlane | None) -> FastAPI:
    """The application of a control plane; without one it only describes itself."""
    app = DirectApp(
        title="cpn", version=VERSION, docs_url="/docs", redoc_url=None,
        # A body without a Content-Type is read as the JSON that it must be; another type is refused in words.
        strict_content_type=False,
        # We have metrics of our own; to ask at each request whether somebody wants these too costs a twentieth of it.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )  # fmt: skip
    app.state.plane = plane
    # Straight into the application: a router between would look for the route of each request once more.
    for part in PARTS:
        app.include_router(part.router, prefix=PREFIX, dependencies=[Depends(deny_undeclared)], responses=PROBLEMS)
    app.include_router(_health_routes())
    problems.install(app)
    app.shorten(v1_routes())
    app.openapi = lambda: describe(app, v1_routes())  # type: ignore[method-assign]
    return app


def v1_routes() -> Iterator[tuple[str, APIRoute]]:
    """Every route under /v1 with its whole path."""
    for part in PARTS:
        for route in part.router.routes:
            if isinstance(route, APIRoute):
                yield PREFIX + route.path_format, route


def _health_routes() -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @router.get("/readyz", responses={503: PROBLEMS[503]})
    async def readyz(request: Request) -> Response:
        """The store answers and decisions are being made."""
        plane: ControlPlane = request.app.state.plane
        await run_in_threadpool(ping, plane.store)
        if not plane.deciding():
            return problems.problem(503, "unavailable", "the scheduling cycle is not running; see the server's log")
        return JSONResponse({"status": "ready"})

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
    async def metrics(request: Request) -> Response:
        """Metrics for Prometheus; OpenMetrics when asked for."""
        plane: ControlPlane = request.app.state.plane
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(await run_in_threadpool(encode, plane.metrics.registry), media_type=content_type)

    return router
