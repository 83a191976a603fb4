"""Reasons in words. The engine answers with enum values; people read sentences, made here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from controlplane.api.link_schemas import TransferView
from controlplane.api.schemas import ClusterVerdict, Obstacle, ScoreAspect
from controlplane.api.speed_schemas import SpeedView
from scheduler.assess import Assessment
from scheduler.engine.plan import Verdict
from scheduler.engine.reasons import POLICY, Reason
from scheduler.engine.speeds import Origin, Speed
from scheduler.holds import Hold, holds
from scheduler.lifecycle import State
from scheduler.store import catalogue
from scheduler.store.records import ArrayRecord, JobRecord
from scheduler.store.session import Connection
from scheduler.ways import Way
from workloads.spec import JobSpec, split_ref

# For each reason that is not about rights or money: what it is, and what would change it.
CAPACITY_WORDS: dict[Reason, tuple[str, str]] = {
    Reason.CLUSTER_UNHEALTHY: ("the cluster is not healthy", "it is used again when its agent reports"),
    Reason.CLUSTER_CORDONED: ("the cluster is cordoned by its operator", "wait until it is uncordoned"),
    Reason.KIND_UNSUPPORTED: ("the cluster does not run this kind of job", "choose another cluster"),
    Reason.DATA_TOO_LARGE: ("its inputs are larger than the cache there", "publish a replica there, or have its cache enlarged"),
    Reason.NODE_NOT_READY: ("none of its nodes is ready", "it is used again when a node is ready"),
    Reason.NODE_LABELS: ("no node carries the labels asked for", "ask for fewer labels in placement.labels"),
    Reason.NODE_ACCELERATOR_MODEL: ("no node has this accelerator model", "ask for a model that `cpn node list` shows"),
    Reason.NODE_TOO_SMALL: ("every node is smaller than one worker", "ask for less per worker"),
    Reason.NODE_BUSY: ("there is room on the nodes, but it is in use now", "wait, or ask for less"),
    Reason.GANG_DOES_NOT_FIT: ("not all workers fit at the same time", "wait, or ask for fewer workers"),
    Reason.GROUP_DOES_NOT_FIT: (
        "no zone or rack has room for all workers at the same time",
        "wait, ask for fewer workers, or leave placement.same out",
    ),
    Reason.QUEUE_LIMIT: ("the queue runs as many jobs as it may", "wait, or use another queue"),
    Reason.ARRAY_LIMIT: ("its array runs as many of its tasks as it may at once", "wait until some of them have ended"),
    Reason.QUEUE_QUOTA: (
        "its queue holds as much as it may: its quota and borrowing limit, or what others keep back",
        "wait, use another queue, or have the limit raised (`cpn queue show`)",
    ),
    Reason.QUEUE_ORDER: (
        "jobs of this queue start in their order, and one ahead of it waits",
        "wait, raise its priority, or use another queue",
    ),
    Reason.RESERVED_FOR_OTHERS: (
        "nodes are reserved for others, or would be before the job has ended",
        "wait, lower max_runtime so that it ends before then, or allow other clusters",
    ),
    Reason.MAINTENANCE: (
        "nodes are under maintenance, or would be before the job has ended",
        "wait, lower max_runtime so that it ends before then, or allow other clusters",
    ),
    Reason.CHEAPER_LATER: (
        "it costs less at a later hour, for which it waits",
        "wait, or submit it without flexible to have it start as soon as it can",
    ),
    Reason.CLEANER_LATER: (
        "it emits less CO2 at a later hour, for which it waits",
        "wait, or submit it without flexible to have it start as soon as it can",
    ),
    Reason.AFFORDABLE_LATER: (
        "its budget pays for a later hour, for which it waits",
        "wait, or raise the budget to have it start as soon as it can",
    ),
    Reason.SCALING_UP: (
        "no node that is there has room for it now; its cluster's autoscaler can bring nodes that do",
        "wait until they are there, or ask for less",
    ),
    Reason.RESERVED_FOR_ANOTHER: (
        "there is room, but it is kept for a job that waited longer and would be delayed",
        "wait, or lower max_runtime so that it ends before then",
    ),
}
POLICY_WORDS: dict[Reason, str] = {
    Reason.LICENCE_MISSING: "no licence for an input", Reason.LICENCE_EXPIRED: "the licence for an input has expired",
    Reason.LICENCE_PURPOSE: "the licence does not cover the purpose", Reason.LICENCE_JURISDICTION: "the licence does not cover the place",
    Reason.LICENCE_KIND: "the licence does not permit this kind of job",
    Reason.LICENCE_CONSENT: "the licence for personal data names no consent",
    Reason.LICENCE_SPENT: "nothing is left of the licence",
    Reason.PRODUCT_WITHDRAWN: "the version was withdrawn by its owner",
    Reason.PRODUCT_PURPOSE: "the product does not permit the purpose",
    Reason.PRODUCT_KIND: "the product does not permit this kind of job",
    Reason.PRODUCT_PROGRAM: "the product's owner has not permitted this program",
    Reason.PRODUCT_DISCLOSURE: "the statement would tell more than the product's owner permits",
    Reason.PRODUCT_SECURITY: "the product asks for a higher level of security", Reason.PRODUCT_COPY: "the product may not be copied there",
    Reason.PRODUCT_JURISDICTION: "the product may not be processed there",
    Reason.JOB_JURISDICTION: "the job itself excludes the place", Reason.JOB_CLUSTER: "the job itself excludes the cluster",
    Reason.CURRENCY: "the currencies differ", Reason.OVER_BUDGET: "the quote is over the budget",
}  # fmt: skip
Standing = Literal["chosen", "possible", "busy", "refused"]
MOST_HOLDS = 3
NEVER = frozenset(
    {Reason.KIND_UNSUPPORTED, Reason.DATA_TOO_LARGE, Reason.NODE_LABELS, Reason.NODE_ACCELERATOR_MODEL, Reason.NODE_TOO_SMALL}
)


def deprecations(conn: Connection, spec: JobSpec) -> list[str]:
    """Which inputs of a job are deprecated, and why."""
    versions = catalogue.versions_of(conn, {split_ref(ref)[0] for ref in spec.inputs.values()}) if spec.inputs else {}
    found = [versions[ref] for ref in sorted(set(spec.inputs.values())) if ref in versions and versions[ref].standing == "deprecated"]
    return [f"{one.ref} is deprecated" + (f": {one.standing_reason}" if one.standing_reason else "") for one in found]


def words(reason: Reason) -> str:
    """A reason as a clause."""
    return reason_words(reason)[0]


def reason_words(reason: Reason) -> tuple[str, str]:
    """A reason as a clause, and what would change it; a reason without words of its own is its label's."""
    if reason in POLICY_WORDS:
        return POLICY_WORDS[reason], ""
    plain = "nothing stands against it" if reason is Reason.FITS else reason.label.replace("_", " ")
    return CAPACITY_WORDS.get(reason, (plain, ""))


