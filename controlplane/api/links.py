"""Links: how fast data comes from each member to each other one, and what that costs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from cluster.model import ClusterSpec, LinkTerms
from controlplane.api.auth import Operator, Plane, Reader
from controlplane.api.link_schemas import LinkPatch, LinkView
from controlplane.api.paging import Cursor, Limit, page_of
from controlplane.api.schemas import Page
from controlplane.api.views import moment
from scheduler import acts
from scheduler.bells import CYCLE
from scheduler.errors import InvalidError, NotFoundError, Problem
from scheduler.store import audit, fleet
from scheduler.store.records import ClusterRecord
from scheduler.store.session import Transaction

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
        declared_mib_s=member.inbound.declared_from(source), latency_ms=member.inbound.latency_s(source) * 1000,
        price_gib=member.spec.prices.transfer_from.get(source, member.spec.prices.transfer_gib),
        transfers=len(samples), capped=any(item.capped for item in samples),
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


@router.patch("/links/{source}/{cluster}")
async def set_link(source: str, cluster: str, patch: LinkPatch, principal: Operator, plane: Plane) -> LinkView:
    """Say what the way from one member to another costs, how broad it is until that was measured, and how long it is."""
    if source == cluster:
        raise InvalidError((Problem("cluster", "same", "data that lies at a cluster takes no link; name two clusters"),))

    def work(tx: Transaction) -> None:
        before = fleet.get_cluster(tx.conn, cluster).spec
        fleet.get_cluster(tx.conn, source)
        spec = with_link(before, source, {field: getattr(patch, field) for field in patch.model_fields_set})
        fleet.update_cluster(tx.conn, cluster, spec=spec)
        audit.append(tx.conn, acts.of_change(before, spec, principal.token_id, plane.clock.now()))
        tx.after_commit(lambda: plane.bells.ring(CYCLE))

    await asyncio.wrap_future(plane.write(work))

    def read() -> LinkView:
        with plane.store.read() as conn:
            return _view(source, fleet.get_cluster(conn, cluster))

    return await run_in_threadpool(read)


def with_link(spec: ClusterSpec, source: str, given: Mapping[str, Any]) -> ClusterSpec:
    """A member with what is said of the link from another. Raises InvalidError for a price in another currency."""
    prices, links = dict(spec.prices.transfer_from), dict(spec.links)
    if (price := given.get("price_gib")) is not None:
        if price.currency != spec.prices.currency:
            words = f"is in {price.currency}, {spec.name} charges {spec.prices.currency}; give it in {spec.prices.currency}"
            raise InvalidError((Problem("price_gib", "currency", words),))
        prices[source] = price
    elif "price_gib" in given:
        prices.pop(source, None)
    terms = links.pop(source, LinkTerms())
    said = {"bandwidth_mib_s": terms.bandwidth_mib_s, "latency_ms": terms.latency_ms, **given}
    terms = LinkTerms(bandwidth_mib_s=said["bandwidth_mib_s"], latency_ms=said["latency_ms"] or 0.0)
    if terms != LinkTerms():
        links[source] = terms
    return spec.model_copy(update={"links": links, "prices": spec.prices.model_copy(update={"transfer_from": prices})})
