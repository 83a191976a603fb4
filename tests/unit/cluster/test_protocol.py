"""Everything that crosses between agent, backend and control plane reads back equal, and nothing unknown slips in."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from cluster.model import Inventory, Node
from cluster.protocol import (
    AdoptedRun,
    InputFile,
    Instruction,
    Observation,
    Preview,
    ResultFile,
    RunEvent,
    RunFinished,
    RunLog,
    RunProgress,
    RunRequest,
    RunStarted,
    RunStarting,
    SyncReply,
    SyncRequest,
    Usage,
)
from tests.unit.cluster.control import forget, run_request, start, stop

AT = 1_800_000_000.25
INPUT = InputFile(ref="o/p@1", uri="s3://b/p.parquet", format="parquet", size_bytes=7, sha256="0" * 64, local=True)
REQUEST = run_request(
    kind="training", files={"main.py": "print(1)\n"}, env={"SEED": "1"}, inputs={"p": INPUT}, accelerator_model="H200", accelerator_count=2,
    nodes=("n1", "n2"),
)  # fmt: skip
FILE = ResultFile(name="rows.parquet", size_bytes=7, sha256="f" * 64)
PREVIEW = Preview(columns=("a", "b"), types=("BIGINT", "VARCHAR"), rows=((1, "第一"), (None, "")), total_rows=9)
USAGE = Usage(wall_s=1.5, cpu_s=1.0, peak_memory_bytes=2**30, transferred_bytes=7)
EVENTS: list[Any] = [
    RunStarting(run_id="a-1"),
    RunStarted(run_id="a-1", at=AT),
    RunLog(run_id="a-1", offset=5, text="第一行\n\0"),
    RunProgress(run_id="a-1", sequence=1, step=10, metrics={"loss": 0.5, "größe": -1e300}, at=AT),
    RunFinished(run_id="a-1", outcome="failed", category="exit", exit_code=3, message="no", at=AT),
    RunFinished(run_id="a-1", outcome="succeeded", exit_code=0, at=AT, preview=PREVIEW, files=(FILE,), usage=USAGE),
]
MESSAGES: list[BaseModel] = [
    REQUEST,
    AdoptedRun(run_id="a-1", epoch=3),
    *EVENTS,
    *(Observation(epoch=3, event=event) for event in EVENTS),
    start(1),
    stop(2, outcome="preempted"),
    forget(3),
    SyncRequest(agent_id="agent-1", reachable=False, detail="no route"),
    SyncRequest(
        agent_id="agent-1", reachable=True, inventory=Inventory(nodes=(Node(name="n1", cpu=8, memory_bytes=2**34),), version="2.60"),
        known_runs=("a-1",), observations=tuple(Observation(epoch=3, event=event) for event in EVENTS), acknowledged=7, wait_s=5.0,
    ),
    SyncReply(instructions=(start(1), stop(2), forget(3)), lease_s=45.0),
    SyncReply(lease_s=45.0, superseded=True),
]  # fmt: skip


def name(message: BaseModel) -> str:
    return type(message).__name__


@pytest.mark.parametrize("message", MESSAGES, ids=name)
def test_messages_read_back_equal(message: BaseModel) -> None:
    again = type(message).model_validate_json(message.model_dump_json())
    assert again == message
    assert again.model_dump_json() == message.model_dump_json()


@pytest.mark.parametrize("message", [*MESSAGES, INPUT, FILE, PREVIEW, USAGE], ids=name)
def test_unknown_fields_are_refused(message: BaseModel) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        type(message).model_validate({**message.model_dump(mode="json"), "surprise": 1})


@pytest.mark.parametrize("message", [*MESSAGES, INPUT, FILE, PREVIEW, USAGE], ids=name)
def test_messages_do_not_change_on_the_way(message: BaseModel) -> None:
    field = next(iter(type(message).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(message, field, getattr(message, field))


@pytest.mark.parametrize("event", EVENTS, ids=name)
def test_an_event_is_known_by_its_type(event: BaseModel) -> None:
    adapter: TypeAdapter[RunEvent] = TypeAdapter(RunEvent)
    assert type(adapter.validate_json(event.model_dump_json())) is type(event)


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        (Observation, {"epoch": 1, "event": {"type": "exploded", "run_id": "a-1"}}),
        (Observation, {"epoch": 1, "event": {"run_id": "a-1"}}),
        (Observation, {"event": {"type": "starting", "run_id": "a-1"}}),
        (RunFinished, {"run_id": "a-1", "outcome": "exploded", "at": AT}),
        (RunFinished, {"run_id": "a-1", "outcome": "failed", "category": "exploded", "at": AT}),
        (Instruction, {"sequence": 1, "action": "pause", "run_id": "a-1"}),
        (Instruction, {"sequence": 1, "action": "stop", "run_id": "a-1", "outcome": "succeeded"}),
        (RunRequest, {**REQUEST.model_dump(), "kind": "sweep"}),
        (RunRequest, {key: value for key, value in REQUEST.model_dump().items() if key != "nodes"}),
        (SyncRequest, {"reachable": True}),
        (SyncRequest, {"agent_id": "a", "reachable": True, "wait_s": -1}),
        (SyncRequest, {"agent_id": "a", "reachable": True, "wait_s": 61}),
        (SyncRequest, {"agent_id": "a", "reachable": False, "detail": "x" * 2001}),
        (SyncReply, {"instructions": []}),
    ],
)
def test_what_is_no_message_is_refused(kind: type[BaseModel], document: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(document)


def test_a_first_call_without_runs_is_not_a_call_without_a_census() -> None:
    calls = [SyncRequest(agent_id="a", reachable=True, known_runs=runs) for runs in ((), None)]
    assert [SyncRequest.model_validate_json(call.model_dump_json()).known_runs for call in calls] == [(), None]
