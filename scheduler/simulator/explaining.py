"""What it costs to explain a waiting job: a made-up network in a database of its own, full, with as many waiting jobs as one likes.

The database, the cycle and the explanation are those of the server. Sizes are drawn from a seed and belong to nobody; every node is
nearly full, so that jobs wait and less of something, or another place, would start some of them. The figures say what an answer
costs and not how good it is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from cluster.health import Health
from cluster.model import ClusterSpec, Node, NodeAccelerator
from scheduler.bells import Bells
from scheduler.cycle import Cycle
from scheduler.explain import explain
from scheduler.forecast import NO_PROMISES, Kept
from scheduler.freeze import held_by
from scheduler.lifecycle import Cause, State
from scheduler.market import read_market
from scheduler.outlook import Decision
from scheduler.past import Past
from scheduler.proposals import proposals
from scheduler.store import fleet, jobs
from scheduler.store.changes import Changes
from scheduler.store.migrate import migrate
from scheduler.store.records import RunRecord
from scheduler.store.session import Store
from scheduler.waits import StartWaits
from workloads.spec import JobSpec

GIB = 1024**3
HEADS = 4
NOW, AT_ONCE = 1_800_000_000.0, 5000
JURISDICTIONS = ("CN-SH", "CN-GZ", "CN-BJ")
CORES, MEMORY_GIB, DEVICES = 64, 256, 8
Say = Callable[[str], None]


@dataclass(frozen=True)
class Crowd:
    """How many nodes, waiting jobs, clusters and queues there are."""

    nodes: int
    jobs: int
    clusters: int
    queues: int

    def smaller(self, by: int) -> Crowd:
        """A part of it with as many clusters and queues, one node for each cluster at least."""
        return Crowd(max(self.nodes // by, self.clusters), max(self.jobs // by, self.queues), self.clusters, self.queues)


class _Stopped:
    """A clock that stands still."""

    def now(self) -> float:
        return NOW


def run_explain(crowd: Crowd, *, questions: int = 100, seed: int = 1, say: Say = lambda _line: None) -> dict[str, object]:
    """The document of `cpn bench explain`: the given size, and two smaller ones ten times apart for the growth."""
    growth, last = [], dict[str, Any]()
    for part in (crowd.smaller(100), crowd.smaller(10), crowd):
        say(f"{part.nodes:,} nodes, {part.jobs:,} jobs, {part.clusters:,} clusters")
        with tempfile.TemporaryDirectory(prefix="cpn-bench-") as folder:
            last = _measured(part, Path(folder), questions, seed, say)
        growth.append([part.nodes, part.jobs, last["sooner_s"]["p50"], last["explain_s"]["p50"]])
    return {**last, "growth": growth}


def _measured(crowd: Crowd, folder: Path, questions: int, seed: int, say: Say) -> dict[str, Any]:
    random, store = np.random.default_rng(seed), Store(f"sqlite:///{folder / 'cpn.sqlite'}")
    try:
        migrate(store)
        _fill(store, crowd, random)
        cycle = Cycle(store, _Stopped(), Bells(), StartWaits(), per_queue=max(min(1000, crowd.jobs // crowd.queues), 1), heads=HEADS)
        began = perf_counter()
        cycle.run()
        cycle_s, decision = perf_counter() - began, cycle.last
        assert decision is not None
        say(f"  a cycle over {len(decision.frozen.candidates):,} of the jobs took {cycle_s:.1f} s")
        waiting = sorted(decision.waiting)
        asked = [waiting[row] for row in random.choice(len(waiting), min(questions, len(waiting)), replace=False).tolist()]
        whole, parts, found, first_s = _asked(store, decision, asked)
        return {
            "nodes": crowd.nodes, "jobs": crowd.jobs, "clusters": crowd.clusters, "questions": len(asked), "cycle_s": cycle_s,
            "first_s": first_s, "sooner_s": _quantiles(parts), "explain_s": _quantiles(whole), "proposals": found,
        }  # fmt: skip
    finally:
        store.close()


def _asked(store: Store, decision: Decision, ids: list[str]) -> tuple[list[float], list[float], int, float]:
    """Seconds of each whole explanation, of its proposals alone, how many these were, and seconds of the very first question."""
    kept, whole, parts, found = Kept(NO_PROMISES, Past()), list[float](), list[float](), 0
    with store.read() as conn:
        began = perf_counter()
        explain(conn, jobs.get_job(conn, ids[0]), now=NOW, waits={}, decision=decision, kept=kept, per_queue=decision.per_queue)
        first_s = perf_counter() - began
        for job_id in ids:
            began = perf_counter()
            job = jobs.get_job(conn, job_id)
            explain(conn, job, now=NOW, waits={}, decision=decision, kept=kept, per_queue=decision.per_queue)
            whole.append(perf_counter() - began)
            outlook = decision.outlook
            market = read_market(conn, [job.parsed()])
            began = perf_counter()
            found += len(proposals(outlook, outlook.row(job_id), market))
            parts.append(perf_counter() - began)
    return whole, parts, found, first_s


def _quantiles(seconds: list[float]) -> dict[str, float]:
    return {"p50": float(np.median(seconds)), "p99": float(np.quantile(seconds, 0.99))}


def _fill(store: Store, crowd: Crowd, random: np.random.Generator) -> None:
    homes = np.sort(np.arange(crowd.nodes) % crowd.clusters)
    store.write(lambda tx: _members(tx.conn, crowd, homes))
    runs = ((int(homes[node]), f"n{node:06}", share) for node in range(crowd.nodes) for share in random.dirichlet((3, 3, 1))[:2].tolist())
    for number, chunk in enumerate(_chunks(runs)):
        store.write(lambda tx, number=number, chunk=chunk: _run(Changes(tx.conn), number, chunk))  # type: ignore[misc]
    specs = list(_kinds(crowd, random))
    waiting = zip(random.integers(0, len(specs), crowd.jobs).tolist(), random.integers(0, crowd.queues, crowd.jobs).tolist(), strict=True)
    for number, chunk in enumerate(_chunks(waiting)):
        store.write(lambda tx, number=number, chunk=chunk: _wait(Changes(tx.conn), number, chunk, specs))  # type: ignore[misc]


def _chunks(items: Iterator[Any]) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _members(conn: Any, crowd: Crowd, homes: np.ndarray) -> None:
    for queue in range(crowd.queues):
        fleet.add_queue(conn, f"q{queue:03}", 1.0 + queue % 3, None, NOW)
    for cluster in range(crowd.clusters):
        name = f"c{cluster:04}"
        prices = {"cpu_hour": f"0.{40 + cluster % 50} CNY", "memory_gib_hour": "0.02 CNY", "transfer_gib": "0.50 CNY"}
        place = {"backend": "memory", "jurisdiction": JURISDICTIONS[cluster % 3], "labels": {"tier": ("gold", "basic")[cluster % 2]}}
        fleet.add_cluster(conn, ClusterSpec.model_validate({"name": name, "prices": prices, **place}), NOW)
        fleet.update_cluster(conn, name, health=Health.HEALTHY.value, introduced=True)
        nodes = tuple(_node(int(row)) for row in np.flatnonzero(homes == cluster))
        fleet.replace_nodes(conn, name, nodes, NOW)


def _node(row: int) -> Node:
    devices = (NodeAccelerator(model=("H200", "L40S")[row % 2], count=DEVICES),) if row % 4 == 0 else ()
    return Node(name=f"n{row:06}", cpu=CORES, memory_bytes=MEMORY_GIB * GIB, accelerators=devices, labels={})


def _run(changes: Changes, number: int, chunk: list[tuple[int, str, float]]) -> None:
    """Runs that last already, one or two on each node."""
    for row, (cluster, node, share) in enumerate(chunk):
        memory = max(int(share * MEMORY_GIB), 1)
        spec = _spec(name=f"k{row % 40}", resources={"cpu": max(round(share * CORES, 1), 0.1), "memory": f"{memory}GiB"}, max_runtime="6h")
        job_id = f"job-r{number:04}{row:05}"
        changes.add_job(_columns(spec, job_id, State.RUNNING, "q000"))
        changes.add_run(RunRecord(
            id=f"{job_id}-1", job_id=job_id, attempt=1, epoch=1, state=State.RUNNING.value, cause=Cause.STARTED.value,
            cluster=f"c{cluster:04}", nodes=[node], queue=f"q{row % 7 % 10:03}" if row % 7 == 0 else "q000", held=held_by(spec), quote={},
            score=0.0, exit_code=None, message="", preview=None, files=None, usage=None, placed_at=NOW - 60.0 * (row % 300),
            starting_at=None, started_at=NOW - 60.0 * (row % 300), finished_at=None,
        ))  # fmt: skip
    changes.write()


def _wait(changes: Changes, number: int, chunk: list[tuple[int, int]], specs: list[JobSpec]) -> None:
    for row, (kind, queue) in enumerate(chunk):
        changes.add_job(_columns(specs[kind], f"job-w{number:04}{row:05}", State.QUEUED, f"q{queue:03}"))
    changes.write()


def _kinds(crowd: Crowd, random: np.random.Generator) -> Iterator[JobSpec]:
    """Sixty kinds of job that hardly fit: large, or bound to a model, a place, a label or a budget."""
    for number in range(60):
        cores, memory = int(random.choice([24, 32, 48, 60])), int(random.choice([64, 128, 200]))
        resources: dict[str, Any] = {"cpu": cores, "memory": f"{memory}GiB", "workers": int(random.choice([1, 1, 1, 4]))}
        if number % 5 == 0:
            resources["accelerator"] = {"model": ("H200", "L40S")[number % 2], "count": int(random.choice([1, 4, 8]))}
        placement: dict[str, Any] = {"labels": {"tier": "gold"}} if number % 6 == 1 else {}
        if number % 6 == 2:
            placement = {"clusters": [f"c{int(random.integers(0, crowd.clusters)):04}"]}
        more = {"budget": "20.00 CNY"} if number % 6 == 3 else {}
        yield _spec(name=f"k{number}", resources=resources, placement=placement, max_runtime="4h", **more)


def _spec(**fields: Any) -> JobSpec:
    return JobSpec.model_validate({"tenant": "acme", "kind": "command", "command": ["true"], "purpose": "research", **fields})


def _columns(spec: JobSpec, job_id: str, state: State, queue: str) -> dict[str, Any]:
    document = spec.model_dump(mode="json") | {"queue": queue}
    return {
        "id": job_id, "version": 1, "state": state.value, "tenant": spec.tenant, "queue": queue, "rank": spec.rank, "name": spec.name,
        "kind": spec.kind, "spec": document, "submitted_by": "bench", "idempotency_key": None, "idempotency_digest": None, "attempts": 0,
        "run_id": None, "not_before": None, "cause": "admitted", "message": "", "blocker": "", "cancel_requested": False,
        "submitted_at": NOW - 3600.0, "queued_at": NOW - 3600.0,
    }  # fmt: skip
