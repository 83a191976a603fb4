"""What a network delivers to the work of a trace, what that costs and what it emits: FLOPS of accelerators against the rated ones and the
target, money by the hour at the tariffs of the hours, and CO2 where clusters declare their electricity.

An accelerator counts at its rating for as long as a job holds it. Work is charged by the hour at the prices of the cluster where it ran,
and each hour at its tariff then; what was stopped and moved counts where it ran last, as if it had run right before its end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from scheduler.engine.rooms import KIND
from scheduler.engine.snapshot import Floats
from scheduler.simulator.calendar_hours import Passed
from scheduler.simulator.networks import Network, Site, rates_of, row_sites
from scheduler.simulator.outcome import Outcome
from scheduler.simulator.world import World
from scheduler.traces.trace import WHOLE
from workloads.hours import Week

HOUR_S, JOULES_PER_KWH = 3600.0, 3.6e6


def delivered(network: Network, world: World, outcome: Outcome) -> dict[str, float | int]:
    """`cost` of the finished work, `flops_delivered` on average from the first submission to the last end, and that as shares of the
    rated FLOPS and, with a target, of it.

    Where a cluster declares carbon also `carbon_g`, the grams of CO2 of the finished jobs that can be estimated, and
    `carbon_unrated`, how many cannot.
    """
    done = np.flatnonzero(outcome.end_s >= 0)
    rates, model, sites = rates_of(network), outcome.model[done], row_sites(network)
    ends_s, ran_s = outcome.end_s[done], outcome.ran_s[done]
    workers, cpu, memory, devices, milli = (world.asks.job[done, column].astype(np.float64) for column in range(KIND))
    cores, whole = workers * cpu / 1000.0, workers * devices * milli / WHOLE

    def weighed(week_of: Callable[[Site], Week[Any] | None]) -> Floats:
        return _weighed_s([week_of(site) for site in sites], model, ends_s, ran_s, world.trace.begins_at)

    hours = weighed(lambda site: site.prices.tariffs.week if site.prices.tariffs else None) / HOUR_S
    cost = hours * (cores * rates.cpu[model] + workers * memory / 1024.0 * rates.memory_gib[model] + whole * rates.accelerator[model])
    makespan_s = float(outcome.end_s.max(initial=0.0) - world.trace.submit_s[0])
    work = float((ran_s * whole * rates.flops[model]).sum())
    flops, rated = work / makespan_s if makespan_s > 0 else 0.0, network.flops()
    found: dict[str, float | int] = {
        "cost": float(cost.sum()),
        "flops_delivered": flops,
        "flops_delivered_share": flops / rated if rated else 0.0,
    }
    if network.declares_carbon:
        core, device = rates.core_watts[model], np.where(devices > 0, rates.device_watts[model], 0.0)
        grams = (cores * core + whole * device) / JOULES_PER_KWH * weighed(lambda site: site.carbon.week if site.carbon else None)
        known = np.isfinite(grams)
        found |= {"carbon_g": float(grams[known].sum()), "carbon_unrated": int((~known).sum())}
    return found | ({"target_share": flops / network.goal.flops} if network.goal else {})


def _weighed_s(weeks: list[Week[Any] | None], model: np.ndarray[Any, Any], ends_s: Floats, ran_s: Floats, begins_at: float) -> Floats:
    """[J] The seconds before each job's end that it ran, weighed by the hours of the row of `models` where that was."""
    found, until_s = ran_s.copy(), float(ends_s.max(initial=0.0))
    for week in {id(week): week for week in weeks if week is not None}.values():
        here = np.isin(model, [row for row, one in enumerate(weeks) if one is week])
        found[here] = Passed(week, begins_at, until_s).between(ends_s[here] - ran_s[here], ends_s[here])
    return found
