"""Speeds: how fast one kind of work is on each accelerator model that it may use, compared with the others.

What a buyer declares holds. The other models are learned from runs of like jobs (effective throughput: Narayanan et al., Gavel,
OSDI 2020): `ln(speed of a model / speed of the reference) = (n * d + STRENGTH * p) / (n + STRENGTH)`. Here p is the logarithm of the
prior's ratio, d the median of the logarithms of the ratios of every run on the one model to every run on the other (the shift of
Hodges and Lehmann, 1963), and n counts runs in pairs, so that few runs say little and one that is far off says next to nothing. Runs are
compared only where they held as many devices: by the steps that they reported, and where none of a pair did, by how long they took.
A learned ratio is never further from the prior's than a factor of MOST_OFF.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

import numpy as np

from scheduler.engine.snapshot import Floats

STRENGTH = 3.0  # As many pairs of runs as the prior counts for.
MOST_OFF = 10.0
MOST_SLOWDOWN = 1e9  # Declared speeds may be further apart than any time that can be reckoned with.


class Origin(StrEnum):
    """Where a speed comes from."""

    DECLARED = "declared"
    LEARNED = "learned"
    RATED = "rated"
    EQUAL = "assumed_equal"


@dataclass(frozen=True)
class Rate:
    """How fast one run was: `steps_per_s` as it reported them, `seconds` that it took where it did all of its work; None is unknown.

    `devices` are those of all its workers together.
    """

    model: str
    devices: float
    steps_per_s: float | None
    seconds: float | None


@dataclass(frozen=True)
class Speed:
    """How fast work is on a model; only proportions to others matter.

    `runs` are those that it was learned from, on this model and on the one that it was compared with; `precision` is the one whose
    ratings stand for it.
    """

    value: float
    origin: Origin
    runs: int = 0
    precision: str | None = None


@dataclass(frozen=True)
class Prior:
    """What is taken to be so before any run: a positive number for each model, from ratings at a precision or (None) all equal."""

    values: Mapping[str, float]
    precision: str | None = None

    def of(self, model: str) -> Speed:
        """The speed of a model of which nothing is learned."""
        return Speed(self.values[model], Origin.EQUAL if self.precision is None else Origin.RATED, precision=self.precision)


# Logarithms of work a second, by what was measured on how many devices, then by model.
_Logs: TypeAlias = dict[tuple[str, float], dict[str, Floats]]


def speeds_on(declared: Mapping[str, float | None], rates: Iterable[Rate], prior: Prior) -> dict[str, Speed]:
    """The speed on each of some models; `declared` has a number where its buyer gave one.

    Where one is declared the others are in its unit, else the slowest has the speed 1.
    """
    given = [model for model, value in declared.items() if value is not None]
    if len(given) == len(declared):
        return {model: Speed(float(value or 0.0), Origin.DECLARED) for model, value in declared.items()}
    logs = _logs_of(rates, set(declared))
    reference = min(given or declared, key=lambda model: (-sum(_compared(logs, other, model)[1] for other in declared), model))
    found = {reference: replace(prior.of(reference), value=declared[reference] or 1.0)}
    for model in declared:
        if model != reference:
            found[model] = _relative(logs, model, found[reference], reference, prior)
    learned = [speed.runs for speed in found.values()]
    if max(learned) > 0:
        found[reference] = replace(found[reference], origin=Origin.LEARNED, runs=max(learned), precision=None)
    unit = 1.0 if given else min(speed.value for speed in found.values())
    return {
        model: Speed(float(value), Origin.DECLARED) if value is not None else replace(found[model], value=found[model].value / unit)
        for model, value in declared.items()
    }


def _relative(logs: _Logs, model: str, to: Speed, reference: str, prior: Prior) -> Speed:
    """The speed on a model from its ratio to that on the reference."""
    before = math.log(prior.values[model] / prior.values[reference])
    ratios, pairs, runs = _compared(logs, model, reference)
    if not pairs:
        return replace(prior.of(model), value=to.value * math.exp(before))
    most = math.log(MOST_OFF)
    shift = min(max(float(np.median(ratios)), before - most), before + most)
    return Speed(to.value * math.exp((pairs * shift + STRENGTH * before) / (pairs + STRENGTH)), Origin.LEARNED, runs)


def _compared(logs: _Logs, model: str, reference: str) -> tuple[Floats, int, int]:
    """Logarithms of the ratios of every run on a model to every run on the reference that it compares with; pairs; and runs."""
    if model == reference:
        return np.zeros(0), 0, 0
    for measure in ("steps", "time"):
        both = [logs[key] for key in sorted(logs) if key[0] == measure and model in logs[key] and reference in logs[key]]
        if both:
            ratios = np.concatenate([np.subtract.outer(rates[model], rates[reference]).ravel() for rates in both])
            counts = [(len(rates[model]), len(rates[reference])) for rates in both]
            return ratios, sum(map(min, counts)), sum(map(sum, counts))
    return np.zeros(0), 0, 0


def _logs_of(rates: Iterable[Rate], models: set[str]) -> _Logs:
    found: dict[tuple[str, float], dict[str, list[float]]] = {}
    for rate in rates:
        for measure, value in (("steps", rate.steps_per_s), ("time", 1.0 / rate.seconds if rate.seconds else None)):
            if rate.model in models and value is not None and 0 < value < math.inf:
                found.setdefault((measure, rate.devices), {}).setdefault(rate.model, []).append(math.log(value))
    return {key: {model: np.array(sorted(of_model)) for model, of_model in by_model.items()} for key, by_model in found.items()}


def slowdowns(speeds: Sequence[Speed]) -> list[float]:
    """How many times longer work takes in each of some ways than in the fastest."""
    fastest = max(speed.value for speed in speeds)
    return [min(fastest / speed.value, MOST_SLOWDOWN) for speed in speeds]
