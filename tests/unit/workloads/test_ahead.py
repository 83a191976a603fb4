"""Data brought ahead of runs: from a real server, in one transfer with the run that wants it meanwhile, and within half of the cache."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.file_server import FileServer, serving_files
from tests.network import until
from workloads.catalogue import locations
from workloads.catalogue.locations import Progress
from workloads.errors import DataUnavailableError
from workloads.runners.ahead import Ahead, Sought
from workloads.runners.copies import Brought, Use, Wanted
from workloads.runners.replica_cache import ReplicaCache
from workloads.runners.transfer import Pace, bring_from_any

SIZE = 100_000


@pytest.fixture(scope="module")
def running() -> Iterator[FileServer]:
    with serving_files() as server:
        yield server


@pytest.fixture
def server(running: FileServer) -> FileServer:
    """Has versions `a` to `f`."""
    running.files = {f"/{letter}.csv": letter.encode() * SIZE for letter in "abcdef"}
    running.cut_after = None
    running.asked.clear()
    running.begun.clear()
    running.gate.set()
    return running


class Node:
    """A node's cache with room for `capacity` versions, what it brings ahead, and clocks that stand until they are set."""

    def __init__(self, folder: Path, server: FileServer, capacity: float) -> None:
        self.cache = ReplicaCache(folder, int(capacity * SIZE), free_bytes=lambda: 10**9)
        self.url, self.seconds = server.url, 0.0
        self.step: Callable[[str, int], None] = lambda _name, _size: None
        self.ahead = Ahead(self.cache, self._carry, clock=lambda: self.seconds, now=lambda: self.seconds)

    def _carry(self, item: Wanted, part: Path, progress: Progress | None = None) -> Sequence[Brought]:
        def on_move(size: int) -> None:
            self.step(item.uri[-5], size)
            if progress is not None:
                progress(size)

        return bring_from_any(item, part, lambda source: Pace(self.cache.state / f"{source}.pace", None), progress=on_move)

    def version(self, letter: str) -> Wanted:
        return Wanted(f"{self.url}/{letter}.csv", SIZE, hashlib.sha256(letter.encode() * SIZE).hexdigest(), "sh")

    def want(self, letters: str, for_s: float = 30.0, until: float | None = None) -> None:
        self.ahead.want([Sought(self.version(letter), until) for letter in letters], for_s)

    def bring(self, letters: str) -> str:
        """Want these until all were looked at; what is there then."""
        self.want(letters)
        self.ahead.join()
        return self.there

    def read(self, letters: str) -> Use:
        return self.cache.take([self.version(letter) for letter in letters], partial(self._carry, progress=None), patience_s=0.0)[1]

    @property
    def there(self) -> str:
        return "".join(sorted((self.cache.folder / entry.name).read_text()[0] for entry in self.cache.entries() if entry.whole))


@pytest.fixture
def node(tmp_path: Path, server: FileServer) -> Node:
    return Node(tmp_path / "cache", server, 6)


def told(use: Use) -> list[tuple[str, int, bool]]:
    return [(one.source, one.size_bytes, one.ahead) for one in use.brought]


def test_who_reads_first_what_was_brought_ahead_tells_it_as_its_own(node: Node, server: FileServer) -> None:
    assert node.bring("ab") == "ab"
    assert [entry.ahead for entry in node.cache.entries()] == [True, True]
    first, second = node.read("a"), node.read("a")
    assert (told(first), first.hits, first.misses) == ([("sh", SIZE, True)], 1, 0)
    assert told(second) == []
    assert first.brought[0].seconds > 0, "it tells how fast the link was"
    assert [entry.ahead for entry in node.cache.entries()].count(True) == 1
    assert server.asked == {"/a.csv": 1, "/b.csv": 1}


def test_a_run_that_wants_it_meanwhile_waits_for_the_same_transfer(node: Node, server: FileServer) -> None:
    server.gate.clear()
    node.want("a")
    until(lambda: server.asked["/a.csv"] == 1, "it is on its way")
    uses: list[Use] = []
    reader = threading.Thread(target=lambda: uses.append(node.read("a")))
    reader.start()
    server.gate.set()
    reader.join(20)
    node.ahead.join()
    assert [told(use) for use in uses] == [[("sh", SIZE, True)]]
    assert server.asked["/a.csv"] == 1


