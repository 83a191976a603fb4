"""An agent's process without a control plane: backends of one Ray cluster, driven over a socket by a test.

One process speaks to one Ray cluster, so a test that needs a second cluster, or an agent that it can kill, starts
this program (see tests/ray.py). A line of JSON asks for a call on a backend, named by a number; answers and events come
back as lines. Several backends may follow one another in a process, as long as one is closed before the next is opened.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from cluster.backends.ray.backend import RayBackend
from cluster.protocol import ClusterBackend, GangSize, RunRequest
from cluster.replicas import CacheLimits
from cluster.scaling import NodeType, Wanted

ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


class Backends:
    """The backends of this process, and the line that answers and events go out on."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._backends: dict[int, ClusterBackend] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def answer(self, request: dict[str, Any]) -> None:
        """Carry out a request in the background."""
        self._keep(self._carry_out(request))

    async def close(self) -> None:
        """Leave the cluster in good order."""
        for backend in self._backends.values():
            await backend.close()

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _say(self, **line: Any) -> None:
        self._writer.write(json.dumps(line).encode() + b"\n")

    async def _carry_out(self, request: dict[str, Any]) -> None:
        number, method, arguments = request["backend"], request["method"], request["arguments"]
        try:
            result: Any = None
            if method == "make":
                self._make(number, **arguments)
            elif method == "start":
                await self._backends[number].start(RunRequest.model_validate(arguments["run"]))
            elif method == "taken":
                result = await asyncio.to_thread(_taken)
            elif method == "left":
                result = await asyncio.to_thread(_left, arguments["run_id"])
            elif method == "free_strays":
                await self._backends[number]._crew.free_strays()  # type: ignore[attr-defined]
            elif method == "scale":
                await self._backends[number].scale([Wanted.model_validate(item) for item in arguments["wanted"]])
            elif method == "report_types":
                result = await asyncio.to_thread(_report_types, arguments["groups"])
            elif method == "resize":
                size = GangSize.model_validate(arguments.pop("size"))
                await self._backends[number].resize(size=size, **arguments)
            else:
                call: Callable[..., Any] = getattr(self._backends[number], method)
                result = await call(**arguments)
        except Exception as error:  # the test decides what may be raised
            self._say(id=request["id"], error=type(error).__name__, message=str(error))
        else:
            self._say(id=request["id"], result=ANYTHING.dump_python(result, mode="json"))

    def _make(self, number: int, cluster: str, address: str, token_file: str, directory: str, **options: Any) -> None:
        options |= {"limits": CacheLimits.model_validate(options["limits"])} if "limits" in options else {}
        options |= {"types": [NodeType.model_validate(item) for item in options["types"]]} if "types" in options else {}
        self._backends[number] = RayBackend(cluster, address, Path(token_file), Path(directory), **options)
        self._keep(self._pass_on(number))

    async def _pass_on(self, number: int) -> None:
        async for event in self._backends[number].events():
            self._say(backend=number, event=event.model_dump(mode="json"))
        self._say(backend=number, event=None)


def _taken() -> tuple[float, int]:
    """What Ray itself counts as taken: cores, and placement groups."""
    import ray.util

    free, everything = ray.available_resources(), ray.cluster_resources()
    groups = [group for group in ray.util.placement_group_table().values() if group["state"] != "REMOVED"]
    return everything["CPU"] - free.get("CPU", 0.0), len(groups)


def _report_types(groups: dict[str, Any]) -> None:
    """Put a configuration into the autoscaler's state, as one that reports its own does; without groups, an empty one."""
    import ray
    from ray._raylet import GcsClient
    from ray.core.generated.autoscaler_pb2 import ClusterConfig

    config = ClusterConfig()
    for name, group in groups.items():
        config.node_group_configs.add(name=name, **group)
    GcsClient(address=ray.get_runtime_context().gcs_address).report_cluster_config(config.SerializeToString())


def _left(run_id: str) -> list[str]:
    """What the programs of a run have in Ray: kinds of what lives."""
    import ray

    from cluster.backends.ray.census import Books, namespace_of

    books = Books(ray.get_runtime_context().gcs_address)
    try:
        return [kind for kind, _ in books.left(namespace_of(run_id))]
    finally:
        books.close()


async def serve(line: socket.socket) -> None:
    """Until the other side hangs up."""
    reader, writer = await asyncio.open_connection(sock=line, limit=64 * 1024**2)
    backends = Backends(writer)
    while request := await reader.readline():
        backends.answer(json.loads(request))
    await backends.close()


if __name__ == "__main__":
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))
