"""`cpn job`: plan, submit, list, show, wait, logs, cancel; job_reports adds what tells of a job afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from controlplane.cli import completion, job_reports
from controlplane.cli.failures import FAILED, REFUSED, CommandError, usage
from controlplane.cli.options import Changes, JobId, Manifest, Manifests, Output, group
from controlplane.cli.output import fields, grid, heading, note, say, show
from controlplane.cli.session import connect
from controlplane.cli.text import MISSING, clock, joined, lasted, since, span

if TYPE_CHECKING:
    from controlplane.api.schemas import JobView, Page
    from controlplane.client import Client
    from workloads.spec import JobSpec

app = group()

StateName = Literal["queued", "placed", "starting", "running", "succeeded", "failed", "cancelled", "preempted", "lost"]


@app.command("plan")
def plan(context: typer.Context, file: Manifest, changes: Changes = None, output: Output = "table") -> None:
    """Where a job may run, when, and at what cost.

    Every cluster with its verdict, start estimate, transfer and quote; nothing is submitted. Exits 4 when every
    cluster is refused by policy, which is when submitting would be refused.
    """
    from controlplane.cli.manifest import read_job
    from controlplane.cli.verdicts import print_plan, refused_everywhere

    spec = read_job(file, changes or ())
    with connect(context) as client:
        view = client.plan(spec)
    show(view, output, print_plan)
    waits = view.flexible is not None and view.flexible.waits_for is not None
    if refused_everywhere(view.verdicts) and not waits:
        raise typer.Exit(REFUSED)


@app.command("hash")
def hash_of_program(file: Manifest, changes: Changes = None) -> None:
    """The content hash of a job's program, which owners of data can permit; asks no server."""
    from controlplane.cli.manifest import read_job
    from workloads.programs import program_hash

    found = program_hash(read_job(file, changes or ()))
    if found is None:
        raise usage("a statement is no program and has no hash", "give a manifest of kind command, training, map or ray")
    say(found)


@app.command("submit")
def submit(
    context: typer.Context,
    files: Manifests,
    changes: Changes = None,
    quote: Annotated[str | None, typer.Option(metavar="QUOTE", help="Hold its prices to those of a plan, quote-….")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job to its end; exits 1 when it fails.")] = False,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Submitting again under the same key gives the first job; of several, KEY/1, KEY/2, …."),
    ] = None,
    output: Output = "table",
) -> None:
    """Submit a job, or several at once. They are durable when this answers.

    Several are told one by one what became of them; those that are refused take no other with them. Exits 4 when policy refused
    one, 1 when one was not accepted for another reason.
    """
    from controlplane.cli.manifest import read_jobs

    specs = read_jobs(files, [*(changes or ()), *([f"quote={quote}"] if quote is not None else [])])
    with connect(context) as client:
        if len(specs) > 1:
            from controlplane.cli.batches import submit_all

            submit_all(client, specs, idempotency_key, wait=wait, output=output)
            return
        job = client.submit(specs[0], idempotency_key)
        if not wait:
            show(job, output, _submitted)
            return
        note(f"submitted {job.id} ({job.name})")
        _finish(client, job, output)


def _submitted(job: JobView) -> None:
    if job.array is not None:
        say(f"submitted {job.id} ({job.name}), {job.array.size} tasks, {job.array.first} the first")
        note(f"follow it with `cpn job wait {job.id}`, or see its tasks with `cpn job list --array {job.id}`")
        return
    say(f"submitted {job.id} ({job.name})")
    note(f"follow it with `cpn job wait {job.id}` or `cpn job logs -f {job.id}`")


def _finish(client: Client, job: JobView, output: str) -> None:
    """Follow to the end; then the job as a document, or for people its result."""
    from controlplane.cli.results import print_preview
    from controlplane.cli.waiting import is_array, wait_for

    try:
        done = wait_for(client, job)
    except CommandError as error:
        if output != "table" and error.status == FAILED:
            show(client.job(job.id), "json" if output == "json" else "yaml", _ended)
        raise
    if output != "table":
        show(done, "json" if output == "json" else "yaml", _ended)
        return
    _ended(done)
    if is_array(done):
        note(f"its tasks have the results: `cpn job list --array {done.id}`")
        return
    result = client.result(done.id)
    if result.preview is not None:
        print_preview(result.preview)
    elif result.files:
        say(f"result: {joined([file.name for file in result.files])} (`cpn job result {done.id} --download DIR`)")


