"""A log as it grows, through restarts of the server: the stream goes on at the byte where it broke."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from controlplane.cli import follow
from controlplane.cli.output import note
from controlplane.client import Client
from controlplane.errors import NotReachableError


def follow_log(
    client: Client, job_id: str, offset: int = 0, worker: int | None = None, pause: Callable[[float], None] = time.sleep
) -> Iterator[bytes]:
    """The log, or that of one worker, from a byte offset until the job has ended.

    Raises NotReachableError when the server stays away for a minute.

    After a break it goes on where it was or, when a new attempt began meanwhile, at that attempt's beginning.
    """
    attempt = max(client.job(job_id).attempts, 1)
    while True:
        whole = True
        try:
            for piece in client.logs(job_id, follow=True, offset=offset, worker=worker):
                offset += len(piece)
                yield piece
        except NotReachableError:
            whole = False
        job = follow.patiently(lambda: client.job(job_id), _lost)
        # A whole answer that ends while the job goes on comes from a server that shuts down in good order.
        if whole and follow.is_final(job):
            return
        if job.attempts > attempt:
            attempt, offset = job.attempts, 0
            note(f"attempt {attempt}, from its beginning:")
        pause(follow.PAUSE_S)


def _lost() -> None:
    note("the server does not answer; trying again (the job is safe)")
