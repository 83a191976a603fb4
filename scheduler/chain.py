"""The audit log as a chain: each row carries the hash of the one before it, and a hash over both.

Nobody who can write to the database can change, drop, add or move a row without breaking the chain from there on, or else must
write it anew to its end; and that shows against a head hash that somebody keeps elsewhere. A row is hashed as SHA-256 over the
hash before it, followed by the compact JSON array, in ASCII, of [sequence, at, actor, act, subject, tenant, products, document].
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

GENESIS = "0" * 64  # What the first row has for the hash before it.
NEAR = 32  # A row that was moved is recognised if it stands so near to its place.
MOST_FAULTS, MOST_GAPS = 100, 20


class Act(StrEnum):
    """What was done."""

    SERVER_STARTED = "server.started"
    TENANT_CREATED = "tenant.created"
    TENANT_CHANGED = "tenant.changed"
    QUEUE_CREATED = "queue.created"
    QUEUE_CHANGED = "queue.changed"
    TOKEN_CREATED = "token.created"
    TOKEN_REVOKED = "token.revoked"
    CLUSTER_REGISTERED = "cluster.registered"
    CLUSTER_CHANGED = "cluster.changed"
    CLUSTER_CORDONED = "cluster.cordoned"
    CLUSTER_REMOVED = "cluster.removed"
    PRICES_CHANGED = "prices.changed"
    PRODUCT_PUBLISHED = "product.published"
    TERMS_CHANGED = "product.terms"
    VERSION_PUBLISHED = "version.published"
    VERSION_DEPRECATED = "version.deprecated"
    VERSION_WITHDRAWN = "version.withdrawn"
    LICENCE_GRANTED = "licence.granted"
    LICENCE_REVOKED = "licence.revoked"
    JOB_ADMITTED = "job.admitted"
    JOB_REFUSED = "job.refused"
    JOB_WITHDRAWN = "job.withdrawn"
    RUN_PLACED = "run.placed"
    DATA_MOVED = "data.moved"
    RUN_ENDED = "run.ended"
    RESULT_DELIVERED = "result.delivered"


class FaultKind(StrEnum):
    """What may be wrong with a row."""

    CHANGED = "changed"
    MISSING = "missing"
    INSERTED = "inserted"
    REORDERED = "reordered"
    TRUNCATED = "truncated"


@dataclass(frozen=True)
class AuditRow:
    """A row as stored. `at`: seconds since the epoch. `products`: names between spaces. `document`: canonical JSON."""

    sequence: int
    at: float
    actor: str
    act: str
    subject: str
    tenant: str | None
    products: str
    document: str
    previous: str
    hash: str

    @property
    def product_names(self) -> list[str]:
        return self.products.split()

    def parsed(self) -> dict[str, Any]:
        """The document. Raises ValueError when somebody has made it something else."""
        found = json.loads(self.document)
        if not isinstance(found, dict):
            raise ValueError(f"the document of row {self.sequence} is no mapping")
        return found

    def shown(self) -> dict[str, Any]:
        """As JSON for people and programs, and for an export."""
        return {**vars(self), "products": self.product_names, "document": self.parsed()}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, at the row with this number."""

    kind: FaultKind
    sequence: int
    message: str


