"""Lengths: how long runs and jobs will last, as a range and not a number, from the parts of their limits that like ones used.

`estimates` gives one number for an order of jobs. A person who waits wants to know how sure it is: the usual length, and the one
that nine in ten keep to. Both are quantiles of the parts that the last runs of the same group used; of a run that lasts already,
only those that used more count. Where nothing is known the limit itself is both, and the answer says so.

A group's runs on one accelerator model are a group of their own (`on_model`). Where too few of these are known, those on other models
stand for them: by the speeds on both where these are known, else as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scheduler.engine.estimates import LEAST_PART
from scheduler.engine.snapshot import Floats

USUAL, LONG = 0.5, 0.9
FEWEST = 2  # One run alone says nothing about a spread.

Parts = Mapping[str, Sequence[float]]


def on_model(group: str, model: str | None) -> str:
    """The name of a group's runs on an accelerator model; groups have no @ in their names."""
    return group if model is None else f"{group}@{model}"


def known(parts: Parts, group: str) -> bool:
    """Whether enough runs of a group have ended to go by them."""
    return len(_of(parts, group)) >= FEWEST


def _of(parts: Parts, group: str) -> Sequence[float]:
    found = parts.get(group, ())
    return found if len(found) >= FEWEST else parts.get(group.partition("@")[0], ())


def lasting_on_s(parts: Parts, group: str, model: str, speeds: Mapping[str, float], limit_s: float, quantile: float) -> float:
    """Seconds that a job of a group will run on one of the models whose `speeds` are known."""
    name = on_model(group, model)
    if len(parts.get(name, ())) < FEWEST:
        there = ((other, part) for other in sorted(speeds) for part in parts.get(on_model(group, other), ()))
        parts = {group: parts.get(group, ()), name: [min(part * speeds[other] / speeds[model], 1.0) for other, part in there]}
    return lasting_s(parts, name, limit_s, quantile)


def lasting_s(parts: Parts, group: str, limit_s: float, quantile: float, elapsed_s: float = 0.0) -> float:
    """Seconds from now until a run ends that has lasted `elapsed_s` of its limit; never less than 0."""
    left = max(limit_s - elapsed_s, 0.0)
    if not known(parts, group) or limit_s <= 0:
        return left
    longer = [part for part in _of(parts, group) if part * limit_s > elapsed_s]
    if not longer:
        return left
    part = max(float(np.quantile(np.array(longer), quantile, method="higher")), LEAST_PART)
    return min(max(part * limit_s - elapsed_s, 0.0), left)


def lengths_s(parts: Parts, groups: Sequence[str], limit_s: Sequence[float], quantile: float) -> Floats:
    """[J] Seconds that jobs of these groups will run from their start."""
    return np.array([lasting_s(parts, group, limit, quantile) for group, limit in zip(groups, limit_s, strict=True)], dtype=np.float64)
