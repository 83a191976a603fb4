"""Bring one version's bytes to this machine: from where a cut copy ended, no faster than its link may take, proved at the end.

The pace of a link is kept in a file that all processes of a machine share, as the time from which on the next byte may come: so a
cap holds for all transfers over a link together. Times there are those of the machine's steady clock, which begins anew when the
machine does, so the machine's start is told with them.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from workloads.catalogue.locations import Measure, Moved, Progress, prepare, read_on, shown, storable
from workloads.errors import CacheError, DataChangedError, DataError, DataUnavailableError
from workloads.runners.copies import Brought, Wanted
from workloads.runners.resting import Resting

MIB = 1024**2
# What was on the way when a line was cut may be lost with it, so one try that brings nothing says little.
_VAIN_TRIES = 3
_BOOT = Path("/proc/sys/kernel/random/boot_id")

Clock = Callable[[], float]
Pause = Callable[[float], None]


class Pace:
    """How fast all transfers over one link may be together, on this machine. `most_mib_s` None: as fast as they are."""

    def __init__(self, file: Path, most_mib_s: float | None, *, clock: Clock = time.monotonic, pause: Pause = time.sleep) -> None:
        self._file, self._most_mib_s, self._clock, self._pause = file, most_mib_s, clock, pause
        self.held_back = False

    def passed(self, size_bytes: int) -> None:
        """So many bytes came: wait until they may have come."""
        if self._most_mib_s is None:
            return
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            now = self._clock()
            boot = _boot()
            begin = _time_in(file.read(), boot, now)
            until = max(begin, now) + size_bytes / (self._most_mib_s * MIB)
            file.seek(0)
            file.truncate()
            file.write(f"{boot} {until!r}")
        if until > now:
            self.held_back = True
            self._pause(until - now)


def bring(item: Wanted, part: Path, pace: Pace, *, clock: Clock = time.monotonic, progress: Progress | None = None) -> Brought:
    """Leave the whole copy at `part`, on the disk; `progress` gets the bytes of it that are there.

    A transfer that is cut goes on where it stopped, as long as tries bring more; what was brought stays for the next one.
    Raises DataUnavailableError then, DataChangedError when the bytes are not those that were published, and CacheError when there
    is no room for them: both leave nothing.
    """
    prepare(item.uri)
    began, begun_bytes, moved = clock(), _size(part), 0

    def on_move(piece: int, size: int) -> None:
        nonlocal moved
        moved += piece
        pace.passed(piece)
        if progress is not None:
            progress(size)

    try:
        try:
            found = _to_the_end(item, part, on_move)
            compare(item.uri, found, item.size_bytes, item.sha256)
        except DataChangedError:
            if not begun_bytes:
                raise
            # What an earlier writer left may be what is wrong: once more, from the beginning.
            part.unlink(missing_ok=True)
            found = _to_the_end(item, part, on_move)
            compare(item.uri, found, item.size_bytes, item.sha256)
    except (DataChangedError, CacheError):
        part.unlink(missing_ok=True)
        raise
    return Brought(item.source, moved, clock() - began, capped=pace.held_back, sha256=item.sha256)


def bring_from_any(
    item: Wanted, part: Path, pace_of: Callable[[str], Pace], *, clock: Clock = time.monotonic, progress: Progress | None = None,
    resting: Resting | None = None,
) -> list[Brought]:  # fmt: skip
    """Bring it from the first of its places that has it; what came from one that broke is gone on with from the next.

    `pace_of` gives the pace of the link from a cluster. Raises CacheError at once. Where all places fail: what the only one raised,
    else DataChangedError when each has other bytes than were published, and DataUnavailableError with what every one said. Places in
    `resting` are left out while they rest, but for an only one that had other bytes: they may have been put right.
    """
    moved: list[Brought] = []
    failed: list[DataError] = []
    for uri, source in ((item.uri, item.source), *item.others):
        place, pace = replace(item, uri=uri, source=source), pace_of(source)
        began, begun_bytes = clock(), _size(part)
        if resting is not None and (rests := resting.error(uri)) is not None and (item.others or not isinstance(rests, DataChangedError)):
            failed.append(rests)
            continue
        try:
            brought = bring(place, part, pace, clock=clock, progress=progress)
            if resting is not None:
                resting.worked(uri)
            return [*moved, brought]
        except CacheError:
            raise
        except DataError as error:
            failed.append(error)
            if resting is not None:
                resting.failed(uri, error)
            came = _size(part) - begun_bytes
            if came > 0:
                moved.append(Brought(source, came, clock() - began, capped=pace.held_back, sha256=item.sha256))
    if len(failed) == 1:
        raise failed[0]
    changed = all(isinstance(error, DataChangedError) for error in failed)
    raise (DataChangedError if changed else DataUnavailableError)("no place has it: " + "; ".join(map(str, failed)))


def _to_the_end(item: Wanted, part: Path, moved: Moved) -> Measure:
    """Read on, and again after each cut, until all is there or several tries in a row brought nothing."""
    left = _VAIN_TRIES
    while True:
        before = _size(part)
        try:
            return _read_on(item, part, moved)
        except DataUnavailableError:
            left = left - 1 if _size(part) <= before else _VAIN_TRIES
            if not left:
                raise


def _read_on(item: Wanted, part: Path, moved: Moved) -> Measure:
    # What the disk raises when the file is closed counts too.
    with storable(item.uri):
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b") as target:
            if _size(part) > item.size_bytes:
                target.truncate(0)
            found = read_on(item.uri, target, most_bytes=item.size_bytes, moved=moved)
            target.flush()
            os.fsync(target.fileno())
            return found


def compare(uri: str, found: Measure, size_bytes: int, sha256: str) -> None:
    """Raises DataChangedError when these are not the bytes that were published."""
    if found.size_bytes != size_bytes:
        what = f"holds {found.size_bytes} bytes, published were {size_bytes}"
    elif found.sha256 != sha256:
        what = f"has checksum {found.sha256[:12]}…, published was {sha256[:12]}…"
    else:
        return
    raise DataChangedError(f"{shown(uri)} {what}: the data changed since its publication; publish it as a new version")


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _time_in(text: str, boot: str, now: float) -> float:
    """From when on the next byte may come; now, when the machine was started since, or nothing was written."""
    try:
        told_boot, time_s = text.split(" ")
        return float(time_s) if told_boot == boot else now
    except ValueError:
        return now


def _boot() -> str:
    """Which start of this machine it is."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"
