"""Terms of data for the arrays of a decision: the least level of security, where data may be processed, and what licences clear.

Made from products, licences and members themselves and apart from the judgement of rights (`workloads/catalogue/policy.py`), so that the
check of a plan does not rest on what made it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cluster.model import ClusterSpec
from scheduler.assess import InputData
from scheduler.engine.snapshot import Bools
from workloads.catalogue.licence import Licence
from workloads.spec import JobSpec

CLASSES = ("public", "internal", "restricted", "personal")


@dataclass(frozen=True, order=True)
class Residence:
    """Where a job may run: of each of `areas` its cluster lies in one at least, and it is one of each of `homes`."""

    areas: tuple[tuple[str, ...], ...] = ()
    homes: tuple[tuple[str, ...], ...] = ()


ANYWHERE = Residence()


@dataclass(frozen=True)
class DataTerms:
    """What the data of a job asks for. `classification` is the greatest of its inputs, and `cleared` the greatest that may be used."""

    level: int = 0
    classification: int = 0
    cleared: int = 0
    residence: Residence = ANYWHERE


NO_TERMS = DataTerms()


def terms_of(spec: JobSpec, inputs: Sequence[InputData], now: float) -> DataTerms:
    """The terms of all inputs together, for a job of a tenant and a purpose at a time."""
    if not inputs:
        return NO_TERMS
    areas, homes = set[tuple[str, ...]](), set[tuple[str, ...]]()
    classification, cleared = 0, len(CLASSES) - 1
    for item in inputs:
        product = item.product
        own = CLASSES.index(product.classification)
        classification = max(classification, own)
        if product.jurisdictions:
            areas.add(tuple(sorted(product.jurisdictions)))
        if not product.may_copy:
            homes.add(tuple(sorted({replica.cluster for replica in item.version.replicas})))
        if own == 0:
            continue
        held = [
            licence for licence in item.licences if _holds(licence, spec, product.name, now) and (licence.consent or own < len(CLASSES) - 1)
        ]
        if not held:
            cleared = min(cleared, own - 1)
        elif all(licence.jurisdictions for licence in held):
            areas.add(tuple(sorted({place for licence in held for place in licence.jurisdictions})))
    level = max(item.product.security_level for item in inputs)
    return DataTerms(level, classification, cleared, Residence(tuple(sorted(areas)), tuple(sorted(homes))))


def residences(classes: Iterable[Residence], clusters: Sequence[ClusterSpec]) -> Bools:
    """[K, C] Which clusters each residence admits."""
    lies_in = [{cluster.jurisdiction, cluster.jurisdiction.split("-", 1)[0]} for cluster in clusters]
    rows = [
        [
            all(not there.isdisjoint(areas) for areas in one.areas) and all(cluster.name in homes for homes in one.homes)
            for cluster, there in zip(clusters, lies_in, strict=True)
        ]
        for one in classes
    ]
    return np.array(rows, dtype=np.bool_).reshape(len(rows), len(clusters))


def _holds(licence: Licence, spec: JobSpec, product: str, now: float) -> bool:
    if licence.revoked or (licence.expires_at is not None and licence.expires_at.timestamp() <= now):
        return False
    return (licence.tenant, licence.product) == (spec.tenant, product) and spec.purpose in licence.purposes
