"""`python -m tests.benchmarks.placement`: the inflation protocol on a list of pods and on other mixes made from it.

One list is one mix, and a policy that is tuned to it may fail on the next. So the pods of a list are drawn anew in other
proportions: many shares, small shares, many jobs of several devices, many that are bound to a model, few and many that need no
device. Each mix asks for as many devices as the list did. The whole table is printed, losses included.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from scheduler.engine.snapshot import Bools, Ints
from scheduler.simulator.inflation import POLICIES, run_inflation
from scheduler.traces.openb_lists import NodeList, PodList, Request, read_nodes, read_pods

WHOLE = 1000
DRAWN_FROM = 7
# Models that bound pods name, and how often, roughly as in the lists of OpenB with constraints.
BOUND_TO = {
    ("T4",): 36, ("V100M16", "V100M32"): 16, ("G2",): 11, ("P100",): 7, ("P100", "V100M16", "V100M32"): 5,
    ("P100", "T4", "V100M16", "V100M32"): 3, ("G2", "P100", "T4", "V100M16", "V100M32"): 2, ("G3",): 2,
}  # fmt: skip


class Mixes:
    """Other mixes of a list's pods."""

    def __init__(self, nodes: NodeList, pods: PodList) -> None:
        self.nodes, self.pods = nodes, pods
        self.devices, self.milli = (np.array([request[column] for request in pods.requests])[pods.kind] for column in (2, 3))
        self.size = self.devices * self.milli
        self.share = (self.devices == 1) & (self.milli < WHOLE)
        self.one, self.many, self.none = (self.devices == 1) & ~self.share, self.devices > 1, self.devices == 0
        self.chance = np.random.default_rng(DRAWN_FROM)

    def of(self, *parts: tuple[Bools, float]) -> PodList:
        """Pods of each part until they ask for its share of all that was asked for, and those without devices as they were."""
        drawn = [np.flatnonzero(self.none)]
        for rows, share in parts:
            pool, missing = np.flatnonzero(rows), share * float(self.size.sum())
            while missing > 0:
                pod = self.chance.choice(pool)
                missing -= self.size[pod]
                drawn.append(np.array([pod]))
        return PodList(self.pods.requests, self.pods.kind[np.concatenate(drawn)])

    def without_devices(self, share: float) -> PodList:
        """So large a share of pods that need no device."""
        rest = np.flatnonzero(~self.none)
        count = round(len(rest) * share / (1.0 - share))
        drawn = self.chance.choice(np.flatnonzero(self.none), count)
        return PodList(self.pods.requests, self.pods.kind[np.concatenate([rest, drawn])])

    def bound(self, share: float) -> PodList:
        """So large a share of the pods with devices that only certain models may serve."""
        names, often = list(BOUND_TO), np.array(list(BOUND_TO.values()), dtype=np.float64)
        largest = np.array([self._largest(models) for models in names])
        requests: list[Request] = []
        for kind, devices in zip(self.pods.kind.tolist(), self.devices.tolist(), strict=True):
            request = self.pods.requests[kind]
            if devices and self.chance.random() < share:
                able = often * (largest >= devices)
                request = (*request[:4], names[self.chance.choice(len(names), p=able / able.sum())])
            requests.append(request)
        rows = tuple(sorted(set(requests)))
        place = {request: row for row, request in enumerate(rows)}
        return PodList(rows, np.array([place[request] for request in requests]))

    def _largest(self, models: Sequence[str]) -> int:
        """The devices of the largest node of some models."""
        wanted: Ints = self.nodes.devices[np.isin(np.array(self.nodes.models)[self.nodes.model], models)]
        return int(wanted.max(initial=0))

    def all(self) -> Mapping[str, Callable[[], PodList]]:
        """Every mix by its name."""
        share, one, many = self.share, self.one, self.many
        few, small = many & (self.devices <= 4), share & (self.milli < WHOLE // 2)
        return {
            "default": lambda: self.pods,
            "shares 40 %": lambda: self.of((share, 0.4), (one, 0.55), (many, 0.05)),
            "shares 70 %": lambda: self.of((share, 0.7), (one, 0.25), (many, 0.05)),
            "shares 100 %": lambda: self.of((share, 1.0)),
            "small shares 50 %": lambda: self.of((small, 0.5), (share, 0.1), (one, 0.35), (many, 0.05)),
            "2-8 devices 20 %": lambda: self.of((many, 0.2), (one, 0.55), (share, 0.25)),
            "2-8 devices 50 %": lambda: self.of((many, 0.5), (one, 0.35), (share, 0.15)),
            "2-4 devices 30 %": lambda: self.of((few, 0.3), (many, 0.1), (one, 0.4), (share, 0.2)),
            "bound 10 %": lambda: self.bound(0.10),
            "bound 33 %": lambda: self.bound(0.33),
            "no device 0 %": lambda: self.without_devices(0.0),
            "no device 25 %": lambda: self.without_devices(0.25),
            "no device 30 %": lambda: self.without_devices(0.30),
            "no device 40 %": lambda: self.without_devices(0.40),
        }


def main(arguments: Sequence[str]) -> None:
    """Print the allocation of each policy at 100 % on each mix, and by how much `cpn` is ahead of the best other."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.placement", description="Measure; no figure is judged.")
    parser.add_argument("--nodes", type=Path, required=True)
    parser.add_argument("--pods", type=Path, required=True)
    parser.add_argument("--policies", default="bestfit,fgd,cpn", help=f"of {', '.join(POLICIES)}")
    parser.add_argument("--seeds", default="42,43,44")
    parser.add_argument("--tune", type=float, default=1.3)
    parser.add_argument("--window", type=int, default=1, help="how many queued pods cpn sees")
    parser.add_argument("-o", choices=("text", "json"), default="text", help="how to write the result")
    options = parser.parse_args(arguments)
    nodes = read_nodes(options.nodes)
    mixes = Mixes(nodes, read_pods(options.pods, int(nodes.devices.max()))).all()
    names, seeds = options.policies.split(","), [int(seed) for seed in options.seeds.split(",")]
    found = {}
    for name, mix in mixes.items():
        figures = run_inflation(nodes, mix(), names, seeds, tune=options.tune, window=options.window, say=lambda _: None)["policies"]
        found[name] = {policy: figures[policy]["allocation_at_100"] for policy in names}
        others = [value for policy, value in found[name].items() if policy != "cpn"]
        ahead = f"{found[name]['cpn'] - max(others):+7.2f}" if others and "cpn" in names else ""
        if options.o == "text":
            print(f"{name:18}", *(f"{policy} {found[name][policy]:6.2f} " for policy in names), ahead, flush=True)
    if options.o == "json":
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