@pytest.mark.parametrize("end", ["wanted no more", "nobody says it any more", "the right to it ends"])
def test_it_stops_on_the_way_and_the_run_goes_on_with_the_beginning(
    node: Node, server: FileServer, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_letter: str, _size: int) -> None:
        node.step = lambda _letter, _size: None
        if end == "wanted no more":
            node.want("b")
        else:
            node.seconds = 40.0

    # No piece is more than a half, and the first one is the last.
    monkeypatch.setattr(locations, "CHUNK_BYTES", SIZE // 2)
    node.step = stop
    node.want("a", for_s=30.0 if end == "nobody says it any more" else 90.0, until=35.0 if end == "the right to it ends" else None)
    node.ahead.join()
    assert node.there == ("b" if end == "wanted no more" else "")
    use = node.read("a")
    (_, rest, own), (_, beginning, ahead) = told(use)
    assert (own, ahead) == (False, True)
    assert (rest + beginning, server.begun[-1]) == (SIZE, beginning), "the beginning did not come again"
    assert 0 < beginning <= SIZE // 2


def test_what_is_brought_ahead_takes_at_most_half_and_lets_go_of_nothing_that_is_wanted(node: Node, server: FileServer) -> None:
    assert node.bring("abcdef") == "abc"
    assert node.bring("abcdef") == "abc", "none makes room for another one that is wanted"
    assert server.asked.total() == 3
    assert node.bring("defabc") == "abc"
    node.read("a").close()
    assert node.bring("abcdef") == "abcd", "what a run has read counts no more"


def test_what_is_wanted_makes_no_room_for_what_is_wanted_later(tmp_path: Path, server: FileServer) -> None:
    narrow = Node(tmp_path / "cache", server, 4)
    use = narrow.read("cde")
    for _ in range(2):
        assert narrow.bring("ab") == "acde", "b would be within half, and a is all that could go for it"
    assert server.asked["/b.csv"] == 0
    use.close()
    assert narrow.bring("ab").startswith("ab")


def test_runs_go_first_and_what_nobody_read_is_evicted_like_others(node: Node) -> None:
    assert node.bring("abc") == "abc"
    node.read("d").close()
    use = node.read("aef")
    assert (node.there, use.evicted) == ("abcdef", 0)
    use.close()
    # The folder may hold less now. What was used longest ago makes room, and what nobody has read was used when it came.
    narrow = Node(node.cache.folder, FileServer(), 4)
    narrow.url = node.url
    assert (narrow.read("ef").evicted, narrow.there) == (2, "adef")
    assert narrow.bring("b") == "abef", "it makes room as for a run: d was used longest ago, and what runs hold stays"
    read = narrow.read("b")
    assert (read.evicted, read.evicted_bytes, told(read)) == (1, SIZE, [("sh", SIZE, True)]), "who reads it tells what it took"


def test_a_copy_that_runs_brought_is_no_copy_brought_ahead(node: Node) -> None:
    node.read("a").close()
    assert node.bring("a") == "a"
    assert [entry.ahead for entry in node.cache.entries()] == [False]
    assert told(node.read("a")) == []


def test_a_place_that_fails_keeps_no_other_from_coming(node: Node, server: FileServer) -> None:
    del server.files["/a.csv"]
    assert node.bring("ab") == "b"
    with pytest.raises(DataUnavailableError):
        node.read("a")


def test_what_is_removed_while_it_comes_leaves_nothing_behind(node: Node, server: FileServer) -> None:
    server.gate.clear()
    node.want("a")
    until(lambda: server.asked["/a.csv"] == 1, "it is on its way")
    assert not node.cache.remove(node.version("a").sha256)
    node.want("")
    server.gate.set()
    node.ahead.join()
    assert node.cache.remove(node.version("a").sha256)
    assert node.cache.entries() == []
    assert not list(node.cache.state.glob("*.ahead"))
