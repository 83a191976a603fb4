"""Bringing a run's files to where its pods find them, when they are too large for its Secret."""

from __future__ import annotations

import asyncio

from cluster.backends.kubernetes.objects import as_stored
from cluster.errors import RunRejectedError
from cluster.protocol import RunRequest
from cluster.runs.depositor import DepositError
from cluster.runs.packages import packed, put_package


async def put_files(run: RunRequest) -> None:
    """Put files that do not fit into the Secret into the store that the run was granted a place in. Raises RunRejectedError."""
    if run.files and run.deposit is not None and as_stored(run).package is not None:
        try:
            await asyncio.to_thread(put_package, run.deposit, packed(run.files))
        except DepositError as error:
            raise RunRejectedError(f"the files of run {run.run_id} cannot be put into a store for its pods: {error}") from error
