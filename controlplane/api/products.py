"""Data products: publish, show, grant, revoke, deprecate, withdraw."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from controlplane.api import views
from controlplane.api.auth import Operator, Plane, Reader
from controlplane.api.paging import Cursor, Limit, page_of
from controlplane.api.schemas import LicenceRequest, Page, ProductView, RevokedLicence, SampleView, StandingRequest, VersionRequest
from controlplane.samples import MOST_ROWS, sample
from controlplane.wiring import ControlPlane
from scheduler import acts
from scheduler.bells import CYCLE
from scheduler.chain import Act
from scheduler.errors import InvalidError, NotFoundError, Problem
from scheduler.store import access, audit, catalogue, fleet
from scheduler.store.session import Transaction
from scheduler.uses import revoke
from workloads.catalogue.licence import Licence
from workloads.catalogue.product import Classification, Column, Product, ProductVersion, Standing, column_faults
from workloads.catalogue.publishing import Described, describe, difference
from workloads.catalogue.searching import Wanted
from workloads.errors import UnitError, WorkloadError
from workloads.resources import Money
from workloads.spec import Name

router = APIRouter(tags=["products"])
THERE: dict[int | str, dict[str, Any]] = {200: {"model": ProductView, "description": "It was there with the same terms"}}


def _view(plane: ControlPlane, name: str) -> ProductView:
    with plane.store.read() as conn:
        product = catalogue.get_product(conn, name)
        versions = sorted(catalogue.versions_of(conn, [name]).values(), key=lambda version: version.version)
        return ProductView(product=product, versions=versions, created_at=views.moment(catalogue.created_at(conn, name)))


@router.post("/products", status_code=201, responses=THERE)
async def create_product(product: Product, principal: Operator, plane: Plane, response: Response) -> ProductView:
    """Publish a product's terms; 200 when it is there with the same terms."""
    now = plane.clock.now()

    def work(tx: Transaction) -> bool:
        fresh = catalogue.add_product(tx.conn, product, now)
        if fresh:
            audit.append(tx.conn, [acts.of_product(Act.PRODUCT_PUBLISHED, product, principal.token_id, now)])
        return fresh

    fresh = await asyncio.wrap_future(plane.write(work))
    response.status_code = 201 if fresh else 200
    return await run_in_threadpool(_view, plane, product.name)


@router.get("/products")
async def list_products(
    _principal: Reader, plane: Plane, search: Annotated[str, Query(max_length=200)] = "", owner: Name | None = None,
    classification: Classification | None = None,
    max_price: Annotated[str, Query(max_length=40, description="like 0.50 CNY")] = "",
    cursor: Cursor = None, limit: Limit = 100,
) -> Page[ProductView]:  # fmt: skip
    """The catalogue, by name: what has all words of `search` in its name, owner or description, and charges no more than `max_price`
    for a run, a GiB or anything else."""
    try:
        wanted = Wanted(search, owner, classification, Money.parse(max_price) if max_price else None)
    except UnitError as error:
        raise InvalidError((Problem("max_price", "amount", str(error)),)) from error

    def work() -> list[ProductView]:
        with plane.store.read() as conn:
            found = [(product, at) for product, at in catalogue.list_products(conn, limit=1_000_000) if wanted.suits(product)]
            versions = catalogue.versions_of(conn, [product.name for product, _ in found])
        by_product: dict[str, list[ProductVersion]] = {}
        for version in sorted(versions.values(), key=lambda item: item.version):
            by_product.setdefault(version.product, []).append(version)
        return [
            ProductView(product=product, versions=by_product.get(product.name, []), created_at=views.moment(at)) for product, at in found
        ]

    return page_of(await run_in_threadpool(work), lambda view: view.product.name, cursor, limit)


@router.get("/products/{owner}/{name}")
async def get_product(owner: str, name: str, _principal: Reader, plane: Plane) -> ProductView:
    """One product with its versions."""
    return await run_in_threadpool(_view, plane, f"{owner}/{name}")


@router.get("/products/{owner}/{name}/sample")
async def show_sample(
    owner: str, name: str, _principal: Reader, plane: Plane, rows: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 10
) -> SampleView:
    """The first rows of its newest version, where its terms allow that: without hidden columns, and masked."""

    def work() -> SampleView:
        with plane.store.read() as conn:
            product = catalogue.get_product(conn, f"{owner}/{name}")
            versions = list(catalogue.versions_of(conn, [product.name]).values())
        try:
            version, preview = sample(product, versions, rows)
        except WorkloadError as error:
            raise InvalidError((Problem("replicas", "data", str(error)),)) from error
        return SampleView(version=version.ref, preview=preview)

    return await run_in_threadpool(work)


