"""What runs leave on a real Ray's nodes: nothing, or what is named here."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.network import until
from tests.ray import WAIT_S, Connection, SmallRay, processes_of


@contextmanager
def leaving_nothing(connection: Connection, head: SmallRay) -> Iterator[None]:
    """Forget every run that was started meanwhile; nothing of them may be left on the node then, no process and no file.

    Nor may any process be left at other nodes, a moment later.

    What SQL workers that were killed left behind is not counted: the next worker that starts removes it.
    """
    try:
        yield
    finally:
        # Also after a failure: what is left of a run would make other tests fail on the same Ray.
        run_ids = sorted(connection.unforgotten)
        for run_id in run_ids:
            connection.forget(run_id)
    until(lambda: not files_of(head.runs, run_ids), f"nothing is left on the node: {files_of(head.runs, run_ids)}")
    left = {pid: command for pid, command in _processes_of(run_ids).items() if not _works_below(pid, head.work_directories[:-1])}
    assert not left, f"left running: {left}"
    # What worked at other nodes is ended by Ray, which tells them that the run's driver is gone.
    until(lambda: not _processes_of(run_ids), f"nothing runs at other nodes: {_processes_of(run_ids)}", WAIT_S)


def _processes_of(run_ids: Sequence[str]) -> dict[int, str]:
    """The processes of runs: id → command line."""
    return {pid: command for run_id in run_ids for pid, command in processes_of(f"/{run_id}").items()}


def _works_below(pid: int, folders: Sequence[str]) -> bool:
    """Whether a process works in one of these folders, or did until its end a moment ago."""
    try:
        place = Path(f"/proc/{pid}/cwd").readlink()
    except FileNotFoundError:
        return True
    return any(place.is_relative_to(folder) for folder in folders)


def files_of(runs: Path, beginnings: Sequence[str]) -> list[str]:
    """What lies on a node of runs whose ids begin so, but for what SQL workers that were killed left behind."""
    folders = [runs, *(lock.parent for lock in runs.glob("*/lock") if _is_locked(lock))]
    return [str(path) for folder in folders if folder.is_dir() for path in folder.iterdir() if path.name.startswith(tuple(beginnings))]


def _is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
