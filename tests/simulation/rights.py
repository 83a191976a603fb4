"""A market that does not stand still: products and licences come, change and go while jobs are admitted, placed and end.

Store, admission, cycle, reconciliation and audit log are the production code; operators, buyers and the members' agents are drawn
from a seed. What operators do may fall between a decision and its commit, where it counts most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from cluster.health import HealthPolicy
from cluster.model import ClusterSpec, Node
from cluster.protocol import Observation, RunFinished, RunStarted, SyncRequest
from scheduler import acts
from scheduler.admission import cancel, examine
from scheduler.bells import Bells
from scheduler.chain import Act
from scheduler.clock import ManualClock
from scheduler.cycle import Cycle
from scheduler.errors import InvalidError, RefusedError
from scheduler.proof import Proof, Prover
from scheduler.store import access, audit, catalogue, fleet, jobs
from scheduler.store.session import Store, Transaction
from scheduler.waits import StartWaits
from tests.databases import empty_database
from tests.stored_jobs import submit
from workloads.catalogue.licence import Licence
from workloads.catalogue.policy import judge
from workloads.catalogue.product import Product, ProductVersion
from workloads.spec import JobSpec

GIB = 1024**3
NOW = 1_800_000_000.0
PLACES = {"sh": "CN-SH", "gz": "CN-GZ", "us": "US"}
LEVELS = {"sh": 3, "gz": 1, "us": 0}
TENANTS, PURPOSES = ("acme", "globex"), ("research", "marketing", "audit")
JURISDICTIONS: tuple[tuple[str, ...], ...] = ((), (), (), (), ("CN",), ("CN-SH",), ("CN-GZ", "US"), ("US",))
PRICES = {"cpu_hour": "0.40 CNY", "memory_gib_hour": "0.02 CNY", "transfer_gib": "0.50 CNY"}
POLICY = HealthPolicy(suspect_after_s=1e9, lost_after_s=2e9)
PRODUCTS = 5


class Market:
    """Who acts is drawn from `seed`; of products the share `copied` may be copied.

    `between` is called once between each decision and its commit, and may change the market.
    """

    def __init__(self, folder: Path, seed: int, copied: float = 0.8) -> None:
        path = folder / f"market-{seed}.sqlite"
        path.write_bytes(empty_database())
        self.store, self.random, self.clock = Store(f"sqlite:///{path}"), Random(seed), ManualClock(NOW)
        self.bells = Bells()
        self.between: Callable[[], None] = self.operate
        self.copied = copied
        self.cycle = Cycle(self.store, self.clock, self.bells, StartWaits(), timer=self._timer)
        self._marks = self._numbers = 0
        self.store.write(self._furnish)
        for _ in range(40):
            self.grant()

    def close(self) -> None:
        self.store.close()

    def live(self, steps: int) -> None:
        """So many acts of whoever it is."""
        acts_of = [*[self.submit] * 5, self.decide, self.decide, self.operate, self.report, self.cancel_one]
        for _ in range(steps):
            self.random.choice(acts_of)()
            self.clock.advance(self.random.uniform(0.0, 200.0))
        self.decide()

    def proofs(self) -> list[Proof]:
        """One for each product."""
        found = []
        for number in range(PRODUCTS):
            prover = Prover(_name(number))
            with self.store.read() as conn:
                prover.take(audit.all_rows(conn))
                prover.compare(audit.runs_over(conn, prover.product, 0.0, 1e12))
            found.append(prover.proof())
        return found

    # --- buyers ---

    def submit(self) -> None:
        """Somebody wants to read some products, and may be refused."""
        self._numbers += 1
        chosen = self.random.sample(range(PRODUCTS), self.random.choice([0, 1, 1, 2]))
        document: dict[str, Any] = {
            "name": f"j{self._numbers}", "tenant": self.random.choice(TENANTS), "kind": "command", "command": ["true"],
            "purpose": self.random.choice(PURPOSES), "max_runtime": "1h", "inputs": {f"in{one}": f"{_name(one)}@1" for one in chosen},
            "placement": {"jurisdictions": self.random.choice([[], [], [], ["CN"], ["US"]])}, "retry": {"attempts": 3},
        }  # fmt: skip
        spec, now = JobSpec.model_validate(document), self.clock.now()
        try:
            with self.store.read() as conn:
                examine(conn, spec, now)
        except (InvalidError, RefusedError):
            return
        job_id = f"job-{self._numbers:03}"
        self.store.write(lambda tx: submit(tx, self.bells, spec, job_id=job_id, submitted_by="tok-b", key=None, now=now))

    def cancel_one(self) -> None:
        """A buyer withdraws a job."""
        with self.store.read() as conn:
            found = [job.id for job in jobs.waiting(conn, self.clock.now(), 100)]
        if found:
            job_id = self.random.choice(found)
            self.store.write(lambda tx: cancel(tx, self.bells, job_id, self.clock.now(), "tok-b"))

    # --- operators, as the API does it ---

    def operate(self) -> None:
        """One thing changes, or none."""
        self.random.choice([self.grant, self.grant, self.revoke, self.revoke, self.change_terms, lambda: None])()

    def hurry(self) -> None:
        """Several things change at once."""
        for act in (self.grant, self.grant, self.revoke, self.change_terms):
            act()

    def grant(self) -> None:
        self._numbers += 1
        now, ends = self.clock.now(), self.random.choice([None, None, 300.0, 3000.0])
        licence = Licence(
            id=f"lic-{self._numbers:03}", tenant=self.random.choice(TENANTS), product=_name(self.random.randrange(PRODUCTS)),
            purposes=tuple(self.random.sample(PURPOSES, 2)), jurisdictions=self.random.choice(JURISDICTIONS),
            expires_at=None if ends is None else datetime.fromtimestamp(now + ends, UTC), runs=self.random.choice([None, None, None, 1, 3]),
        )  # fmt: skip
        self.store.write(lambda tx: self._granted(tx, licence, now))

    def _granted(self, tx: Transaction, licence: Licence, now: float) -> None:
        catalogue.add_licence(tx.conn, licence, now)
        audit.append(tx.conn, [acts.of_licence(Act.LICENCE_GRANTED, licence, "tok-o", now)])

    def revoke(self) -> None:
        product, now = _name(self.random.randrange(PRODUCTS)), self.clock.now()
        with self.store.read() as conn:
            valid = [licence for licence in catalogue.licences_for(conn, product) if not licence.revoked]
        if valid:
            chosen = self.random.choice(valid)
            self.store.write(lambda tx: self._revoked(tx, product, chosen.id, now))

    def _revoked(self, tx: Transaction, product: str, licence_id: str, now: float) -> None:
        licence = catalogue.revoke_licence(tx.conn, product, licence_id, now)
        audit.append(tx.conn, [acts.of_licence(Act.LICENCE_REVOKED, licence, "tok-o", now)])

    def change_terms(self) -> None:
        product, now = self._terms(self.random.randrange(PRODUCTS)), self.clock.now()

        def work(tx: Transaction) -> None:
            catalogue.replace_product(tx.conn, product)
            audit.append(tx.conn, [acts.of_product(Act.TERMS_CHANGED, product, "tok-o", now)])

        self.store.write(work)

    def _terms(self, number: int) -> Product:
        return Product(
            name=_name(number), owner="o", classification=self.random.choice(["public", "internal", "restricted"]),
            purposes=self.random.choice([(), (), PURPOSES[:2]]), jurisdictions=self.random.choice(JURISDICTIONS),
            security_level=self.random.choice([0, 0, 0, 1, 3]), may_copy=self.random.random() < self.copied,
        )  # fmt: skip

    # --- the network ---

    def decide(self) -> None:
        """One cycle. The runs that it has placed lie within the rights as they are after its commit."""
        before = self._run_ids()
        self._marks = 0
        self.cycle.run()
        with self.store.read() as conn:
            for run in jobs.active_runs(conn):
                if run.id not in before:
                    self._check(conn, run.job_id, run.cluster, run.placed_at)

    def _check(self, conn: Any, job_id: str, cluster: str, now: float) -> None:
        spec = jobs.get_job(conn, job_id).parsed()
        names = {ref.partition("@")[0] for ref in spec.inputs.values()}
        known, grants = catalogue.products_named(conn, names), catalogue.licences_of(conn, [spec.tenant], names)
        # What it uses of a licence was reserved for it, and is not left.
        held = {name: [licence.as_reserved() for licence in grants.get((spec.tenant, name), ())] for name in known}
        inputs = [(product, held[name]) for name, product in known.items()]
        versions = [version for ref, version in catalogue.versions_of(conn, names).items() if ref in spec.inputs.values()]
        refusals = judge(
            spec, inputs, cluster=cluster, jurisdiction=PLACES[cluster], now=now, security_level=LEVELS[cluster], versions=versions
        )  # fmt: skip
        assert refusals == (), job_id

    def report(self) -> None:
        """Agents tell that runs began, ended or broke."""
        with self.store.read() as conn:
            active = jobs.active_runs(conn)
        for run in active:
            if self.random.random() < 0.7:
                at, outcome = self.clock.now(), self.random.choice(["succeeded", "succeeded", "lost", "failed"])
                category = {"lost": "lost", "failed": "infrastructure"}.get(outcome)
                ended = RunFinished.model_validate({"run_id": run.id, "outcome": outcome, "category": category, "at": at})
                events = (RunStarted(run_id=run.id, at=at), ended)
                told = tuple(Observation(epoch=run.epoch, event=event) for event in events)
                self._absorb(run.cluster, SyncRequest(agent_id="agent", reachable=True, observations=told))

    def _absorb(self, cluster: str, report: SyncRequest) -> None:
        from scheduler.reconcile import absorb

        self.store.write(lambda tx: absorb(tx, self.bells, cluster, report, self.clock.now(), POLICY))

    def _run_ids(self) -> set[str]:
        with self.store.read() as conn:
            return {run.id for run in jobs.active_runs(conn)}

    def _timer(self) -> float:
        """The cycle looks at its clock after each step: the third time it has decided, and has not committed."""
        self._marks += 1
        if self._marks == 3:
            self.between()
        return 0.0

    def _furnish(self, tx: Transaction) -> None:
        for tenant in TENANTS:
            access.add_tenant(tx.conn, tenant, NOW)
        fleet.add_queue(tx.conn, "default", 1.0, None, NOW)
        for name, jurisdiction in PLACES.items():
            spec = ClusterSpec.model_validate({
                "name": name, "backend": "memory", "jurisdiction": jurisdiction, "prices": PRICES, "security_level": LEVELS[name],
            })  # fmt: skip
            fleet.add_cluster(tx.conn, spec, NOW)
            nodes = tuple(Node(name=f"n{number}", cpu=16, memory_bytes=64 * GIB) for number in range(2))
            fleet.replace_nodes(tx.conn, name, nodes, NOW)
            told = {"health": "healthy", "introduced": True, "agent_id": "agent", "heard_at": NOW, "reachable_at": NOW}
            fleet.update_cluster(tx.conn, name, **told)
            audit.append(tx.conn, [acts.of_cluster(Act.CLUSTER_REGISTERED, spec, "tok-o", NOW)])
        for entry in self._goods(tx):
            audit.append(tx.conn, [entry])

    def _goods(self, tx: Transaction) -> Iterator[audit.Entry]:
        for number in range(PRODUCTS):
            product = self._terms(number)
            version = ProductVersion.model_validate({
                "product": product.name, "version": 1, "format": "parquet", "size_bytes": 1000, "rows": 10, "sha256": f"{number:064x}",
                "columns": [], "replicas": [{"cluster": self.random.choice(sorted(PLACES)), "uri": f"file:///{number}"}],
            })  # fmt: skip
            catalogue.add_product(tx.conn, product, NOW)
            yield acts.of_product(Act.PRODUCT_PUBLISHED, product, "tok-o", NOW)
            catalogue.add_version(tx.conn, version, NOW)
            yield acts.of_version(Act.VERSION_PUBLISHED, version, "tok-o", NOW)


def _name(number: int) -> str:
    return f"o/p{number}"
