"""Links: how fast data comes from each member to each other one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from controlplane.api.auth import Plane, Reader
from controlplane.api.link_schemas import LinkView
from controlplane.api.paging import Cursor, Limit, page_of
from controlplane.api.schemas import Page
from controlplane.api.views import moment
from scheduler.errors import NotFoundError
from scheduler.store import fleet
from scheduler.store.records import ClusterRecord

router = APIRouter(tags=["clusters"])


def link_views(members: Sequence[ClusterRecord], cluster: str | None = None) -> list[LinkView]:
    """Every link, by where it leads and whence; of one member those that lead there."""
    return [
        _view(source.name, member)
        for member in members if cluster in (None, member.name)
        for source in members if source.name != member.name
    ]  # fmt: skip


def _view(source: str, member: ClusterRecord) -> LinkView:
    samples = member.links.get(source, ())
    return LinkView(
        source=source, cluster=member.name, mib_s=member.inbound.mib_s(source), origin="measured" if samples else "declared",
        declared_mib_s=member.spec.inbound_bandwidth_mib_s, transfers=len(samples), capped=any(item.capped for item in samples),
        last_at=moment(samples[-1].at) if samples else None,
    )  # fmt: skip


@router.get("/links")
async def list_links(
    _principal: Reader, plane: Plane, cursor: Cursor = None, limit: Limit = 100,
    cluster: Annotated[str | None, Query(max_length=63, description="those that lead to one member alone")] = None,
) -> Page[LinkView]:  # fmt: skip
    """How fast data comes from each member to each other one: as the last transfers showed, else as declared."""

    def work() -> Page[LinkView]:
        with plane.store.read() as conn:
            members = fleet.list_clusters(conn)
        if cluster is not None and all(member.name != cluster for member in members):
            raise NotFoundError(f"there is no cluster {cluster!r}")
        return page_of(link_views(members, cluster), lambda view: f"{view.cluster}/{view.source}", cursor, limit)

    return await run_in_threadpool(work)