def waiting_words(label: str) -> str:
    """A stored blocker as a clause."""
    return f"waiting: {words(Reason[label.upper()])}"


def verdict_view(verdict: Verdict, way: Way, spec: JobSpec) -> ClusterVerdict:
    """One cluster's standing with every obstacle in words; `way` is the one that the verdict is about."""
    assessment = way.assessments[verdict.cluster]
    obstacles = [Obstacle(reason=item.reason.label, message=item.message, remedy=item.remedy) for item in assessment.against]
    if verdict.reason in CAPACITY_WORDS and verdict.reason is not assessment.reason:
        message, remedy = _gang_words(verdict, spec) or CAPACITY_WORDS[verdict.reason]
        obstacles.append(Obstacle(reason=verdict.reason.label, message=message, remedy=remedy))
    return ClusterVerdict(
        cluster=assessment.cluster, verdict=_standing(verdict), obstacles=obstacles, start_s=verdict.start_s,
        transfer_s=assessment.transfer_s, transfer_bytes=assessment.transfer_bytes,
        transfers=transfer_views(assessment), quote=assessment.quote,
        least_quote=assessment.least_quote, workers=verdict.workers, accelerator_model=way.model,
        speed=speed_view(way.speed) if way.speed else None,
        carbon_g=assessment.carbon_g,
        score=verdict.score, score_parts=[ScoreAspect.model_validate(vars(part)) for part in verdict.parts],
    )  # fmt: skip


