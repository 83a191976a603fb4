"""The policies that a simulation compares, by the names that a person gives.

Some order a queue: a job that starts runs to its end. Others deal out machines anew in rounds, and stop jobs for that.
`cpn` is this project's own: smallest expected area first with restraint where all machines are alike; where they are not,
rounds towards short completion, planned within the least makespan (docs/benchmarks.md has what becomes of it). `cpn-live` is what
the server decides today.
"""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.engine import precedence
from scheduler.engine.precedence import Precedence


@dataclass(frozen=True)
class Ordered:
    """Orders a queue. With `restrained`, by expected lengths, and jobs are held back that would harm those to come."""

    precedence: Precedence
    restrained: bool = False


@dataclass(frozen=True)
class Dealt:
    """Deals out machines in rounds, by the rule of that name in `scheduler.simulator.dealing`."""

    rule: str


@dataclass(frozen=True)
class Decided:
    """The production cycle's own decision, by the queues of the network."""


CPN_MIXED = Dealt("cpn")
POLICIES: dict[str, Ordered | Dealt | Decided] = {
    "fifo": Ordered(precedence.fifo),
    "sjf": Ordered(precedence.sjf),
    "saf": Ordered(precedence.saf),
    "wfp3": Ordered(precedence.wfp3),
    "unicep": Ordered(precedence.unicep),
    "f1": Ordered(precedence.f1),
    "drf": Ordered(precedence.drf),
    "las": Dealt("las"),
    "srtf": Dealt("srtf"),
    "gavel-maxmin": Dealt("gavel-maxmin"),
    "gavel-makespan": Dealt("gavel-makespan"),
    "cpn": Ordered(precedence.saf, restrained=True),
    "cpn-live": Decided(),
}


def policy_for(name: str, *, mixed: bool) -> Ordered | Dealt | Decided:
    """The policy of a name, on machines that are alike or mixed."""
    return CPN_MIXED if mixed and name == "cpn" else POLICIES[name]
