"""A warm supervisor without Ray: it serves worker after worker, and nothing of one reaches the next."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.ray import warm_supervisor
from cluster.backends.ray.room import Room
from cluster.backends.ray.warm_supervisor import BUSY, NO_ROOM, WarmSupervisor
from cluster.runs.leashed import Kennel
from cluster.runs.outbox import nothing_seen
from tests.network import until
from tests.ray_runs import script

BUNDLE = {"CPU": 1.0}


class NearRoom(Room):
    """Room for one bundle, or for none when it is `full`; `broken` raises."""

    def __init__(self, *, full: bool = False, broken: bool = False) -> None:
        super().__init__("owner", "node")
        self.full, self.broken = full, broken
        self.held: list[dict[str, float]] = []
        self.waiting = threading.Event()

    def hold(self, bundle: Mapping[str, float], limit_s: float, nodes: Sequence[str] = ()) -> bool:  # noqa: ARG002
        if self.broken:
            raise OSError("Ray is broken")
        if self.full:
            self.waiting.set()
            self._given_up.wait(limit_s)
            return False
        self.held.append(dict(bundle))
        return True

    def release(self) -> None:
        self.held.clear()


@pytest.fixture(autouse=True)
def kennels(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Kennel]]:
    """Where the supervisors' leashes wait; they end with the test as they would with the supervisor's process."""
    made: list[Kennel] = []

    def make() -> Kennel:
        made.append(Kennel())
        return made[-1]

    monkeypatch.setattr(warm_supervisor, "Kennel", make)
    yield made
    for kennel in made:
        kennel.close()


@pytest.fixture(autouse=True)
def work_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(warm_supervisor, "_load", lambda: None)
    monkeypatch.setenv("CPN_WORK_DIR", str(tmp_path / "work"))
    return tmp_path / "work"


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


async def log_of(supervisor: WarmSupervisor, worker: str, text: str, **fields: Any) -> str:
    """Run a shell script to its good end."""
    request = script("node", text, **fields).model_dump(mode="json")
    assert await supervisor.ask(worker, "prepare", (request,)) == (True,)
    await supervisor.ask(worker, "go", (None,))
    seen, log = nothing_seen(), ""
    while True:
        (batch,) = await supervisor.ask(worker, "next", (dict(seen), 30.0))
        seen["started"] = seen["started"] or "started" in batch
        seen["log"] += len(batch.get("log", "").encode())
        log += batch.get("log", "")
        if end := batch.get("finished"):
            assert (end["outcome"], end["exit_code"]) == ("succeeded", 0), end
            return log


def test_nothing_of_one_run_reaches_the_next(work_dir: Path) -> None:
    text = """
        echo "$SECRET|$(pwd | grep -c runs/)|$(ls)|$(umask)|$(ps -o pgid= -p $$ | tr -d ' ')|$$|$PPID"
        umask 0; echo left > left; touch $TMPDIR/left; echo result > $CPN_OUTPUT_DIR/left
    """

    async def scenario() -> None:
        room = NearRoom()
        supervisor = WarmSupervisor("owner", "node", room)
        await supervisor.warm()
        assert await supervisor.worker() == ""
        told = []
        for worker, env in (("first", {"SECRET": "of the first"}), ("second", {})):
            assert await supervisor.take(worker, 0, BUNDLE, 30.0) == ""
            assert (await supervisor.worker(), room.held) == (worker, [BUNDLE])
            told.append((await log_of(supervisor, worker, text, env=env)).strip().split("|"))
            assert await supervisor.let_go(worker)
            assert (await supervisor.worker(), room.held) == ("", [])
            assert list((work_dir / "runs").iterdir()) == [], "no file of it is left"
        assert [line[:4] for line in told] == [["of the first", "1", "main.sh\ntmp", "0077"], ["", "1", "main.sh\ntmp", "0077"]]
        groups, shells, leashes = zip(*(line[4:] for line in told), strict=True)
        assert groups == shells, "each leads a process group of its own"
        assert len({*shells, *leashes, str(os.getpid())}) == 5, "every process is another one"

    run(scenario)


def test_what_is_meant_for_another_worker_is_not_done() -> None:
    async def scenario() -> None:
        supervisor = WarmSupervisor("owner", "node", room := NearRoom())
        assert await supervisor.take("first", 0, BUNDLE, 30.0) == ""
        assert await supervisor.take("first", 0, BUNDLE, 30.0) == "", "to ask again changes nothing"
        assert await supervisor.take("second", 0, BUNDLE, 30.0) == await supervisor.seated("second") == BUSY
        assert await supervisor.ask("second", "stop", ("cancelled", 0.0)) == ()
        assert await supervisor.let_go("third"), "nothing of it is here"
        assert (await supervisor.worker(), room.held) == ("first", [BUNDLE])
        assert await supervisor.ask("first", "describe", ()) == (None,)
        await asyncio.gather(*(supervisor.let_go("first") for _ in range(3)))
        assert await supervisor.take("second", 0, BUNDLE, 30.0) == ""
        assert await supervisor.let_go("first"), "what comes late"
        assert await supervisor.take("third", 0, BUNDLE, 30.0) == BUSY
        assert (await supervisor.worker(), room.held) == ("second", [BUNDLE])
        assert await supervisor.ask("first", "describe", ()) == ()
        assert await supervisor.let_go("second")
        assert await supervisor.take("third", 0, BUNDLE, 30.0) == BUSY, "nobody wants it any more"
        assert (await supervisor.worker(), room.held) == ("", [])

    run(scenario)


def test_who_waits_for_room_can_be_let_go_of() -> None:
    async def scenario() -> None:
        supervisor = WarmSupervisor("owner", "node", room := NearRoom(full=True))
        taking = asyncio.create_task(supervisor.take("first", 0, BUNDLE, 600.0))
        await asyncio.to_thread(room.waiting.wait)
        assert await supervisor.let_go("first")
        assert await taking == NO_ROOM
        room.full = False
        assert await supervisor.take("second", 0, BUNDLE, 600.0) == ""

    run(scenario)


def test_what_ray_says_against_it_is_passed_on() -> None:
    async def scenario() -> None:
        supervisor = WarmSupervisor("owner", "node", NearRoom(broken=True))
        assert await supervisor.take("first", 0, BUNDLE, 30.0) == await supervisor.seated("first") == "OSError: Ray is broken"

    run(scenario)


@pytest.mark.parametrize("limit", ["MOST_WORKERS", "MOST_GROWTH_BYTES"])
def test_a_process_is_given_up_after_many_workers_or_when_it_has_grown(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    async def scenario() -> None:
        supervisor = WarmSupervisor("owner", "node", NearRoom())
        await supervisor.warm()
        await supervisor.take("first", 0, BUNDLE, 30.0)
        assert await supervisor.let_go("first")
        monkeypatch.setattr(warm_supervisor, limit, 2 if limit == "MOST_WORKERS" else -(2**62))
        await supervisor.take("second", 0, BUNDLE, 30.0)
        assert not await supervisor.let_go("second")
        assert await supervisor.take("third", 0, BUNDLE, 30.0) == BUSY, "nobody gets it any more"

    run(scenario)


def test_a_process_in_which_a_thread_of_a_run_goes_on_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    copying, go_on = threading.Event(), threading.Event()

    def fill(*_: object) -> int:
        copying.set()
        go_on.wait()
        return 0

    async def scenario() -> None:
        supervisor = WarmSupervisor("owner", "node", room := NearRoom())
        await supervisor.take("first", 0, BUNDLE, 30.0)
        monkeypatch.setattr("cluster.runs.workspace.Workspace.fill", fill)
        preparing = asyncio.create_task(supervisor.ask("first", "prepare", (script("node", "true").model_dump(mode="json"),)))
        await asyncio.to_thread(copying.wait)
        assert not await supervisor.let_go("first")
        assert room.held == [], "its room is free at once"
        await preparing
        go_on.set()

    run(scenario)


def test_a_leash_waits_before_each_run_and_serves_one(kennels: list[Kennel]) -> None:
    async def scenario() -> None:
        supervisor = WarmSupervisor("owner", "node", NearRoom())
        await supervisor.warm()
        (kennel,) = kennels
        served = []
        for worker in ("first", "second"):
            waiting = kennel.waiting
            assert waiting is not None
            assert await supervisor.take(worker, 0, BUNDLE, 30.0) == ""
            assert int(await log_of(supervisor, worker, "echo $PPID")) == waiting, "its command is a child of the leash that waited"
            assert await supervisor.let_go(worker)
            served.append(waiting)
            await asyncio.to_thread(until, lambda: kennel.waiting is not None, "the next leash waits")
        assert kennel.waiting not in served

    run(scenario)
