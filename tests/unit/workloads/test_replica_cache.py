"""The cache of copies: what fits, what has to go, who brings in, and what the dead leave behind."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.network import until
from workloads.errors import CacheError, DataChangedError
from workloads.runners.copies import Brought, Use, Wanted
from workloads.runners.replica_cache import STATE_DIRECTORY, ReplicaCache

REPOSITORY = Path(__file__).parents[3]


def version(name: str, size: int = 10) -> Wanted:
    """A version of so many bytes, which are its name again and again."""
    data = (name * size)[:size].encode()
    return Wanted(f"/data/{name}.csv", size, hashlib.sha256(data).hexdigest(), "sh")


class Source:
    """Where all versions are to be had; `brought` are those that were asked for, in order."""

    def __init__(self) -> None:
        self.brought: list[str] = []

    def __call__(self, item: Wanted, part: Path) -> list[Brought]:
        name = Path(item.uri).stem
        self.brought.append(name)
        part.write_bytes((name * item.size_bytes)[: item.size_bytes].encode())
        return [Brought("sh", item.size_bytes, 1.0)]


@pytest.fixture
def source() -> Source:
    return Source()


def cache(tmp_path: Path, capacity: int = 30, *, free: int = 10**9) -> ReplicaCache:
    return ReplicaCache(tmp_path / "cache", capacity, free_bytes=lambda: free)


def taken(cache: ReplicaCache, source: Source, *names: str, size: int = 10) -> Use:
    return cache.take([version(name, size) for name in names], source, patience_s=0.0)[1]


def held(cache: ReplicaCache) -> list[str]:
    """The whole copies, by what is in them."""
    return sorted((cache.folder / entry.name).read_text()[0] for entry in cache.entries() if entry.whole)


def test_a_copy_lies_under_its_checksum_and_is_brought_once(tmp_path: Path, source: Source) -> None:
    copies = cache(tmp_path)
    for hits, misses in ((0, 1), (1, 0)):
        found, use = copies.take([version("a")], source)
        assert found == {version("a").sha256: tmp_path / "cache" / f"{version('a').sha256}.csv"}
        assert (use.hits, use.misses) == (hits, misses)
        use.close()
    assert source.brought == ["a"]
    assert found[version("a").sha256].read_bytes() == b"aaaaaaaaaa"


def test_what_was_used_longest_ago_makes_room(tmp_path: Path, source: Source) -> None:
    copies = cache(tmp_path)
    for name in ("a", "b", "c", "a"):
        taken(copies, source, name).close()
    use = taken(copies, source, "d")
    assert (held(copies), use.evicted, use.evicted_bytes) == (["a", "c", "d"], 1, 10)


def test_what_a_run_reads_stays_and_others_wait_for_it(tmp_path: Path, source: Source) -> None:
    copies = cache(tmp_path)
    use = taken(copies, source, "a", "b")
    taken(copies, source, "c").close()
    with pytest.raises(CacheError, match=r"no room.*run fewer at once, raise CPN_CACHE_GIB"):
        taken(copies, source, "d", "e")
    assert held(copies) == ["a", "b", "c"]
    paused: list[float] = []

    def pause(seconds: float) -> None:
        paused.append(seconds)
        use.close()

    copies.take([version("d"), version("e")], source, pause=pause)
    assert len(paused) == 1
    assert held(copies)[-2:] == ["d", "e"]


def test_inputs_larger_than_the_cache_are_refused_at_once(tmp_path: Path, source: Source) -> None:
    with pytest.raises(CacheError, match=r"raise CPN_CACHE_GIB of its agent, publish a replica here, or run where they lie"):
        taken(cache(tmp_path), source, "a", size=31)
    assert source.brought == []


def test_a_disk_that_is_fuller_than_the_cache_may_be_makes_room_too(tmp_path: Path, source: Source) -> None:
    taken(cache(tmp_path), source, "a", "b").close()
    narrow = cache(tmp_path, free=3)
    taken(narrow, source, "c").close()
    assert held(narrow) == ["b", "c"] or held(narrow) == ["a", "c"]
    with pytest.raises(CacheError, match="the disk is full"):
        taken(cache(tmp_path, free=-25), source, "d")
    assert len(held(narrow)) == 2


def test_a_failed_transfer_holds_nothing_and_its_beginning_makes_room(tmp_path: Path, source: Source) -> None:
    copies = cache(tmp_path)

    def cut(_: Wanted, part: Path) -> Brought:
        part.write_bytes(b"a" * 4)
        raise DataChangedError("cut")

    with pytest.raises(DataChangedError, match="cut"):
        copies.take([version("a")], cut)
    assert [(entry.size_bytes, entry.held, entry.whole) for entry in copies.entries()] == [(4, False, False)]
    taken(copies, source, "b", "c", "d").close()
    assert held(copies) == ["b", "c", "d"]
    assert [path.name for path in copies.state.glob("*.part")] == []


def test_a_copy_that_somebody_spoilt_is_brought_anew(tmp_path: Path, source: Source) -> None:
    copies = cache(tmp_path)
    taken(copies, source, "a").close()
    (copies.folder / version("a").name).write_bytes(b"a")
    taken(copies, source, "a").close()
    assert source.brought == ["a", "a"]
    assert held(copies) == ["a"]


def test_a_version_is_removed_when_no_run_reads_it(tmp_path: Path, source: Source) -> None:
    copies = cache(tmp_path)
    use = taken(copies, source, "a", "b")
    assert not copies.remove(version("a").sha256)
    assert held(copies) == ["a", "b"]
    use.close()
    assert copies.remove(version("a").sha256)
    assert copies.remove(version("a").sha256)
    assert held(copies) == ["b"]
    assert sorted(path.name for path in copies.state.iterdir() if path.name.startswith(version("a").sha256)) == []


def test_however_many_want_a_version_it_is_brought_once(tmp_path: Path) -> None:
    copies, source, going, open_ = cache(tmp_path), Source(), threading.Event(), threading.Event()

    def slowly(item: Wanted, part: Path) -> Brought:
        going.set()
        assert open_.wait(20)
        return source(item, part)

    uses: list[Use] = []
    threads = [threading.Thread(target=lambda: uses.append(copies.take([version("a")], slowly)[1])) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert going.wait(20)
    assert [(entry.size_bytes, entry.held, entry.whole) for entry in copies.entries()] == [(10, True, False)]
    open_.set()
    for thread in threads:
        thread.join()
    assert source.brought == ["a"]
    assert sorted((use.hits, use.misses) for use in uses) == [(0, 1)] + [(1, 0)] * 7


def test_data_that_changed_is_fetched_once_for_all_who_wait_and_anew_for_who_comes_later(tmp_path: Path) -> None:
    copies, going, open_ = cache(tmp_path), threading.Event(), threading.Event()
    tried: list[str] = []

    def changed(item: Wanted, part: Path) -> Brought:  # noqa: ARG001
        tried.append(item.uri)
        going.set()
        assert open_.wait(20)
        raise DataChangedError("it changed")

    found: list[str] = []

    def want() -> None:
        try:
            copies.take([version("a")], changed)
        except DataChangedError as error:
            found.append(str(error))

    threads = [threading.Thread(target=want) for _ in range(4)]
    threads[0].start()
    assert going.wait(20)
    for thread in threads[1:]:
        thread.start()
    locks = Path("/proc/locks")
    inode = str((copies.state / f"{version('a').name}.turn").stat().st_ino)
    until(lambda: sum("->" in line and f":{inode} " in line for line in locks.read_text().splitlines()) == 3, "three wait for their turn")
    open_.set()
    for thread in threads:
        thread.join()
    assert (found, len(tried)) == (["it changed"] * 4, 1)
    want()
    assert len(tried) == 2
    copies.take([version("a")], Source())[1].close()
    assert held(copies) == ["a"]


def test_a_killed_process_holds_nothing_and_its_beginning_is_gone_on_with(tmp_path: Path) -> None:
    item = version("a")
    code = f"""
