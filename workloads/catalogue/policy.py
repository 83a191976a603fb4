"""May this job use this data at this place? One pure judgement over licences, purposes and residency.

For every input the tenant needs one licence that is neither revoked nor expired, names the job's purpose, permits
its kind, has enough left and covers the cluster's jurisdiction; for personal data it also names the people's consent. A product
classified `public` needs none. The product's own terms (purposes, kinds of jobs, jurisdictions, level of security, whether it
may be copied) hold for everybody, public or not. Data of which nobody may see all rows and columns is never given to code of the
buyer's own, unless its owner permits that very program. The job's own placement rules come last. A refusal names the rule, says in
plain words what is missing and who can change it. Where several licences exist the one that came furthest is reported,
because it needs the smallest change.

A jurisdiction covers itself and its subdivisions: CN covers CN-SH, and CN-SH does not cover CN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum, StrEnum

from workloads.catalogue.licence import Licence
from workloads.catalogue.product import Product, ProductVersion
from workloads.programs import program_hash
from workloads.sizes import size
from workloads.spec import JobSpec


class Rule(StrEnum):
    """What may stand against a job, in the order in which refusals are given."""

    LICENCE_MISSING = "licence_missing"
    LICENCE_EXPIRED = "licence_expired"
    LICENCE_PURPOSE = "licence_purpose"
    LICENCE_KIND = "licence_kind"
    LICENCE_CONSENT = "licence_consent"
    LICENCE_SPENT = "licence_spent"
    LICENCE_JURISDICTION = "licence_jurisdiction"
    PRODUCT_WITHDRAWN = "product_withdrawn"
    PRODUCT_PURPOSE = "product_purpose"
    PRODUCT_KIND = "product_kind"
    PRODUCT_PROGRAM = "product_program"
    PRODUCT_JURISDICTION = "product_jurisdiction"
    PRODUCT_SECURITY = "product_security"
    PRODUCT_COPY = "product_copy"
    JOB_JURISDICTION = "job_jurisdiction"
    JOB_CLUSTER = "job_cluster"


PLACE_INDEPENDENT = frozenset({
    Rule.LICENCE_MISSING, Rule.LICENCE_EXPIRED, Rule.LICENCE_PURPOSE, Rule.LICENCE_KIND, Rule.LICENCE_CONSENT, Rule.LICENCE_SPENT,
    Rule.PRODUCT_WITHDRAWN,
    Rule.PRODUCT_PURPOSE, Rule.PRODUCT_KIND, Rule.PRODUCT_PROGRAM,
})  # fmt: skip
_ORDER = {rule: position for position, rule in enumerate(Rule)}


@dataclass(frozen=True)
class Refusal:
    """One rule that forbids the job. `product` is None for the job's own placement rules."""

    rule: Rule
    product: str | None
    message: str
    remedy: str


class _Reached(IntEnum):
    """How far a licence carries a job: the first check that it fails."""

    EXPIRED = 1
    PURPOSE = 2
    KIND = 3
    CONSENT = 4
    SPENT = 5
    JURISDICTION = 6
    ALLOWED = 7


Inputs = Sequence[tuple[Product, Sequence[Licence]]]


def judge(
    spec: JobSpec, inputs: Inputs, *, cluster: str, jurisdiction: str, now: float, security_level: int = 0,
    versions: Sequence[ProductVersion] = (),
) -> tuple[Refusal, ...]:  # fmt: skip
    """Everything that forbids the job at a cluster in a jurisdiction, secured so far; empty when it is allowed.

    `now` in seconds since the epoch. `versions` are those that the job reads, by which it is known what would have to be copied.
    Licences of other tenants and products are left out of account. One refusal per rule and product, ordered by rule, then by product.
    """
    refusals: list[Refusal] = []
    for product, licences in _distinct(inputs):
        refusals.extend(_licence_refusals(spec, product, licences, jurisdiction, now, size_read(product, versions)))
        refusals.extend(_withdrawn(product, versions)[:1])
        refusals.extend(_use_refusals(spec, product))
        if not covers(product.jurisdictions, jurisdiction):
            refusals.append(_product_jurisdiction(product, jurisdiction))
        if security_level < product.security_level:
            refusals.append(_security(product, cluster, security_level))
        if not product.may_copy:
            refusals.extend(_copies(product, [version for version in versions if version.product == product.name], cluster)[:1])
    refusals.extend(_job_refusals(spec, cluster, jurisdiction))
    return _ordered(refusals)


