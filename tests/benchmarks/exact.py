"""The best plan of a small world, found by an integer program (HiGHS) and not by rules: what `place` is compared with.

Three questions are put to it, from what `place` promises to what nobody does:
- *seats*: jobs in the order of their turns, each at the cheapest cluster at which it can still run beside all before it. This is
  what `place` promises; only which nodes take the workers is free.
- *order*: jobs in the order of their turns, at whatever cluster lets most of them run: one job more is worth more than all after it.
- *room*: whatever fills the most of the world, in no order. Nothing that respects turns can promise this.

A job runs whole at one cluster or not at all, on nodes that its rights, labels and models permit. Worlds have one queue, so the
order of turns does not depend on who was placed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from scheduler.engine.filters import CLUSTER_FILTERS, LASTING_NODE_FILTERS, first_reasons
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import MEMORY, Bools, Floats, Ints, Snapshot
from tests.builders import GIB

# The status of a program without any answer, and what rounding may cost a sum.
INFEASIBLE, CLOSE = 2, 1e-6


@dataclass(frozen=True, eq=False)
class Program:
    """Jobs in the order of their turns as rows of an integer program.

    Columns are first `x[J, C]`, whether a job runs at a cluster, then `y[J, N]`, how many of its workers a node takes.
    """

    snapshot: Snapshot
    turns: Ints
    permitted: Bools
    rows: LinearConstraint
    most: Floats

    @property
    def jobs(self) -> int:
        """How many jobs there are."""
        return len(self.turns)

    @property
    def clusters(self) -> int:
        """How many clusters there are."""
        return len(self.snapshot.clusters.names)

    def best(self, worth: Floats, fixed: Floats | None = None) -> Ints | None:
        """[J] The cluster of each job (-1: none), by turns, where the worth `worth[J]` of those that run is greatest.

        `fixed[J, C]` are the least x; None when not all of these can run together.
        """
        least = np.zeros(len(self.most))
        if fixed is not None:
            least[: fixed.size] = fixed.reshape(-1)
        aim = np.zeros(len(self.most))
        aim[: self.jobs * self.clusters] = -np.repeat(worth, self.clusters)
        found = milp(
            aim, constraints=self.rows, integrality=np.ones(len(aim)), bounds=Bounds(least, self.most), options={"mip_rel_gap": 0.0}
        )
        if found.status == INFEASIBLE:
            return None
        if found.x is None:
            raise ArithmeticError(f"the solver gave up: {found.message}")
        whole = np.rint(found.x)
        sums = self.rows.A @ whole
        if not ((sums >= self.rows.lb - CLOSE) & (sums <= self.rows.ub + CLOSE)).all():
            raise ArithmeticError("the solver's answer does not fit")
        runs = whole[: self.jobs * self.clusters].reshape(self.jobs, self.clusters)
        return np.where(runs.any(axis=1), runs.argmax(axis=1), -1).astype(np.int64)


def program_of(snapshot: Snapshot) -> Program:
    """The program of a world with one queue."""
    jobs = snapshot.jobs
    turns = np.array(sorted(range(len(jobs.ids)), key=lambda job: (-jobs.rank[job], jobs.sequence[job], jobs.ids[job])), dtype=np.int64)
    shape = len(turns), len(snapshot.clusters.names), len(snapshot.nodes.names)
    home = snapshot.nodes.cluster
    permitted = np.array([first_reasons(CLUSTER_FILTERS, snapshot, job) == Reason.FITS for job in turns]).reshape(shape[:2])
    usable = np.array([first_reasons(LASTING_NODE_FILTERS, snapshot, job) == Reason.FITS for job in turns]).reshape(shape[0], shape[2])
    workers = jobs.workers[turns]
    most = np.concatenate([permitted.reshape(-1), (workers[:, None] * (usable & permitted[:, home])).reshape(-1)])
    return Program(snapshot, turns, permitted, _rows(snapshot, turns), most.astype(np.float64))


def _rows(snapshot: Snapshot, turns: Ints) -> LinearConstraint:
    """At most one cluster for each job, all workers at the one that it runs at, and no node over what is free."""
    jobs, clusters, nodes = len(turns), len(snapshot.clusters.names), len(snapshot.nodes.names)
    home, request = snapshot.nodes.cluster, snapshot.jobs.request[turns]
    # Cores, GiB and devices are whole numbers in most worlds, and of one size: bytes would be beyond the solver's precision.
    scale = np.where(np.arange(request.shape[1]) == MEMORY, float(GIB), 1.0)
    once = np.hstack([np.kron(np.eye(jobs), np.ones((1, clusters))), np.zeros((jobs, jobs * nodes))])
    there = (home == np.arange(clusters)[:, None]).astype(np.float64)
    whole = np.hstack([-np.kron(np.diag(snapshot.jobs.workers[turns].astype(np.float64)), np.eye(clusters)), np.kron(np.eye(jobs), there)])
    held = [np.kron(request[:, column] / scale[column], np.eye(nodes)) for column in range(request.shape[1])]
    full = np.hstack([np.zeros((len(held) * nodes, jobs * clusters)), np.vstack(held)])
    free = (snapshot.nodes.free / scale).T.reshape(-1)
    low = np.concatenate([np.zeros(jobs), np.zeros(jobs * clusters), np.full(len(free), -np.inf)])
    high = np.concatenate([np.ones(jobs), np.zeros(jobs * clusters), free + 1e-9])
    return LinearConstraint(np.vstack([once, whole, full]), low, high)


def by_seats(program: Program) -> Ints:
    """[J] Each job in turn at the cheapest cluster, the first of equal ones, at which it can run beside all before it; -1 for none."""
    fixed, found = np.zeros((program.jobs, program.clusters)), np.full(program.jobs, -1, dtype=np.int64)
    for turn, job in enumerate(program.turns.tolist()):
        names = program.snapshot.clusters.names
        cheapest = sorted(range(program.clusters), key=lambda row, job=job: (program.snapshot.jobs.cost[job, row], names[row]))
        for cluster in cheapest:
            if not program.permitted[turn, cluster]:
                continue
            fixed[turn, cluster] = 1.0
            if program.best(np.zeros(program.jobs), fixed) is not None:
                found[turn] = cluster
                break
            fixed[turn, cluster] = 0.0
    return found


def by_order(program: Program) -> Ints:
    """[J] As many jobs as can run, those whose turn is earlier before all later ones."""
    found = program.best(before_all_later(program.jobs))
    assert found is not None, "nothing at all is always possible"
    return found


def by_room(program: Program, share: Floats) -> Ints:
    """[J] The jobs that fill the most, `share[J]` each."""
    # Whole numbers keep the solver exact.
    found = program.best(np.rint(share * 1e6))
    assert found is not None, "nothing at all is always possible"
    return found


def before_all_later(jobs: int) -> Floats:
    """[J] Worths by turns: each job's is more than that of all later ones together."""
    worth: Floats = 2.0 ** np.arange(jobs - 1, -1, -1)
    return worth
