"""Copies at a cluster in memory: what is told of them, what makes room, and what has to go; the rules of the real cache."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cluster.backends.memory import Behaviour, MemoryBackend, MemoryCluster
from cluster.model import Node
from cluster.protocol import AheadFile, InputFile, RunFinished
from cluster.replicas import CacheCounts, CacheState, FolderState, Pretended, together
from tests.unit.cluster.agents import agent
from tests.unit.cluster.control import CALL_S, Control, run_request, start, stop
from tests.virtual_time import until_so, virtual, virtual_clock

MIB = 1024**2
NODE = Node(name="n1", cpu=8, memory_bytes=2**34)


def sha(letter: str) -> str:
    return letter * 64


def data(letter: str, mib: int = 10, *, local: bool = False) -> InputFile:
    return InputFile(ref="nyc/a@1", uri="/a", format="csv", size_bytes=mib * MIB, sha256=sha(letter), local=local, source="gz")


def cluster(capacity_mib: int = 30, duration_s: float = 0.0) -> MemoryCluster:
    copies = Pretended(capacity_mib * MIB, mib_s=5.0)
    return MemoryCluster([NODE], lambda _run: Behaviour(duration_s=duration_s), now=virtual_clock().now, copies=copies)


def ended(where: MemoryCluster, run_id: str) -> RunFinished:
    end = where.history(run_id)[-1]
    assert isinstance(end, RunFinished)
    return end


@virtual
async def test_a_run_tells_what_was_brought_in_for_it() -> None:
    where = cluster()
    for run_id in ("a-1", "b-1"):
        where.start(run_request(run_id, inputs={"x": data("a"), "y": data("b", local=True)}))
    first, second = (ended(where, run_id).usage for run_id in ("a-1", "b-1"))
    assert [(one.source, one.size_bytes, one.seconds) for one in first.transfers] == [("gz", 10 * MIB, 2.0)]
    assert (first.transferred_bytes, first.cache) == (10 * MIB, CacheCounts(misses=1))
    assert (second.transfers, second.transferred_bytes, second.cache) == ((), 0, CacheCounts(hits=1))


@virtual
async def test_what_was_used_longest_ago_makes_room_and_never_what_a_run_reads() -> None:
    where = cluster(duration_s=3600.0)
    where.start(run_request("long-1", inputs={"x": data("a")}))
    assert where.copies is not None
    for letter in "bcd":
        where.copies.take(letter, [(sha(letter), 10 * MIB, "gz")])
        where.copies.leave(letter)
    assert where.copies.state() == CacheState(
        capacity_bytes=30 * MIB, used_bytes=30 * MIB, copies=3, folder_bytes=30 * MIB, versions=(sha("a"), sha("c"), sha("d"))
    )
    where.start(run_request("large-1", inputs={"x": data("e", 21)}))
    assert (ended(where, "large-1").outcome, ended(where, "large-1").category) == ("failed", "cache")
    assert "there is no room" in ended(where, "large-1").message
    assert where.copies.state().copies == 3


@virtual
async def test_an_agent_tells_what_is_held_and_removes_what_may_not_lie_there() -> None:
    control, where = Control(), cluster(duration_s=3600.0)
    async with agent(control, where, inventory_interval_s=1.0) as running:
        await running.introduced()
        control.order(start(1, "a-1", inputs={"x": data("a")}))

        def told() -> tuple[str, ...] | None:
            states = [request.cache.state for request in control.accepted if request.cache is not None]
            return states[-1].versions if states and states[-1] else None

        await until_so(lambda: told() == (sha("a"),), "it is told")
        control.withdraw(sha("a"))
        await until_so(lambda: running.agent._unwanted == (sha("a"),), "the agent has heard")
        assert told() == (sha("a"),), "a run reads it"
        control.order(stop(2, "a-1"))
        await until_so(lambda: told() == (), "it is removed when the run has ended")


@virtual
async def test_what_is_brought_ahead_is_told_by_who_reads_it_first_and_takes_half_at_most() -> None:
    where = cluster(40)
    assert where.copies is not None
    where.copies.bring([(sha(letter), 10 * MIB, "gz") for letter in "abc"])
    state = where.copies.state()
    assert (state.versions, state.ahead, state.ahead_bytes) == ((sha("a"), sha("b")), (sha("a"), sha("b")), 20 * MIB)
    for run_id in ("x-1", "y-1"):
        where.start(run_request(run_id, inputs={"x": data("a")}))
    first, second = (ended(where, run_id).usage for run_id in ("x-1", "y-1"))
    assert [(one.size_bytes, one.ahead) for one in first.transfers] == [(10 * MIB, True)]
    assert (first.cache, first.transferred_bytes) == (CacheCounts(hits=1), 10 * MIB)
    assert second.transfers == ()
    where.copies.bring([(sha("c"), 10 * MIB, "gz")])
    assert where.copies.state().ahead == (sha("b"), sha("c")), "what was read counts no more"
    where.copies.refuse([sha("b")])
    where.copies.bring([(sha("b"), 10 * MIB, "gz")])
    assert where.copies.state().ahead == (sha("c"),), "what may not lie there is not brought"


def ahead(letter: str) -> AheadFile:
    return AheadFile(file=data(letter), nodes=("n1",))


@virtual
async def test_an_agent_passes_on_what_is_wanted_ahead_and_nothing_any_more_without_a_lease() -> None:
    control, said = Control(), list[str]()

    class Backend(MemoryBackend):
        async def bring_ahead(self, files: Sequence[AheadFile]) -> None:
            said.append("".join(one.file.sha256[0] for one in files))

    async with agent(control, cluster(), Backend, inventory_interval_s=1.0) as running:
        await running.introduced()
        control.expect(ahead("b"), ahead("a"))
        await until_so(lambda: said == ["ba"], "it is passed on")
        calls = len(control.accepted)
        await until_so(lambda: len(control.accepted) > calls + 3, "it is said again")
        assert said == ["ba"], "what did not change is passed on once"
        control.away = True
        await until_so(lambda: said == ["ba", ""], "without a lease nobody knows whether it may come")
        control.away = False
        await until_so(lambda: said == ["ba", "", "ba"], "it is wanted still")
        control.expect()
        await until_so(lambda: said == ["ba", "", "ba", ""], "and then no more")


@virtual
async def test_an_answer_that_comes_when_the_lease_is_over_brings_nothing_ahead() -> None:
    control, said = Control(), list[str]()
    control.lease_s = CALL_S / 5

    class Backend(MemoryBackend):
        async def bring_ahead(self, files: Sequence[AheadFile]) -> None:
            said.append("".join(one.file.sha256[0] for one in files))

    control.expect(ahead("a"))
    async with agent(control, cluster(), Backend, inventory_interval_s=1.0) as running:
        await running.introduced()
        calls = len(control.accepted)
        await until_so(lambda: len(control.accepted) > calls + 3, "it is answered")
    assert said.count("a") <= 1, "what came before the end of the lease was seen is stopped, and nothing begins any more"
    assert not said or said[-1] == ""


def folder(name: str, *letters: str) -> FolderState:
    return FolderState(folder=name, capacity_bytes=100, used_bytes=len(letters), copies=len(letters), versions=tuple(map(sha, letters)))


@pytest.mark.parametrize(
    ("nodes", "capacity", "used", "letters"),
    [
        ([folder("x", "b", "a")], 100, 2, "ab"),
        ([folder("x", "b", "a"), folder("x", "b", "a")], 100, 2, "ab"),
        ([folder("x", "b", "a"), folder("y", "a", "c")], 200, 4, "a"),
        ([folder("x", "b"), folder("y")], 200, 1, ""),
    ],
)
def test_a_version_counts_where_every_node_has_it(nodes: list[FolderState], capacity: int, used: int, letters: str) -> None:
    found = together(nodes)
    assert found is not None
    assert (found.capacity_bytes, found.used_bytes, "".join(version[0] for version in found.versions)) == (capacity, used, letters)


def test_what_lies_on_some_nodes_only_and_beginnings_are_told_apart() -> None:
    here = folder("x", "a", "b").model_copy(update={"ahead": (sha("b"),), "ahead_bytes": 5, "begun": (sha("d"),)})
    found = together([here, folder("y", "a", "c")])
    assert found is not None
    assert (found.versions, found.partly) == ((sha("a"),), (sha("b"), sha("c"), sha("d")))
    assert (found.ahead, found.ahead_bytes, found.folder_bytes) == ((sha("b"),), 5, 100)


def test_only_so_many_versions_are_told_those_used_last() -> None:
    versions = tuple(f"{number:064x}" for number in range(1500))
    found = together([FolderState(folder="x", capacity_bytes=1, used_bytes=1, copies=1500, versions=versions)])
    assert found is not None
    assert (found.versions, found.copies) == (versions[:1000], 1500)
    assert together([]) is None
