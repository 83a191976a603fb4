"""The tables. Times are seconds since the epoch (UTC), money is text with its currency, specs are JSON as accepted.

Rows that race are guarded: jobs by `version`, runs by `epoch`. Sequences (`jobs.sequence`, `events.sequence`,
`outbox.sequence`) are handed out by the database and give the order of things.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData(naming_convention={
    "ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s",
})  # fmt: skip

# SQLite hands out row ids for INTEGER PRIMARY KEY only.
Sequence = BigInteger().with_variant(Integer, "sqlite")

tenants = Table("tenants", metadata,
    Column("name", String(63), primary_key=True), Column("created_at", Float, nullable=False), Column("result_store", Text),
    Column("keep_results_days", Float), Column("keep_results_bytes", BigInteger))  # fmt: skip

tokens = Table("tokens", metadata,
    Column("id", String(80), primary_key=True), Column("hash", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False), Column("tenant", String(63)), Column("cluster", String(63)),
    Column("created_at", Float, nullable=False), Column("expires_at", Float), Column("revoked_at", Float))  # fmt: skip

queues = Table("queues", metadata,
    Column("name", String(63), primary_key=True), Column("weight", Float, nullable=False),
    Column("max_running", Integer), Column("created_at", Float, nullable=False), Column("parent", String(63)),
    Column("quota", JSON, nullable=False, server_default=text("'{}'")),
    Column("borrow_limit", JSON, nullable=False, server_default=text("'{}'")),
    Column("lend_limit", JSON, nullable=False, server_default=text("'{}'")),
    Column("order", String(16), nullable=False, server_default=text("'best-effort'")), Column("layout", String(8)),
    Column("preemption", String(16)))  # fmt: skip

# health: healthy | suspect | lost. `heard_at` is the last sync, `reachable_at` the last one whose cluster answered.
# resizes: its backend can grow and shrink a gang that runs.
# remote_id: the cluster's own id, as its backend tells it; empty: not known yet. No two members have the same.
# driver: how its agent drives it (cluster.drivers.Driver); none: by actors.
# scaling: nodes that its autoscaler could bring (cluster.scaling.Scaling); wishes: what it is asked for (scheduler.scale_up.Wish).
# links: the last transfers to it by the member they came from, each [bytes, seconds, told at, capped].
# copies: what its caches hold of data from elsewhere, as its agent told last (cluster.replicas.CacheState).
# introduced: the agent has named its runs since it took over, since they were given up, and since the server began.
clusters = Table("clusters", metadata,
    Column("name", String(63), primary_key=True), Column("spec", JSON, nullable=False),
    Column("cordon", String(16), nullable=False), Column("health", String(16), nullable=False),
    Column("detail", Text, nullable=False), Column("agent_id", String(64), nullable=False),
    Column("backend_version", String(64), nullable=False), Column("heard_at", Float), Column("reachable_at", Float),
    Column("created_at", Float, nullable=False), Column("introduced", Boolean, nullable=False, server_default=false()),
    Column("resizes", Boolean, nullable=False, server_default=false()),
    Column("remote_id", String(64), nullable=False, server_default=text("''")),
    Column("links", JSON, nullable=False, server_default=text("'{}'")), Column("copies", JSON(none_as_null=True)),
    Column("driver", JSON(none_as_null=True)), Column("scaling", JSON(none_as_null=True)),
    Column("wishes", JSON, nullable=False, server_default=text("'[]'")))  # fmt: skip

nodes = Table("nodes", metadata,
    Column("cluster", String(63), primary_key=True), Column("name", String(253), primary_key=True),
    Column("node", JSON, nullable=False), Column("seen_at", Float, nullable=False))  # fmt: skip

# Maintenance and reservations. No nodes: all of the cluster. A reservation is for a tenant or a queue.
windows = Table("windows", metadata,
    Column("name", String(63), primary_key=True), Column("purpose", String(16), nullable=False),
    Column("cluster", String(63), nullable=False), Column("nodes", JSON, nullable=False),
    Column("tenant", String(63)), Column("queue", String(63)), Column("reason", Text, nullable=False),
    Column("begins_at", Float, nullable=False), Column("ends_at", Float, nullable=False), Column("created_at", Float, nullable=False),
    Index(None, "ends_at"))  # fmt: skip

products = Table("products", metadata,
    Column("name", String(127), primary_key=True), Column("product", JSON, nullable=False),
    Column("created_at", Float, nullable=False))  # fmt: skip

product_versions = Table("product_versions", metadata,
    Column("product", String(127), primary_key=True), Column("version", Integer, primary_key=True),
    Column("document", JSON, nullable=False), Column("created_at", Float, nullable=False),
    Column("standing", String(16), nullable=False, server_default=text("'offered'")),
    Column("reason", Text, nullable=False, server_default=text("''")))  # fmt: skip

licences = Table("licences", metadata,
    Column("id", String(32), primary_key=True), Column("tenant", String(63), nullable=False),
    Column("product", String(127), nullable=False), Column("licence", JSON, nullable=False),
    Column("created_at", Float, nullable=False), Column("revoked_at", Float),
    Column("runs_left", BigInteger), Column("bytes_left", BigInteger),
    Index(None, "tenant", "product"))  # fmt: skip

# state: reserved | consumed | returned. A use takes one run of its licence, and `bytes`.
licence_uses = Table("licence_uses", metadata,
    Column("job_id", String(32), primary_key=True), Column("product", String(127), primary_key=True),
    Column("licence_id", String(32), nullable=False), Column("state", String(16), nullable=False),
    Column("bytes", BigInteger, nullable=False), Column("reserved_at", Float, nullable=False), Column("ended_at", Float),
    Index(None, "licence_id", "state"))  # fmt: skip

jobs = Table("jobs", metadata,
    Column("sequence", Sequence, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True), Column("version", Integer, nullable=False),
    Column("state", String(16), nullable=False), Column("tenant", String(63), nullable=False),
    Column("queue", String(63), nullable=False), Column("rank", Integer, nullable=False), Column("name", String(63), nullable=False),
    Column("kind", String(32), nullable=False), Column("spec", JSON, nullable=False), Column("submitted_by", String(64), nullable=False),
    Column("idempotency_key", String(200)), Column("idempotency_digest", String(64)),
    Column("attempts", Integer, nullable=False), Column("run_id", String(48)), Column("not_before", Float),
    Column("cause", String(32), nullable=False), Column("message", Text, nullable=False),
    Column("blocker", String(32), nullable=False), Column("cancel_requested", Boolean, nullable=False),
    Column("submitted_at", Float, nullable=False), Column("queued_at", Float), Column("placed_at", Float),
    Column("started_at", Float), Column("finished_at", Float), Column("spared", Integer, nullable=False, server_default=text("0")),
    Column("waiting_for", Integer, nullable=False, server_default=text("0")),
    Column("array_id", String(32)), Column("array_index", Integer),
    UniqueConstraint("tenant", "idempotency_key"),
    # What waits for others stands apart, so that a cycle does not walk over it.
    Index(None, "state", "waiting_for", "queue", "rank", "sequence"), Index(None, "tenant", "sequence"),
    Index(None, "array_id", "array_index"), Index(None, "array_id", "sequence"))  # fmt: skip

# Jobs that were submitted as one. counts: state → number of tasks in it. first: the task of the smallest index, which stands for
# the array in lists. released: the greatest index that at_most has let go; each end of one up to it lets the next go.
arrays = Table("arrays", metadata,
    Column("id", String(32), primary_key=True), Column("version", Integer, nullable=False),
    Column("state", String(16), nullable=False), Column("tenant", String(63), nullable=False),
    Column("first", String(32), nullable=False), Column("size", Integer, nullable=False), Column("at_most", Integer),
    Column("released", Integer, nullable=False), Column("counts", JSON, nullable=False),
    Column("idempotency_key", String(200)), Column("idempotency_digest", String(64)),
    Column("submitted_at", Float, nullable=False), Column("finished_at", Float),
    UniqueConstraint("tenant", "idempotency_key"), Index(None, "state"))  # fmt: skip

# job_id waits until `needs` has ended. outcome: success | always. Rows stay: what they count is jobs.waiting_for.
dependencies = Table("dependencies", metadata,
    Column("job_id", String(32), primary_key=True), Column("needs", String(32), primary_key=True),
    Column("outcome", String(16), nullable=False), Index(None, "needs"))  # fmt: skip

# elastic: of a gang that may be resized how many workers it has and had (records.Sizing); null for all others.
# epoch: fences observations; a run superseded by a newer attempt can commit nothing.
runs = Table("runs", metadata,
    Column("id", String(48), primary_key=True), Column("job_id", String(32), nullable=False),
    Column("attempt", Integer, nullable=False), Column("epoch", Integer, nullable=False),
    Column("state", String(16), nullable=False), Column("cause", String(32), nullable=False),
    Column("cluster", String(63), nullable=False), Column("nodes", JSON, nullable=False), Column("queue", String(63), nullable=False),
    Column("held", JSON, nullable=False), Column("quote", JSON, nullable=False), Column("score", Float, nullable=False),
    Column("exit_code", Integer), Column("message", Text, nullable=False), Column("preview", JSON), Column("files", JSON),
    Column("usage", JSON), Column("placed_at", Float, nullable=False), Column("starting_at", Float), Column("started_at", Float),
    Column("finished_at", Float), Column("elastic", JSON(none_as_null=True)),
    Index(None, "state", "cluster"), Index(None, "job_id", "attempt"), Index(None, "finished_at"))  # fmt: skip

# Runs that the network ordered to end for its own reasons: a member is drained, or room is made for the job `beneficiary`.
evictions = Table("evictions", metadata,
    Column("run_id", String(48), primary_key=True), Column("job_id", String(32), nullable=False),
    Column("beneficiary", String(32)), Column("why", String(16), nullable=False), Column("message", Text, nullable=False),
    Column("at", Float, nullable=False), Index(None, "job_id"))  # fmt: skip

# Room that is kept for a queued job while others are ended for it: the node of each worker, and what each holds there.
claims = Table("claims", metadata,
    Column("job_id", String(32), primary_key=True), Column("cluster", String(63), nullable=False), Column("nodes", JSON, nullable=False),
    Column("held", JSON, nullable=False), Column("queue", String(63), nullable=False), Column("until", Float, nullable=False))  # fmt: skip

events = Table("events", metadata,
    Column("sequence", Sequence, primary_key=True, autoincrement=True),
    Column("job_id", String(32), nullable=False), Column("run_id", String(48)),
    Column("start", String(16), nullable=False), Column("finish", String(16), nullable=False),
    Column("cause", String(32), nullable=False), Column("message", Text, nullable=False), Column("at", Float, nullable=False),
    Index(None, "job_id", "sequence"))  # fmt: skip

progress = Table("progress", metadata,
    Column("run_id", String(48), primary_key=True), Column("sequence", Integer, primary_key=True),
    Column("step", BigInteger, nullable=False), Column("metrics", JSON, nullable=False), Column("at", Float, nullable=False))  # fmt: skip

# How fast runs on accelerators were: by their reports, and by the time they took where they did all of their work.
rates = Table("rates", metadata,
    Column("sequence", Sequence, primary_key=True, autoincrement=True), Column("run_id", String(48), nullable=False),
    Column("tenant", String(63), nullable=False), Column("kind", String(32), nullable=False), Column("name", String(63), nullable=False),
    Column("model", String(64), nullable=False), Column("devices", Float, nullable=False), Column("steps_per_s", Float),
    Column("seconds", Float), Column("at", Float, nullable=False),
    Index(None, "tenant", "kind", "name", "model", "sequence"))  # fmt: skip

outbox = Table("outbox", metadata,
    Column("sequence", Sequence, primary_key=True, autoincrement=True),
    Column("cluster", String(63), nullable=False), Column("run_id", String(48), nullable=False),
    Column("instruction", JSON, nullable=False), Column("created_at", Float, nullable=False), Column("acknowledged_at", Float),
    Index(None, "cluster", "acknowledged_at", "sequence"))  # fmt: skip

receipts = Table("receipts", metadata,
    Column("job_id", String(32), primary_key=True), Column("run_id", String(48), nullable=False),
    Column("tenant", String(63), nullable=False), Column("receipt", JSON, nullable=False), Column("issued_at", Float, nullable=False),
    Index(None, "tenant", "issued_at"))  # fmt: skip

# An entry for each receipt that charges something. postings: account → amount, below zero where it is owed; they sum to nothing.
# The database itself refuses to change or remove rows of it.
journal = Table("journal", metadata,
    Column("sequence", Sequence, primary_key=True, autoincrement=True), Column("run_id", String(48), nullable=False, unique=True),
    Column("job_id", String(32), nullable=False), Column("currency", String(3), nullable=False),
    Column("postings", JSON, nullable=False), Column("at", Float, nullable=False), Index(None, "at"))  # fmt: skip

# The months for which a tenant has paid a product's subscription, and the run whose receipt has it.
subscriptions = Table("subscriptions", metadata,
    Column("tenant", String(63), primary_key=True), Column("product", String(127), primary_key=True),
    Column("month", String(7), primary_key=True), Column("run_id", String(48), nullable=False))  # fmt: skip

# Prices that were told in a plan and hold until a time for the tenant's jobs that are submitted with the quote. used: there is one.
quotes = Table("quotes", metadata,
    Column("id", String(40), primary_key=True), Column("tenant", String(63), nullable=False), Column("prices", JSON, nullable=False),
    Column("created_at", Float, nullable=False), Column("expires_at", Float, nullable=False), Column("used", Boolean, nullable=False),
    Index(None, "used", "expires_at"))  # fmt: skip

# Result files that came with the report of their run's end; larger ones are files.
small_results = Table("small_results", metadata,
    Column("run_id", String(48), primary_key=True), Column("name", Text, primary_key=True),
    Column("content", LargeBinary, nullable=False))  # fmt: skip

# Results that lie in a store of their tenant's, or are on the way there (stored_at is null).
placed_results = Table("placed_results", metadata,
    Column("run_id", String(48), primary_key=True), Column("url", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False), Column("stored_at", Float))  # fmt: skip

# Results and logs that were kept long enough. what: result | log.
removals = Table("removals", metadata,
    Column("run_id", String(48), primary_key=True), Column("what", String(8), primary_key=True),
    Column("at", Float, nullable=False))  # fmt: skip

targets = Table("targets", metadata,
    Column("name", String(63), primary_key=True), Column("target", JSON, nullable=False),
    Column("created_at", Float, nullable=False))  # fmt: skip

# Who did what (scheduler.chain): never changed, never removed; `sequence` has no holes. products: names between spaces.
audit = Table("audit", metadata,
    Column("sequence", Sequence, primary_key=True, autoincrement=False), Column("at", Float, nullable=False),
    Column("actor", String(80), nullable=False), Column("act", String(32), nullable=False), Column("subject", Text, nullable=False),
    Column("tenant", String(63)), Column("products", Text, nullable=False), Column("document", Text, nullable=False),
    Column("previous", String(64), nullable=False), Column("hash", String(64), nullable=False),
    Index(None, "subject"), Index(None, "tenant", "sequence"))  # fmt: skip

# Counts changes of what decisions rest on, so that a commit can see that its snapshot is out of date.
generations = Table("generations", metadata,
    Column("name", String(32), primary_key=True), Column("value", BigInteger, nullable=False))  # fmt: skip
