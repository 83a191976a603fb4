"""What `cpn simulate` prints: the figures of each policy, and of each policy on each network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from controlplane.cli.output import grid, say
from workloads.resources import format_grams

if TYPE_CHECKING:
    from scheduler.simulator.comparison import Comparison, Figures
    from scheduler.simulator.simulate import Replay
    from scheduler.traces.trace import Trace

COLUMNS = (
    ("JOBS", "jobs", "d"), ("FINISHED", "finished", "d"), ("REJECTED", "rejected", "d"), ("MAKESPAN S", "makespan_s", ".0f"),
    ("WAIT S", "mean_wait_s", ".1f"), ("P50 WAIT S", "p50_wait_s", ".1f"), ("P95 WAIT S", "p95_wait_s", ".1f"),
    ("COMPLETION S", "mean_jct_s", ".1f"), ("SLOWDOWN", "mean_bounded_slowdown", ".2f"), ("P99 SLOWDOWN", "p99_bounded_slowdown", ".1f"),
    ("UTILISATION", "utilisation", ".1%"), ("FAIRNESS", "jain_fairness", ".3f"), ("PREEMPTIONS", "preemptions", "d"),
    ("DECISIONS S", "decision_s", ".2f"), ("JOBS/S", "jobs_per_s", ".0f"),
)  # fmt: skip
# A comparison leaves out what the deciding cost, and tells what the network did.
COMPARED = tuple(
    column for column in COLUMNS if column[1] not in ("jobs", "decision_s", "jobs_per_s", "p50_wait_s", "p99_bounded_slowdown")
)


def show_replay(result: Replay, output: str, trace: Trace) -> None:
    """One row for each policy."""
    if output == "json":
        print(json.dumps(result.document(), indent=2))
        return
    figures = result.figures()
    grid(["POLICY", *(f">{title}" for title, _, _ in COLUMNS)], [
        [name, *(format(values[key], form) for _, key, form in COLUMNS)] for name, values in figures.items()
    ])  # fmt: skip
    _say_dropped(trace)


def show_comparison(result: Comparison, output: str, trace: Trace) -> None:
    """One row for each policy on each network, the base first."""
    if output == "json":
        print(json.dumps(result.document(), indent=2))
        return
    from workloads.resources import format_flops

    base = result.variants[0].network
    titles = [*(title for title, _, _ in COMPARED), f"COST {base.currency}", f"{base.precision.upper()} DELIVERED", "OF RATED"]
    titles += ["OF TARGET"] if base.goal else []
    titles += ["CO2"] if base.declares_carbon else []
    rows = []
    for variant in result.variants:
        for name, values in variant.figures().items():
            last = [f"{values['cost']:,.2f}", format_flops(float(values["flops_delivered"])), f"{values['flops_delivered_share']:.1%}"]
            last += [f"{values['target_share']:.1%}"] if base.goal else []
            last += [_grams(values)] if base.declares_carbon else []
            rows.append([variant.what_if or "as it is", name, *_cells(values), *last])
    grid(["NETWORK", "POLICY", *(f">{title}" for title in titles)], rows)
    for variant in result.variants[1:]:
        for text in variant.network.warnings():
            say(f"warning: {variant.what_if}: {text}")
    _say_dropped(trace)


def _grams(values: Figures) -> str:
    """The CO2 of finished jobs, and how many of them it leaves out."""
    unrated = int(values["carbon_unrated"])
    return format_grams(float(values["carbon_g"])) + (f" ({unrated:,} jobs unrated)" if unrated else "")


def _cells(values: Figures) -> list[str]:
    return [format(values[key], form) for _, key, form in COMPARED]


def _say_dropped(trace: Trace) -> None:
    if trace.dropped:
        say(f"\n{trace.dropped:,} rows of the trace never ran and are left out.")
