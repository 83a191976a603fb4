"""`python -m tests.benchmarks.kube_runs`: what the adapter adds to Jobs on a real Kubernetes control plane.

The same pods are run twice: as Jobs that are only created and counted by the API, as `kubectl create` would, and as runs through the
backend, with their Secret, their log and their end. Nodes are stood in for by processes of this machine, so half of what is measured is
Python starting. `one` is the median of runs one after the other, from the order to what is told: for plain Jobs until a look at the pod
(every 10 ms) sees it run, for runs until RunStarted. `rate` is runs a second, all at once, until the last has ended. Wall clock; the
adapter's processor time beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from cluster.backends.kubernetes.access import Access
from cluster.backends.kubernetes.client import KubeClient
from cluster.backends.kubernetes.objects import Place, jobs_of, name_of, secret_of
from cluster.protocol import RunFinished, RunRequest, RunStarted
from tests.kube.control_plane import ADMIN, running_kubernetes
from tests.kube.kubelet import Kubelet, running_kubelet
from tests.kube.member import namespace, settings_of
from tests.kube.scene import scene
from tests.ray_runs import command

LOOK_S = 0.01


def runs(count: int) -> list[RunRequest]:
    """Short programs, on both nodes in turn, with room for all at once."""
    return [command(f"node-{number % 2 + 1}", "true", cpu=0.01) for number in range(count)]


class Plain:
    """Jobs by the API alone."""

    def __init__(self, client: KubeClient, space: str) -> None:
        self._client, self._settings = client, settings_of(space)
        self._core, self._batch = f"/api/v1/namespaces/{space}", f"/apis/batch/v1/namespaces/{space}"

    async def create(self, run: RunRequest) -> None:
        """The Job of a run, with the Secret that its pod mounts."""
        place = Place("token", 4e9, 300.0)
        owner = await self._client.create(f"{self._core}/secrets", secret_of(run, self._settings, place))
        (job,) = jobs_of(run, self._settings, place, owner, indexed=False)
        await self._client.create(f"{self._batch}/jobs", job)

    async def running(self, run: RunRequest) -> None:
        """Until its pod is seen to run."""
        query = {"labelSelector": f"job-name={name_of(run.run_id)}"}
        while not any(pod["status"].get("phase") not in (None, "Pending") for pod in await self._items("pods", query)):
            await asyncio.sleep(LOOK_S)

    async def ended(self, wanted: int) -> None:
        """Until so many Jobs are complete."""
        while sum(job["status"].get("succeeded", 0) for job in await self._items("jobs", {})) < wanted:
            await asyncio.sleep(LOOK_S)

    async def _items(self, kind: str, query: dict[str, str]) -> list[dict[str, Any]]:
        base = self._core if kind == "pods" else self._batch
        found: list[dict[str, Any]] = (await self._client.get(f"{base}/{kind}", **query))["items"]
        return found


async def timed(work: Callable[[], Awaitable[None]]) -> float:
    began = perf_counter()
    await work()
    return perf_counter() - began


async def plain(kubelet: Kubelet, one: int, many: int) -> tuple[float, float]:
    """Median seconds to run, and Jobs a second."""
    single, rated = (Plain(KubeClient(Access(kubelet.servers.kubeconfig(ADMIN))), namespace(kubelet, name)) for name in ("one", "many"))

    async def begin(run: RunRequest) -> None:
        await single.create(run)
        await single.running(run)

    async def all_at_once() -> None:
        await asyncio.gather(*(rated.create(run) for run in runs(many)))
        await rated.ended(many)

    first = [await timed(lambda run=run: begin(run)) for run in runs(one)]  # type: ignore[misc]
    seconds = await timed(all_at_once)
    await single._client.close()
    await rated._client.close()
    return statistics.median(first), many / seconds


async def adapter(kubelet: Kubelet, folder: Path, one: int, many: int) -> tuple[float, float, float]:
    """The same through the backend, and its processor time for each run in seconds."""
    async with scene(kubelet, "adapter", folder) as here:

        async def begin(run: RunRequest) -> None:
            await here.backend.start(run)
            await here.watch.first(run.run_id, RunStarted)

        async def all_at_once() -> None:
            ordered = runs(many)
            await asyncio.gather(*(here.backend.start(run) for run in ordered))
            ends = await asyncio.gather(*(here.watch.first(run.run_id, RunFinished) for run in ordered))
            wrong = [end.message for end in ends if end.outcome != "succeeded"]
            assert not wrong, wrong

        first = [await timed(lambda run=run: begin(run)) for run in runs(one)]  # type: ignore[misc]
        used = process_time()
        seconds = await timed(all_at_once)
        return statistics.median(first), many / seconds, (process_time() - used) / many


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(prog="tests.benchmarks.kube_runs")
    parser.add_argument("--one", type=int, default=15)
    parser.add_argument("--many", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cpn-kube-") as name:
        folder = Path(name)
        with running_kubernetes(folder) as servers, running_kubelet(servers, folder / "pods") as kubelet:
            one, rate = asyncio.run(plain(kubelet, options.one, options.many))
            print(f"plain Jobs:  one {one * 1000:.0f} ms, rate {rate:.1f}/s")
            one, rate, used = asyncio.run(adapter(kubelet, folder / "agent", options.one, options.many))
            print(
                f"the adapter: one {one * 1000:.0f} ms, rate {rate:.1f}/s, {used * 1000:.0f} ms of processor time each (with the stand-in)"
            )


if __name__ == "__main__":
    main()
