"""The proof that no run lay outside the terms of a product: every placement in the audit log is judged anew.

The log tells how the product's terms, its versions and licences, and the members were when a run was placed: each row is taken in its
order, so a run is judged by what had been written before it. It may use the licence alone that its row names, and no more results may be
delivered under that than it was granted for. What the tables know of runs, and the log does not, lies outside too.
The proof is as good as the log: its chain is verified on the way.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cluster.model import ClusterSpec
from scheduler.chain import Act, AuditRow, Fault, Verifier
from workloads.catalogue.licence import Licence
from workloads.catalogue.policy import Rule, judge
from workloads.catalogue.product import Product, ProductVersion
from workloads.resources import GIB
from workloads.spec import JobSpec, PlacementRules, split_ref

M = TypeVar("M", bound=BaseModel)
UNRECORDED = "the tables have this run, and the audit log does not"


@dataclass(frozen=True)
class JudgedRun:
    """A run that read a product; nothing is in `against` when it lay within the terms. `row`: its number in the log, 0 for none."""

    row: int
    run: str
    job: str
    at: float
    tenant: str
    cluster: str
    jurisdiction: str
    purpose: str
    kind: str
    versions: tuple[str, ...]
    licence: str | None
    against: tuple[str, ...]


@dataclass(frozen=True)
class Proof:
    """What was found. It holds when no run lay outside and the log is sound."""

    product: str
    since: float | None
    until: float | None
    rows: int
    head: str
    runs: tuple[JudgedRun, ...]
    faults: tuple[Fault, ...]

    @property
    def outside(self) -> tuple[JudgedRun, ...]:
        return tuple(run for run in self.runs if run.against)

    @property
    def holds(self) -> bool:
        return not self.outside and not self.faults


@dataclass
class _Read:
    """Under which licence a run reads how much; `place` among the runs that are told, if it is one of them."""

    licence: str | None
    size_bytes: int
    place: int | None = None


@dataclass
class _Spent:
    """For how many runs results were delivered under a licence, and how much these read."""

    runs: int = 0
    size_bytes: int = 0


@dataclass
class Prover:
    """Takes all rows of a log in their order, and tells of the runs placed from `since` on and before `until`."""

    product: str
    since: float | None = None
    until: float | None = None
    verifier: Verifier = field(default_factory=Verifier)
    runs: list[JudgedRun] = field(default_factory=list)
    began_at: float | None = None  # When the log begins.
    _terms: Product | None = None
    _versions: dict[str, ProductVersion] = field(default_factory=dict)
    _licences: dict[str, Licence] = field(default_factory=dict)
    _members: dict[str, ClusterSpec] = field(default_factory=dict)
    _known: dict[str, _Read] = field(default_factory=dict)
    _spent: dict[str, _Spent] = field(default_factory=lambda: defaultdict(_Spent))

    @property
    def knows_product(self) -> bool:
        """Whether the log has told of the product."""
        return self._terms is not None or bool(self._known)

    def take(self, rows: Iterable[AuditRow]) -> None:
        """Take the next rows."""
        for row in rows:
            self.verifier.feed((row,))
            if self.began_at is None:
                self.began_at = row.at
            if (handle := _HANDLERS.get(row.act)) is not None:
                handle(self, row)

    def compare(self, runs: Iterable[tuple[str, str, float]]) -> None:
        """Runs that the tables tell of, as (run, cluster, placed at): those since the log began must stand in it, with their place."""
        where = {run.run: run.cluster for run in self.runs}
        for name, cluster, at in runs:
            if self.began_at is not None and at < self.began_at:
                continue
            if name in where and where[name] != cluster:
                self._outside(name, cluster, at, f"the tables have it at {cluster}, and the audit log at {where[name]}")
            elif name not in where and name not in self._known:
                self._outside(name, cluster, at, UNRECORDED)

    def proof(self) -> Proof:
        """What was found; runs by time."""
        faults = tuple(self.verifier.close())
        runs = tuple(sorted(self.runs, key=lambda run: (run.at, run.row, run.run)))
        return Proof(self.product, self.since, self.until, self.verifier.rows, self.verifier.last, runs, faults)

    def _outside(self, name: str, cluster: str, at: float, why: str) -> None:
        member = self._members.get(cluster)
        jurisdiction = member.jurisdiction if member is not None else ""
        self.runs.append(JudgedRun(0, name, name.rpartition("-")[0], at, "", cluster, jurisdiction, "", "", (), None, (why,)))

    def _product(self, row: AuditRow) -> None:
        if row.subject == self.product:
            self._terms = _read(Product, row, "product")

    def _version(self, row: AuditRow) -> None:
        if self.product not in row.product_names:
            return
        version = _read(ProductVersion, row, "version")
        if row.act == Act.VERSION_WITHDRAWN or version is None:
            self._versions.pop(row.subject, None)
        else:
            self._versions[row.subject] = version

    def _licence(self, row: AuditRow) -> None:
        if self.product in row.product_names and (licence := _read(Licence, row, "licence")) is not None:
            self._licences[licence.id] = licence

    def _member(self, row: AuditRow) -> None:
        if row.act == Act.CLUSTER_REMOVED:
            self._members.pop(row.subject, None)
        elif (spec := _read(ClusterSpec, row, "cluster")) is not None:
            self._members[row.subject] = spec

    def _placed(self, row: AuditRow) -> None:
        if self.product not in row.product_names:
            return
        document = _document(row)
        self._known[str(document.get("run"))] = self._reads(document)
        if (self.since is not None and row.at < self.since) or (self.until is not None and row.at >= self.until):
            return
        try:
            self.runs.append(self._judged(row, document))
            self._known[self.runs[-1].run].place = len(self.runs) - 1
        except (KeyError, TypeError, ValueError, AttributeError):
            run = str(document.get("run", f"row {row.sequence}"))
            why = ("its row is not readable",)
            self.runs.append(JudgedRun(row.sequence, run, row.subject, row.at, row.tenant or "", "", "", "", "", (), None, why))

    def _judged(self, row: AuditRow, told: dict[str, Any]) -> JudgedRun:
        versions = tuple(sorted({ref for ref in told["inputs"].values() if split_ref(ref)[0] == self.product}))
        licence, against = told["licences"].get(self.product), list[str]()
        against += [f"{ref} was not published, or withdrawn, by then" for ref in versions if ref not in self._versions]
        member = self._members.get(told["cluster"])
        if member is None:
            against.append(f"{told['cluster']} was no member then")
        elif told["jurisdiction"] != member.jurisdiction:
            against.append(f"{member.name} lay in {member.jurisdiction} by the log, and in {told['jurisdiction']} by this row")
        if self._terms is None:
            against.append(f"{self.product} was not published by then")
        else:
            place, level = (member.jurisdiction, member.security_level) if member is not None else (told["jurisdiction"], 0)
            held = [self._licences[licence]] if licence in self._licences else []
            refusals = judge(
                _spec(row, told), [(self._terms, held)], cluster=told["cluster"], jurisdiction=place, now=row.at, security_level=level,
                versions=[self._versions[ref] for ref in versions if ref in self._versions],
            )  # fmt: skip
            against += [refusal.message for refusal in refusals if refusal.rule is not Rule.PRODUCT_PROGRAM]
            against += _against_program(self._terms, told["program"])
        return JudgedRun(
            row.sequence, told["run"], row.subject, row.at, row.tenant or "", told["cluster"], told["jurisdiction"], told["purpose"],
            told["kind"], versions, licence, tuple(against),
        )  # fmt: skip

    def _reads(self, told: dict[str, Any]) -> _Read:
        """Under which licence a run reads how many bytes of the product."""
        refs, licences = told.get("inputs"), told.get("licences")
        named = {ref for ref in refs.values() if ref in self._versions} if isinstance(refs, dict) else set()
        licence = licences.get(self.product) if isinstance(licences, dict) else None
        return _Read(licence, sum(self._versions[ref].size_bytes for ref in named))

    def _delivered(self, row: AuditRow) -> None:
        read = self._known.get(str(_document(row).get("run")))
        licence = self._licences.get(read.licence or "") if read is not None else None
        if read is None or licence is None:
            return
        spent = self._spent[licence.id]
        spent.runs, spent.size_bytes = spent.runs + 1, spent.size_bytes + read.size_bytes
        why = []
        if licence.runs is not None and spent.runs > licence.runs:
            why.append(f"{licence.id} was granted for {licence.runs} runs, and this is number {spent.runs}")
        if licence.gib is not None and spent.size_bytes > int(licence.gib * GIB):
            why.append(f"{licence.id} was granted for {int(licence.gib * GIB):,} bytes, and with this one {spent.size_bytes:,} were read")
        if why and read.place is not None:
            run = self.runs[read.place]
            self.runs[read.place] = replace(run, against=(*run.against, *why))


def _against_program(terms: Product, program: str | None) -> list[str]:
    """What stands against a program that reads data which nobody may see whole: the log has its hash, not itself."""
    if terms.is_raw or program is None or program in terms.algorithms:
        return []
    return [f"{terms.name} is not given to programs raw, and {program} is none of those that it permits"]


_HANDLERS: dict[str, Callable[[Prover, AuditRow], None]] = {
    Act.PRODUCT_PUBLISHED: Prover._product, Act.TERMS_CHANGED: Prover._product,
    Act.VERSION_PUBLISHED: Prover._version, Act.VERSION_DEPRECATED: Prover._version, Act.VERSION_WITHDRAWN: Prover._version,
    Act.LICENCE_GRANTED: Prover._licence, Act.LICENCE_REVOKED: Prover._licence,
    Act.CLUSTER_REGISTERED: Prover._member, Act.CLUSTER_CHANGED: Prover._member, Act.CLUSTER_REMOVED: Prover._member,
    Act.RUN_PLACED: Prover._placed, Act.RESULT_DELIVERED: Prover._delivered,
}  # fmt: skip


def _document(row: AuditRow) -> dict[str, Any]:
    try:
        return row.parsed()
    except ValueError:
        return {}


def _read(model: type[M], row: AuditRow, name: str) -> M | None:
    """What a row says of a thing; None where it is not readable, which its hash tells too."""
    try:
        return model.model_validate_json(json.dumps(_document(row).get(name)))
    except ValidationError:
        return None


def _spec(row: AuditRow, told: dict[str, Any]) -> JobSpec:
    """As much of the job as its rights are judged by."""
    only = told["only"]
    rules = PlacementRules(jurisdictions=tuple(only["jurisdictions"]), clusters=tuple(only["clusters"]))
    return JobSpec.model_construct(
        name=row.subject, tenant=row.tenant or "", kind=told["kind"], purpose=told["purpose"], inputs=told["inputs"], placement=rules
    )
