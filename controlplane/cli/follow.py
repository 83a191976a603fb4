"""Following a job until it ends: every change as it happens, through restarts of the server.

The server answers a long poll as soon as the job has changed or waits for another reason, so nothing is polled on a timer. Reported
metrics come on a second request in a thread of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from controlplane.api.schemas import JobView, ProgressView
from controlplane.client import Client
from controlplane.errors import ClientError, NotReachableError
from scheduler.lifecycle import FINAL, State

WAIT_S = 30.0
PATIENCE_S, PAUSE_S = 60.0, 0.5
ENDS_WITHIN_S = 5.0


def is_final(job: JobView) -> bool:
    """Whether nothing will change any more."""
    return State(job.state) in FINAL


def follow(client: Client, job_id: str, report: Callable[[JobView], None], *, lost: Callable[[], None], seen: int = 0) -> JobView:
    """The job once it is final; `report` sees every version after `seen` and every reason to wait, `lost` is called when the server
    goes away.

    Raises NotReachableError when it stays away for a minute.
    """
    version, cause = seen, None
    while True:
        job = patiently(lambda: client.job(job_id, wait_s=WAIT_S, after_version=version, after_cause=cause), lost)  # noqa: B023
        if job.version > version or job.cause != cause:
            version, cause = max(version, job.version), job.cause
            report(job)
        if is_final(job):
            return job


def patiently(ask: Callable[[], JobView], lost: Callable[[], None], patience_s: float = PATIENCE_S) -> JobView:
    """An answer, asked for again while the server is away. Raises NotReachableError after `patience_s` seconds of that."""
    gone_since: float | None = None
    while True:
        try:
            return ask()
        except NotReachableError:
            now = time.monotonic()
            if gone_since is None:
                gone_since = now
                lost()
            if now - gone_since > patience_s:
                raise
            time.sleep(PAUSE_S)


class MetricsFollower:
    """Hands every reported metric to `report`, from a thread of its own, until the job is final. A context manager."""

    def __init__(self, client: Client, job_id: str, report: Callable[[ProgressView], None]) -> None:
        self._client, self._job_id, self._report = client, job_id, report
        self._stop = threading.Event()
        self._restarted = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="metrics", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if kind is None:
            # The job is final, so the request in flight is answered at once, with what is left.
            self._thread.join(ENDS_WITHIN_S)

    def restart(self) -> None:
        """A new attempt reports from the beginning again."""
        self._restarted.set()

    def _loop(self) -> None:
        after = 0
        while True:
            stopping = self._stop.is_set()
            if self._restarted.is_set():
                self._restarted.clear()
                after = 0
            try:
                page = self._client.metrics(self._job_id, after=after, wait_s=0.0 if stopping else WAIT_S)
            except ClientError:
                # Whoever follows the job itself says that the server is away; metrics are an extra.
                if self._stop.wait(PAUSE_S):
                    return
                continue
            if not self._restarted.is_set():
                for item in page.items:
                    self._report(item)
                after = int(page.next_cursor) if page.next_cursor else after
            if stopping and not page.items:
                return
