"""Dispatch: from a placement to the instruction that an agent carries out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cluster.model import ClusterSpec
from cluster.protocol import Elsewhere, InputFile, Instruction, RunRequest
from cluster.replicas import CacheLimits
from scheduler.assess import InputData, is_local
from scheduler.device_books import devices_of
from scheduler.disclosure import Disclosed
from scheduler.links import Inbound
from scheduler.store import evictions, outbox
from scheduler.store.records import EvictionRecord, RunRecord
from scheduler.store.session import Connection
from workloads.arrays import read_array
from workloads.catalogue.policy import licensed_until
from workloads.catalogue.rates import most_rows
from workloads.spec import JobSpec

GRACE_S = 5.0
DRAINED, UNLICENSED = "drained", "licence_ended"
AGENTS_OWN = CacheLimits()  # Its agent says how much may lie there. Named, because what is left out is copied anew for each run.
StopOutcome = Literal["cancelled", "preempted", "lost"]


def run_name(job_id: str, attempt: int) -> str:
    """The run's id, and with it every name on the cluster: derived, never drawn."""
    return f"{job_id}-{attempt}"


def run_request(
    spec: JobSpec, run: RunRecord, inputs: Sequence[InputData], array_index: int | None = None, cluster: ClusterSpec | None = None,
    inbound: Inbound | None = None, disclosed: Disclosed | None = None,
) -> RunRequest:  # fmt: skip
    """All that the backend needs to start a run; `array_index` of a task of an array, `cluster` that it goes to,
    `inbound` how data comes there, `disclosed` what becomes of its statement."""
    jurisdiction = cluster.jurisdiction if cluster else None
    return RunRequest(
        run_id=run.id, job_id=run.job_id, attempt=run.attempt, epoch=run.epoch, kind=spec.kind, command=spec.command,
        sql=disclosed.sql if disclosed is not None else spec.sql,
        engine=spec.chosen_engine.engine if spec.chosen_engine else "duckdb",
        or_duckdb=spec.chosen_engine is not None and spec.chosen_engine.asked == "auto",
        files=dict(spec.files), env={**spec.env, **_task_env(spec, run, array_index)},
        inputs={item.alias: input_file(spec, item, run.cluster, jurisdiction, inbound or Inbound(1.0), run.placed_at) for item in inputs},
        cpu=spec.resources.cpu, memory_bytes=spec.resources.memory, accelerator_model=run.held["accelerator_model"],
        accelerator_count=run.held["accelerator_count"], accelerator_devices=devices_of(run.held), nodes=tuple(run.nodes),
        elastic=run.elastic is not None,
        runtime_env=spec.runtime_env, ray_jobs=cluster.ray_jobs if cluster and spec.kind == "ray" else None,
        map=spec.map, max_runtime_s=run.quote.get("runtime_s") or spec.max_runtime, cache=AGENTS_OWN,
        max_rows=most_rows(spec, [item.product for item in inputs]),
    )  # fmt: skip


def _task_env(spec: JobSpec, run: RunRecord, index: int | None) -> dict[str, str]:
    """What tells a process which task of which array it is."""
    if index is None or spec.array is None or spec.kind == "sql":
        return {}
    array_id = run.job_id.removesuffix(f"-{index}")
    return {"CPN_ARRAY_ID": array_id, "CPN_ARRAY_INDEX": str(index), "CPN_ARRAY_SIZE": str(read_array(spec.array).size)}


def input_file(spec: JobSpec, item: InputData, cluster: str, jurisdiction: str | None, inbound: Inbound, now: float) -> InputFile:
    """One input of a job as its cluster is told of it, with what its licences are `now` (seconds since the epoch)."""
    version = item.version
    sources = inbound.sources_of(version, cluster)
    if not item.product.may_copy:
        # Not even where the own replica cannot be read.
        sources = tuple(source for source in sources if source.cluster == cluster)
    replica, *others = sources
    return InputFile(
        ref=version.ref, uri=replica.uri, format=version.format, size_bytes=version.size_bytes, sha256=version.sha256,
        local=is_local(version, cluster), source=replica.cluster,
        others=tuple(Elsewhere(uri=other.uri, source=other.cluster) for other in others),
        until=licensed_until(spec, item.product, item.licences, jurisdiction, now),
    )  # fmt: skip


def start_order(run: RunRecord, request: RunRequest) -> Instruction:
    """The instruction to start a run."""
    return Instruction(sequence=0, action="start", run_id=run.id, run=request)


def stop_order(run_id: str, outcome: StopOutcome) -> Instruction:
    """The instruction to end a run."""
    return Instruction(sequence=0, action="stop", run_id=run_id, outcome=outcome, grace_s=GRACE_S)


def forget_order(run_id: str) -> Instruction:
    """The word that a run's outcome is durable and its traces may go."""
    return Instruction(sequence=0, action="forget", run_id=run_id)


def order_stop_unlicensed(conn: Connection, run: RunRecord, licence_id: str, now: float) -> None:
    """Tell the agent of a run to end it because its licence was revoked; its job waits, and costs no attempt by it."""
    words = f"stopped, for the licence {licence_id} that it ran under was revoked"
    evictions.note(conn, [EvictionRecord(run.id, run.job_id, None, UNLICENSED, words, now)])
    outbox.put(conn, run.cluster, stop_order(run.id, "preempted"), now)


def order_stop(conn: Connection, run: RunRecord, outcome: StopOutcome, now: float) -> None:
    """Tell the run's agent to end it. One that is stopped because its member is drained costs its job no attempt."""
    if outcome == "preempted":
        words = f"moved away from {run.cluster}, which is drained"
        evictions.note(conn, [EvictionRecord(run.id, run.job_id, None, DRAINED, words, now)])
    outbox.put(conn, run.cluster, stop_order(run.id, outcome), now)
