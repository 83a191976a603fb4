"""Results that come with an agent's report, and those that a report announces.

A success counts only when everything that it announces is here. A small file comes in the report itself, and is stored in the
transaction that takes the end in, so only for the current run; a larger one was uploaded before.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.protocol import Category, Observation, RunFinished, SmallFile, SyncRequest
from controlplane.files import RunFiles, TooLargeError
from scheduler.store.small_results import Contents

# Bytes of a run's result that were taken in from a store, None for nothing.
Deposited = Callable[[str], int | None]


def nothing_deposited(_run_id: str) -> None:
    """Where no run puts anything into a store."""


def brings_results(report: SyncRequest) -> bool:
    """Whether a report tells of an end with files."""
    return any(map(_announces_files, report.observations))


def announces_uploads(report: SyncRequest) -> bool:
    """Whether one of its ends tells of a file that is to be looked for on the disk."""
    ends = [item.event for item in report.observations if isinstance(item.event, RunFinished)]
    return any(not isinstance(file, SmallFile) for event in ends for file in event.files)


def with_results(files: RunFiles, report: SyncRequest, deposited: Deposited = nothing_deposited) -> tuple[SyncRequest, Contents]:
    """The report with each success proved and without bytes; the bytes that it brought. Works on the disk for what was uploaded, and
    asks what was taken in of what runs have put into stores."""
    contents: dict[str, dict[str, bytes]] = {}
    observations = tuple(_arrived(files, item, contents, deposited) if _announces_files(item) else item for item in report.observations)
    return report.model_copy(update={"observations": observations}), contents


def _announces_files(observation: Observation) -> bool:
    return isinstance(observation.event, RunFinished) and bool(observation.event.files)


def _arrived(files: RunFiles, observation: Observation, contents: dict[str, dict[str, bytes]], deposited: Deposited) -> Observation:
    event = observation.event
    assert isinstance(event, RunFinished)
    update: dict[str, object] = {"files": tuple(file.plain() if isinstance(file, SmallFile) else file for file in event.files)}
    if event.outcome == "succeeded":
        brought, failure = _read(files, event) if not event.deposit else ({}, _fault_of_deposit(event, deposited(event.run_id)))
        if failure is None:
            contents.setdefault(event.run_id, brought)
        else:
            update = {"outcome": "failed", "category": failure[0], "message": failure[1], "files": ()}
    return observation.model_copy(update={"event": event.model_copy(update=update)})


def _fault_of_deposit(event: RunFinished, taken_bytes: int | None) -> tuple[Category, str] | None:
    """Why files that lie in a store do not count."""
    if taken_bytes == sum(file.size_bytes for file in event.files):
        return None
    return "infrastructure", "the result that was put into a store was not taken in as announced"


def _read(files: RunFiles, event: RunFinished) -> tuple[dict[str, bytes], tuple[Category, str] | None]:
    """What an end brings, or why it does not count."""
    brought: dict[str, bytes] = {}
    try:
        for file in event.files:
            files.result_path(event.run_id, file.name)
            if isinstance(file, SmallFile):
                brought[file.name] = file.read()
                files.check_limit(file.name, sum(one.size_bytes for one in event.files))
    except TooLargeError as error:
        return {}, ("result", str(error))
    except ValueError as error:
        return {}, ("infrastructure", str(error))
    missing = files.missing(event.run_id, tuple(file for file in event.files if not isinstance(file, SmallFile)))
    return brought, ("infrastructure", f"the result file {missing} did not arrive as announced") if missing else None