def place_independent(spec: JobSpec, inputs: Inputs, *, now: float, versions: Sequence[ProductVersion] = ()) -> tuple[Refusal, ...]:
    """The refusals that `judge` gives at every cluster, wherever it lies: rights that no placement can mend."""
    refusals: list[Refusal] = []
    for product, licences in _distinct(inputs):
        refusals.extend(_licence_refusals(spec, product, licences, None, now, size_read(product, versions)))
        refusals.extend(_withdrawn(product, versions)[:1])
        refusals.extend(_use_refusals(spec, product))
    return _ordered(refusals)


def may_lie(product: Product, licences: Iterable[Licence], jurisdiction: str, now: float, security_level: int = 0) -> bool:
    """Whether a copy of a product may be kept in a jurisdiction, secured so far: its terms allow the place, and somebody has a right
    to use it there. Whether it may be copied at all is another question."""
    if not covers(product.jurisdictions, jurisdiction) or security_level < product.security_level:
        return False
    return product.classification == "public" or any(
        not licence.revoked and not _expired(licence, now) and covers(licence.jurisdictions, jurisdiction)
        for licence in licences if licence.product == product.name
    )  # fmt: skip


def licensed_until(spec: JobSpec, product: Product, licences: Iterable[Licence], jurisdiction: str | None, now: float) -> float | None:
    """When the last licence ends by which a job may use a product in a jurisdiction; `now` without one, None where none ends."""
    if product.classification == "public":
        return None
    # Whoever asks has what it uses reserved.
    ends = [licence.expires_at for licence in usable(spec, product, [one.as_reserved() for one in licences], jurisdiction, now, 0)]
    if None in ends:
        return None
    return max((end.timestamp() for end in ends if end is not None), default=now)


def usable(
    spec: JobSpec, product: Product, licences: Iterable[Licence], jurisdiction: str | None, now: float, size_bytes: int
) -> list[Licence]:  # fmt: skip
    """The licences by which a job may read so much of a product in a jurisdiction (any, without one), in the order in which they are used.

    What ends first is used first, of these what has least left, and of these the older.
    """
    found = [
        licence for licence in licences
        if licence.tenant == spec.tenant and licence.product == product.name and not licence.revoked
        and _reach(licence, spec, product, jurisdiction, now, size_bytes) is _Reached.ALLOWED
    ]  # fmt: skip
    return sorted(found, key=_urgency)


def size_read(product: Product, versions: Iterable[ProductVersion]) -> int:
    """How many bytes of a product a job reads that reads these versions; each counts once."""
    return sum({version.ref: version.size_bytes for version in versions if version.product == product.name}.values())


def _urgency(licence: Licence) -> tuple[float, float, float]:
    ends = math.inf if licence.expires_at is None else licence.expires_at.timestamp()
    runs, size_bytes = (math.inf if left is None else float(left) for left in (licence.runs_left, licence.bytes_left))
    return ends, runs, size_bytes


def covers(entries: Iterable[str], jurisdiction: str) -> bool:
    """Whether a list of jurisdictions (empty: no limit) admits one; an entry covers its subdivisions."""
    listed = tuple(entries)
    return not listed or any(jurisdiction == entry or jurisdiction.startswith(f"{entry}-") for entry in listed)


def _distinct(inputs: Inputs) -> list[tuple[Product, Sequence[Licence]]]:
    """Each product once: two versions of a product are under the same terms."""
    by_name: dict[str, tuple[Product, list[Licence]]] = {}
    for product, licences in inputs:
        by_name.setdefault(product.name, (product, []))[1].extend(licences)
    return list(by_name.values())


def _ordered(refusals: Iterable[Refusal]) -> tuple[Refusal, ...]:
    return tuple(sorted(refusals, key=lambda refusal: (_ORDER[refusal.rule], refusal.product or "")))