def canonical(document: dict[str, Any]) -> str:
    """The one text of a document: sorted keys, no spaces, ASCII."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def joined(products: Iterable[str]) -> str:
    """Names of products as a row has them, so that a name can be searched for as a whole."""
    names = sorted(set(products))
    return f" {' '.join(names)} " if names else ""


def hash_of(
    previous: str, sequence: int, at: float, actor: str, act: str, subject: str, tenant: str | None, products: str, document: str
) -> str:  # fmt: skip
    """The hash of a row that follows the one with the hash `previous`."""
    text = json.dumps([sequence, at, actor, act, subject, tenant, products, document], separators=(",", ":"))
    return hashlib.sha256((previous + text).encode()).hexdigest()


def read_row(line: str) -> AuditRow:
    """A row of an export. Raises ValueError."""
    found = json.loads(line)
    try:
        products, document = joined(found.pop("products")), canonical(found.pop("document"))
        row = AuditRow(**found, products=products, document=document)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("this is no row of an audit log") from error
    if not isinstance(row.sequence, int) or not isinstance(row.at, int | float) or not isinstance(row.hash, str):
        raise ValueError("this is no row of an audit log")
    return row


@dataclass
class Verifier:
    """Takes rows in their order, all of a log, and finds what is wrong. `head`: a hash that was kept elsewhere.

    What it has to remember is small and plain data, so that a long log may be verified in pieces.
    """

    head: str | None = None
    rows: int = 0
    last: str = GENESIS
    expected: int = 1
    found_head: bool = False
    missing: list[list[int]] = field(default_factory=list)  # First and last number of what has not come yet.
    faults: list[Fault] = field(default_factory=list)
    faults_count: int = 0

    def feed(self, rows: Iterable[AuditRow]) -> None:
        """Take the next rows."""
        for row in rows:
            self.rows += 1
            if row.hash == self.head:
                self.found_head = True
            made_as = self._number(row)
            if made_as == self.expected and made_as is not None:
                self._next(row)
            elif made_as is None:
                self._altered(row)
            elif made_as > self.expected:
                self._gap(made_as)
                self._step(made_as, row)
            else:
                self._late(row, made_as)

    def state(self) -> dict[str, Any]:
        """What another verifier has to know to go on with the rows that follow. The oldest of many gaps are taken for final."""
        settled, self.missing = self.missing[:-MOST_GAPS], self.missing[-MOST_GAPS:]
        self._note_missing(settled)
        return {name: getattr(self, name) for name in ("head", "rows", "last", "expected", "found_head", "missing")}

    def close(self) -> list[Fault]:
        """All that is wrong, by row, at most MOST_FAULTS of it."""
        self._note_missing(self.missing)
        self.missing = []
        if self.head is not None and self.head != GENESIS and not self.found_head:
            words = "no row has the kept head hash: rows at the end were removed, or the log was written anew"
            self._note(FaultKind.TRUNCATED, self.expected - 1, words)
        return sorted(self.faults, key=lambda item: item.sequence)

    def _note_missing(self, gaps: Iterable[list[int]]) -> None:
        for first, last in gaps:
            words = f"row {first} is missing" if first == last else f"rows {first} to {last} are missing"
            self._note(FaultKind.MISSING, first, words)

    def _number(self, row: AuditRow) -> int | None:
        """The number that a row was made with; None where it is not as it was made."""
        rest = (row.at, row.actor, row.act, row.subject, row.tenant, row.products, row.document)
        if hash_of(row.previous, row.sequence, *rest) == row.hash:
            return row.sequence
        near = range(max(1, row.sequence - NEAR), row.sequence + NEAR + 1)
        return next((number for number in (self.expected, *near) if hash_of(row.previous, number, *rest) == row.hash), None)

    def _next(self, row: AuditRow) -> None:
        known = self.faults and self.faults[-1].kind is FaultKind.CHANGED and self.faults[-1].sequence == self.expected - 1
        if self.last and row.previous != self.last and not known:
            before = self.expected - 1
            words = f"row {self.expected} does not continue row {before}: another row stands where row {before} was"
            self._note(FaultKind.CHANGED, before, words)
        self._step(self.expected, row)

    def _altered(self, row: AuditRow) -> None:
        if row.sequence < self.expected and not self._comes(row.sequence):
            self._note(FaultKind.INSERTED, row.sequence, f"there is a second row {row.sequence}, which is not of this log")
            return
        if row.sequence > self.expected:
            self._gap(row.sequence)
        self._note(FaultKind.CHANGED, row.sequence, f"row {row.sequence} is not what was written: its hash is of something else")
        if row.sequence >= self.expected:
            self._step(row.sequence, row)

    def _late(self, row: AuditRow, made_as: int) -> None:
        if self._comes(made_as):
            self._note(FaultKind.REORDERED, made_as, f"row {made_as} does not stand in its place")
            return
        if self.faults and self.faults[-1].kind is FaultKind.CHANGED and self.faults[-1].sequence == made_as:
            self.faults.pop()
            self.faults_count -= 1
        self._note(FaultKind.INSERTED, made_as, f"there are two rows {made_as}: one of them was inserted")
        if row.sequence != made_as and made_as == self.expected - 1:
            self.last = row.hash  # It was moved to make room for the other.

    def _gap(self, upto: int) -> None:
        if upto > self.expected:
            self.missing.append([self.expected, upto - 1])

    def _step(self, number: int, row: AuditRow) -> None:
        self.expected, self.last = number + 1, row.hash

    def _comes(self, number: int) -> bool:
        """Whether a row was missed until now, and is not any more."""
        for at, (first, last) in enumerate(self.missing):
            if first <= number <= last:
                self.missing[at : at + 1] = [part for part in ([first, number - 1], [number + 1, last]) if part[0] <= part[1]]
                return True
        return False

    def _note(self, kind: FaultKind, sequence: int, message: str) -> None:
        self.faults_count += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(Fault(kind, sequence, message))


def verified(rows: Iterable[AuditRow], verifier: Verifier) -> Iterator[AuditRow]:
    """The same rows, each taken in by the verifier on its way."""
    for row in rows:
        verifier.feed((row,))
        yield row
