"""A running network on real Rays, as tests ask it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster.model import Endpoint
from controlplane.api.schemas import JobView
from controlplane.client import Client
from controlplane.network import LocalNetwork
from tests.network import job, until
from tests.ray import SmallRay, processes_of
from workloads.spec import JobSpec


@dataclass
class Place:
    """The running network, and its operator's client."""

    network: LocalNetwork
    client: Client
    rays: dict[str, SmallRay]

    def submit(self, **fields: Any) -> JobView:
        return self.client.submit(JobSpec.model_validate(job(**fields)))

    def wait(self, found: JobView, *states: str, seconds: float = 60.0) -> JobView:
        """The job as soon as it is in one of these states, any final one when none is named."""
        wanted = states or ("succeeded", "failed", "cancelled")
        now = self.client.job(found.id)

        def arrived() -> bool:
            nonlocal now
            now = self.client.job(found.id, wait_s=1.0, after_version=now.version)
            return now.state in wanted

        until(lambda: now.state in wanted or arrived(), f"{found.id} is {' or '.join(wanted)}", seconds)
        return now

    def moves(self, found: JobView) -> list[tuple[str, str]]:
        return [(event.finish, event.cause) for event in self.client.events(found.id).items]

    def endpoint(self, name: str) -> Endpoint:
        """How a member's Ray is reached."""
        return Endpoint(address=self.rays[name].address, token_file=str(self.rays[name].token_file))

    def let_go(self, found: JobView) -> None:
        """Let the job's current run of TALK go on."""
        run_id = self.client.job(found.id).run_id
        (folder,) = (folder for ray in self.rays.values() for folder in ray.runs.glob(f"{run_id}-0"))
        (folder / "work" / "go").touch()

    def agent_processes(self, name: str) -> set[int]:
        """The processes of a member's agent that live now."""
        found = processes_of(str(self.network.data_dir / "agents" / name))
        return {pid for pid, line in found.items() if "agent" in line and "leash.py" not in line}