def _licence_refusals(
    spec: JobSpec, product: Product, licences: Sequence[Licence], jurisdiction: str | None, now: float, size_bytes: int
) -> list[Refusal]:  # fmt: skip
    if product.classification == "public":
        return []
    own = [licence for licence in licences if licence.tenant == spec.tenant and licence.product == product.name and not licence.revoked]
    if not own:
        return [Refusal(
            Rule.LICENCE_MISSING, product.name, f"tenant {spec.tenant} has no licence for {product.name}",
            f"ask owner {product.owner} to grant {spec.tenant} a licence for purpose {spec.purpose!r}",
        )]  # fmt: skip
    reached = [_reach(licence, spec, product, jurisdiction, now, size_bytes) for licence in own]
    furthest = max(reached)
    if furthest is _Reached.ALLOWED:
        return []
    closest = [licence for licence, how_far in zip(own, reached, strict=True) if how_far is furthest]
    if furthest is _Reached.SPENT:
        return [_spent(spec, product, closest, size_bytes)]
    return [_licence_refusal(furthest, spec, product, closest, jurisdiction or "")]


def _reach(licence: Licence, spec: JobSpec, product: Product, jurisdiction: str | None, now: float, size_bytes: int) -> _Reached:
    """The first check that a licence fails; without a jurisdiction any place counts as covered."""
    if _expired(licence, now):
        return _Reached.EXPIRED
    if spec.purpose not in licence.purposes:
        return _Reached.PURPOSE
    if licence.kinds and spec.kind not in licence.kinds:
        return _Reached.KIND
    if product.classification == "personal" and not licence.consent:
        return _Reached.CONSENT
    if licence.runs_left == 0 or (licence.bytes_left is not None and licence.bytes_left < size_bytes):
        return _Reached.SPENT
    if jurisdiction is not None and not covers(licence.jurisdictions, jurisdiction):
        return _Reached.JURISDICTION
    return _Reached.ALLOWED


def _expired(licence: Licence, now: float) -> bool:
    return licence.expires_at is not None and licence.expires_at.timestamp() <= now


def _licence_refusal(failed: _Reached, spec: JobSpec, product: Product, closest: Sequence[Licence], jurisdiction: str) -> Refusal:
    licence, ask = f"licence for {product.name}", f"ask owner {product.owner}"
    if failed is _Reached.EXPIRED:
        ended = max(licence.expires_at for licence in closest if licence.expires_at is not None)
        return Refusal(Rule.LICENCE_EXPIRED, product.name, f"{licence} expired on {_day(ended)}", f"{ask} to renew it for {spec.tenant}")
    if failed is _Reached.PURPOSE:
        has = _listed(purpose for item in closest for purpose in item.purposes)
        message = f"{licence} lacks purpose {spec.purpose!r} (has: {has})"
        return Refusal(Rule.LICENCE_PURPOSE, product.name, message, f"{ask} to grant purpose {spec.purpose!r}")
    if failed is _Reached.KIND:
        has = _listed(kind for item in closest for kind in item.kinds)
        message = f"{licence} does not permit jobs of kind {spec.kind} (permits: {has})"
        return Refusal(Rule.LICENCE_KIND, product.name, message, f"submit another kind of job, or {ask} to grant kind {spec.kind}")
    if failed is _Reached.CONSENT:
        message = f"{product.name} holds personal data, and the licence names no consent of the people"
        remedy = f"{ask} to grant {spec.tenant} a licence with the reference of their consent"
        return Refusal(Rule.LICENCE_CONSENT, product.name, message, remedy)
    has = _listed(place for item in closest for place in item.jurisdictions)
    message = f"{licence} does not cover {jurisdiction} (covers: {has})"
    remedy = f"run where it covers, or {ask} to grant jurisdiction {jurisdiction}"
    return Refusal(Rule.LICENCE_JURISDICTION, product.name, message, remedy)


def _spent(spec: JobSpec, product: Product, closest: Sequence[Licence], size_bytes: int) -> Refusal:
    """Of licences that are used up the one that has most left is told of."""
    licence = max(closest, key=lambda one: (one.runs_left != 0, one.bytes_left or 0))
    if licence.runs_left == 0:
        message = f"licence {licence.id} for {product.name} has none of its {licence.runs} runs left that is not used or reserved"
    else:
        left, whole = size(licence.bytes_left or 0), f"{licence.gib:f} GiB"
        message = f"licence {licence.id} for {product.name} has {left} of its {whole} left, and the job reads {size(size_bytes)}"
    remedy = f"ask owner {product.owner} to grant {spec.tenant} more, or wait whether a job that has some reserved returns it"
    return Refusal(Rule.LICENCE_SPENT, product.name, message, remedy)