def transfer_views(assessment: Assessment) -> list[TransferView]:
    """The transfers that a run at a cluster would need, with what each costs."""
    lines = assessment.quote.lines if assessment.quote else ()
    prices = {line.detail: line.amount for line in lines if line.item == "transfer"}
    return [
        TransferView(
            ref=move.ref, size_bytes=move.size_bytes, source=move.source, mib_s=move.mib_s, seconds=move.seconds,
            others=list(move.others), price=prices.get(move.ref),
        )
        for move in {move.ref: move for move in assessment.moves}.values()
    ]  # fmt: skip


def speed_view(speed: Speed) -> SpeedView:
    """A speed with where it comes from in words."""
    words = {
        Origin.DECLARED: "declared", Origin.LEARNED: f"learned from {speed.runs} runs",
        Origin.RATED: f"rated FLOPS ({speed.precision})", Origin.EQUAL: "assumed equal",
    }[speed.origin]  # fmt: skip
    return SpeedView(value=speed.value, origin=speed.origin.value, runs=speed.runs, precision=speed.precision, words=words)


def _gang_words(verdict: Verdict, spec: JobSpec) -> tuple[str, str] | None:
    """How much room a gang that does not fit would have, and what would change it; None for everything else."""
    if verdict.room is None:
        return None
    workers, level = spec.resources.fewest, spec.placement.same
    needed = f"at least {workers}" if spec.resources.is_elastic else str(workers)
    remedy = CAPACITY_WORDS[verdict.reason][1]
    if verdict.reason is Reason.GANG_DOES_NOT_FIT or level is None:
        return f"there is room for {verdict.room} of {needed} workers now", remedy
    if not verdict.room_empty:
        return (
            f"no node of it that could take a worker carries the label of a {level}",
            "have its nodes labelled, or leave placement.same out",
        )
    if verdict.room_empty < workers:
        remedy = "ask for fewer workers, or leave placement.same out"
    now = f"the {level} with most room has it for {verdict.room} of {needed} workers now"
    return f"{now}, and if nothing ran there for {verdict.room_empty}", remedy


def _standing(verdict: Verdict) -> Standing:
    if verdict.chosen:
        return "chosen"
    if verdict.reason is Reason.FITS:
        return "possible"
    return "refused" if verdict.reason in POLICY or verdict.reason in NEVER else "busy"


def hold_views(job: JobRecord, predecessors: Sequence[tuple[str, State]], now: float, array: ArrayRecord | None = None) -> list[Obstacle]:
    """What holds a job, in words; of the jobs that it comes after those that have not ended, each with its state."""
    found = []
    for item in holds(job, now, array):
        if item.hold is Hold.DEPENDENCY and predecessors:
            found += [
                Obstacle(reason=item.hold.value, message=f"it comes after {name}, which is {state}",
                         remedy=f"wait, see `cpn job explain {name}`, or cancel this job")
                for name, state in predecessors
            ]  # fmt: skip
        else:
            found.append(Obstacle(reason=item.hold.value, message=item.message, remedy=item.remedy))
    return found


def summary(state: str, verdicts: list[ClusterVerdict], ahead: int, message: str, held: Sequence[Obstacle] = ()) -> str:
    """Where a job stands, in one sentence; `held` is what keeps it from being looked at."""
    if state != "queued":
        return f"the job is {state}" + (f": {message}" if message else "")
    if held:
        more = f", and {len(held) - MOST_HOLDS} more" if len(held) > MOST_HOLDS else ""
        return "the job waits: " + "; ".join(item.message for item in held[:MOST_HOLDS]) + more
    chosen = next((item.cluster for item in verdicts if item.verdict == "chosen"), None)
    many = "1 job of its queue goes first" if ahead == 1 else f"{ahead} jobs of its queue go first"
    before = many if ahead else "it is first in its queue"
    if chosen:
        return f"the job waits; {before}; it fits on {chosen} now"
    busy = [item for item in verdicts if item.verdict == "busy"]
    if busy:
        return f"the job waits; {before}; " + "; ".join(f"{item.cluster}: {item.obstacles[-1].message}" for item in busy)
    if not verdicts:
        return f"the job waits; {before}; no cluster is registered"
    reasons = "; ".join(f"{item.cluster}: {item.obstacles[0].message}" for item in verdicts if item.obstacles)
    return f"the job waits and no cluster may run it now: {reasons}"
