"""What happens in a simulation, drawn from a seed before it begins: jobs that come, faults that last, hands that act."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from cluster.backends.memory import Behaviour, Script
from cluster.model import Node
from workloads.resources import WorkerRange
from workloads.spec import JobSpec

GIB = 1024**3
LASTS_S = 150.0
MEMBERS: dict[str, tuple[str, tuple[Node, ...]]] = {
    "sh": ("CN-SH", tuple(Node(name=name, cpu=4, memory_bytes=16 * GIB) for name in ("n1", "n2"))),
    "gz": ("CN-GZ", (Node(name="n1", cpu=4, memory_bytes=8 * GIB),)),
    "bj": ("CN-BJ", tuple(Node(name=name, cpu=2, memory_bytes=8 * GIB) for name in ("n1", "n2", "n3"))),
}

# What cuts agents off without ending anything: then no attempt of a job may run while an earlier one still does.
SEPARATIONS = ("cut", "storm", "server killed", "server dies before a commit", "server dies after a commit")
DEATHS = ("agent killed", "agent doubled", "cluster dead", "cluster forgets")
HANDS = ("cancel", "drain", "cordon")


@dataclass(frozen=True)
class Happening:
    """Something that begins at `at` and lasts; of jobs it concerns the one with `number`, else the member `where`."""

    at: float
    what: str
    where: str
    lasts_s: float
    number: int

    def __str__(self) -> str:
        return f"{self.what} ({self.where}, {self.lasts_s:.0f} s, {self.number})"


@dataclass(frozen=True)
class Arrival:
    """A job and when it is submitted."""

    at: float
    job_id: str
    spec: JobSpec


def happenings(random: Random, kinds: Sequence[str], count: int) -> tuple[Happening, ...]:
    """What goes wrong, in order of time."""
    drawn = [
        Happening(
            random.uniform(0.0, LASTS_S), random.choice(kinds), random.choice(sorted(MEMBERS)), _lasting(random), random.randrange(100)
        )
        for _ in range(count)
    ]
    return tuple(sorted(drawn, key=lambda item: item.at))


def _lasting(random: Random) -> float:
    """Half of all faults are short, the others last about as long as leases and longer."""
    return random.uniform(0.2, 10.0) if random.random() < 0.5 else random.uniform(40.0, 90.0)


def arrivals(random: Random, count: int, *, elastic: bool = False) -> tuple[Arrival, ...]:
    """Jobs, in order of time; among them gangs that are resized, if it is to be `elastic`."""
    times = sorted(random.uniform(0.0, LASTS_S * 0.8) for _ in range(count))
    found = tuple(Arrival(at, f"job-{number:02}", _spec(random, number)) for number, at in enumerate(times))
    return tuple(_resized(random, item) for item in found) if elastic else found


def _resized(random: Random, arrival: Arrival) -> Arrival:
    """Often the same job as a gang of one or more workers; every member has room for the least of them."""
    resources = arrival.spec.resources
    if random.random() < 0.4:
        return arrival
    workers = WorkerRange(min=min(resources.most, 2), max=random.choice([3, 5, 8]))
    return replace(arrival, spec=arrival.spec.model_copy(update={"resources": resources.model_copy(update={"workers": workers})}))


def _spec(random: Random, number: int) -> JobSpec:
    document: dict[str, Any] = {
        "name": f"j{number}", "tenant": "acme", "kind": "command", "command": ["true"], "purpose": "research", "max_runtime": "80s",
        "resources": {"cpu": random.choice([0.5, 1, 1, 2, 2]), "memory": "1GiB", "workers": random.choice([1, 1, 1, 2, 3])},
        "priority": random.choice(["low", "normal", "normal", "high"]),
        "retry": {"attempts": random.choice([1, 3, 8, 8]), "on": random.choice([["infrastructure"], ["infrastructure", "exit"]])},
    }  # fmt: skip
    if random.random() < 0.3:
        # Every member has room for two workers of any size, so no job is impossible.
        document["resources"]["workers"] = min(document["resources"]["workers"], 2)
        document["placement"] = {"jurisdictions": [random.choice(["CN-SH", "CN-GZ", "CN-BJ"])]}
    return JobSpec.model_validate(document)


def behaviour(seed: int, run_id: str) -> Behaviour:
    """What an attempt does: the same whenever and wherever it is started."""
    random = Random(f"{seed}/{run_id}")
    failed = random.random() < 0.15
    lines = tuple(f"{run_id} line {number}\n" for number in range(random.randrange(4)))
    return Behaviour(
        duration_s=random.choice([0.0, 1.0, 5.0, 20.0, 50.0, 100.0]), outcome="failed" if failed else "succeeded",
        exit_code=3 if failed else 0, log=lines, progress=tuple({"loss": 1.0 / step} for step in range(1, random.randrange(1, 4))),
    )  # fmt: skip


# --- words for stories that are told by hand ---


def asking(
    at: float, job_id: str, *, cpu: float = 4, workers: Any = 2, attempts: int = 1, where: tuple[str, ...] = ("sh",),
    priority: str = "normal",
) -> Arrival:  # fmt: skip
    """A job that only the member sh may take, of which it takes the whole unless it asks for less."""
    document = {
        "name": job_id, "tenant": "acme", "kind": "command", "command": ["true"], "purpose": "research", "max_runtime": "10m",
        "resources": {"cpu": cpu, "memory": "1GiB", "workers": workers}, "placement": {"clusters": where}, "retry": {"attempts": attempts},
        "priority": priority,
    }  # fmt: skip
    return Arrival(at, job_id, JobSpec.model_validate(document))


def lasting(**seconds: float) -> Script:
    """Runs of these jobs (with _ for -) last so long, the others no time."""
    return lambda run: Behaviour(duration_s=seconds.get(run.job_id.replace("-", "_"), 0.0))


def on_sh(at: float, what: str, lasts_s: float = 0.0) -> Happening:
    """Something that happens to the member sh, or to the server."""
    return Happening(at, what, "sh", lasts_s, 0)
