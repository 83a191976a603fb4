"""Comparisons: one trace on a network, and on the same network after each of some what-ifs, under each of some policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scheduler.errors import TraceError
from scheduler.simulator.delivered import delivered
from scheduler.simulator.networks import Network, machines_of
from scheduler.simulator.simulate import Progress, Replay, replay_on
from scheduler.simulator.what_if import changed, parse_what_if
from scheduler.traces.trace import Trace

Figures = dict[str, float | int]


@dataclass(frozen=True, eq=False)
class Variant:
    """A network and what came of the trace on it; `what_if` is empty for the base."""

    what_if: str
    network: Network
    replay: Replay

    def figures(self) -> dict[str, Figures]:
        """The figures of each policy, cost and FLOPS among them."""
        plain = self.replay.figures()
        return {
            name: {**plain[name], **delivered(self.network, self.replay.worlds[name], outcome)}
            for name, outcome in self.replay.outcomes.items()
        }

    def described(self) -> dict[str, object]:
        """The network in numbers."""
        groups, network = self.network.groups, self.network
        return {
            "nodes": sum(group.count for group in groups), "devices": sum(group.count * group.devices for group in groups),
            "flops_rated": network.flops(), "precision": network.precision, "currency": network.currency,
            "target_flops": network.goal.flops if network.goal else None, "warnings": list(network.warnings()),
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Comparison:
    """The base first, then the what-ifs in the order in which they were given."""

    variants: tuple[Variant, ...]

    def document(self) -> dict[str, object]:
        """What `cpn simulate --network … -o json` prints: the base as without a network, and each what-if with its differences."""
        base = self.variants[0]
        own, found = base.figures(), []
        for variant in self.variants[1:]:
            figures = variant.figures()
            differences = {name: {key: figures[name][key] - own[name][key] for key in own[name]} for name in own}
            found.append({"what_if": variant.what_if, "network": variant.described(), "policies": figures, "difference": differences})
        return {"policies": own, "network": base.described(), "what_ifs": found}


def compare(
    trace: Trace, network: Network, what_ifs: Sequence[str], policies: Sequence[str], *, backfill: str = "none",
    progress: Progress = lambda _name, _done, _all: None,
) -> Comparison:  # fmt: skip
    """Run a trace on a network and on each what-if. Raises TraceError before anything runs, if one of them cannot be."""
    if not len(trace):
        raise TraceError("has no job that ran", file="trace")
    networks = [("", network), *((text, changed(network, parse_what_if(text), text)) for text in what_ifs)]

    def named(text: str) -> Progress:
        return lambda name, done, total: progress(f"{name} {text}".strip(), done, total)

    return Comparison(tuple(
        Variant(text, one, replay_on(trace, machines_of(one), policies, backfill=backfill, queues=one.queues, progress=named(text)))
        for text, one in networks
    ))  # fmt: skip