def _withdrawn(product: Product, versions: Iterable[ProductVersion]) -> list[Refusal]:
    refusals = []
    for version in versions:
        if version.product == product.name and version.standing == "withdrawn":
            why = f": {version.standing_reason}" if version.standing_reason else ""
            message = f"{version.ref} was withdrawn by its owner{why}"
            remedy = f"use a version that `cpn product show {product.name}` lists as offered, or ask owner {product.owner}"
            refusals.append(Refusal(Rule.PRODUCT_WITHDRAWN, product.name, message, remedy))
    return refusals


def _use_refusals(spec: JobSpec, product: Product) -> Iterator[Refusal]:
    """What the product's terms have against such a use of it, wherever it is."""
    ask = f"ask owner {product.owner} to permit"
    if product.purposes and spec.purpose not in product.purposes:
        message = f"{product.name} may not be used for purpose {spec.purpose!r} (permits: {_listed(product.purposes)})"
        remedy = f"submit for a permitted purpose, or {ask} {spec.purpose!r}"
        yield Refusal(Rule.PRODUCT_PURPOSE, product.name, message, remedy)
    if product.kinds and spec.kind not in product.kinds:
        message = f"{product.name} may not be used by jobs of kind {spec.kind} (permits: {_listed(product.kinds)})"
        yield Refusal(Rule.PRODUCT_KIND, product.name, message, f"submit a permitted kind of job, or {ask} kind {spec.kind}")
    program = None if product.is_raw else program_hash(spec)
    if program is not None and program not in product.algorithms:
        kept = "is delivered as aggregates only" if product.delivery == "aggregates-only" else "has columns that are hidden or masked"
        message = f"{product.name} {kept}, a program would read all of it, and this one is not permitted"
        remedy = f"use kind sql, or {ask} this program, {program} (`cpn job hash`)"
        yield Refusal(Rule.PRODUCT_PROGRAM, product.name, message, remedy)


def _security(product: Product, cluster: str, security_level: int) -> Refusal:
    least = product.security_level
    message = f"{product.name} is processed at security level {least} and more, and {cluster} has level {security_level}"
    remedy = f"run at a cluster of level {least} or more, or ask owner {product.owner} to permit level {security_level}"
    return Refusal(Rule.PRODUCT_SECURITY, product.name, message, remedy)


def _copies(product: Product, versions: Iterable[ProductVersion], cluster: str) -> list[Refusal]:
    """Of data that never moves: the versions that a cluster does not hold."""
    refusals = []
    for version in versions:
        homes = _listed(replica.cluster for replica in version.replicas)
        if all(replica.cluster != cluster for replica in version.replicas):
            message = f"{version.ref} may not be copied, and {cluster} holds no replica of it"
            remedy = f"run at {homes}, which holds it, or ask owner {product.owner} to permit copies"
            refusals.append(Refusal(Rule.PRODUCT_COPY, product.name, message, remedy))
    return refusals


def _product_jurisdiction(product: Product, jurisdiction: str) -> Refusal:
    message = f"{product.name} may not be processed in {jurisdiction} (permits: {_listed(product.jurisdictions)})"
    remedy = f"run at a cluster in {_listed(product.jurisdictions)}, or ask owner {product.owner} to permit {jurisdiction}"
    return Refusal(Rule.PRODUCT_JURISDICTION, product.name, message, remedy)


def _job_refusals(spec: JobSpec, cluster: str, jurisdiction: str) -> list[Refusal]:
    rules, refusals = spec.placement, []
    if not covers(rules.jurisdictions, jurisdiction):
        message = f"the job is limited to {_listed(rules.jurisdictions)}, cluster {cluster} is in {jurisdiction}"
        refusals.append(Refusal(Rule.JOB_JURISDICTION, None, message, f"add {jurisdiction} to placement.jurisdictions"))
    if rules.clusters and cluster not in rules.clusters:
        message = f"the job is limited to clusters {_listed(rules.clusters)}, not {cluster}"
        refusals.append(Refusal(Rule.JOB_CLUSTER, None, message, f"add {cluster} to placement.clusters"))
    return refusals


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
