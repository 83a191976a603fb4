"""What bounds a command: the kernel each of its processes, and whoever started it all that descends from it, by looking at what they hold.

The kernel's own limits for one process (RLIMIT_AS, RLIMIT_DATA, RLIMIT_NPROC) count addresses, or all that a user runs, and a group with
a limit of its own (cgroup) needs rights that a run has in a pod and not on a node of Ray. So whoever started the command looks: at the
tree of processes below itself, again and again, as often as what is left of the memory could be gone by then.

Counted is what only the end of the processes gives back: their anonymous and their shared memory. What they have mapped of files, inputs
and libraries, the kernel drops when it needs the room. Memory that processes share, after a fork for example, is counted once, which
takes longer to find out; so that is done only when the plain sum is too much, and holds until that changes.

Read by itself, without our packages: the leash loads it in a bare interpreter, and clusters that are reached by the Job API alone have
it sent to them, for Python 3.8 and later.
"""

from __future__ import annotations

import os
import resource
import time

TYPE_CHECKING = False  # The typing module takes long to load.
if TYPE_CHECKING:
    from typing import Any

# A core writes to fresh memory no faster than about this.
BYTES_PER_S = 2 * 1024**3
SOONEST_S, LATEST_S = 0.02, 0.25
# Of a core's time looks take one part in so many at most.
REST = 50
# What is shared among many, which takes long to find out, is looked at again after this time at the latest.
LONGEST_UNKNOWN_S = 10.0
KIB = 1024
# What a file leaves free on a disk that has more than twice as much.
LEFT_FREE_BYTES = 1024**3


def bind_process(limits: dict[str, Any]) -> None:
    """From here on this process, and what it starts, has no larger file and no more open files. No core is written."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number, most in ((resource.RLIMIT_FSIZE, limits["file_bytes"]), (resource.RLIMIT_NOFILE, limits["open_files"])):
        hard = resource.getrlimit(number)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(number, (bound, bound))


def room_for_a_file(folder: str) -> int:
    """How large a file may become there without the disk being full of it, in bytes."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    return free - LEFT_FREE_BYTES if free > 2 * LEFT_FREE_BYTES else free


class TreeWatch:
    """Looks at all that descends from this process. `due`: when to look next, by the monotonic clock.

    `memory_bytes` and `tasks` (processes and threads) are the most that they may hold at once; None: no limit. `shared`: whether shared
    memory counts, which is another's for those who use Ray's object store.
    """

    def __init__(self, memory_bytes: int | None, tasks: int | None, shared: bool = True) -> None:
        self._memory_bytes, self._tasks = memory_bytes, tasks
        self._keys = (b"RssAnon:", b"RssShmem:") if shared else (b"RssAnon:",)
        self._exact_keys = (b"Pss_Anon:", b"Pss_Shmem:") if shared else (b"Pss_Anon:",)
        self._exact_after = 0.0
        # What of each process's memory others were found to have too.
        self._shares: dict[int, int] = {}
        self.peak_bytes = 0
        self.took = 0
        self.due = time.monotonic() + self._pause(0)

    def look(self) -> str | None:
        """What they have too much of, `memory` or `tasks`, with the amount in `took`; None when all is well."""
        began = time.monotonic()
        found = descendants(os.getpid(), self._tasks)
        if self._tasks is not None and len(found) > self._tasks:
            # They may double while they are looked at one by one.
            self.took, self.due = len(found), began + LATEST_S
            return "tasks"
        held, tasks = self._held(found)
        now = time.monotonic()
        used = sum(max(amount - self._shares.get(pid, 0), 0) for pid, amount in held.items())
        self.due = now + max(self._pause(used), (now - began) * REST)
        if self._memory_bytes is not None and used > self._memory_bytes:
            # Too early to know it again: 0.
            used = self._exactly(held) if now >= self._exact_after else 0
        self.peak_bytes = max(self.peak_bytes, used)
        if self._memory_bytes is not None and used > self._memory_bytes:
            self.took = used
            return "memory"
        if self._tasks is not None and tasks > self._tasks:
            self.took = tasks
            return "tasks"
        return None

    def _pause(self, used: int) -> float:
        if self._memory_bytes is None:
            return LATEST_S
        return min(max((self._memory_bytes - used) / BYTES_PER_S, SOONEST_S), LATEST_S)

    def _held(self, pids: list[int]) -> tuple[dict[int, int], int]:
        """Bytes of each, what it shares in full, and the tasks of all."""
        held, tasks = {}, 0
        for pid in pids:
            status = _read(f"/proc/{pid}/status")
            held[pid] = sum(_kib(status, key) for key in self._keys) * KIB
            tasks += _kib(status, b"Threads:")
        return held, tasks

    def _exactly(self, held: dict[int, int]) -> int:
        """Bytes of all, what they share once. Takes as long as the kernel needs to look at every page."""
        began = time.monotonic()
        self._shares = {}
        for pid, amount in held.items():
            told = _read(f"/proc/{pid}/smaps_rollup")
            # Of one that has ended or hides, and of an older kernel that tells less, the plain sum counts.
            if b"Pss_Anon:" in told:
                self._shares[pid] = amount - sum(_kib(told, key) for key in self._exact_keys) * KIB
        now = time.monotonic()
        self._exact_after = now + min((now - began) * REST, LONGEST_UNKNOWN_S)
        return sum(amount - self._shares.get(pid, 0) for pid, amount in held.items())


def descendants(root: int, most: int | None = None) -> list[int]:
    """All processes below one, those before that started them, or the first of them when there are more than `most`.

    Children belong to the thread that made them.
    """
    found: list[int] = []
    parents = [root]
    while parents and (most is None or len(found) <= most):
        parent = parents.pop()
        try:
            threads = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        children = [int(pid) for thread in threads for pid in _read(f"/proc/{parent}/task/{thread}/children").split()]
        found += children
        parents += children
    return found


def _read(path: str) -> bytes:
    """A file of /proc; empty when its process is gone or does not let us."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = piece = os.read(descriptor, 65536)
        # The kernel gives a page at a time.
        while piece:
            piece = os.read(descriptor, 65536)
            data += piece
        return data
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _kib(text: bytes, key: bytes) -> int:
    """The number after a key."""
    at = text.find(b"\n" + key)
    return int(text[at + len(key) + 1 :].split(None, 1)[0]) if at >= 0 else 0
