"""Pictures of a replay: how long jobs waited, how much they were slowed down, and how much of the machines was used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scheduler.engine.snapshot import Floats
from scheduler.simulator.outcome import Outcome, slowdowns
from scheduler.simulator.simulate import Replay
from scheduler.simulator.world import World

HOUR_S = 3600.0
POINTS = 400


def draw(replays: Mapping[str, Replay], file: Path) -> None:
    """Write a picture with three panels; its kind is told by the name of the file. `replays` are by what stands behind a policy's name."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    waits, slows, use = figure.subplots(1, 3)
    for title, replay, name in [(title, one, name) for title, one in replays.items() for name in one.outcomes]:
        world, outcome, label = replay.worlds[name], replay.outcomes[name], f"{name} {title}".strip()
        done = outcome.end_s >= 0
        wait_s = outcome.end_s[done] - world.trace.submit_s[done] - outcome.ran_s[done]
        _shares(waits, np.maximum(wait_s, 0.0) / HOUR_S, label)
        _shares(slows, slowdowns(world, outcome), label)
        times_s, busy = used(world, outcome)
        use.plot(times_s / HOUR_S, busy, label=label, linewidth=1)
    _label(waits, "Waiting", "hours", "share of jobs", scale="symlog")
    _label(slows, "Bounded slowdown", "times its own length", "share of jobs", scale="log")
    _label(use, "Use", "hours", "share of the machines", scale="linear")
    use.set_ylim(0, 1.02)
    figure.savefig(file)


def used(world: World, outcome: Outcome) -> tuple[Floats, Floats]:
    """Times, and the share of the machines in use on average between each and the next, from first starts and ends.

    A job that was stopped counts as if its running time were spread evenly over the time between.
    """
    done = outcome.end_s >= 0
    begin, end, size = outcome.start_s[done], outcome.end_s[done], world.size[done]
    load = size * outcome.ran_s[done] / np.maximum(end - begin, 1e-9)
    edges = np.linspace(0.0, float(end.max(initial=1.0)), POINTS + 1)
    work = sum(_until(edges, at, sign * load) for at, sign in ((begin, 1.0), (end, -1.0)))
    share: Floats = np.diff(np.asarray(work)) / np.diff(edges) / world.capacity
    return edges[:-1], share


def _until(edges: Floats, at: Floats, load: Floats) -> Floats:
    """[E] The sum of load x (edge - at) over all that begins before each edge."""
    order = np.argsort(at)
    before = np.searchsorted(at[order], edges)
    loads, moments = (np.concatenate([[0.0], np.cumsum(values)]) for values in (load[order], (load * at)[order]))
    total: Floats = edges * loads[before] - moments[before]
    return total


def _shares(axis: Any, values: Floats, name: str) -> None:
    """The part of jobs with at most each value."""
    ordered = np.sort(values)
    axis.plot(ordered, np.arange(1, len(ordered) + 1) / max(len(ordered), 1), label=name, linewidth=1.5, drawstyle="steps-post")


def _label(axis: Any, title: str, across: str, up: str, *, scale: str) -> None:
    axis.set_title(title)
    axis.set_xlabel(across)
    axis.set_ylabel(up)
    axis.set_xscale(scale)
    axis.grid(visible=True, alpha=0.3)
    axis.legend(fontsize="small")
