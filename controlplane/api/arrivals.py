"""Results that come with an agent's report, and those that a report announces.

A success counts only when everything that it announces is here. A small file comes in the report itself and is written before the
end is committed; a larger one was uploaded before.
"""

from __future__ import annotations

from cluster.protocol import Category, Observation, RunFinished, SmallFile, SyncRequest
from controlplane.files import TooLargeError
from controlplane.wiring import ControlPlane
from scheduler.reconcile import current_runs


def brings_results(report: SyncRequest) -> bool:
    """Whether a report tells of an end with files."""
    return any(map(_announces_files, report.observations))


def with_results(plane: ControlPlane, cluster: str, report: SyncRequest) -> SyncRequest:
    """The report with each success proved, and without the bytes that it brought: those of current runs are stored.

    Works on the disk. Raises NoRoomError; the agent reports again then.
    """
    with plane.store.read() as conn:
        current = current_runs(conn, cluster, [item for item in report.observations if _announces_files(item)])
    return report.model_copy(update={
        "observations": tuple(
            _arrived(plane, item, item.event.run_id in current) if _announces_files(item) else item for item in report.observations
        )
    })  # fmt: skip


def _announces_files(observation: Observation) -> bool:
    return isinstance(observation.event, RunFinished) and bool(observation.event.files)


def _arrived(plane: ControlPlane, observation: Observation, current: bool) -> Observation:
    event = observation.event
    assert isinstance(event, RunFinished)
    update: dict[str, object] = {"files": tuple(file.plain() if isinstance(file, SmallFile) else file for file in event.files)}
    # What is not current moves nothing, so nothing of it is stored.
    if current and event.outcome == "succeeded" and (failure := _store(plane, event) or _missing(plane, event)):
        category, message = failure
        update = {"outcome": "failed", "category": category, "message": message, "files": ()}
    return observation.model_copy(update={"event": event.model_copy(update=update)})


def _store(plane: ControlPlane, event: RunFinished) -> tuple[Category, str] | None:
    """Store what an end brings; why it does not count, where it does not."""
    try:
        for file in event.files:
            if isinstance(file, SmallFile):
                plane.files.store(event.run_id, file.name, file.read())
    except TooLargeError as error:
        return "result", str(error)
    except ValueError as error:
        return "infrastructure", str(error)
    return None


def _missing(plane: ControlPlane, event: RunFinished) -> tuple[Category, str] | None:
    """Whether an announced file did not come before the end."""
    missing = plane.files.missing(event.run_id, tuple(file for file in event.files if not isinstance(file, SmallFile)))
    return ("infrastructure", f"the result file {missing} did not arrive as announced") if missing else None
