"""The cache of copies, whatever is asked of it: never over its capacity, nothing removed that a run reads, one transfer for a version.

What is brought ahead never takes more than half of it, and each byte of it is told by one run at most.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from workloads.errors import CacheError, DataUnavailableError
from workloads.runners.copies import Brought, Use, Wanted
from workloads.runners.replica_cache import ReplicaCache

CAPACITY = 12
SIZES = {"a": 1, "b": 2, "c": 3, "d": 5, "e": 8, "f": 12, "g": 13}
NAMES = st.lists(st.sampled_from(sorted(SIZES)), min_size=1, max_size=3)


def wanted(name: str) -> Wanted:
    return Wanted(f"/data/{name}.csv", SIZES[name], hashlib.sha256(name.encode() * SIZES[name]).hexdigest(), "sh")


class Caching(RuleBasedStateMachine):
    """Runs that take and leave versions, transfers that break, restarts, and removals, beside a model of what is whole."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.cache = ReplicaCache(Path(self.directory.name), CAPACITY, free_bytes=lambda: 10**9)
        self.uses: list[tuple[frozenset[str], Use]] = []
        self.whole: set[str] = set()
        self.brought: list[str] = []
        self.ahead: Counter[str] = Counter()  # The bytes that were moved ahead and that no run has told, by name.

    def teardown(self) -> None:
        for _, use in self.uses:
            use.close()
        self.directory.cleanup()

    def _bring(self, item: Wanted, part: Path) -> list[Brought]:
        name = Path(item.uri).stem
        assert name not in self.found(), "what is whole is not brought again"
        self.brought.append(name)
        part.write_bytes(name.encode() * item.size_bytes)
        self.within()
        return [Brought("sh", item.size_bytes, 1.0, sha256=item.sha256)]

    def _break(self, item: Wanted, part: Path) -> list[Brought]:
        part.write_bytes(Path(item.uri).stem.encode() * (item.size_bytes // 2))
        self.within()
        raise DataUnavailableError("cut")

    def found(self) -> set[str]:
        return {path.read_text()[0] for path in self.cache.folder.iterdir() if path.is_file()}

    @rule(names=NAMES)
    def take(self, names: list[str]) -> None:
        pinned = {name for held, _ in self.uses for name in held}
        needed = sum(SIZES[name] for name in pinned | set(names))
        before = self.found()
        try:
            paths, use = self.cache.take([wanted(name) for name in names], self._bring, patience_s=0.0)
        except CacheError:
            assert needed > CAPACITY, "it is refused only where what runs read leaves no room"
            assert self.found() == before, "what could not help was not removed"
            return
        assert needed <= CAPACITY
        self.told(use)
        assert {path.read_text()[0] for path in paths.values()} == set(names)
        assert (use.hits, use.misses) == (len(set(names) & before), len(set(names) - before))
        self.uses.append((frozenset(names), use))

    @rule(name=st.sampled_from(sorted(SIZES)), spared=NAMES, cut=st.booleans())
    def bring_ahead(self, name: str, spared: list[str], cut: bool) -> None:
        before, begun = self.found(), self.bytes_of(name)
        kept = {name for held, _ in self.uses for name in held} | (before & set(spared))
        try:
            self.cache.bring_ahead(wanted(name), self._break if cut else self._bring, {wanted(other).name for other in spared})
        except CacheError:
            assert self.found() == before
        except DataUnavailableError:
            self.ahead[name] += max(self.bytes_of(name) - begun, 0)
        else:
            if name not in before:
                self.ahead[name] += SIZES[name]
        assert kept <= self.found()

    def told(self, use: Use) -> None:
        """A run tells of what was moved ahead that no run has told yet, and of no version twice."""
        for one in use.brought:
            if one.ahead:
                name = next(name for name in SIZES if wanted(name).sha256 == one.sha256)
                self.ahead[name] -= one.size_bytes
                assert self.ahead[name] >= 0

    def bytes_of(self, name: str) -> int:
        part = self.cache.state / f"{wanted(name).name}.part"
        return part.stat().st_size if part.exists() else 0

    @invariant()
    def half_is_for_runs(self) -> None:
        assert 2 * sum(entry.size_bytes for entry in self.cache.entries() if entry.ahead) <= CAPACITY

    @rule(names=NAMES)
    def break_off(self, names: list[str]) -> None:
        missing = set(names) - self.found()
        try:
            _, use = self.cache.take([wanted(name) for name in names], self._break, patience_s=0.0)
        except (CacheError, DataUnavailableError):
            return
        assert not missing
        self.told(use)
        self.uses.append((frozenset(names), use))

    @precondition(lambda self: self.uses)
    @rule(which=st.integers(0, 9))
    def leave(self, which: int) -> None:
        self.uses.pop(which % len(self.uses))[1].close()

    @rule(name=st.sampled_from(sorted(SIZES)))
    def remove(self, name: str) -> None:
        reads = any(name in held for held, _ in self.uses)
        assert self.cache.remove(wanted(name).sha256) is not reads
        assert reads or name not in self.found()

    @rule()
    def begin_anew(self) -> None:
        self.cache = ReplicaCache(self.cache.folder, CAPACITY, free_bytes=lambda: 10**9)

    @invariant()
    def within(self) -> None:
        files = [path for path in self.cache.folder.rglob("*") if path.is_file() and path.suffix in (".csv", ".part")]
        assert sum(path.stat().st_size for path in files) <= CAPACITY

    @invariant()
    def books_agree(self) -> None:
        entries = self.cache.entries()
        assert sum(entry.size_bytes for entry in entries) <= CAPACITY
        pinned = {wanted(name).name for held, _ in self.uses for name in held}
        assert {entry.name for entry in entries if entry.held} == pinned

    @invariant()
    def what_runs_read_is_there(self) -> None:
        assert {name for held, _ in self.uses for name in held} <= self.found()


TestCaching = Caching.TestCase
# Each step writes to a disk and waits for it.
TestCaching.settings = settings(max_examples=25, stateful_step_count=20)
