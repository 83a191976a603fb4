"""Scores: which of a job's candidate clusters is best. One aspect, one small function, one signature.

Prices, transfers and waits have different units, so each is brought to 0 (best candidate) to 1 (worst candidate)
before they are weighed and added. The lowest sum wins. How much each counts is the job's preference: a balanced one weighs as
the network does, the others go by one aspect and let another decide between what is as good as equal in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isnan
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from scheduler.engine.plan import ScorePart
from scheduler.engine.snapshot import Bools, Floats, Prefer, Snapshot

Score: TypeAlias = Callable[[Snapshot, int], Floats]

# What decides between candidates that differ by less than a thousandth of the range in what is preferred.
SECOND = 0.001
NOTHING: Mapping[str, Floats] = MappingProxyType({})


def price(snapshot: Snapshot, job: int) -> Floats:
    """[C] The quoted price, in the job's currency."""
    cost: Floats = snapshot.jobs.cost[job]
    return cost


def transfer(snapshot: Snapshot, job: int) -> Floats:
    """[C] Seconds to bring the inputs there."""
    seconds: Floats = snapshot.jobs.transfer_s[job]
    return seconds


def start(snapshot: Snapshot, job: int) -> Floats:  # noqa: ARG001 - one signature for all scores
    """[C] Usual seconds from placement to start there."""
    return snapshot.clusters.wait_s


def run(snapshot: Snapshot, job: int) -> Floats:
    """[C] Seconds that the work takes longer than on the fastest model that the job may use."""
    return np.full(len(snapshot.clusters.names), snapshot.jobs.longer_s[job])


def completion(snapshot: Snapshot, job: int) -> Floats:
    """[C] What sets the times apart at which the work would be done: its start there, its inputs brought in, and a slower model."""
    return start(snapshot, job) + transfer(snapshot, job) + run(snapshot, job)


def carbon(snapshot: Snapshot, job: int) -> Floats:
    """[C] Grams of CO2 that the run is estimated to emit there, NaN where nobody knows."""
    grams: Floats = snapshot.jobs.carbon_g[job]
    return grams


ASPECTS: dict[str, Score] = {
    "price": price, "transfer": transfer, "start": start, "run": run, "completion": completion, "carbon": carbon,
}  # fmt: skip


def weights_of(snapshot: Snapshot, rows: Sequence[int], seen: Mapping[str, Floats] = NOTHING) -> tuple[tuple[str, float], ...]:
    """The aspects that count for a job, of which these are the ways to run it, and how much."""
    preference, weights = int(snapshot.jobs.prefer[rows[0]]), snapshot.weights
    if preference == Prefer.SOONEST:
        return (("completion", 1.0), ("price", SECOND))
    if preference == Prefer.CHEAPEST:
        return (("price", 1.0), ("completion", SECOND))
    if preference == Prefer.CLEANEST:
        return (("carbon", 1.0), ("completion", SECOND))
    balanced = (("price", weights.price), ("transfer", weights.transfer), ("start", weights.start))
    further = [("run", weights.run)] if len(rows) > 1 else []
    further += [("carbon", weights.carbon)] if weights.carbon > 0 else []
    return (*balanced, *further, *((name, getattr(weights, name)) for name in seen))


def totals(snapshot: Snapshot, job: int, candidates: Bools) -> Floats:
    """[C] The weighted sum for each of the job's candidate clusters, inf for the others."""
    scores: Floats = joint_totals(snapshot, (job,), candidates[None, :])[0]
    return scores


def joint_totals(snapshot: Snapshot, rows: Sequence[int], candidates: Bools, seen: Mapping[str, Floats] = NOTHING) -> Floats:
    """[O, C] The same over all ways to run a job: candidates are pairs of one of `rows[O]` and a cluster."""
    ways, clusters = candidates.nonzero()
    found = np.full(candidates.shape, np.inf)
    found[ways, clusters] = 0.0
    if len(ways) > 1:
        # Clusters are few and this is done for every placement: plain floats are faster here than arrays.
        parts = [
            [weight * value for value in normalised(_values(snapshot, rows, name, candidates, seen))]
            for name, weight in weights_of(snapshot, rows, seen)
        ]
        found[ways, clusters] = [sum(values) for values in zip(*parts, strict=True)]
    return found


def score_parts(
    snapshot: Snapshot, rows: Sequence[int], candidates: Bools, seen: Mapping[str, Floats] = NOTHING
) -> dict[tuple[int, int], tuple[ScorePart, ...]]:
    """What the total of each candidate is the sum of, by its way and the cluster's row."""
    pairs = list(zip(*(index.tolist() for index in candidates.nonzero()), strict=True))
    found: dict[tuple[int, int], list[ScorePart]] = {pair: [] for pair in pairs}
    for name, weight in weights_of(snapshot, rows, seen) if pairs else ():
        values = _values(snapshot, rows, name, candidates, seen)
        for pair, value, place in zip(pairs, values, normalised(values), strict=True):
            found[pair].append(ScorePart(name, None if isnan(value) else value, weight, weight * place))
    return {pair: tuple(parts) for pair, parts in found.items()}


def _values(snapshot: Snapshot, rows: Sequence[int], name: str, candidates: Bools, seen: Mapping[str, Floats]) -> list[float]:
    """An aspect's values at all candidates, in their order."""
    if name in seen:
        values: list[float] = seen[name][candidates].tolist()
        return values
    score = ASPECTS[name]
    return [value for way, row in enumerate(rows) for value in score(snapshot, row)[candidates[way]].tolist()]


def normalised(values: list[float]) -> list[float]:
    """Values, at least one, moved and stretched to 0 … 1; all 0 when they are equal. What is not known (NaN) is as bad as the worst."""
    known = [value for value in values if not isnan(value)] if any(map(isnan, values)) else values
    if not known:
        return [0.0] * len(values)
    least = min(known)
    spread = max(known) - least
    return [1.0 if isnan(value) else (value - least) / spread if spread > 0 else 0.0 for value in values]
