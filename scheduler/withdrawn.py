"""Withdrawn: what a member's caches hold and may not lie there any more.

A copy stays while somebody has a right to use its product there: the last licence that covers the place has neither ended nor been
revoked, the product's own terms allow the place, its level of security and copies, and the version was not withdrawn. Data that
several products have in common stays while one of them does. What the catalogue does not know is left alone: another network may
keep its copies in the same folder. The same holds for beginnings of copies, and for what only some of its nodes have.
"""

from __future__ import annotations

from cluster.replicas import MOST_TOLD
from scheduler.assess import is_local
from scheduler.store import catalogue
from scheduler.store.records import ClusterRecord
from scheduler.store.session import Connection
from workloads.catalogue.policy import may_lie


def withdrawn(conn: Connection, cluster: ClusterRecord, now: float) -> tuple[str, ...]:
    """The checksums of these versions, sorted; where they are more than can be told at once, the first."""
    there = sorted({*cluster.copies.versions, *cluster.copies.partly}) if cluster.copies else ()
    if not there:
        return ()
    versions = catalogue.versions_with(conn, there)
    products = catalogue.products_named(conn, {version.product for version in versions})
    place = cluster.spec.jurisdiction
    level = cluster.spec.security_level
    allowed = {name: may_lie(product, catalogue.licences_for(conn, name), place, now, level) for name, product in products.items()}
    known = {version.sha256 for version in versions}
    kept = {
        version.sha256 for version in versions
        if allowed[version.product] and version.standing != "withdrawn"
        and (products[version.product].may_copy or is_local(version, cluster.spec.name))
    }  # fmt: skip
    return tuple(sorted(known - kept))[:MOST_TOLD]
