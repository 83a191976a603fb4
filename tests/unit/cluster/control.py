"""A control plane of a few lines: what an agent's link sees of the real one, with faults that a test asks for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from cluster.deposits import Grant
from cluster.errors import ClusterError, UnreachableError
from cluster.model import LeasePolicy
from cluster.protocol import AheadFile, Instruction, Observation, ResultFile, RunEvent, RunRequest, SyncReply, SyncRequest
from cluster.scaling import Wanted

CALL_S = 0.005
LEASE_S = 45.0


def run_request(run_id: str = "a-1", *, epoch: int = 1, **fields: object) -> RunRequest:
    """A command on one core of n1."""
    usual: dict[str, object] = {
        "run_id": run_id, "job_id": run_id.rpartition("-")[0], "attempt": 1, "epoch": epoch, "kind": "command", "command": ("true",),
        "cpu": 1.0, "memory_bytes": 2**20, "nodes": ("n1",), "max_runtime_s": 3600.0,
    }  # fmt: skip
    return RunRequest.model_validate({**usual, **fields})


def start(sequence: int, run_id: str = "a-1", **fields: object) -> Instruction:
    """An order to start a run."""
    return Instruction(sequence=sequence, action="start", run_id=run_id, run=run_request(run_id, **fields))


def stop(sequence: int, run_id: str = "a-1", outcome: Literal["cancelled", "preempted", "lost"] = "cancelled") -> Instruction:
    """An order to stop a run."""
    return Instruction(sequence=sequence, action="stop", run_id=run_id, outcome=outcome)


def forget(sequence: int, run_id: str = "a-1") -> Instruction:
    """An order to forget a run."""
    return Instruction(sequence=sequence, action="forget", run_id=run_id)


class Control:
    """A ControlLink that keeps what it is told. Every call takes CALL_S.

    `away`: nobody answers. `refuse` is asked for the error that a request is answered with, before anything of it is
    taken in. `wants_census` until it has one. `current` says for which runs uploads are wanted.
    """

    def __init__(self, *instructions: Instruction, lease_s: float = LEASE_S) -> None:
        self.outbox = list(instructions)
        self.lease_s = lease_s
        self.on_lease_lost: LeasePolicy = "stop"
        self.away = False
        self.superseded = False
        self.wants_census = True
        self.unwanted: tuple[str, ...] = ()
        self.ahead: tuple[AheadFile, ...] = ()
        self.wanted: tuple[Wanted, ...] = ()
        self.refuse: Callable[[SyncRequest], ClusterError | None] = lambda _request: None
        self.upload_errors: list[ClusterError] = []
        self.current: Callable[[str], bool] = lambda _run_id: True
        self.calls: list[SyncRequest] = []
        self.accepted: list[SyncRequest] = []
        self.logs: dict[str, bytearray] = defaultdict(bytearray)
        self.log_calls: list[tuple[str, int, int]] = []  # run, offset, bytes
        self.files: dict[tuple[str, str], bytes] = {}
        self.grant: Grant | None = None
        self.taken: list[tuple[str, str, tuple[ResultFile, ...]]] = []
        self.earlier: tuple[ResultFile, ...] = ()
        self.upload_s = 0.0
        self._changed = asyncio.Event()

    @property
    def observations(self) -> list[Observation]:
        """Everything that was observed, in order."""
        return [item for request in self.accepted for item in request.observations]

    @property
    def events(self) -> list[RunEvent]:
        """What runs did."""
        return [item.event for item in self.observations]

    @property
    def censuses(self) -> list[tuple[str, ...]]:
        """The runs that were named, census by census."""
        return [request.known_runs for request in self.accepted if request.known_runs is not None]

    @property
    def acknowledged(self) -> int:
        """The highest number that was acknowledged."""
        return max((request.acknowledged for request in self.accepted), default=0)

    def want_census(self) -> None:
        """As a server that begins, or that gave the runs up."""
        self.wants_census = True
        self._changed.set()

    def expect(self, *files: AheadFile) -> None:
        """Say with every answer that jobs which wait are going to read these at the cluster."""
        self.ahead = files
        self._changed.set()

    def withdraw(self, *versions: str) -> None:
        """Say with every answer that these may not lie at the cluster any more."""
        self.unwanted = versions
        self._changed.set()

    def order(self, *instructions: Instruction) -> None:
        """Put instructions into the outbox and wake who waits for them."""
        self.outbox += instructions
        self._changed.set()

    async def sync(self, request: SyncRequest) -> SyncReply:
        self.calls.append(request)
        await asyncio.sleep(CALL_S)
        self._answer_or_not()
        error = self.refuse(request)
        if error is not None:
            raise error
        self.accepted.append(request)
        self.wants_census = self.wants_census and request.known_runs is None
        wanted = self.wants_census and request.reachable
        self.outbox = [item for item in self.outbox if item.sequence > request.acknowledged]
        if request.wait_s and not (self.outbox or self.superseded or wanted):
            self._changed.clear()
            try:
                async with asyncio.timeout(request.wait_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._answer_or_not()
        return SyncReply(
            instructions=tuple(self.outbox), lease_s=self.lease_s, superseded=self.superseded, census_wanted=wanted,
            unwanted=self.unwanted, ahead=self.ahead, wanted=self.wanted, on_lease_lost=self.on_lease_lost,
        )  # fmt: skip

    async def upload_log(self, run_id: str, epoch: int, offset: int, text: str) -> bool:  # noqa: ARG002
        await self._upload()
        self.log_calls.append((run_id, offset, len(text.encode())))
        if not self.current(run_id):
            return False
        assert offset <= len(self.logs[run_id]), "a piece of the log is missing"
        self.logs[run_id][offset:] = text.encode()
        return True

    async def upload_result(self, run_id: str, epoch: int, name: str, path: Path) -> bool:  # noqa: ARG002
        content = path.read_bytes()
        await self._upload()
        if not self.current(run_id):
            return False
        self.files[run_id, name] = content
        return True

    async def take_over_parts(self, run_id: str, epoch: int) -> tuple[ResultFile, ...]:  # noqa: ARG002
        await self._upload()
        return self.earlier if self.current(run_id) else ()

    async def ask_deposit(self, run_id: str, epoch: int) -> Grant | None:  # noqa: ARG002
        await self._upload()
        return self.grant if self.current(run_id) else None

    async def take_deposit(self, run_id: str, epoch: int, token: str, files: Sequence[ResultFile]) -> bool:  # noqa: ARG002
        await self._upload()
        self.taken.append((run_id, token, tuple(files)))
        return self.current(run_id)

    async def close(self) -> None:
        """Nothing to hang up."""

    async def _upload(self) -> None:
        await asyncio.sleep(CALL_S + self.upload_s)
        self._answer_or_not()
        if self.upload_errors:
            raise self.upload_errors.pop(0)

    def _answer_or_not(self) -> None:
        if self.away:
            raise UnreachableError("the control plane is away")
