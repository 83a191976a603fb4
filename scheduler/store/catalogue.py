"""Products, versions and licences. Every change counts up the generation that decisions are checked against."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from sqlalchemy import BindParameter, Connection, Text, bindparam, cast, func, insert, select, update

from scheduler.errors import ConflictError, NotFoundError
from scheduler.store.tables import generations, licences, product_versions, products
from workloads.catalogue.licence import Licence
from workloads.catalogue.product import Product, ProductVersion, Standing

GENERATION = "catalogue"

_NAMES: BindParameter[str] = bindparam("names", expanding=True)
_TENANTS: BindParameter[str] = bindparam("tenants", expanding=True)
_GENERATION = select(generations.c.value).where(generations.c.name == GENERATION)
# Every job is judged by them, several times, and they hardly ever change: documents are read as text, and each text is parsed once.
MOST_PARSED = 8192
_PRODUCTS = select(products.c.name, cast(products.c.product, Text)).where(products.c.name.in_(_NAMES))
_VERSIONS = (
    select(cast(product_versions.c.document, Text), product_versions.c.standing, product_versions.c.reason)
    .where(product_versions.c.product.in_(_NAMES))
    .order_by(product_versions.c.product, product_versions.c.version)
)
_VERSIONS_WITH = (
    select(cast(product_versions.c.document, Text), product_versions.c.standing, product_versions.c.reason)
    .where(product_versions.c.document["sha256"].as_string().in_(bindparam("checksums", expanding=True)))
    .order_by(product_versions.c.product, product_versions.c.version)
)
_LICENCES = (
    select(licences.c.tenant, licences.c.product, cast(licences.c.licence, Text), licences.c.runs_left, licences.c.bytes_left)
    .where(licences.c.tenant.in_(_TENANTS), licences.c.product.in_(_NAMES))
    .order_by(licences.c.created_at, licences.c.id)
)


def generation(conn: Connection) -> int:
    """How often the catalogue has changed."""
    return int(conn.execute(_GENERATION).scalar() or 0)


def count_up(conn: Connection) -> None:
    """Note that what decisions rest on has changed."""
    changed = conn.execute(update(generations).where(generations.c.name == GENERATION).values(value=generations.c.value + 1))
    if changed.rowcount == 0:
        conn.execute(insert(generations).values(name=GENERATION, value=1))


def add_product(conn: Connection, product: Product, now: float) -> bool:
    """Create a product; False when it is there with equal terms. Raises ConflictError when its terms differ."""
    try:
        known = get_product(conn, product.name)
    except NotFoundError:
        conn.execute(insert(products).values(name=product.name, product=product.model_dump(mode="json"), created_at=now))
        count_up(conn)
        return True
    if known != product:
        raise ConflictError(f"product {product.name!r} exists with other terms; update its terms to change them")
    return False


def replace_product(conn: Connection, product: Product) -> None:
    """New terms for a product. Raises NotFoundError."""
    values = {"product": product.model_dump(mode="json")}
    if conn.execute(update(products).where(products.c.name == product.name).values(**values)).rowcount != 1:
        raise NotFoundError(f"there is no product {product.name!r}")
    count_up(conn)


def get_product(conn: Connection, name: str) -> Product:
    """One product. Raises NotFoundError."""
    row = conn.execute(select(products.c.product).where(products.c.name == name)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no product {name!r}")
    return Product.model_validate(row.product)


def list_products(conn: Connection, after: str = "", limit: int = 1000) -> list[tuple[Product, float]]:
    """Products with the time of their creation, by name."""
    query = select(products).where(products.c.name > after).order_by(products.c.name).limit(limit)
    return [(Product.model_validate(row.product), row.created_at) for row in conn.execute(query)]


def created_at(conn: Connection, name: str) -> float:
    """When a product was created."""
    return float(conn.execute(select(products.c.created_at).where(products.c.name == name)).scalar_one())


def products_named(conn: Connection, names: Iterable[str]) -> dict[str, Product]:
    """The products of these names that exist."""
    rows = conn.execute(_PRODUCTS, {"names": sorted(set(names))})
    return {name: _read_product(text) for name, text in rows}


def next_version(conn: Connection, product: str) -> int:
    """The number that the next version of a product gets."""
    newest = conn.execute(select(func.max(product_versions.c.version)).where(product_versions.c.product == product)).scalar()
    return int(newest or 0) + 1


def add_version(conn: Connection, version: ProductVersion, now: float) -> None:
    """Store an immutable version."""
    document = version.model_dump(mode="json", exclude={"standing", "standing_reason"})
    conn.execute(insert(product_versions).values(product=version.product, version=version.version, document=document, created_at=now))
    count_up(conn)


def versions_of(conn: Connection, names: Iterable[str]) -> dict[str, ProductVersion]:
    """All versions of these products by reference (`owner/name@1`)."""
    rows = conn.execute(_VERSIONS, {"names": sorted(set(names))})
    return {version.ref: version for version in (_read_version(*row) for row in rows)}


def versions_with(conn: Connection, checksums: Iterable[str]) -> list[ProductVersion]:
    """The versions that have these bytes, of whatever products."""
    rows = conn.execute(_VERSIONS_WITH, {"checksums": sorted(set(checksums))})
    return [_read_version(*row) for row in rows]


def set_standing(conn: Connection, product: str, number: int, standing: Standing, reason: str) -> ProductVersion:
    """Deprecate or withdraw a version. Raises NotFoundError, and ConflictError for one that was withdrawn: that is for good."""
    guard = (product_versions.c.product == product, product_versions.c.version == number)
    row = conn.execute(select(product_versions.c.standing).where(*guard)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no version {product}@{number}; `cpn product show {product}` lists them")
    if row.standing == "withdrawn" and standing != "withdrawn":
        raise ConflictError(f"{product}@{number} was withdrawn, which is for good; publish another version")
    conn.execute(update(product_versions).where(*guard).values(standing=standing, reason=reason))
    count_up(conn)
    return versions_of(conn, [product])[f"{product}@{number}"]


def add_licence(conn: Connection, licence: Licence, now: float) -> None:
    """Store a grant, of which all is left."""
    conn.execute(
        insert(licences).values(
            id=licence.id, tenant=licence.tenant, product=licence.product, licence=_granted(licence), created_at=now,
            runs_left=licence.runs, bytes_left=licence.bytes_granted,
        )
    )  # fmt: skip
    count_up(conn)


def get_licence(conn: Connection, licence_id: str) -> Licence:
    """One grant. Raises NotFoundError."""
    row = conn.execute(select(licences).where(licences.c.id == licence_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no licence {licence_id!r}")
    return _licence(row)


def _granted(licence: Licence) -> dict[str, Any]:
    """A grant as it is stored: what is left of it is in columns of its own."""
    return licence.model_dump(mode="json", exclude={"runs_left", "bytes_left"})


def revoke_licence(conn: Connection, product: str, licence_id: str, now: float) -> Licence:
    """End a grant; again changes nothing. Raises NotFoundError."""
    guard = (licences.c.id == licence_id, licences.c.product == product)
    row = conn.execute(select(licences).where(*guard)).one_or_none()
    if row is None:
        raise NotFoundError(f"product {product!r} has no licence {licence_id!r}")
    licence = _licence(row).model_copy(update={"revoked": True})
    if row.revoked_at is None:
        conn.execute(update(licences).where(*guard).values(revoked_at=now, licence=_granted(licence)))
        count_up(conn)
    return licence


def licences_for(conn: Connection, product: str) -> list[Licence]:
    """All grants of a product, oldest first."""
    query = select(licences).where(licences.c.product == product).order_by(licences.c.created_at, licences.c.id)
    return [_licence(row) for row in conn.execute(query)]


def licences_of(conn: Connection, tenants: Iterable[str], names: Iterable[str]) -> dict[tuple[str, str], tuple[Licence, ...]]:
    """Grants by (tenant, product), oldest first, revoked ones included."""
    grants: dict[tuple[str, str], tuple[Licence, ...]] = {}
    rows = conn.execute(_LICENCES, {"tenants": sorted(set(tenants)), "names": sorted(set(names))})
    for tenant, product, text, runs_left, bytes_left in rows:
        licence = _read_licence(text)
        if licence.is_limited:
            licence = licence.model_copy(update={"runs_left": runs_left, "bytes_left": bytes_left})
        grants[tenant, product] = (*grants.get((tenant, product), ()), licence)
    return grants


def _licence(row: Any) -> Licence:
    return Licence.model_validate(row.licence).model_copy(update={"runs_left": row.runs_left, "bytes_left": row.bytes_left})


@lru_cache(MOST_PARSED)
def _read_product(text: str) -> Product:
    return Product.model_validate_json(text)


@lru_cache(MOST_PARSED)
def _read_version(text: str, standing: Standing, reason: str) -> ProductVersion:
    return ProductVersion.model_validate_json(text).model_copy(update={"standing": standing, "standing_reason": reason})


@lru_cache(MOST_PARSED)
def _read_licence(text: str) -> Licence:
    return Licence.model_validate_json(text)
