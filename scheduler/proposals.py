"""Proposals: the smallest changes to a waiting job with which it would start now.

Each kind of change is tried by itself: less memory, fewer cores, fewer accelerators, fewer workers, a smaller worker altogether,
another accelerator model, a place that the job itself excludes, a label less or with another value, a higher budget. Rights,
residency and money are judged anew for the changed job, so nothing is proposed that they forbid, and the engine is asked whether
it would start (`engine.sooner`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import numpy as np
from pydantic import ValidationError

from scheduler.assess import Assessment, granted_quote
from scheduler.engine.alternatives import policies_of
from scheduler.engine.inquiry import Start
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import FIRST_ACCELERATOR, ROUNDING, WHOLE, Bools, Floats, Ints
from scheduler.engine.sooner import OpenNodes, largest
from scheduler.freeze import Candidate, held_of, held_vector, judge_at
from scheduler.market import Market
from scheduler.outlook import Outlook
from scheduler.store.records import ClusterRecord
from scheduler.topology import LEVELS
from scheduler.ways import Way, resources_of
from workloads.catalogue.pricing import Quote
from workloads.resources import MIB, format_duration, format_memory
from workloads.spec import JobSpec, PlacementRules

CORE_PARTS = 10  # Cores are proposed in tenths.
LEAST_SHARE = 0.1  # Less than a tenth of what was asked for is another job.
OWN = frozenset({Reason.JOB_JURISDICTION, Reason.JOB_CLUSTER})
MOST_MODELS, MOST_PLACES = 3, 3


@dataclass(frozen=True)
class Change:
    """One field of the job: its path, what stands there and what would, both as in a manifest."""

    path: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Proposal:
    """A change with which the job would start now: where, after how many seconds, and for how much at most."""

    changes: tuple[Change, ...]
    spec: JobSpec
    cluster: str
    start_s: float
    quote: Quote


def proposals(outlook: Outlook, row: int, market: Market) -> tuple[Proposal, ...]:
    """What would start the job of a row now; nothing where it would start anyway."""
    search = _Search(outlook, row, market)
    if search.ask({}) is not None:
        return ()
    found = list(search.less())
    kinds = (search.shorter, search.other_models, search.other_places, search.other_groups, search.other_labels, search.more_money)
    return (*found, *(item for kind in kinds for item in kind()))


class _Search:
    """One job's questions. Judgements at clusters without room for the job are never asked for: they decide nothing."""

    def __init__(self, outlook: Outlook, row: int, market: Market) -> None:
        self.outlook, self.row, self.market = outlook, row, market
        self.candidate = outlook.after.candidates[row]
        self.spec, self.company = self.candidate.spec, outlook.company(row)
        jobs = outlook.snapshot.jobs
        self.workers, self.queue = int(jobs.least[row]), int(jobs.queue[row])
        self.carried = outlook.snapshot.nodes.label_ok[jobs.label_class[row]]
        self.document = self.spec.model_dump(mode="json")
        everywhere = np.ones(jobs.policy.shape[1], dtype=np.bool_)
        group, spare = self._group(self.spec), self._spare()
        self.everywhere = outlook.openings.on(self.carried, everywhere, group, spare)
        # [O, C] By each way to run it.
        self.fitting: Bools = policies_of(outlook.snapshot, row) == Reason.FITS
        # A budget that is too small for this job may be enough for a smaller one.
        dear = dict.fromkeys(row for row, _, _ in _cheapest(self.candidate.ways, frozenset({Reason.OVER_BUDGET})))
        self.dear = list(dear)[:MOST_PLACES]
        allowed = self.fitting.any(axis=0) | np.isin(np.arange(len(everywhere)), self.dear)
        self.allowed = outlook.openings.on(self.carried, allowed, group, spare)

    def ask(self, values: Mapping[str, Any]) -> Proposal | None:
        """What the decision would say to the job with these fields, by path."""
        try:
            spec = self._spec(values)
        except ValidationError:
            # What no manifest may say is no proposal, such as a gang of one in one rack.
            return None
        nodes = self.everywhere
        if spec.placement.labels != self.spec.placement.labels or spec.placement.same != self.spec.placement.same:
            everywhere = np.ones(len(self.outlook.world.clusters), dtype=np.bool_)
            nodes = self.outlook.openings.on(self._carried(spec), everywhere, self._group(spec))
        there = np.asarray(self._rooms(nodes, spec).any(axis=0))
        rows, clusters = np.flatnonzero(there).tolist(), self.outlook.world.clusters
        ways = self._judged(spec, [clusters[row] for row in rows])
        if all(item.reason is not Reason.FITS for way in ways for item in way.assessments):
            return None
        changed = replace(self.candidate, spec=spec, ways=tuple(self._everywhere(way, rows) for way in ways))
        snapshot = self.outlook.asked([changed], self.company).snapshot
        start = self.outlook.inquiry.start(snapshot, self.company)
        return None if start is None else self._proposal(values, changed, start)

    def _judged(self, spec: JobSpec, clusters: Sequence[ClusterRecord]) -> tuple[Way, ...]:
        return judge_at(spec, self.market, clusters, self.outlook.world.now, self.candidate.rates, self.candidate.id)

    def _everywhere(self, way: Way, rows: Sequence[int]) -> Way:
        """A way that was judged at the clusters of some rows, with what the job itself got at the others, which have no room for it."""
        assessments = list(self.candidate.ways[0].assessments)
        for row, found in zip(rows, way.assessments, strict=True):
            assessments[row] = found
        return replace(way, assessments=tuple(assessments))

    def _rooms(self, nodes: OpenNodes, spec: JobSpec, amounts: Mapping[str, float] = MappingProxyType({})) -> Bools:
        """[O, C] Which clusters have room for a job by each way to run it, as far as its queue lets it have that.

        `amounts` are to be had instead of the job's own.
        """
        workers, openings = int(amounts.get("workers", spec.resources.fewest)), self.outlook.openings
        requests = [held_vector({**held_of(resources), **amounts}, self.outlook.snapshot.resources) for resources in resources_of(spec)]
        none = np.zeros(len(self.outlook.world.clusters), dtype=np.bool_)
        return np.array([nodes.room(item, workers) if openings.queue_lets(self.queue, item, workers) else none for item in requests])

    def _proposal(self, values: Mapping[str, Any], changed: Candidate, start: Start) -> Proposal | None:
        assessment = changed.ways[start.choice].assessments[start.cluster]
        cluster = self.outlook.world.clusters[start.cluster].spec
        quote = granted_quote(changed.spec, self.market.inputs(changed.spec, changed.id), cluster, assessment, len(start.nodes))
        if quote is None:
            return None
        wait_s = float(self.outlook.snapshot.clusters.wait_s[start.cluster])
        changes = tuple(Change(path, _at(self.document, path), value) for path, value in values.items())
        return Proposal(changes, changed.spec, assessment.cluster, wait_s + assessment.transfer_s, quote)

    def _carried(self, spec: JobSpec) -> Bools:
        """[N] Nodes with the labels of a job: known for those of this one, else left to the engine."""
        return self.carried if spec.placement.labels == self.spec.placement.labels else np.ones_like(self.carried)

    def _spare(self) -> Floats | None:
        """[N, R] What the job may take beside what is promised to those before it."""
        if not (self.outlook.snapshot.heads or self.outlook.snapshot.promised):
            return None
        return self.outlook.inquiry.spare(self.outlook.asked([self.candidate], self.company).snapshot, self.company)

    def shorter(self) -> Iterator[Proposal]:
        """A lower limit of its time, where room is kept for others before its end: the most tenths of it that are enough."""
        if not (self.outlook.snapshot.heads or self.outlook.snapshot.promised):
            return
        limit, found = self.spec.max_runtime, dict[int, Proposal | None]()

        def works(tenths: int) -> bool:
            found[tenths] = self.ask({"max_runtime": format_duration(math.floor(limit * tenths / 10))})
            return found[tenths] is not None

        tenths = largest(1, 9, works) if limit >= 10 else None
        if tenths is not None and (proposal := found[tenths]) is not None:
            yield proposal

    def _group(self, spec: JobSpec) -> Ints | None:
        """[N] The groups of which one must take all workers of a job; None where they may be apart, or it is left to the engine."""
        group, level = self.outlook.snapshot.nodes.group, spec.placement.same
        return group[:, LEVELS.index(level)] if level is not None and group.shape[1] else None

    def less(self) -> Iterator[Proposal]:
        """Less of one resource, or where no single one is enough, a smaller worker."""
        asked = self.spec.resources
        # The next smaller step of each: a MiB, a tenth of a core, a device, a worker.
        steps = [(asked.memory - 1) // MIB, math.ceil(asked.cpu * CORE_PARTS - ROUNDING) - 1, 0, self.workers - 1]
        units: list[Callable[[int], dict[str, float]]] = [
            lambda count: {"memory_bytes": count * MIB}, lambda count: {"cpu": count / CORE_PARTS},
            lambda count: {"accelerator_count": count}, lambda count: {"workers": count},
        ]  # fmt: skip
        if asked.accelerator and asked.accelerator.share is None:
            steps[2] = asked.accelerator.count - 1
        elif asked.accelerator:
            steps[2] = round(asked.accelerator.amount * WHOLE) - 1
            units[2] = lambda count: {"accelerator_share": count / WHOLE}
        found = [self._largest(most, unit) for most, unit in zip(steps, units, strict=True)]
        if not any(found):
            found.append(self._largest(99, lambda percent: _part(asked.memory, asked.cpu, percent)))
        yield from (item for item in found if item is not None)

    def _largest(self, most: int, amounts: Callable[[int], dict[str, float]]) -> Proposal | None:
        """The proposal with the largest amount; `amounts` are those of a worker, and the number of workers, for a number."""
        count = largest(max(math.ceil(most * LEAST_SHARE), 1), most, lambda number: self._has_room(amounts(number)))
        return None if count is None else self.ask(self._fields(amounts(count)))

    def _has_room(self, amounts: Mapping[str, float]) -> bool:
        """Whether a cluster that rights and budget allow has room, and the queue too."""
        count = {"accelerator_count": amounts["accelerator_share"]} if "accelerator_share" in amounts else {}
        there = self._rooms(self.allowed, self.spec, {**amounts, **count})
        if (there & self.fitting).any():
            return True
        dear = [row for row in self.dear if there[:, row].any()]
        clusters = [self.outlook.world.clusters[row] for row in dear]
        found = self._judged(self._spec(self._fields(amounts)), clusters) if dear else ()
        return any(item.reason is Reason.FITS for way in found for item in way.assessments)

    def _spec(self, values: Mapping[str, Any]) -> JobSpec:
        return JobSpec.model_validate(_with(self.document, values), strict=False)

    def _fields(self, amounts: Mapping[str, float]) -> dict[str, Any]:
        """Amounts as fields of a manifest."""
        found: dict[str, Any] = {}
        for name, amount in amounts.items():
            if name == "memory_bytes":
                found["resources.memory"] = format_memory(int(amount))
            elif name == "accelerator_count":
                found["resources.accelerator.count"] = int(amount)
            elif name == "accelerator_share":
                found["resources.accelerator.share"] = amount
            elif name == "workers" and self.spec.resources.is_elastic:
                found["resources.workers"] = {"min": int(amount), "max": self.spec.resources.most}
            else:
                found[f"resources.{name}"] = int(amount) if amount == int(amount) else amount
        return found

    def _excluded(self, reasons: frozenset[Reason]) -> list[tuple[int, Assessment]]:
        """Clusters with room that nothing but these reasons stands against by one of the job's ways, the cheapest first."""
        there = self._rooms(self.everywhere, self.spec)
        found = dict[int, Assessment]()
        for row, way, item in _cheapest(self.candidate.ways, reasons):
            if there[way, row]:
                found.setdefault(row, item)
        return list(found.items())

    def other_models(self) -> Iterator[Proposal]:
        """The same number of accelerators of another model, or of one more that the job may use, the cheapest first."""
        asked = self.spec.resources.accelerator
        if not asked:
            return
        own, listed = {choice.model for choice in asked.choices}, [choice.model_dump(exclude_none=True) for choice in asked.any_of]
        models = [name for name in self.outlook.snapshot.resources[FIRST_ACCELERATOR:] if name not in own]
        found = [
            self.ask({"resources.accelerator.any_of": [*listed, {"model": name}]} if listed else {"resources.accelerator.model": name})
            for name in models
        ]
        yield from sorted((item for item in found if item), key=lambda item: (item.quote.currency, item.quote.total.amount))[:MOST_MODELS]

    def other_places(self) -> Iterator[Proposal]:
        """Clusters that nothing but the job's own rules about places excludes, one at a time."""
        rules, known = self.spec.placement, self.outlook.world.clusters
        asked = map(self.ask, (_including(item, rules, known[row]) for row, item in self._excluded(OWN)))
        yield from islice((item for item in asked if item is not None), MOST_PLACES)

    def other_groups(self) -> Iterator[Proposal]:
        """Workers in one zone instead of one rack, or apart."""
        same = self.spec.placement.same
        wider = [] if same is None else ["zone", None] if same == "rack" else [None]
        asked = (self.ask({"placement.same": level}) for level in wider)
        yield from islice((item for item in asked if item is not None), 1)

    def other_labels(self) -> Iterator[Proposal]:
        """One label with another value that nodes carry, or where none helps, without it."""
        labels = dict(self.spec.placement.labels)
        for name in sorted(labels):
            others = [{**labels, name: value} for value in self._values(name) if value != labels[name]]
            without = {key: value for key, value in labels.items() if key != name}
            found = next((item for wanted in (*others, without) if (item := self.ask({"placement.labels": wanted}))), None)
            if found is not None:
                yield found

    def _values(self, name: str) -> list[str]:
        world = self.outlook.world
        found = {row.node.labels[name] for row in world.nodes if name in row.node.labels}
        return sorted(found | {item.spec.labels[name] for item in world.clusters if name in item.spec.labels})

    def more_money(self) -> Iterator[Proposal]:
        """The smallest budget that pays for a cluster with room."""
        quotes = (item.quote for _, item in self._excluded(frozenset({Reason.OVER_BUDGET})))
        asked = (self.ask({"budget": str(quote.total)}) for quote in quotes if quote is not None)
        yield from islice((item for item in asked if item is not None), 1)


def _cheapest(ways: Sequence[Way], reasons: frozenset[Reason]) -> list[tuple[int, int, Assessment]]:
    """The clusters that these reasons and no others stand against by a way, with that way and its judgement, the cheapest first."""
    found = [
        ((item.quote.currency, item.quote.total.amount, row, way), item)
        for way, judged in enumerate(ways)
        for row, item in enumerate(judged.assessments)
        if item.quote and item.against and {against.reason for against in item.against} <= reasons
    ]
    return [(key[2], key[3], item) for key, item in sorted(found, key=itemgetter(0))]


def _including(item: Assessment, rules: PlacementRules, cluster: ClusterRecord) -> dict[str, Any]:
    reasons, values = {against.reason for against in item.against}, dict[str, Any]()
    if Reason.JOB_JURISDICTION in reasons:
        values["placement.jurisdictions"] = [*rules.jurisdictions, cluster.spec.jurisdiction]
    if Reason.JOB_CLUSTER in reasons:
        values["placement.clusters"] = [*rules.clusters, cluster.name]
    return values


def _with(document: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    changed = dict(document)
    for path, value in values.items():
        head, _, rest = path.partition(".")
        changed[head] = _with(changed[head], {rest: value}) if rest else value
    return changed


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document[name]
    return document


def _part(memory: int, cpu: float, percent: int) -> dict[str, float]:
    """So many hundredths of a worker, in whole steps."""
    return {
        "memory_bytes": max(memory * percent // 100 // MIB, 1) * MIB, "cpu": max(int(cpu * CORE_PARTS * percent / 100), 1) / CORE_PARTS,
    }  # fmt: skip