def _ended(job: JobView) -> None:
    where = f", all {job.array.size} tasks," if job.array and job.array.index is None else f" on {job.cluster or MISSING}"
    say(f"{job.name} ({job.id}) {job.state}{where} after {lasted(job.submitted_at, job.finished_at)}")


@app.command("list")
def list_jobs(
    context: typer.Context,
    state: Annotated[StateName | None, typer.Option(help="Only jobs in this state.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.", autocompletion=completion.tenants)] = None,
    queue: Annotated[str | None, typer.Option(help="Only this queue's.", autocompletion=completion.queues)] = None,
    array: Annotated[str | None, typer.Option(metavar="ARRAY", help="The tasks of this array, the first one first.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    output: Output = "table",
) -> None:
    """Jobs, newest first; an array is one line."""
    with connect(context) as client:
        show(client.jobs(state=state, tenant=tenant, queue=queue, array=array, limit=limit), output, _table)


def _table(page: Page[JobView]) -> None:
    rows = [
        (job.id, job.name, job.tenant, job.queue, job.kind, job.state, job.cluster, since(job.submitted_at),
         lasted(job.started_at, job.finished_at), job.message.splitlines()[0] if job.message else None)
        for job in page.items
    ]  # fmt: skip
    headers = ["ID", "NAME", "TENANT", "QUEUE", "KIND", "STATE", "CLUSTER", ">AGE", ">RAN", "MESSAGE"]
    grid(headers, rows, none="no jobs; submit one with `cpn job submit -f job.yaml`")
    if page.next_cursor:
        note("there are more; ask for more with --limit, or narrow the list with --state, --tenant or --queue")


@app.command("show")
def show_job(context: typer.Context, job_id: JobId, output: Output = "table") -> None:
    """One job with its runs, or an array with the states of its tasks."""
    with connect(context) as client:
        show(client.job(job_id), output, _details)


def _details(job: JobView) -> None:
    spec = job.spec
    asked = spec.resources.accelerator
    accelerator = f", {asked.amount:g} {' or '.join(choice.model for choice in asked.choices)}" if asked else ""
    from workloads.resources import format_memory

    fewest, most = spec.resources.fewest, spec.resources.most
    workers = f"{fewest} to {most} times " if fewest < most else f"{most} times " if most > 1 else ""
    together = f", all in one {spec.placement.same}" if spec.placement.same else ""
    fields([
        ("id", job.id), ("name", job.name), ("tenant", job.tenant), ("queue", job.queue), ("kind", job.kind), ("purpose", job.purpose),
        ("priority", job.priority), ("state", job.state), ("message", job.message or None),
        ("attempts", f"{job.attempts}, of which {job.attempts_spared} do not count" if job.attempts_spared else None),
        ("cluster", job.cluster), ("nodes", joined(job.nodes)),
        ("workers", _workers(job) if job.nodes and fewest < most else None),
        ("resources", f"{workers}{spec.resources.cpu:g} cores, {format_memory(spec.resources.memory)}{accelerator}{together}"),
        *_engine(spec),
        ("inputs", joined(spec.inputs)),
        *(("licence", f"{use.licence} for {use.product}, {use.state}") for use in job.licences),
        *_when(spec), ("quote", f"at most {job.quote.total}" if job.quote else None), *_progress(job),
        ("submitted", clock(job.submitted_at)), ("started", clock(job.started_at)), ("finished", clock(job.finished_at)),
        ("ran", lasted(job.started_at, job.finished_at)),
        ("result", f"removed {clock(job.result_removed_at)}" if job.result_removed_at else None),
        ("log", f"removed {clock(job.log_removed_at)}" if job.log_removed_at else None),
        ("audit log", f"cpn audit list --job {job.id}" if spec.inputs else None),
    ])  # fmt: skip
    if job.rewritten:
        from controlplane.cli.verdicts import rewritten_words

        say("\n".join(rewritten_words(job.rewritten)))
    if job.runs:
        heading("Runs")
        rows = [
            (run.attempt, run.id, run.state, run.cluster, joined(run.nodes), run.exit_code, lasted(run.started_at, run.finished_at),
             run.message.splitlines()[0] if run.message else None)
            for run in job.runs
        ]  # fmt: skip
        grid([">ATTEMPT", "RUN", "STATE", "CLUSTER", "NODES", ">EXIT", ">RAN", "MESSAGE"], rows)
        for line in _kubernetes_names(job):
            say(line)


def _kubernetes_names(job: JobView) -> Iterator[str]:
    """Where runs on Kubernetes are seen by its own tools."""
    from cluster.kube_names import JOB_LABEL

    remote = [run.remote.partition("/") for run in job.runs if run.remote]
    for namespace, _, name in remote:
        yield f"Kubernetes: the objects of namespace {namespace} that begin with {name}"
    for namespace in sorted({namespace for namespace, _, _ in remote}):
        yield f"  kubectl get jobs,pods --namespace {namespace} --selector {JOB_LABEL}={job.id}"


def _engine(spec: JobSpec) -> list[tuple[str, str]]:
    from controlplane.cli.verdicts import engine_words

    return [("engine", engine_words(spec.chosen_engine))] if spec.chosen_engine else []


def _progress(job: JobView) -> list[tuple[str, str]]:
    """How far a job of kind map is."""
    found = job.progress
    if found is None:
        return []
    speed = f", {found.rows_per_s:,.0f} rows/s" if found.rows_per_s else ""
    left = f", about {span(found.left_s)} left" if found.left_s and job.state == "running" else ""
    return [("progress", f"{found.partitions_done:,} of {found.partitions:,} partitions, {found.rows:,} rows{speed}{left}")]


def _workers(job: JobView) -> str:
    """How many workers an elastic gang has, of how many, and how many it will have soon."""
    fewest, most = job.spec.resources.fewest, job.spec.resources.most
    current = next((run for run in job.runs if run.id == job.run_id), None)
    now = current.workers if current is not None else len(job.nodes)
    soon = (
        f", {'growing' if current.resizing_to > now else 'shrinking'} to {current.resizing_to}" if current and current.resizing_to else ""
    )
    return f"{now} of {fewest} to {most}{soon}"


def _when(spec: JobSpec) -> list[tuple[str, str]]:
    """Before what it does not start, where the manifest says so."""
    after = [item.job if item.when == "success" else f"{item.job} (however it ends)" for item in spec.after]
    return [
        *([("array", spec.array)] if spec.array else []),
        *([("start after", clock(spec.start_after))] if spec.start_after else []),
        *([("after", joined(after))] if after else []),
    ]


@app.command("wait")
def wait(context: typer.Context, job_id: JobId, output: Output = "table") -> None:
    """Follow a job, or an array as one, to its end; exits 1 when it fails."""
    with connect(context) as client:
        _finish(client, client.job(job_id), output)


@app.command("cancel")
def cancel(
    context: typer.Context,
    job_ids: Annotated[list[str], typer.Argument(metavar="JOB…", help="Ids of jobs.", autocompletion=completion.jobs)],
    output: Output = "table",
) -> None:
    """Cancel jobs, and arrays as one; what has ended stays as it is."""
    with connect(context) as client:
        for job_id in job_ids:
            show(client.cancel(job_id), output, lambda job: say(f"{job.id} ({job.name}) is {job.state}"))


@app.command("logs")
def logs(
    context: typer.Context,
    job_id: JobId,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as the log grows, until the job has ended.")] = False,
    offset: Annotated[int, typer.Option(min=0, help="Begin at this byte.")] = 0,
    worker: Annotated[int | None, typer.Option(min=0, metavar="RANK", help="Only what this worker of a gang wrote.")] = None,
) -> None:
    """The log of a job's current run."""
    with connect(context) as client:
        if follow:
            from controlplane.cli.log_stream import follow_log

            pieces = follow_log(client, job_id, offset, worker)
        else:
            pieces = client.logs(job_id, offset=offset, worker=worker)
        for piece in pieces:
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()


job_reports.add_to(app)
