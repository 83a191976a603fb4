"""What an agent's machine asks of a control plane before its agent runs: to join, and what its token opens."""

from __future__ import annotations

from controlplane.api.joining_schemas import AgentStanding, Joined, JoinRequest
from controlplane.client import Client


class AgentClient(Client):
    """A control plane as the token of an agent, or a join token, sees it."""

    def standing(self, cluster: str, remote_id: str = "") -> AgentStanding:
        """What an agent's token opens. Raises RequestRefusedError for one that does not open this cluster."""
        return self._ask(AgentStanding, "GET", f"/agents/{cluster}", remote_id=remote_id)

    def look_at_join(self, cluster: str | None, remote_id: str = "") -> AgentStanding:
        """Whether the join token can be used, for this cluster where one is named. Raises RequestRefusedError with why it cannot."""
        return self._ask(AgentStanding, "GET", "/agents:join", cluster=cluster, remote_id=remote_id)

    def join(self, request: JoinRequest) -> Joined:
        """Use the join token. Raises RequestRefusedError."""
        return self._ask(Joined, "POST", "/agents:join", request)
