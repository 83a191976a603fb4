"""Several jobs submitted at once: as few requests as their number and size allow, and a verdict on each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import typer

from controlplane.api.batch_schemas import BatchItem, BatchVerdict, ItemVerdict, JobBatch
from controlplane.cli.failures import FAILED, REFUSED, CommandError
from controlplane.cli.output import Format, grid, note, show
from controlplane.cli.waiting import wait_for
from controlplane.client import Client
from controlplane.errors import ClientError
from workloads.spec import JobSpec

# What a server takes at once unless its operator has set less, with room for what stands around the manifests.
MOST_ITEMS, MOST_BYTES = 1000, 8 * 1024**2
FORBIDDEN = 403


def submit_all(client: Client, specs: Sequence[JobSpec], key: str | None, *, wait: bool, output: Format) -> None:
    """Submit them in their order, print the verdicts, and follow what was accepted when asked to. Raises CommandError, typer.Exit."""
    told: list[ItemVerdict] = []
    items = [
        BatchItem(job=spec.model_dump(mode="json"), idempotency_key=f"{key}/{number}" if key else None)
        for number, spec in enumerate(specs, start=1)
    ]
    try:
        for batch in _batches(items):
            answer = client.submit_batch(JobBatch(items=batch))
            told += [_moved(item, len(told) + item.index) for item in answer.items]
    except ClientError:
        if told:
            _print(told, specs, output)
            note(f"the verdicts above are those of the first {len(told)} of {len(specs)} jobs; of the others none was accepted for certain")
        raise
    _print(told, specs, output)
    failed = [item.id for item in told if wait and item.id is not None and not _succeeds(client, item.id)]
    if any(item.problem is not None and item.problem.status == FORBIDDEN for item in told):
        raise typer.Exit(REFUSED)
    if failed or any(item.problem is not None for item in told):
        raise typer.Exit(FAILED)


def _batches(items: Sequence[BatchItem]) -> Iterator[list[BatchItem]]:
    batch: list[BatchItem] = []
    size = 0
    for item in items:
        more = len(item.model_dump_json())
        if batch and (len(batch) == MOST_ITEMS or size + more > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += more
    yield batch


def _moved(item: ItemVerdict, index: int) -> ItemVerdict:
    """The verdict with its place among all jobs, where more than one batch was sent."""
    if item.index == index:
        return item
    problem, old, new = item.problem, f"items.{item.index}.", f"items.{index}."
    if problem is not None:
        errors = [error.model_copy(update={"path": error.path.replace(old, new, 1)}) for error in problem.errors]
        problem = problem.model_copy(update={"errors": errors})
    return item.model_copy(update={"index": index, "problem": problem})


def _print(told: list[ItemVerdict], specs: Sequence[JobSpec], output: Format) -> None:
    accepted = sum(item.verdict == "accepted" for item in told)
    document = BatchVerdict(accepted=accepted, refused=len(told) - accepted, items=told)
    show(document, output, lambda _: grid(["#", "NAME", "VERDICT", "JOB", "PROBLEM"], [_row(item, specs[item.index]) for item in told]))


def _row(item: ItemVerdict, spec: JobSpec) -> tuple[str, str, str, str | None, str | None]:
    again = "" if item.new or item.problem else " before"
    return str(item.index + 1), spec.name, item.verdict + again, item.id, _words(item)


def _words(item: ItemVerdict) -> str | None:
    if item.problem is None:
        return None
    found = [(error.path.removeprefix(f"items.{item.index}."), error.message) for error in item.problem.errors]
    lines = [("" if path == "job" else path.removeprefix("job."), message) for path, message in found]
    return "; ".join(f"{path}: {message}" if path else message for path, message in lines) or item.problem.detail


def _succeeds(client: Client, job_id: str) -> bool:
    """Follow one to its end before the eyes of a person."""
    try:
        wait_for(client, client.job(job_id))
    except CommandError as error:
        if error.status != FAILED:
            raise
        note(f"{error}\n{error.hint}")
        return False
    return True
