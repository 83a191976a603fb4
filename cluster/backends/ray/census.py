"""What a run of kind ray has and asks for in Ray, by the head's own tables, and how it is ended there.

A run's programs are Ray jobs in a namespace of the run's own. The head's control store (GCS) knows for each job which actors, tasks and
placement groups are its, what they ask for, and what they wait for; it is asked directly, because Ray's state API needs the dashboard,
which members may lack. The messages are those of the Ray that is installed (2.50 and later). All calls block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.errors import UnreachableError

PREFIX = "cpn-script-"
LIMIT_S = 5.0
MOST_TASKS = 1000

_RUN = re.compile(rf"^{PREFIX}([A-Za-z0-9._-]+)$")
_GROUPED = re.compile(r"^(?P<what>.+)_group_(\d+_)?[0-9a-f]{36}$")
# Namespaces that begin so hold what Ray's own libraries share between drivers: what Ray Data keeps for all is made by the first of them,
# and a run that ended it would break the others.
_RAYS_OWN = ("_", "ActorLocationTracker", "AutoscalingCoordinator", "AutoscalingRequester", "DataUsageCollectionActor")
# `TaskType` of Ray's common.proto; 1 and 2 are tasks of actors, which are counted by themselves.
_NORMAL_TASK = 0


@dataclass(frozen=True)
class Ask:
    """One actor, task or placement group of a run that is not over. `resources` are in Ray's words; memory in bytes.

    `inside`: in the run's own group. `waits`: it has no process yet. `runtime_env` is its JSON text.
    """

    what: str
    identity: str
    resources: Mapping[str, float]
    inside: bool
    waits: bool = False
    actor: bool = False
    runtime_env: str = ""


@dataclass(frozen=True)
class Census:
    """All of them, whether the run's own group is where it was made, and the runtime environments that its programs began with."""

    asks: tuple[Ask, ...]
    whole: bool
    given: tuple[str, ...] = ()


def namespace_of(run_id: str) -> str:
    """The Ray namespace of a run's programs."""
    return PREFIX + run_id


def run_of_namespace(namespace: str) -> str | None:
    """The run whose namespace this is; None for another's."""
    found = _RUN.match(namespace)
    return found[1] if found else None


