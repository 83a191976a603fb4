"""`python -m cluster.backends.kubernetes.pod_main FOLDER`: the one process of a worker's container.

FOLDER has the run's request and what its pods need to begin, as the run's Secret brings them. What is to be told goes to standard output
as records. SIGTERM ends the run; who does not end within the pod's grace is killed with it. The exit code is the command's where it had
one, so that the Job counts as people expect.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cluster.backends.kubernetes.pod_supervisor import PodSupervisor
from cluster.backends.kubernetes.records import RESULT_BYTES, RecordWriter
from cluster.backends.kubernetes.rendezvous import Gathering, await_go
from cluster.runs.outbox import nothing_seen, seen_with
from cluster.runs.workspace import describe

REQUEST, SEATING = "request.json", "seating.json"
RANK_VARIABLE, HOST_VARIABLE, INDEX_VARIABLE = "CPN_POD_RANK", "CPN_GANG_HOST", "JOB_COMPLETION_INDEX"
# Clocks of a node and of the agent may differ by so much.
CLOCKS_APART_S = 60.0
_LOOK_S, _REST_S = 30.0, 0.05
_KUBELET_ENDS_IT_S = 86_400.0


async def work(folder: Path, rank: int, write: Callable[[bytes], object]) -> int:
    """The life of a worker, told by `write`. Returns the exit code."""
    run = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    seating = json.loads((folder / SEATING).read_text(encoding="utf-8"))
    supervisor = PodSupervisor(rank)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _stop, supervisor)
    living = asyncio.create_task(_live(supervisor, run, seating, rank))
    end = await _tell(supervisor, RecordWriter(write))
    living.cancel()
    await asyncio.wait([living])
    await supervisor.dispose()
    code = end["exit_code"] or 0
    return 0 if end["outcome"] == "succeeded" else code if 0 < code < 256 else 1


def _stop(supervisor: PodSupervisor) -> None:
    _stops.add(asyncio.get_running_loop().create_task(supervisor.stop("cancelled", _KUBELET_ENDS_IT_S)))


_stops: set[asyncio.Task[None]] = set()


async def _live(supervisor: PodSupervisor, run: dict[str, Any], seating: dict[str, Any], rank: int) -> None:
    """From the request to the command; the supervisor tells the rest."""
    try:
        if time.time() > seating["start_by"] + CLOCKS_APART_S:
            # Nobody waits for it any more, and another attempt may have begun.
            return supervisor.refuse("the cluster has started this pod too late; nothing was run")
        if run.get("package"):
            run = {**run, "files": await asyncio.to_thread(_files_of, run)}
        if not await supervisor.prepare(run):
            return
        if len(run["nodes"]) == 1 or run["kind"] == "ray":
            return await supervisor.go(None)
        await _begin_together(supervisor, len(run["nodes"]), seating, rank)
    except MissingFilesError as error:
        supervisor.refuse(str(error))
    except OSError as error:
        supervisor.refuse(f"the gang cannot gather: {describe(error)}")


class MissingFilesError(Exception):
    """The job's files cannot be had; the message says why."""


def _files_of(run: Mapping[str, Any]) -> dict[str, str]:
    """The job's files, from the store that has them. Blocks."""
    from cluster.deposits import Package
    from cluster.runs.depositor import DepositError
    from cluster.runs.packages import fetch_package

    try:
        return fetch_package(run["deposit"]["package_url"], Package.model_validate(run["package"]))
    except DepositError as error:
        raise MissingFilesError(str(error)) from error


async def _begin_together(supervisor: PodSupervisor, workers: int, seating: dict[str, Any], rank: int) -> None:
    host, port, token = os.environ[HOST_VARIABLE], seating["port"], seating["token"]
    if rank:
        return await supervisor.go((host, await await_go(host, port, token, rank)))
    master_port = await supervisor.ready()
    gathering = Gathering(token, workers, master_port)
    await gathering.listen(port)
    try:
        await gathering.whole()
        await supervisor.go((host, master_port))
        # Others whose line broke ask again.
        await asyncio.Event().wait()
    finally:
        gathering.close()


async def _tell(supervisor: PodSupervisor, writer: RecordWriter) -> dict[str, Any]:
    """Write all news down, to the end, which is returned."""
    seen = nothing_seen()
    while True:
        batch = await supervisor.next(seen, _LOOK_S)
        end: dict[str, Any] | None = batch.get("finished")
        if end is not None and _goes_elsewhere(supervisor, end):
            # To put it there may take long, and what was told meanwhile is not to wait for it.
            if before := {name: news for name, news in batch.items() if name != "finished"}:
                writer.batch(before)
            batch = {"finished": await asyncio.to_thread(_deposited, supervisor, end)}
        elif end is not None:
            batch["finished"] = _with_files(supervisor, writer, end)
        if batch:
            writer.batch(batch)
            seen = seen_with(seen, batch)
        if end is not None:
            told: dict[str, Any] = batch["finished"]
            return told
        # What is printed line by line goes out in some lines at once.
        await asyncio.sleep(_REST_S)


def _size(end: Mapping[str, Any]) -> int:
    return sum(file["size_bytes"] for file in end["files"])


def _goes_elsewhere(supervisor: PodSupervisor, end: dict[str, Any]) -> bool:
    """Whether the result is too large for the log, and somebody wants it all the same."""
    return RESULT_BYTES < _size(end) <= supervisor.most_result_bytes and supervisor.grant is not None


def _deposited(supervisor: PodSupervisor, end: dict[str, Any]) -> dict[str, Any]:
    """The end as it is when the files have been put into the store. Blocks for as long as that takes."""
    from cluster.runs.depositor import DepositError, Depositor, StoppedError

    assert supervisor.grant is not None
    depositor = Depositor(supervisor.grant, supervisor.stopping_now)
    try:
        return {**end, "files": depositor.put(supervisor.output, end["files"]), "deposit": depositor.token}
    except StoppedError as error:
        return {**end, "outcome": "cancelled", "category": "cancelled", "message": str(error), "files": [], "preview": None}
    except DepositError as error:
        return _undelivered(end, "infrastructure", str(error))
    except OSError as error:
        return _undelivered(end, "result", describe(error))


def _with_files(supervisor: PodSupervisor, writer: RecordWriter, end: dict[str, Any]) -> dict[str, Any]:
    """The end as it is when the files have been written down before it. What nobody wants is not."""
    try:
        for file in end["files"] if _size(end) <= RESULT_BYTES else ():
            writer.file(supervisor.output, file["name"], file["size_bytes"])
    except OSError as error:
        return _undelivered(end, "result", describe(error))
    return end


def _undelivered(end: dict[str, Any], category: str, message: str) -> dict[str, Any]:
    return {**end, "outcome": "failed", "category": category, "message": message, "files": [], "preview": None}


def _print(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    place = os.environ.get(RANK_VARIABLE) or os.environ[INDEX_VARIABLE]
    sys.exit(asyncio.run(work(Path(sys.argv[1]), int(place), _print)))
