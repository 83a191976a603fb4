"""What a person sees while a job goes its way: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from controlplane.api.schemas import JobView, ProgressView
from controlplane.cli.failures import FAILED, INTERRUPTED, CommandError
from controlplane.cli.follow import MetricsFollower, follow
from controlplane.cli.text import number, printable, span
from controlplane.client import Client
from scheduler.lifecycle import State

if TYPE_CHECKING:
    from rich.status import Status

PROGRESS_S = 2.0
Seen = tuple[str, str | None, str, int]


class Display:
    """Writes each change on standard error, so that standard output keeps the result alone."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._status: Status | None = None
        self._last: Seen | None = None
        self._said_at = -math.inf

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from controlplane.cli.output import console

            self._status = console(stderr=True).status("")
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()

    def job(self, job: JobView) -> None:
        """A change of the job."""
        seen = (job.state, job.cluster, job.message, job.attempts)
        if seen == self._last:
            return
        # The tasks of an array may be thousands: how far it has come is said now and then.
        changed, now = self._last is None or job.state != self._last[0], time.monotonic()
        if is_array(job) and not changed and now - self._said_at < PROGRESS_S:
            return
        self._last, self._said_at = seen, now
        self.line(describe(job))
        if self._status is not None:
            self._status.update(printable(f"{job.name} ({job.id}) is {job.state}"))

    def metrics(self, item: ProgressView) -> None:
        """A reported metric."""
        values = "  ".join(f"{name} {number(value)}" for name, value in sorted(item.metrics.items()))
        self.line(f"step {item.step}  {values}")

    def lost(self) -> None:
        """The server went away."""
        self.line("the server does not answer; trying again (the job is safe)")

    def line(self, text: str) -> None:
        """One line with the time since the beginning."""
        stamped = f"{span(time.monotonic() - self._began):>7}  {printable(text)}"
        if self._status is not None:
            self._status.console.print(stamped)
        else:
            print(stamped, file=sys.stderr, flush=True)


def is_array(job: JobView) -> bool:
    """Whether it is an array as one, and no task of it."""
    return job.array is not None and job.array.index is None


def describe(job: JobView) -> str:
    """Where a job stands, in a line."""
    where = f" on {job.cluster}" if job.cluster else ""
    attempt = f" (attempt {job.attempts})" if job.attempts > 1 else ""
    standing = f"{job.state}{where}"
    why = f": {job.message.splitlines()[0]}" if job.message and job.message != standing else ""
    return f"{standing}{attempt}{why}"


def wait_for(client: Client, job: JobView) -> JobView:
    """Follow a job to its end before the eyes of a person. Raises CommandError when it did not succeed or Ctrl-C ends the waiting."""
    with _leaving(job.id):
        done = _watch(client, job)
    if done.state == State.SUCCEEDED:
        return done
    hint = f"see `cpn job logs {done.id}` and `cpn job explain {done.id}`"
    if is_array(done):
        hint = f"see `cpn job list --array {done.id} --state {done.state}`"
    why = f": {done.message}" if done.message else ""
    raise CommandError(
        f"job {done.name} ({done.id}) {'was cancelled' if done.state == State.CANCELLED else 'failed'}{why}", status=FAILED, hint=hint
    )


def _watch(client: Client, job: JobView) -> JobView:
    with Display() as display:
        if job.kind == "sql" or is_array(job):
            return follow(client, job.id, display.job, lost=display.lost)
        attempts = max(job.attempts, 1)
        with MetricsFollower(client, job.id, display.metrics) as metrics:

            def changed(found: JobView) -> None:
                nonlocal attempts
                if found.attempts > attempts:
                    attempts = found.attempts
                    metrics.restart()
                display.job(found)

            return follow(client, job.id, changed, lost=display.lost)


@contextmanager
def _leaving(job_id: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        hint = f"come back to it with `cpn job wait {job_id}`, or end it with `cpn job cancel {job_id}`"
        raise CommandError(f"stopped waiting; job {job_id} goes on", status=INTERRUPTED, hint=hint) from error
