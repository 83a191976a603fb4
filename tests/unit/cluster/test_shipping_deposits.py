"""Results that runs have put into a store themselves are told when the control plane has taken them in."""

from __future__ import annotations

import asyncio

import pytest

from cluster.backends.memory import MemoryBackend, MemoryCluster
from cluster.deposits import Grant
from cluster.errors import ClusterError, PermanentError, ReportRefusedError, StoreAwayError, TransientError
from cluster.model import Node
from cluster.orders import Orders
from cluster.protocol import ResultFile, RunFinished, RunRequest
from cluster.shipping import STORE_PATIENCE_S, Shipping
from tests.unit.cluster.control import Control, start
from tests.unit.cluster.docks import AT, dock
from tests.virtual_time import until_so, virtual, virtual_clock

FILES = (ResultFile(name="rows", size_bytes=4, sha256="0" * 64),)
END = RunFinished(run_id="a-1", outcome="succeeded", at=AT, files=FILES, deposit="0123456789abcdef", directory="/nowhere")
GRANT = Grant(url="http://store/bucket", fields={}, prefix="a-1/", until=AT, piece_bytes=1)


@virtual
async def test_the_end_is_told_when_its_result_was_taken_in() -> None:
    async with dock() as place:
        place.control.upload_errors = [TransientError("still being proved")]
        place.accept(END)
        told = await place.ended()
        assert (told.outcome, told.files, told.deposit) == ("succeeded", FILES, END.deposit)
        assert place.control.taken == [("a-1", END.deposit, FILES)]
        assert place.control.files == {}


@virtual
@pytest.mark.parametrize(
    ("error", "category"), [(ReportRefusedError("another checksum"), "result"), (PermanentError("no such call"), "data")]
)
async def test_what_is_not_taken_in_is_no_success(error: ClusterError, category: str) -> None:
    async with dock() as place:
        place.control.upload_errors = [error]
        place.accept(END)
        told = await place.ended()
        assert (told.outcome, told.category, told.files) == ("failed", category, ())
        assert str(error) in told.message


@virtual
async def test_a_store_that_stays_away_is_waited_for_so_long() -> None:
    async with dock() as place:
        place.control.upload_errors = [StoreAwayError("the store is away") for _ in range(10_000)]
        place.accept(END)
        began = asyncio.get_running_loop().time()
        await until_so(lambda: place.over, "it is over", 2 * STORE_PATIENCE_S)
        assert asyncio.get_running_loop().time() - began >= STORE_PATIENCE_S
        (told,) = place.told()
        assert isinstance(told, RunFinished)
        assert (told.outcome, told.category) == ("failed", "infrastructure")
        assert "the store is away" in told.message


@virtual
async def test_a_run_that_is_not_current_any_more_is_told_as_it_ended() -> None:
    async with dock() as place:
        place.control.current = lambda _run_id: False
        place.accept(END)
        assert (await place.ended()).outcome == "succeeded"
        assert place.runs["a-1"].stale


class Depositing(MemoryBackend):
    """A backend whose runs can put results into a store; `started` are those that it was told to start."""

    def __init__(self, wants: bool) -> None:
        super().__init__(MemoryCluster([Node(name="n1", cpu=8.0, memory_bytes=2**34)]))
        self.wants = wants
        self.started: list[RunRequest] = []

    def wants_deposit(self, run: RunRequest) -> bool:
        return self.wants and run.deposit is None

    async def start(self, run: RunRequest) -> None:
        self.started.append(run)


@virtual
@pytest.mark.parametrize(("wants", "granted"), [(True, GRANT), (False, None)])
async def test_leave_is_asked_for_where_a_backend_can_use_it(wants: bool, granted: Grant | None) -> None:
    control, backend = Control(), Depositing(wants)
    control.grant = GRANT
    async with asyncio.TaskGroup() as group:
        shipping = Shipping(control, {}, group.create_task, on_pending=lambda: None, on_over=lambda _run_id: None)
        orders = Orders(backend, shipping, {}, group.create_task, virtual_clock(), may_start=lambda: True)
        orders.take((start(1),), call=1, calls_made=1)
        await until_so(lambda: backend.started, "it is started")
    assert backend.started[0].deposit == granted
