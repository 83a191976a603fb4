"""Submissions that come one by one: those that wait for the same commit are examined and stored as a batch is.

Each is judged by what holds in the transaction that stores it. Those that differ in nothing but their names are judged once, which is
right for as long as admission looks at nothing that grows with what was submitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from controlplane.settings import Settings
from scheduler import acts
from scheduler.admission import Admitted, Offer, examine, submit_batch
from scheduler.bells import Bells
from scheduler.clock import Clock
from scheduler.errors import InvalidError, RefusedError
from scheduler.store import audit
from scheduler.store.audit import Entry
from scheduler.store.gathered import Gathered
from scheduler.store.rows import dumps
from scheduler.store.session import Store, Transaction
from workloads.spec import JobSpec

Refusal: TypeAlias = InvalidError | RefusedError


@dataclass(frozen=True)
class Submission:
    """A job or array that somebody submits, with the id that it gets when it is new; `examined` where that was done already."""

    spec: JobSpec
    job_id: str
    key: str | None
    submitted_by: str
    examined: bool = False


Submissions: TypeAlias = Gathered[Submission, Admitted]


def gathered_submissions(store: Store, bells: Bells, clock: Clock, settings: Settings) -> Submissions:
    """Where single submissions are put: the answer is what the submission has become, or why it has not."""
    return Gathered(store, partial(take_in, bells=bells, clock=clock, may_wait=settings.flexible_waits > 0))


def take_in(
    tx: Transaction, submissions: Sequence[Submission], *, bells: Bells, clock: Clock, may_wait: bool
) -> list[Admitted | Exception]:  # fmt: skip
    """Examine submissions and store what may be, in their order. Each by itself: one that is refused takes no other with it."""
    now, answers = clock.now(), dict[int, Admitted | Exception]()
    judged: dict[str, Refusal | None] = {}
    refusals: list[Entry] = []
    offers: dict[str, dict[int, Offer]] = {}
    for at, item in enumerate(submissions):
        document = item.spec.model_dump(mode="json")
        if not item.examined and (refusal := _examined(tx, item.spec, document, judged, now, may_wait=may_wait)) is not None:
            answers[at] = type(refusal)(refusal.problems)
            refusals += refused(item.spec, refusal, item.submitted_by, now)
        else:
            offers.setdefault(item.submitted_by, {})[at] = Offer(item.spec, item.job_id, item.key, document)
    audit.append(tx.conn, refusals)
    for submitted_by, given in offers.items():
        taken = submit_batch(tx, bells, list(given.values()), submitted_by=submitted_by, now=now)
        answers |= dict(zip(given, taken, strict=True))
    return [answers[at] for at in range(len(submissions))]


def refused(spec: JobSpec, refusal: Exception, by: str, now: float) -> list[Entry]:
    """What the audit log says of a job that is not accepted: of those that rights forbid, and that have inputs."""
    return [acts.refused(spec, refusal.problems, by, now)] if isinstance(refusal, RefusedError) and spec.inputs else []


def _examined(
    tx: Transaction, spec: JobSpec, document: dict[str, object], judged: dict[str, Refusal | None], now: float, *, may_wait: bool
) -> Refusal | None:  # fmt: skip
    """Why a job cannot be accepted, if it cannot."""
    like = dumps({**document, "name": ""})
    if like not in judged:
        try:
            examine(tx.conn, spec, now, may_wait=may_wait)
            judged[like] = None
        except (InvalidError, RefusedError) as error:
            judged[like] = error
    return judged[like]
