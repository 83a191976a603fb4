"""Uses of licences by jobs: reserved at submission, proved again at every placement, consumed or returned at the end.

One job has one use of each product that it reads and that needs a licence, however often it is tried. Of several licences that fit the
one that ends first is used, of these the one with least left. A use moves to another licence where its own does not hold at the
place of the run any more; a placement for which none is left is not made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from scheduler.assess import InputData, from_refusal
from scheduler.bells import CYCLE, Bells, agent_bell
from scheduler.dispatch import order_stop_unlicensed
from scheduler.errors import Problem, RefusedError
from scheduler.lifecycle import HOLDS_CAPACITY, State
from scheduler.market import Market, read_market
from scheduler.store import jobs, uses
from scheduler.store.records import JobRecord
from scheduler.store.session import Connection, Transaction
from scheduler.store.uses import UseRecord
from workloads.catalogue.licence import Licence
from workloads.catalogue.policy import place_independent, size_read, usable
from workloads.catalogue.product import Product
from workloads.spec import JobSpec


@dataclass(frozen=True)
class Need:
    """A product that a job needs a licence for, and how many bytes of it are read."""

    product: Product
    size_bytes: int
    licences: tuple[Licence, ...]


def needs_of(inputs: Iterable[InputData]) -> list[Need]:
    """What a job with these inputs needs licences for, by product."""
    found = list(inputs)
    versions, products = [item.version for item in found], {item.product.name: item for item in found}
    return [
        Need(item.product, size_read(item.product, versions), item.licences)
        for _, item in sorted(products.items()) if item.product.classification != "public"
    ]  # fmt: skip


class Reservations:
    """What the submissions of one transaction reserve; `write` stores it."""

    def __init__(self, conn: Connection, specs: Sequence[JobSpec], now: float) -> None:
        self._conn, self._specs, self._now = conn, [spec for spec in specs if spec.inputs], now
        self._market: Market | None = None
        self._uses: list[UseRecord] = []

    def take(self, spec: JobSpec, job_ids: Sequence[str]) -> None:
        """Reserve what each of these jobs, which differ in nothing that counts, is going to use. Raises RefusedError, and takes nothing."""
        if not spec.inputs:
            return
        if self._market is None:
            self._market = read_market(self._conn, self._specs)
        taken: list[tuple[Need, Licence]] = []
        for need in needs_of(self._market.inputs(spec)):
            licence = _taken(self._conn, spec, need, None, len(job_ids), self._now)
            if licence is None:
                for before, given in taken:
                    uses.give_back(self._conn, given.id, len(job_ids), before.size_bytes * len(job_ids))
                raise self._refusal(spec, need, len(job_ids))
            taken.append((need, licence))
        self._uses += [
            UseRecord(job_id, need.product.name, licence.id, uses.RESERVED, need.size_bytes, self._now)
            for job_id in job_ids for need, licence in taken
        ]  # fmt: skip

    def write(self) -> None:
        """Store the uses of all that were taken."""
        uses.add(self._conn, self._uses)
        self._uses.clear()

    def _refusal(self, spec: JobSpec, need: Need, jobs: int) -> RefusedError:
        """By what is left now: others may have taken it since the job was judged."""
        self._market = read_market(self._conn, self._specs)
        inputs = self._market.inputs(spec)
        rights = [(item.product, item.licences) for item in inputs]
        found = [from_refusal(one) for one in place_independent(spec, rights, now=self._now, versions=[item.version for item in inputs])]
        if found:
            return RefusedError(tuple(Problem("", item.reason.label, f"{item.message}; {item.remedy}") for item in found))
        name = need.product.name
        words = f"no licence for {name} has enough left for {jobs:,} tasks, of which each takes one run and reads {need.size_bytes:,} bytes"
        return RefusedError((Problem("array", "licence_spent", f"{words}; submit fewer, or ask owner {need.product.owner} for more"),))


def booked(
    conn: Connection, placed: Sequence[tuple[JobRecord, JobSpec, str]], market: Market, now: float
) -> dict[str, dict[str, str] | None]:  # fmt: skip
    """Of jobs with inputs that are going to be placed in these jurisdictions, by id, the licence by product under which each reads; None
    for one that lacks a licence which holds there.

    Uses move to other licences, and are made for jobs that have none, where that is needed.
    """
    needed = {job.id: needs_of(market.inputs(spec, job.id)) for job, spec, _ in placed if spec.inputs}
    known = uses.uses_of(conn, (job_id for job_id, needs in needed.items() if needs))
    answers, added, changed = dict[str, dict[str, str] | None](), list[UseRecord](), list[UseRecord]()
    for job, spec, place in placed:
        if job.id not in needed:
            continue
        found = list(_booked(conn, job, spec, place, needed[job.id], {use.product: use for use in known.get(job.id, ())}, now))
        good = all(use is not None for _, use in found)
        answers[job.id] = {use.product: use.licence_id for _, use in found if use is not None} if good else None
        for before, use in found:
            if use is None or use == before:
                continue
            if not good:
                uses.give_back(conn, use.licence_id, 1, use.bytes)
            elif before is None:
                added.append(use)
            else:
                uses.give_back(conn, before.licence_id, 1, before.bytes)
                changed.append(use)
    uses.add(conn, added)
    uses.change(conn, changed)
    return answers


@dataclass(frozen=True)
class Revoked:
    """What a revocation met: jobs that wait, which are held from now on, runs that go on, and runs that are told to end."""

    waiting: int
    running: int
    stopping: int


def revoke(tx: Transaction, bells: Bells, licence_id: str, now: float, *, stop_running: bool) -> Revoked:
    """What becomes of the jobs that have a use of a licence reserved which is revoked now."""
    found = jobs.jobs_of(tx.conn, uses.jobs_under(tx.conn, licence_id))
    active = {job.run_id for job in found.values() if State(job.state) in HOLDS_CAPACITY}
    runs = [run for run in jobs.runs_of(tx.conn, sorted(found)) if run.id in active]
    for run in runs if stop_running else ():
        order_stop_unlicensed(tx.conn, run, licence_id, now)
        tx.after_commit(partial(bells.ring, agent_bell(run.cluster)))
    tx.after_commit(partial(bells.ring, CYCLE))
    stopping = len(runs) if stop_running else 0
    return Revoked(waiting=len(found) - len(runs), running=len(runs) - stopping, stopping=stopping)


def _booked(
    conn: Connection, job: JobRecord, spec: JobSpec, place: str, needs: Sequence[Need], known: Mapping[str, UseRecord], now: float
) -> Iterator[tuple[UseRecord | None, UseRecord | None]]:  # fmt: skip
    """Of each need the use that the job had and the one that it is to have, None where nothing is left for it."""
    for need in needs:
        before = known.get(need.product.name)
        own = [one.as_reserved() for one in need.licences if before is not None and one.id == before.licence_id]
        if before is not None and usable(spec, need.product, own, place, now, 0):
            yield before, before
            continue
        licence = _taken(conn, spec, need, place, 1, now)
        fresh = UseRecord(job.id, need.product.name, licence.id, uses.RESERVED, need.size_bytes, now) if licence else None
        yield before, replace(fresh, reserved_at=before.reserved_at) if fresh and before else fresh


def _taken(conn: Connection, spec: JobSpec, need: Need, place: str | None, jobs: int, now: float) -> Licence | None:
    """The first licence of which as much could be taken as so many jobs need."""
    for licence in usable(spec, need.product, need.licences, place, now, need.size_bytes):
        if uses.take(conn, licence, jobs, need.size_bytes * jobs):
            return licence
    return None
