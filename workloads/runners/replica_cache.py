"""The copies of product versions that do not lie at a place: few enough bytes, proved ones, and never one that a run reads removed.

A folder holds whole copies under content addresses, `<sha256><ending>`; a name appears there only after size and checksum
agreed, so what has the name needs no second look. Beside them, in `.state/`, lie the beginnings of copies under way, how large
each will be, and locks. All of it is files and locks of the kernel, so any number of processes share a folder, and one that is
killed holds nothing any more: its copy under way is gone on with, or makes room for others.

The books are made under one lock: what is whole counts with its size, what somebody brings in counts in full from the beginning,
and what nobody brings in any more with the bytes that it has. So the folder never holds more than its capacity. Room is made by
removing what was used longest ago and nobody uses. All inputs of a run are booked at once or not at all, so that two runs never
hold what the other one waits for.

A copy may be brought ahead of the run that will read it (`ahead.py`). What that moved is noted beside it until a run takes it, which
tells it as its own; such copies take at most half of the folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from workloads.errors import CacheError, DataChangedError
from workloads.runners.ahead_notes import Notes
from workloads.runners.copies import Brought, Entry, Use, Wanted
from workloads.sizes import size

STATE_DIRECTORY = ".state"
PATIENCE_S = 60.0
_LOOK_AGAIN_S = 0.1
_NAME = re.compile(r"^[0-9a-f]{64}(?:(?:\.csv)?\.[a-z0-9]{1,8})?$")


Bring = Callable[[Wanted, Path], Sequence[Brought]]


class ReplicaCache:
    """One folder of copies. Any number of objects, threads and processes may share it.

    `capacity_bytes` is the most that it may hold; `free_bytes` tells what its disk has left.
    """

    def __init__(self, folder: Path, capacity_bytes: int, *, free_bytes: Callable[[], int] | None = None) -> None:
        self.folder, self.capacity_bytes = folder, capacity_bytes
        self.state = folder / STATE_DIRECTORY
        self._free_bytes = free_bytes or (lambda: shutil.disk_usage(folder).free)
        self.state.mkdir(parents=True, exist_ok=True, mode=0o700)

    def take(
        self, wanted: Sequence[Wanted], bring: Bring, *, patience_s: float = PATIENCE_S, pause: Callable[[float], None] = time.sleep
    ) -> tuple[dict[str, Path], Use]:
        """The copies of these versions by checksum, held until the use is closed; what is missing is brought in, by one at a time.

        Waits up to `patience_s` for room that runs hold. Raises CacheError when there is none, and what `bring` raises; then
        nothing is held. `bring` leaves the whole, proved copy at the path that it is given, which may hold a beginning of it.
        """
        items = sorted({item.name: item for item in wanted}.values(), key=lambda item: item.name)
        use = self._booked(items, patience_s, pause)
        try:
            for item in items:
                self._have(item, bring, use)
                use.include(self._notes(item.name).claim(self._books))
        except BaseException:
            use.close()
            raise
        return {item.sha256: self.folder / item.name for item in items}, use

    def bring_ahead(self, item: Wanted, bring: Bring, spared: Collection[str] = ()) -> None:
        """Have a copy of it before a run asks; nothing where there is one. `spared` are names of copies that make no room for it.

        Raises CacheError at once where there is no room, and what `bring` raises; a beginning stays then.
        """
        use = Use()
        if not self._book([item], use, ahead=True, spared=spared):
            raise CacheError("there is no room to bring it ahead")
        try:
            if use.evicted_bytes:
                self._notes(item.name).made_room(use.evicted, use.evicted_bytes)
            self._have(item, partial(self._noting, bring), use)
        finally:
            use.close()

    def has(self, item: Wanted) -> bool:
        """Whether a whole copy lies here."""
        return (self.folder / item.name).exists()

    def entries(self) -> list[Entry]:
        """All that the folder has, by name."""
        with self._books():
            return self._entries()

    @property
    def identity(self) -> str:
        """A name that the folder has for all who share it."""
        path = self.state / "folder"
        with self._books():
            if not path.exists():
                path.write_text(uuid.uuid4().hex, encoding="ascii")
            return path.read_text(encoding="ascii")

    def remove(self, sha256: str) -> bool:
        """Remove all copies of a version. False when a run still reads one, which stays."""
        with self._books():
            found = [entry for entry in self._entries() if entry.name.startswith(sha256)]
            for entry in found:
                if not entry.held:
                    self._remove(entry.name)
        return not any(entry.held for entry in found)

    # --- the books ---

    def _booked(self, items: Sequence[Wanted], patience_s: float, pause: Callable[[float], None]) -> Use:
        asked = sum(item.size_bytes for item in items)
        if asked > self.capacity_bytes:
            raise CacheError(
                f"the inputs that do not lie here take {size(asked)}, the cache here has {size(self.capacity_bytes)}; raise CPN_CACHE_GIB "
                "of its agent, publish a replica here, or run where they lie"
            )
        use = Use()
        while not self._book(items, use):
            self._check_disk(items)
            if patience_s <= 0:
                raise CacheError(
                    f"there is no room for {size(asked)} in the cache: runs use what is not free of its {size(self.capacity_bytes)}, or "
                    "the disk is full; run fewer at once, raise CPN_CACHE_GIB, or make room on the disk"
                )
            pause(_LOOK_AGAIN_S)
            patience_s -= _LOOK_AGAIN_S
        return use

    def _check_disk(self, items: Sequence[Wanted]) -> None:
        """Raises CacheError where its disk could not take them without all other copies: to wait for runs is in vain then."""
        with self._books():
            there = {entry.name: entry.size_bytes - entry.missing_bytes for entry in self._entries()}
            free = self._free_bytes()
        names = {item.name for item in items}
        missing = sum(max(item.size_bytes - there.get(item.name, 0), 0) for item in items)
        most = free + sum(bytes_there for name, bytes_there in there.items() if name not in names)
        if missing > most:
            raise CacheError(
                f"the disk is full: {size(missing)} are to be copied to {self.folder}, and without all other copies there would be room "
                f"for {size(most)}; make room on it, or name a folder on a larger disk by CPN_CACHE_DIR"
            )

    def _book(self, items: Sequence[Wanted], use: Use, *, ahead: bool = False, spared: Collection[str] = ()) -> bool:
        """Hold all of these and make room for what is missing; or leave everything as it is, as far as nothing was used longer ago."""
        with self._books():
            for item in items:
                self._hold(item, use)
            if (not ahead or self._within_half(items)) and self._make_room(use, spared):
                now = time.time_ns()
                for item in items:
                    with contextlib.suppress(FileNotFoundError):
                        os.utime(self.folder / item.name, ns=(now, now))
                return True
            use.close()
        return False

    def _hold(self, item: Wanted, use: Use) -> None:
        path = self.folder / item.name
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size != item.size_bytes:
                # Somebody else wrote here: it is not what was proved.
                path.unlink()
        descriptor = os.open(self._lock(item.name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        use._holds.append(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not path.exists():
            self._size(item.name).write_text(str(item.size_bytes), encoding="ascii")

    def _within_half(self, items: Sequence[Wanted]) -> bool:
        """Note that these are brought ahead, unless that would be more than half of the folder; the other half is for runs."""
        missing = [item for item in items if not self.has(item)]
        names = {item.name for item in missing}
        others = sum(entry.size_bytes for entry in self._entries() if entry.ahead and entry.name not in names)
        if 2 * (others + sum(item.size_bytes for item in missing)) > self.capacity_bytes:
            return False
        for item in missing:
            self._notes(item.name).begin()
        return True

    def _make_room(self, use: Use, spared: Collection[str] = ()) -> bool:
        """Remove what was used longest ago until all that is booked fits. Removes nothing where that would not be enough."""
        entries = self._entries()
        over = sum(entry.size_bytes for entry in entries) - self.capacity_bytes
        short = sum(entry.missing_bytes for entry in entries) - self._free_bytes()
        doomed: list[Entry] = []
        idle = (entry for entry in entries if not entry.held and entry.name not in spared)
        for entry in sorted(idle, key=lambda entry: (entry.used_ns, entry.name)):
            if over <= 0 and short <= 0:
                break
            doomed.append(entry)
            over, short = over - entry.size_bytes, short - entry.size_bytes
        if over > 0 or short > 0:
            return False
        for entry in doomed:
            self._remove(entry.name)
            use.evicted += entry.whole
            use.evicted_bytes += entry.size_bytes
        return True

    def _entries(self) -> list[Entry]:
        whole = {path.name for path in self.folder.iterdir() if _NAME.match(path.name)}
        begun = {path.stem for path in self.state.glob("*.part")} | {path.stem for path in self.state.glob("*.size")}
        found = [self._whole(name) for name in sorted(whole)] + [self._begun(name) for name in sorted(begun - whole)]
        for entry in found:
            if not (entry.whole or entry.held or entry.size_bytes):
                self._remove(entry.name)
        return [entry for entry in found if entry.whole or entry.held or entry.size_bytes]

    def _whole(self, name: str) -> Entry:
        status = (self.folder / name).stat()
        return Entry(name, status.st_size, status.st_mtime_ns, self._is_held(name), whole=True, ahead=self._notes(name).exists())

    def _begun(self, name: str) -> Entry:
        size, used_ns = 0, 0
        with contextlib.suppress(FileNotFoundError):
            status = self._part(name).stat()
            size, used_ns = status.st_size, status.st_mtime_ns
        entry = Entry(name, size, used_ns, self._is_held(name), whole=False, ahead=self._notes(name).exists())
        if not entry.held:
            return entry
        with contextlib.suppress(FileNotFoundError, ValueError):
            booked = int(self._size(name).read_text(encoding="ascii"))
            entry = replace(entry, size_bytes=max(booked, size), missing_bytes=max(booked - size, 0))
        return entry

    def _is_held(self, name: str) -> bool:
        try:
            descriptor = os.open(self._lock(name), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _remove(self, name: str) -> None:
        """All that there is of a version that nobody holds."""
        for path in (self.folder / name, self._part(name), self._size(name), self._turn(name), self._lock(name), self._fault(name)):
            path.unlink(missing_ok=True)
        self._notes(name).drop()

    # --- one transfer at a time ---

    def _have(self, item: Wanted, bring: Bring, use: Use) -> None:
        path = self.folder / item.name
        if not path.exists():
            asked_ns = time.time_ns()
            with _locked(self._turn(item.name)):
                if not path.exists():
                    self._check_fault(item, asked_ns)
                    use.brought.extend(self._brought(item, bring))
                    use.misses += 1
                    return self._publish(item)
        use.hits += 1
        return None

    def _brought(self, item: Wanted, bring: Bring) -> Sequence[Brought]:
        """Bring it in; where the bytes are not those that were published, leave word for all who wait for their turn."""
        try:
            return bring(item, self._part(item.name))
        except DataChangedError as error:
            self._fault(item.name).write_text(str(error), encoding="utf-8")
            raise

    def _noting(self, bring: Bring, item: Wanted, part: Path) -> Sequence[Brought]:
        """Bring it in, and note what that moves for the run that will read it; the beginning too, where it is left at one."""
        before = _size_of(part)
        try:
            moved = bring(item, part)
        except BaseException:
            if (came := _size_of(part) - before) > 0:
                self._notes(item.name).add([Brought(item.source, came, 0.0, sha256=item.sha256)])
            raise
        self._notes(item.name).add(moved)
        return moved

    def _check_fault(self, item: Wanted, asked_ns: int) -> None:
        """Raises DataChangedError where another found so while this one waited; what was found before is looked at anew."""
        fault = self._fault(item.name)
        with contextlib.suppress(FileNotFoundError):
            if fault.stat().st_mtime_ns >= asked_ns:
                raise DataChangedError(fault.read_text(encoding="utf-8"))

    def _publish(self, item: Wanted) -> None:
        """Give the copy its name. Under the books' lock, or it could be seen in neither place."""
        with self._books():
            self._part(item.name).replace(self.folder / item.name)
            for path in (self._size(item.name), self._fault(item.name)):
                path.unlink(missing_ok=True)
            _sync_folder(self.folder)

    @contextlib.contextmanager
    def _books(self) -> Iterator[None]:
        with _locked(self.state / "books.lock"):
            yield

    def _lock(self, name: str) -> Path:
        return self.state / f"{name}.lock"

    def _turn(self, name: str) -> Path:
        return self.state / f"{name}.turn"

    def _fault(self, name: str) -> Path:
        return self.state / f"{name}.fault"

    def _part(self, name: str) -> Path:
        return self.state / f"{name}.part"

    def _notes(self, name: str) -> Notes:
        return Notes(self.state / f"{name}.ahead")

    def _size(self, name: str) -> Path:
        return self.state / f"{name}.size"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _size_of(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
