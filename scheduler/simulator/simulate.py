"""`cpn simulate`: replay a trace on machines under several policies, and compare what comes of it.

Decisions are made by the engine; the simulator brings the clock, the arrivals and the ends. Nothing here is random, so two runs
give the same figures, but for the seconds that they took.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scheduler.errors import TraceError
from scheduler.simulator.live import Live
from scheduler.simulator.outcome import Outcome, figures
from scheduler.simulator.policies import POLICIES, Dealt, Decided, policy_for
from scheduler.simulator.queueing import Queueing
from scheduler.simulator.rounds import Rounds
from scheduler.simulator.world import World, build_world
from scheduler.store.records import QueueRecord
from scheduler.traces.gavel import read_gavel
from scheduler.traces.machines import Machines, read_machines
from scheduler.traces.openb import read_openb
from scheduler.traces.philly import read_philly
from scheduler.traces.swf import read_swf
from scheduler.traces.trace import Builder, Trace

READERS: dict[str, Callable[[Path], Trace]] = {"openb": read_openb, "philly": read_philly, "gavel": read_gavel, "swf": read_swf}
BACKFILLS = ("none", "easy", "conservative")
# Jobs ended, of so many, under a policy.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Replay:
    """One trace on one set of machines, and what came of it under each policy. Worlds differ in who sat where."""

    worlds: dict[str, World]
    outcomes: dict[str, Outcome]

    def figures(self) -> dict[str, dict[str, float | int]]:
        """The figures of each policy."""
        return {name: figures(self.worlds[name], outcome) for name, outcome in self.outcomes.items()}

    def document(self) -> dict[str, object]:
        """What `cpn simulate -o json` prints."""
        return {"policies": self.figures()}


def read_trace(path: Path, kind: str, throughputs: Path | None = None) -> Trace:
    """The jobs of a trace in one of the formats; a TraceError says what is wrong with it."""
    if not path.is_file():
        raise TraceError("there is no such file", file=str(path))
    return read_gavel(path, throughputs) if kind == "gavel" else READERS[kind](path)


def replay(
    trace: Trace, cluster: str, policies: Sequence[str], *, backfill: str = "none", progress: Progress = lambda _name, _done, _all: None
) -> Replay:
    """Run a trace on the machines that `cluster` stands for, once for each policy."""
    if not len(trace):
        raise TraceError("has no job that ran", file="trace")
    return replay_on(trace, read_machines(cluster), policies, backfill=backfill, progress=progress)


def replay_on(
    trace: Trace, machines: Machines, policies: Sequence[str], *, backfill: str = "none", queues: Sequence[QueueRecord] = (),
    progress: Progress = lambda _name, _done, _all: None,
) -> Replay:  # fmt: skip
    """The same on machines; `queues` count for policies that know queues."""
    _compile(policies, backfill)
    worlds: dict[str, World] = {}
    outcomes: dict[str, Outcome] = {}
    for name in policies:
        # Seats are written while jobs run, so each policy has a world of its own.
        worlds[name] = build_world(trace, machines)
        outcomes[name] = simulate(
            worlds[name], name, backfill, lambda done, name=name: progress(name, done, len(trace)), queues  # type: ignore[misc]
        )  # fmt: skip
    return Replay(worlds, outcomes)


def simulate(
    world: World, name: str, backfill: str = "none", progress: Callable[[int], None] = lambda _done: None,
    queues: Sequence[QueueRecord] = (),
) -> Outcome:  # fmt: skip
    """Run the jobs of a world, made for this, under one policy."""
    policy = policy_for(name, mixed=world.is_mixed)
    if isinstance(policy, Decided):
        return Live(world, queues, backfill).run(progress)
    if isinstance(policy, Dealt):
        return Rounds(world, policy).run(progress)
    return Queueing(world, policy, backfill).run(progress)


def _compile(policies: Sequence[str], backfill: str) -> None:
    """Run three jobs first, one of which waits and one passes it, so that no figure holds the seconds of a compiler."""
    jobs = Builder()
    for size, length_s in ((1, 20.0), (2, 20.0), (1, 10.0)):
        jobs.add(0.0, length_s, workers=size, cpu_milli=1000)
    trace = jobs.trace()
    for name in policies:
        simulate(build_world(trace, read_machines("procs=2")), name, backfill)


__all__ = ["BACKFILLS", "POLICIES", "READERS", "Replay", "read_trace", "replay", "replay_on", "simulate"]