class Books:
    """The head's tables. Close it after use; raises grpc.RpcError where the head does not answer within LIMIT_S."""

    def __init__(self, address: str) -> None:
        from ray._private.grpc_utils import init_grpc_channel
        from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

        self._words: Any = gcs_service_pb2
        services: Any = gcs_service_pb2_grpc
        self._channel = init_grpc_channel(address, options=[("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)])
        self._actors: Any = services.ActorInfoGcsServiceStub(self._channel)
        self._jobs: Any = services.JobInfoGcsServiceStub(self._channel)
        self._groups: Any = services.PlacementGroupInfoGcsServiceStub(self._channel)
        self._tasks: Any = services.TaskInfoGcsServiceStub(self._channel)
        self._nodes: Any = services.NodeInfoGcsServiceStub(self._channel)
        self._resources: Any = services.NodeResourceInfoGcsServiceStub(self._channel)

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def nodes(self) -> list[Any]:
        """All nodes, dead ones too."""
        return list(self._nodes.GetAllNodeInfo(self._words.GetAllNodeInfoRequest(), timeout=LIMIT_S).node_info_list)

    def free(self) -> list[Any]:
        """What is left of each node's resources."""
        question = self._words.GetAllAvailableResourcesRequest()
        return list(self._resources.GetAllAvailableResources(question, timeout=LIMIT_S).resources_list)

    def jobs(self, namespace: str) -> dict[bytes, str]:
        """The Ray jobs of a namespace, ended ones too: their id, and their runtime environment as JSON text."""
        question = self._words.GetAllJobInfoRequest(skip_submission_job_info_field=True, skip_is_running_tasks_field=True)
        answer = self._jobs.GetAllJobInfo(question, timeout=LIMIT_S)
        mine = [job for job in answer.job_info_list if job.config.ray_namespace == namespace]
        return {job.job_id: job.config.runtime_env_info.serialized_runtime_env for job in mine}

    def namespaces(self) -> list[str]:
        """Those of runs' programs, sorted; of programs that have ended too."""
        question = self._words.GetAllJobInfoRequest(skip_submission_job_info_field=True, skip_is_running_tasks_field=True)
        answer = self._jobs.GetAllJobInfo(question, timeout=LIMIT_S)
        found = {job.config.ray_namespace for job in answer.job_info_list}
        return sorted(name for name in found if run_of_namespace(name) is not None)

    def actors(self, job: bytes) -> Iterator[Any]:
        """The actors of a job that are not dead."""
        question = self._words.GetAllActorInfoRequest(show_dead_jobs=True)
        question.filters.job_id = job
        for actor in self._actors.GetAllActorInfo(question, timeout=LIMIT_S).actor_table_data:
            if actor.state != actor.DEAD:
                yield actor

    def groups(self) -> list[Any]:
        """All placement groups that are not removed."""
        answer = self._groups.GetAllPlacementGroup(self._words.GetAllPlacementGroupRequest(), timeout=LIMIT_S)
        return [group for group in answer.placement_group_table_data if group.state != group.REMOVED]

    def tasks(self, job: bytes) -> Iterator[Any]:
        """The tasks of a job that wait for a node or run, MOST_TASKS of each at most."""
        same = self._words.FilterPredicate.EQUAL
        for state in ("PENDING_NODE_ASSIGNMENT", "RUNNING"):
            question = self._words.GetTaskEventsRequest(limit=MOST_TASKS)
            question.filters.exclude_driver = True
            question.filters.job_filters.add(job_id=job, predicate=same)
            question.filters.state_filters.add(state=state, predicate=same)
            for found in self._tasks.GetTaskEvents(question, timeout=LIMIT_S).events_by_task:
                if found.task_info.type == _NORMAL_TASK:
                    yield state, found

    def take(self, jobs: Mapping[bytes, str], own_group: bytes) -> Census:
        """What these jobs ask for now."""
        groups = self.groups()
        asks = [_of_group(group) for group in groups if group.creator_job_id in jobs and group.placement_group_id != own_group]
        for job in jobs:
            asks += [_of_actor(actor, own_group) for actor in self.actors(job)]
            asks += [_of_task(state, task, own_group) for state, task in self.tasks(job)]
        own = next((group for group in groups if group.placement_group_id == own_group), None)
        return Census(tuple(asks), whole=own is not None and own.state == own.CREATED, given=tuple(jobs.values()))

    def end(self, namespace: str) -> int:
        """End every actor and placement group of the jobs of a namespace, detached ones too; how many there were."""
        return self.remove(self.left(namespace))

    def left(self, namespace: str) -> list[tuple[str, bytes]]:
        """Kind (`actor`, `placement-group`) and id of what the jobs of a namespace have."""
        jobs = self.jobs(namespace)
        found = [("placement-group", group.placement_group_id) for group in self.groups() if group.creator_job_id in jobs]
        for job in jobs:
            found += [("actor", actor.actor_id) for actor in self.actors(job) if not actor.ray_namespace.startswith(_RAYS_OWN)]
        return found

    def remove(self, found: Sequence[tuple[str, bytes]]) -> int:
        """End these actors and placement groups."""
        for kind, identity in found:
            if kind == "actor":
                question = self._words.KillActorViaGcsRequest(actor_id=identity, force_kill=True, no_restart=True)
                self._actors.KillActorViaGcs(question, timeout=LIMIT_S)
            else:
                question = self._words.RemovePlacementGroupRequest(placement_group_id=identity)
                self._groups.RemovePlacementGroup(question, timeout=LIMIT_S)
        return len(found)


def end_of_namespace(run_id: str) -> int:
    """End what a run's programs have in Ray, from a process that is connected to it; how much that was. Raises UnreachableError."""
    import grpc  # type: ignore[import-untyped, unused-ignore]
    import ray

    books = Books(ray.get_runtime_context().gcs_address)
    try:
        return books.end(namespace_of(run_id))
    except grpc.RpcError as error:
        raise UnreachableError(f"the Ray head does not end what run {run_id} left: {error.code().name}") from error
    finally:
        books.close()


def _of_group(group: Any) -> Ask:
    amounts: dict[str, float] = {}
    for bundle in group.bundles:
        for what, amount in bundle.unit_resources.items():
            amounts[what] = amounts.get(what, 0.0) + amount
    return Ask("a placement group of its own", group.placement_group_id.hex(), amounts, inside=False, waits=group.state != group.CREATED)


def _of_actor(actor: Any, own_group: bytes) -> Ask:
    return Ask(
        f"actor {actor.name or actor.class_name}", actor.actor_id.hex(), plain(actor.required_resources),
        inside=actor.placement_group_id == own_group, waits=actor.state in (actor.DEPENDENCIES_UNREADY, actor.PENDING_CREATION),
        actor=True, runtime_env=actor.serialized_runtime_env,
    )  # fmt: skip


def _of_task(state: str, task: Any, own_group: bytes) -> Ask:
    info = task.task_info
    return Ask(
        f"task {info.name}", task.task_id.hex(), plain(info.required_resources), inside=info.placement_group_id == own_group,
        waits=state != "RUNNING", runtime_env=info.runtime_env_info.serialized_runtime_env,
    )  # fmt: skip


def plain(resources: Mapping[str, float]) -> dict[str, float]:
    """Amounts by Ray's usual names: within a group Ray renames them (`CPU_group_…`), and adds a sign of each bundle."""
    found: dict[str, float] = {}
    for name, amount in resources.items():
        grouped = _GROUPED.match(name)
        what = grouped["what"] if grouped else name
        # A bundle's own index carries the amount a second time.
        if what != "bundle" and not (grouped and grouped[2] and f"{what}_group_{name.rpartition('_')[2]}" in resources):
            found[what] = found.get(what, 0.0) + amount
    return found
