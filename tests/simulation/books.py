"""What must be true after every commit, whatever happens, and what must be true when all has come to rest.

The books are kept apart from the code that they check: they read the file as any other program could, with SQL of
their own, and remember what they have seen, so that nothing that was final or settled may change afterwards.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

from cluster.model import Node

ACTIVE = ("placed", "starting", "running")
FINAL = ("succeeded", "failed", "cancelled")
ROUNDING = 1e-9


class Books:
    """Audits of one database file; `nodes[cluster, node]` is what there is."""

    def __init__(self, path: Path, nodes: Mapping[tuple[str, str], Node]) -> None:
        self._conn = sqlite3.connect(path, isolation_level=None)
        self._nodes = nodes
        self.acknowledged: set[str] = set()
        self.audits = 0
        self._final: dict[str, tuple[str, str]] = {}
        self._receipts: dict[str, tuple[str, str]] = {}
        self._generations: dict[str, int] = {}

    def close(self) -> None:
        """Close the file."""
        self._conn.close()

    def audit(self) -> None:
        """What must be true after every commit. Raises AssertionError."""
        self.audits += 1
        self._conn.execute("BEGIN")
        try:
            states = self._jobs()
            self._one_current_run(states)
            self._nothing_twice_booked()
            self._gangs_keep_their_bounds()
            self._receipts_stay()
        finally:
            self._conn.execute("COMMIT")

    def _jobs(self) -> dict[str, tuple[str, str | None]]:
        """(state, run) of each job: none is lost, and what is final stays."""
        rows = {job: (state, run) for job, state, run in self._conn.execute("SELECT id, state, run_id FROM jobs")}
        assert self.acknowledged <= rows.keys(), f"acknowledged and gone: {sorted(self.acknowledged - rows.keys())}"
        for job, seen in self._final.items():
            assert rows[job] == seen, f"{job} was final as {seen} and is {rows[job]}"
        self._final.update({job: row for job, row in rows.items() if row[0] in FINAL})
        return rows

    def _one_current_run(self, states: Mapping[str, tuple[str, str | None]]) -> None:
        current: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for run, job, state in self._conn.execute(f"SELECT id, job_id, state FROM runs WHERE state IN {ACTIVE}"):
            current[job].append((state, run))
        for job, (state, run) in states.items():
            expected = [(state, run)] if state in ACTIVE else []
            assert current[job] == expected, f"{job} is {state} with run {run}, its current runs are {current[job]}"

    def _nothing_twice_booked(self) -> None:
        held: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for cluster, nodes, amounts in self._conn.execute(f"SELECT cluster, nodes, held FROM runs WHERE state IN {ACTIVE}"):
            amount = json.loads(amounts)
            for node in json.loads(nodes):
                held[cluster, node]["cpu"] += amount["cpu"]
                held[cluster, node]["memory"] += amount["memory_bytes"]
        for place, sums in held.items():
            node = self._nodes[place]
            assert sums["cpu"] <= node.cpu + ROUNDING, f"{place}: {sums['cpu']} of {node.cpu} cores are booked"
            assert sums["memory"] <= node.memory_bytes, f"{place}: {sums['memory']} of {node.memory_bytes} bytes are booked"

    def _gangs_keep_their_bounds(self) -> None:
        query = f"SELECT id, nodes, elastic FROM runs WHERE state IN {ACTIVE} AND elastic IS NOT NULL"
        for run, nodes, text in self._conn.execute(query):
            size, count = json.loads(text), len(json.loads(nodes))
            pending = size["pending"]["workers"] if size["pending"] else count
            assert size["least"] <= min(size["workers"], pending), f"{run} has fewer workers than it needs: {size}"
            assert count == max(size["workers"], pending), f"{run} holds {count} nodes: {size}"
            seen = self._generations.setdefault(run, size["generation"])
            assert seen <= size["generation"], f"{run} went back from change {seen} to {size['generation']}"
            self._generations[run] = size["generation"]

    def resizes(self) -> list[tuple[str, str]]:
        """(job, message) of every change of size that was ordered or is over, in order of time."""
        query = "SELECT job_id, message FROM events WHERE cause IN ('resizing', 'resized') ORDER BY sequence"
        return [(row[0], row[1]) for row in self._conn.execute(query)]

    def _receipts_stay(self) -> None:
        rows = {job: (run, text) for job, run, text in self._conn.execute("SELECT job_id, run_id, receipt FROM receipts")}
        for job, seen in self._receipts.items():
            assert rows.get(job) == seen, f"the receipt of {job} has changed"
        self._receipts = rows

    # --- at rest ---

    def open_jobs(self) -> list[tuple[str, str, str]]:
        """(job, state, blocker or cause) of jobs that are not final."""
        query = f"SELECT id, state, CASE blocker WHEN '' THEN cause ELSE blocker END FROM jobs WHERE state NOT IN {FINAL}"
        return [(row[0], row[1], row[2]) for row in self._conn.execute(query)]

    def open_instructions(self) -> int:
        """How many instructions no agent has acknowledged."""
        return int(self._conn.execute("SELECT count(*) FROM outbox WHERE acknowledged_at IS NULL").fetchone()[0])

    def ends(self) -> dict[str, str]:
        """The state of each job."""
        return dict(self._conn.execute("SELECT id, state FROM jobs ORDER BY id"))

    def succeeded_runs(self) -> list[str]:
        """The runs whose results count."""
        return [row[0] for row in self._conn.execute("SELECT id FROM runs WHERE state = 'succeeded' ORDER BY id")]

    def story(self) -> list[tuple[str, str, str, str]]:
        """Every move of every job: (job, run, state, cause)."""
        query = "SELECT job_id, coalesce(run_id, ''), finish, cause FROM events ORDER BY sequence"
        return [(row[0], row[1], row[2], row[3]) for row in self._conn.execute(query)]

    def evictions(self) -> list[tuple[str, str]]:
        """(beneficiary, victim) of all runs that were ended to make room, in order of time."""
        query = "SELECT beneficiary, job_id FROM evictions WHERE beneficiary IS NOT NULL ORDER BY at, run_id"
        return [(row[0], row[1]) for row in self._conn.execute(query)]

    def attempts(self) -> dict[str, tuple[int, int]]:
        """(attempts, those of them that do not count) of each job."""
        return {row[0]: (row[1], row[2]) for row in self._conn.execute("SELECT id, attempts, spared FROM jobs ORDER BY id")}

    def check_settled(self) -> None:
        """What must be true when all jobs are final. Raises AssertionError."""
        self.audit()
        assert not self.open_jobs(), f"not final: {self.open_jobs()}"
        self._stories_hang_together()
        receipts = {job: run for job, (run, _) in self._receipts.items()}
        for job, (state, run) in self._final.items():
            if state == "succeeded":
                assert receipts.get(job) == run, f"{job} succeeded in {run} and was charged for {receipts.get(job)}"
        succeeded = Counter(job for job, _, state, _ in self.story() if state == "succeeded")
        assert not [job for job, count in succeeded.items() if count != 1], f"settled more than once: {succeeded}"

    def _stories_hang_together(self) -> None:
        where: dict[str, str] = {}
        for job, start, finish in self._conn.execute("SELECT job_id, start, finish FROM events ORDER BY sequence"):
            assert where.get(job, "") == start, f"{job} was {where.get(job)} and moved from {start} to {finish}"
            where[job] = finish
        assert where == self.ends()