@router.put("/products/{owner}/{name}")
async def replace_terms(owner: str, name: str, product: Product, principal: Operator, plane: Plane) -> ProductView:
    """New terms, from the next decision on."""
    if product.name != f"{owner}/{name}":
        raise InvalidError((Problem("name", "mismatch", f"the document is of {product.name!r}, the address of '{owner}/{name}'"),))

    def work(tx: Transaction) -> None:
        versions = catalogue.versions_of(tx.conn, [product.name]).values()
        if versions:
            _refuse_columns(product, max(versions, key=lambda version: version.version).columns)
        catalogue.replace_product(tx.conn, product)
        audit.append(tx.conn, [acts.of_product(Act.TERMS_CHANGED, product, principal.token_id, plane.clock.now())])
        tx.after_commit(lambda: plane.bells.ring(CYCLE))

    await asyncio.wrap_future(plane.write(work))
    return await run_in_threadpool(_view, plane, product.name)


@router.post("/products/{owner}/{name}/versions", status_code=201)
async def publish_version(owner: str, name: str, request: VersionRequest, principal: Operator, plane: Plane) -> ProductVersion:
    """Publish a version: every replica is read and must hold the same bytes."""
    product = f"{owner}/{name}"
    described = await run_in_threadpool(_describe_all, plane, product, request)
    now = plane.clock.now()

    def work(tx: Transaction) -> ProductVersion:
        version = ProductVersion(
            product=product, version=catalogue.next_version(tx.conn, product), format=request.format, size_bytes=described.size_bytes,
            rows=described.rows, sha256=described.sha256, columns=described.columns, replicas=request.replicas,
        )  # fmt: skip
        _refuse_columns(catalogue.get_product(tx.conn, product), version.columns)
        catalogue.add_version(tx.conn, version, now)
        audit.append(tx.conn, [acts.of_version(Act.VERSION_PUBLISHED, version, principal.token_id, now)])
        return version

    return await asyncio.wrap_future(plane.write(work))


def _refuse_columns(product: Product, columns: Sequence[Column]) -> None:
    """Raises InvalidError where the terms speak of columns that the data does not have."""
    faults = column_faults(product, columns)
    if faults:
        raise InvalidError(
            tuple(Problem(".".join(map(str, path)), "terms", f"{words}; correct the terms, or the data") for path, words in faults)
        )


def _describe_all(plane: ControlPlane, product: str, request: VersionRequest) -> Described:
    problems, found = [], []
    with plane.store.read() as conn:
        catalogue.get_product(conn, product)
        known = {cluster.name for cluster in fleet.list_clusters(conn)}
    for index, replica in enumerate(request.replicas):
        if replica.cluster not in known:
            problems.append(Problem(f"replicas.{index}.cluster", "unknown", f"there is no cluster {replica.cluster!r}"))
            continue
        try:
            found.append(describe(replica.uri, request.format))
        except WorkloadError as error:
            problems.append(Problem(f"replicas.{index}.uri", "data", str(error)))
    if not problems and len({item.sha256 for item in found}) > 1:
        problems.append(Problem("replicas", "different", "the replicas do not hold the same bytes; a version is one content"))
    if not problems and request.columns is not None and (words := difference(request.columns, found[0].columns)):
        problems.append(Problem("columns", "schema", f"the data has other columns: {words}; correct the data, or what is asked for"))
    if problems:
        raise InvalidError(tuple(problems))
    return found[0]


@router.post("/products/{owner}/{name}/licences", status_code=201)
async def grant_licence(owner: str, name: str, request: LicenceRequest, principal: Operator, plane: Plane) -> Licence:
    """Grant a tenant the use of a product."""
    licence = Licence(
        id=f"lic-{secrets.token_hex(6)}", tenant=request.tenant, product=f"{owner}/{name}", purposes=request.purposes,
        jurisdictions=request.jurisdictions, expires_at=request.expires_at, runs=request.runs, gib=request.gib, kinds=request.kinds,
        consent=request.consent.strip(),
    )  # fmt: skip
    now = plane.clock.now()

    def work(tx: Transaction) -> Licence:
        product = catalogue.get_product(tx.conn, licence.product)
        problems = list(_grant_problems(licence, product, now))
        if not access.has_tenant(tx.conn, licence.tenant):
            problems.append(Problem("tenant", "unknown", f"there is no tenant {licence.tenant!r}; create it with `cpn tenant create`"))
        if problems:
            raise InvalidError(tuple(problems))
        catalogue.add_licence(tx.conn, licence, now)
        audit.append(tx.conn, [acts.of_licence(Act.LICENCE_GRANTED, licence, principal.token_id, now)])
        tx.after_commit(lambda: plane.bells.ring(CYCLE))
        return catalogue.get_licence(tx.conn, licence.id)

    return await asyncio.wrap_future(plane.write(work))


