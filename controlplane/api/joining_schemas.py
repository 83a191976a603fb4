"""What agents are told of their tokens, and how they join."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from cluster.model import BackendName, Mode
from controlplane.api.bases import Answer, Asked
from workloads.spec import Name


class AgentStanding(Answer):
    """What the caller's token opens, and the server's version and clock."""

    cluster: Name
    backend: BackendName
    mode: Mode
    role: Literal["agent", "join"]
    expires_at: datetime | None
    version: str
    at: datetime
    known_as: str | None = Field(default=None, description="the other name under which the cluster with the asked own id is a member")


class JoinRequest(Asked):
    """A use of a join token, which is the bearer token of the call."""

    agent_token_sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of the text of the token that the agent will use from now on")
    cluster: Name | None = Field(default=None, description="the cluster that the agent believes it joins")


class Joined(Answer):
    """The agent's token is valid now."""

    cluster: str
    token_id: str


class ClusterRuns(Answer):
    """The runs that hold something now, by id: on this cluster and on the others. `remote_id`: this cluster's own id, as it told it."""

    cluster: str
    remote_id: str
    here: list[str]
    elsewhere: list[str]
