"""What a network delivers to the work of a trace, and what that costs: FLOPS of accelerators against the rated ones and the target.

An accelerator counts at its rating for as long as a job holds it. Work is charged by the hour at the prices of the cluster
where it ran; what was stopped and moved counts where it ran last.
"""

from __future__ import annotations

import numpy as np

from scheduler.engine.rooms import KIND
from scheduler.simulator.networks import Network, rates_of
from scheduler.simulator.outcome import Outcome
from scheduler.simulator.world import World
from scheduler.traces.trace import WHOLE

HOUR_S = 3600.0


def delivered(network: Network, world: World, outcome: Outcome) -> dict[str, float]:
    """`cost` of the finished work, `flops_delivered` on average from the first submission to the last end, and that as shares of the
    rated FLOPS and, with a target, of it.
    """
    done = np.flatnonzero(outcome.end_s >= 0)
    rates, model, hours = rates_of(network), outcome.model[done], outcome.ran_s[done] / HOUR_S
    workers, cpu, memory, devices, milli = (world.asks.job[done, column].astype(np.float64) for column in range(KIND))
    whole = devices * milli / WHOLE
    cost = hours * workers * (
        cpu / 1000.0 * rates.cpu[model] + memory / 1024.0 * rates.memory_gib[model] + whole * rates.accelerator[model]
    )  # fmt: skip
    makespan_s = float(outcome.end_s.max(initial=0.0) - world.trace.submit_s[0])
    work = float((hours * HOUR_S * workers * whole * rates.flops[model]).sum())
    flops, rated = work / makespan_s if makespan_s > 0 else 0.0, network.flops()
    found = {"cost": float(cost.sum()), "flops_delivered": flops, "flops_delivered_share": flops / rated if rated else 0.0}
    return found | ({"target_share": flops / network.goal.flops} if network.goal else {})