def _grant_problems(licence: Licence, product: Product, now: float) -> Iterator[Problem]:
    """What the product's terms have against a grant."""
    limits = (("purposes", licence.purposes, product.purposes), ("kinds", licence.kinds, product.kinds))
    for field, asked, permitted in limits:
        excess = [item for item in asked if permitted and item not in permitted]
        if excess:
            yield Problem(field, "terms", f"the product permits {', '.join(permitted)}, not {', '.join(excess)}")
    if licence.expires_at is not None and licence.expires_at.timestamp() <= now:
        yield Problem("expires_at", "past", "the licence would have expired already")
    if product.classification == "personal" and not licence.consent:
        yield Problem("consent", "required", "the product holds personal data; give the reference of the people's consent")


@router.get("/products/{owner}/{name}/licences")
async def list_licences(owner: str, name: str, principal: Reader, plane: Plane, cursor: Cursor = None, limit: Limit = 100) -> Page[Licence]:
    """Grants of a product; a buyer sees its tenant's."""

    def work() -> list[Licence]:
        with plane.store.read() as conn:
            catalogue.get_product(conn, f"{owner}/{name}")
            found = catalogue.licences_for(conn, f"{owner}/{name}")
        return sorted((item for item in found if principal.may_see_tenant(item.tenant)), key=lambda item: item.id)

    return page_of(await run_in_threadpool(work), lambda item: item.id, cursor, limit)


@router.get("/licences/{licence_id}")
async def get_licence(licence_id: str, principal: Reader, plane: Plane) -> Licence:
    """One grant with what is left of it; a buyer sees its tenant's."""

    def work() -> Licence:
        with plane.store.read() as conn:
            found = catalogue.get_licence(conn, licence_id)
        if not principal.may_see_tenant(found.tenant):
            raise NotFoundError(f"there is no licence {licence_id!r}")
        return found

    return await run_in_threadpool(work)


@router.delete("/products/{owner}/{name}/licences/{licence_id}")
async def revoke_licence(
    owner: str, name: str, licence_id: str, principal: Operator, plane: Plane, stop_running: bool = False
) -> RevokedLicence:  # fmt: skip
    """End a grant: nothing more is placed under it, and jobs that wait are held. What runs goes on, unless it is to be stopped."""
    product, now = f"{owner}/{name}", plane.clock.now()

    def work(tx: Transaction) -> RevokedLicence:
        catalogue.get_product(tx.conn, product)
        licence = catalogue.revoke_licence(tx.conn, product, licence_id, now)
        audit.append(tx.conn, [acts.of_licence(Act.LICENCE_REVOKED, licence, principal.token_id, now)])
        met = revoke(tx, plane.bells, licence_id, now, stop_running=stop_running)
        return RevokedLicence(**licence.model_dump(), **vars(met))

    return await asyncio.wrap_future(plane.write(work))


@router.post("/products/{owner}/{name}/versions/{version}:deprecate")
async def deprecate_version(
    owner: str, name: str, version: int, request: StandingRequest, principal: Operator, plane: Plane
) -> ProductVersion:  # fmt: skip
    """Advise against a version: plans that read it warn."""
    return await _set_standing(plane, f"{owner}/{name}", version, "deprecated", request.reason, principal.token_id)


@router.post("/products/{owner}/{name}/versions/{version}:withdraw")
async def withdraw_version(
    owner: str, name: str, version: int, request: StandingRequest, principal: Operator, plane: Plane
) -> ProductVersion:  # fmt: skip
    """Take a version back for good: what runs finishes, what waits is held, and new jobs are refused."""
    return await _set_standing(plane, f"{owner}/{name}", version, "withdrawn", request.reason, principal.token_id)


async def _set_standing(plane: ControlPlane, product: str, version: int, standing: Standing, reason: str, by: str) -> ProductVersion:
    act = Act.VERSION_WITHDRAWN if standing == "withdrawn" else Act.VERSION_DEPRECATED

    def work(tx: Transaction) -> ProductVersion:
        found = catalogue.set_standing(tx.conn, product, version, standing, reason)
        audit.append(tx.conn, [acts.of_version(act, found, by, plane.clock.now())])
        tx.after_commit(lambda: plane.bells.ring(CYCLE))
        return found

    return await asyncio.wrap_future(plane.write(work))
