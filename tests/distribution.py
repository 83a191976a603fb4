"""Which of pytest's worker processes runs which tests, where there are several (`-n`).

A file's tests stay together, because they share what the file starts. Some files share more: a real Ray, or a Kubernetes control
plane, that lives until its worker ends and takes seconds and hundreds of megabytes to start. Files say by their name that they
need one, and as long as there is other work, only one worker does those.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

SHARED = ("ray", "kube")


def need_of(path: str) -> str:
    """What the tests of a file share with other files: `ray` for `test_ray_*.py`, `kube` for `test_kube_*.py`, else nothing."""
    return next((need for need in SHARED if PurePosixPath(path).name.startswith(f"test_{need}_")), "")


def choose(waiting: list[str], done: list[str], others: list[str]) -> str:
    """The file that a worker takes next: of those that wait, given those that it and the other workers took before.

    First what needs what it has started, then what needs what nobody has started, then what needs nothing, and only then what needs
    what another worker has: with nothing else left, two small clusters are done sooner than one.
    """
    mine, theirs = {need_of(path) for path in done} - {""}, {need_of(path) for path in others}

    def rank(path: str) -> int:
        need = need_of(path)
        return 2 if not need else 0 if need in mine else 1 if need not in theirs else 3

    return min(waiting, key=lambda path: (rank(path), path))


class Distribution(LoadScopeScheduling):  # type: ignore[misc]
    """Files in alphabetical order, but for those that share something."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0]

    def _assign_work_unit(self, node: WorkerController) -> None:
        others = [path for other, taken in self.assigned_work.items() if other is not node for path in taken]
        path = choose(list(self.workqueue), list(self.assigned_work[node]), others)
        self.workqueue.move_to_end(path, last=False)
        super()._assign_work_unit(node)

    def remove_node(self, node: WorkerController) -> str | None:
        """A worker is gone, and with it the test that it was at: that one has failed, and what came after it goes to others."""
        taken = self.assigned_work[node]
        crashed = next((test for unit in taken.values() for test, completed in unit.items() if not completed), None)
        if crashed is not None:
            # Else it would be run again, and end the next worker.
            taken[self._split_scope(crashed)][crashed] = True
        self.assigned_work[node] = {path: unit for path, unit in taken.items() if not all(unit.values())}
        super().remove_node(node)
        return crashed
