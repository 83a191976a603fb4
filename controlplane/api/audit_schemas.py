"""The audit log as the API shows it: its rows, whether it is whole, and the proof of a product's terms."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from controlplane.api.bases import Answer
from controlplane.api.views import moment
from scheduler.chain import AuditRow, Fault, FaultKind
from scheduler.proof import JudgedRun, Proof


class AuditRowView(Answer):
    """One act. `hash` is over `previous` and all other fields."""

    sequence: int
    at: float = Field(description="seconds since the epoch, as they are hashed")
    actor: str = Field(description="a token's id, scheduler, server, or agent/CLUSTER")
    act: str
    subject: str
    tenant: str | None
    products: list[str]
    document: dict[str, Any]
    previous: str
    hash: str

    @classmethod
    def of(cls, row: AuditRow) -> AuditRowView:
        """A stored row."""
        return cls.model_validate(row.shown())


class AuditFault(Answer):
    """What is wrong at a row."""

    kind: FaultKind
    sequence: int
    message: str

    @classmethod
    def of(cls, fault: Fault) -> AuditFault:
        """A fault that was found."""
        return cls(kind=fault.kind, sequence=fault.sequence, message=fault.message)


class AuditVerdict(Answer):
    """What was found in the rows so far: `rows` and `head` count from the beginning, `faults` are those of this page.

    `next_cursor` is null when the log is read to its end. `head` is the hash of its last row: keep it elsewhere.
    """

    rows: int
    head: str
    faults: list[AuditFault]
    faults_count: int = Field(description="of this page; more than a hundred are counted, not named")
    next_cursor: str | None


class ProvenRun(Answer):
    """A run that read the product. Nothing is in `against` when it lay within the terms; `row` is 0 when the log does not have it."""

    row: int
    run: str
    job: str
    at: datetime
    tenant: str
    cluster: str
    jurisdiction: str
    purpose: str
    kind: str
    versions: list[str]
    licence: str | None = Field(description="null: a public product needs none")
    against: list[str]

    @classmethod
    def of(cls, run: JudgedRun) -> ProvenRun:
        """A run that was judged."""
        return cls(**{**vars(run), "at": moment(run.at), "versions": list(run.versions), "against": list(run.against)})


class ProofView(Answer):
    """Every run that read a product, each judged by the terms, licences and members as they were when it was placed."""

    product: str
    holds: bool = Field(description="no run lay outside the terms, and the log is whole")
    outside: int = Field(description="how many runs lay outside the terms")
    runs: list[ProvenRun]
    rows: int = Field(description="rows of the log that were read, all of it")
    head: str
    faults: list[AuditFault]

    @classmethod
    def of(cls, proof: Proof) -> ProofView:
        """What was found."""
        return cls(
            product=proof.product, holds=proof.holds, outside=len(proof.outside), runs=[ProvenRun.of(run) for run in proof.runs],
            rows=proof.rows, head=proof.head, faults=[AuditFault.of(fault) for fault in proof.faults],
        )  # fmt: skip