import os, signal
from pathlib import Path
from workloads.runners.copies import Wanted
from workloads.runners.replica_cache import ReplicaCache
def cut(item, part):
    part.write_bytes(b"aaaa")
    os.kill(os.getpid(), signal.SIGKILL)
ReplicaCache(Path({str(tmp_path / "cache")!r}), 30).take([Wanted({item.uri!r}, 10, {item.sha256!r})], cut)
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False)
    assert killed.returncode == -signal.SIGKILL
    copies = cache(tmp_path)
    assert [(entry.size_bytes, entry.held) for entry in copies.entries()] == [(4, False)]
    begun: list[int] = []

    def go_on(item: Wanted, part: Path) -> Brought:
        begun.append(part.stat().st_size)
        return Source()(item, part)

    copies.take([item], go_on)[1].close()
    assert (begun, held(copies)) == ([4], ["a"])


def test_no_process_started_meanwhile_holds_a_copy(tmp_path: Path, source: Source) -> None:
    copies = cache(tmp_path)
    use = taken(copies, source, "a")
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        use.close()
        assert copies.remove(version("a").sha256)
        child.kill()


def test_the_folder_of_states_is_private_and_no_copy(tmp_path: Path, source: Source) -> None:
    copies = cache(tmp_path)
    taken(copies, source, "a").close()
    assert oct(os.stat(tmp_path / "cache" / STATE_DIRECTORY).st_mode & 0o777) == "0o700"
    assert [entry.name for entry in copies.entries()] == [version("a").name]
