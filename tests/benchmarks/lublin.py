"""Logs of rigid parallel jobs by the model of Lublin and Feitelson (JPDC 63(11), 2003), with its published parameters.

Sizes: serial, a power of two, or anything, by a logarithm that is uniform in two stages. Run times: the logarithm is drawn from
two gamma distributions, the more often from the longer one the larger the job. Arrivals: logarithms of gaps are gamma
distributed, and stretched by a daily cycle of half hours. Two logs are made of it: `typeless` by the parameters for all
jobs together, `typed` by those for batch and for interactive jobs, each with its own stream of arrivals. Largest sizes and the
middle of the stages are set for 256 processors, as the authors ask for (the middle 1.5 to 3.5 below the largest).

Run as a module it writes a log: python -m tests.benchmarks.lublin typed --seed 1 > log.swf
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import gammainc

from scheduler.engine.snapshot import Floats, Ints

JOBS = 10_240
SLOTS, SLOT_S = 48, 1800.0
LONGEST_LOG, LONGEST_GAP_LOG = 12.0, 13.0
# The day that the cycle is fitted to begins so many slots after midnight.
FIRST_SLOT = 11


@dataclass(frozen=True)
class Model:
    """Parameters by the paper's names: sizes, run times, gaps (`aarr` with its ratio to the rush hours), and the daily cycle."""

    serial: float
    power_of_two: float
    low: float
    middle: float
    high: float
    first_stage: float
    a1: float
    b1: float
    a2: float
    b2: float
    pa: float
    pb: float
    aarr: float
    barr: float
    anum: float
    bnum: float


ALL = Model(0.244, 0.576, 0.8, 5.5, 8.0, 0.86, 4.2, 0.94, 312.0, 0.03, -0.0054, 0.78, 10.2303 * 1.0225, 0.4871, 8.1737, 3.9631)
BATCH = Model(
    0.2927, 0.6686, 1.2, 5.5, 8.0, 0.875, 6.57, 0.823, 639.1, 0.0156, -0.003, 0.6986, 6.0415 * 1.0519, 0.8531, 6.1271, 5.2740
)  # fmt: skip
INTERACTIVE = Model(
    0.1541, 0.625, 1.0, 5.5, 8.0, 0.705, 3.8351, 0.6605, 7.073, 0.6856, -0.0118, 0.9156, 6.5510 * 0.9797, 0.6621, 8.9186, 3.6680
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Log:
    """Jobs [J] by arrival: whole seconds, seconds, processors."""

    submit_s: Floats
    run_s: Floats
    size: Ints

    def swf(self) -> str:
        """The log in the Standard Workload Format, without requested times."""
        rows = zip(self.submit_s.tolist(), self.run_s.tolist(), self.size.tolist(), strict=True)
        unknown = " -1" * 5
        lines = [
            f"{number} {submit:.0f} -1 {run:.0f} {size}{unknown} 1{unknown} -1 -1"
            for number, (submit, run, size) in enumerate(rows, start=1)
        ]
        return "\n".join(["; Version: 2", "; MaxNodes: 256", *lines, ""])


def typeless(seed: int, jobs: int = JOBS, *, load: float = 1.25) -> Log:
    """A log by the parameters for all jobs; gaps are divided by `load`, because the model's own stream leaves machines idle."""
    log = _stream(ALL, jobs, np.random.default_rng(seed))
    return replace(log, submit_s=np.floor(log.submit_s / load))


def typed(seed: int, jobs: int = JOBS) -> Log:
    """A log of batch and interactive jobs together."""
    random = np.random.default_rng(seed)
    parts = [_stream(model, jobs, random) for model in (BATCH, INTERACTIVE)]
    submit_s, run_s = (np.concatenate([getattr(part, name) for part in parts]) for name in ("submit_s", "run_s"))
    size = np.concatenate([part.size for part in parts])
    order = np.argsort(submit_s, kind="stable")[:jobs]
    return Log(submit_s[order], run_s[order], size[order])


def _stream(model: Model, jobs: int, random: np.random.Generator) -> Log:
    """Jobs of one kind. Those that would run for less than a second run for one."""
    size = _sizes(model, jobs, random)
    return Log(_arrivals(model, jobs, random), np.maximum(np.floor(np.exp(_lengths(model, size, random))), 1.0), size)


def _sizes(model: Model, jobs: int, random: np.random.Generator) -> Ints:
    kind, first = random.random(jobs), random.random(jobs) <= model.first_stage
    log2 = np.where(first, random.uniform(model.low, model.middle, jobs), random.uniform(model.middle, model.high, jobs))
    log2 = np.where(kind <= model.serial + model.power_of_two, np.floor(log2 + 0.5), log2)
    size: Ints = np.where(kind <= model.serial, 1, np.floor(2.0**log2 + 0.5)).astype(np.int64)
    return size


def _lengths(model: Model, size: Ints, random: np.random.Generator) -> Floats:
    """[J] Logarithms of run times; too long ones are drawn again."""
    short = np.clip(model.pa * size + model.pb, 0.0, 1.0)
    found, todo = np.zeros(len(size)), np.arange(len(size))
    while len(todo):
        first = random.random(len(todo)) <= short[todo]
        found[todo] = np.where(first, random.gamma(model.a1, model.b1, len(todo)), random.gamma(model.a2, model.b2, len(todo)))
        todo = todo[found[todo] > LONGEST_LOG]
    return found


def _arrivals(model: Model, jobs: int, random: np.random.Generator) -> Floats:
    """[J] Times of arrival. A gap is paid slot by slot, and busy slots take more of it."""
    logs = random.gamma(model.aarr, model.barr, jobs)
    while (late := logs > LONGEST_GAP_LOG).any():
        logs[late] = random.gamma(model.aarr, model.barr, int(late.sum()))
    paid = np.cumsum(np.exp(logs)) / SLOT_S
    cost = _cycle(model)
    # What has been paid by the end of each slot of a day; a whole day costs as many as it has slots.
    by_slot = np.concatenate([[0.0], np.cumsum(cost)])
    day, rest = np.divmod(paid, by_slot[-1])
    return np.floor((day * SLOTS + np.interp(rest, by_slot, np.arange(SLOTS + 1.0))) * SLOT_S)


def _cycle(model: Model) -> Floats:
    """[48] How many arrivals each half hour from midnight has, in units of the mean."""
    slot = np.arange(FIRST_SLOT, SLOTS + FIRST_SLOT)
    edges = [gammainc(model.anum, (slot + half) / model.bnum) for half in (-0.5, 0.5)]
    cost = np.zeros(SLOTS)
    cost[(slot - 1) % SLOTS] = edges[1] - edges[0]
    share: Floats = cost / cost.mean()
    return share


LOGS = {"typeless": typeless, "typed": typed}


def main() -> None:
    """Write one log to standard output."""
    parser = argparse.ArgumentParser(description="Write a log of the Lublin-Feitelson model in the Standard Workload Format.")
    parser.add_argument("log", choices=sorted(LOGS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=JOBS)
    asked = parser.parse_args()
    print(LOGS[asked.log](asked.seed, asked.jobs).swf(), end="")


if __name__ == "__main__":
    main()
