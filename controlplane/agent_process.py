"""The agent as a process: `cpn agent`, or a child of the server for push-mode members.

This is the one place beside the demo that knows real backends: it makes the one that was asked for and lets
the agent drive it until a signal, a refused token or a newer agent of the same cluster ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
import threading
from functools import partial
from pathlib import Path

import uvloop

from cluster.agent import Agent, AgentSupersededError
from cluster.drivers import Driver
from cluster.errors import AuthenticationError, ClusterError, PermanentError
from cluster.model import Endpoint, KubernetesEndpoint, LeasePolicy
from cluster.protocol import ClusterBackend
from cluster.replicas import read_limits
from controlplane.agent_signs import ANSWERED, NotedLink, show_life, write_sign
from controlplane.collector import calm_collector
from scheduler.clock import SystemClock

log = logging.getLogger("cpn.agent")
REFUSED, FAILED = 4, 1
LEASE_POLICY = "lease-policy"


def make_backend(cluster: str, backend: str, endpoint: Endpoint, data_dir: Path) -> ClusterBackend:
    """The backend of an agent. Raises ClusterError for a name that has none, and for limits of its cache that are none."""
    if backend == "ray":
        from cluster.backends.ray.autoscaling import read_configuration
        from cluster.backends.ray.choosing import ChosenBackend, choose
        from cluster.backends.ray.versions import own_versions

        try:
            limits = read_limits(os.environ.get("CPN_CACHE_GIB", ""), os.environ.get("CPN_TRANSFER_MIB_S", ""))
        except ValueError as error:
            raise PermanentError(str(error)) from error

        named = os.environ.get("CPN_RAY_AUTOSCALING", "")
        types = read_configuration(Path(named)) if named else ()

        def make(driver: Driver) -> ClusterBackend:
            if driver.way == "job-api":
                from cluster.backends.ray.job_backend import JobApiBackend

                return JobApiBackend(endpoint, driver.why)
            from cluster.backends.ray.backend import RayBackend

            token_file = Path(endpoint.token_file) if endpoint.token_file else None
            return RayBackend(cluster, endpoint.address, token_file, data_dir, limits=limits, types=types)

        return ChosenBackend(lambda: choose(endpoint, own_versions()), make)
    if backend == "kubernetes":
        from cluster.backends.kubernetes.member import kubernetes_member

        return kubernetes_member(cluster, endpoint.kubernetes or KubernetesEndpoint(), data_dir)
    raise ClusterError(f"there is no backend {backend!r} that an agent can drive; there are: ray, kubernetes")


def main(*, cluster: str, server: str, token: str, backend: str, endpoint: Endpoint, data_dir: Path, end_with_parent: bool = False) -> int:
    """Run one agent until it ends. Returns the exit status: 0 ended by signal or superseded, 4 token refused, 1 anything else."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # It would log every call of an agent's life.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    calm_collector()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            driven = make_backend(cluster, backend, endpoint, data_dir)
            link = NotedLink(server, token, cluster, partial(write_sign, data_dir, ANSWERED))
            runner.run(_run(driven, link, data_dir, end_with_parent))
    except AuthenticationError as error:
        log.error("%s", error)
        return REFUSED
    except AgentSupersededError:
        log.info("another agent speaks for %s now; this one ends", cluster)
        return 0
    except ClusterError as error:
        log.error("%s", error)
        return FAILED
    return 0


def read_policy(path: Path) -> LeasePolicy:
    """What was to become of runs without a lease when an agent was last told; an agent that begins while the server is away needs it."""
    with contextlib.suppress(OSError):
        return "continue" if path.read_text(encoding="utf-8").strip() == "continue" else "stop"
    return "stop"


def keep_policy(path: Path, policy: LeasePolicy) -> None:
    """Keep it for the next agent on this disk; one that is full costs only that."""
    try:
        path.write_text(f"{policy}\n", encoding="utf-8")
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error.strerror)


async def _run(backend: ClusterBackend, link: NotedLink, data_dir: Path, end_with_parent: bool) -> None:
    policy = data_dir / LEASE_POLICY
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if end_with_parent:
        threading.Thread(target=_await_parent, args=(loop, stop), daemon=True).start()
    agent = Agent(
        backend, link, clock=SystemClock(), agent_id=f"agent-{secrets.token_hex(8)}", on_lease_lost=read_policy(policy),
        on_policy=partial(keep_policy, policy),
    )  # fmt: skip
    living = asyncio.create_task(show_life(data_dir))
    try:
        await agent.run(stop)
    finally:
        living.cancel()
        await link.close()


def _await_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # The parent holds the other end of standard input; it closes when the parent ends, however it ends.
    while os.read(0, 1024):
        pass
    loop.call_soon_threadsafe(stop.set)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="controlplane.agent_process")
    for name in ("cluster", "server", "backend", "data-dir"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--endpoint", type=Endpoint.model_validate_json, default=Endpoint())
    parser.add_argument("--end-with-parent", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    options = _arguments()
    sys.exit(
        main(
            cluster=options.cluster, server=options.server, token=os.environ.pop("CPN_TOKEN", ""), backend=options.backend,
            endpoint=options.endpoint, data_dir=Path(options.data_dir), end_with_parent=options.end_with_parent,
        )
    )  # fmt: skip
