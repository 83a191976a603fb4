"""The agent's side of a join token: it becomes a token of the agent's own, kept in a file beside its journals.

The file is written before the join token is used, so whatever is killed or lost on the way, the same command can be given
again: with the file the agent needs the join token no more, and a use whose answer was lost is repeated with the same text.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from controlplane.agent_client import AgentClient
from controlplane.api.joining_schemas import JoinRequest
from controlplane.tokens import digest, new_secret

FILE = "agent-token.json"
MakeClient = Callable[[str], AgentClient]


@dataclass(frozen=True)
class Membership:
    """The cluster that an agent speaks for, its token, and its directory."""

    cluster: str
    token: str
    directory: Path


def join(join_token: str, cluster: str | None, directory: Path | None, agents: Path, make_client: MakeClient) -> Membership:
    """The membership that a join token gives, or gave before to this disk.

    `directory` is the agent's, else it is named for the cluster below `agents`. Raises ClientError when the server does not answer or
    refuses the token, OSError when the file cannot be kept.
    """
    with make_client(join_token) as client:
        known = kept(join_token, cluster, directory, agents)
        if known is None:
            name = client.look_at_join(cluster).cluster
            known = Membership(name, new_secret("agent"), directory or agents / name)
            _keep(known, join_token, joined=False)
        elif _is_joined(known.directory):
            return known
        client.join(JoinRequest(agent_token_sha256=digest(known.token), cluster=known.cluster))
    _keep(known, join_token, joined=True)
    return known


def kept(join_token: str, cluster: str | None, directory: Path | None, agents: Path) -> Membership | None:
    """What was kept of this join token, wherever this agent would have kept it."""
    places = [directory] if directory else [agents / cluster] if cluster else sorted(path.parent for path in agents.glob(f"*/{FILE}"))
    for place in places:
        document = _read(place)
        if document.get("join_sha256") == digest(join_token) and cluster in (None, document["cluster"]):
            return Membership(document["cluster"], document["token"], place)
    return None


def _is_joined(directory: Path) -> bool:
    return _read(directory).get("joined") == "yes"


def _read(directory: Path) -> dict[str, str]:
    """The file's document; empty where there is none that this version wrote."""
    with suppress(OSError, ValueError):
        document = json.loads((directory / FILE).read_text(encoding="utf-8"))
        if isinstance(document, dict) and {"join_sha256", "cluster", "token", "joined"} <= document.keys():
            return {key: str(value) for key, value in document.items()}
    return {}


def _keep(member: Membership, join_token: str, *, joined: bool) -> None:
    """Write the file at once whole, for this user alone."""
    member.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    document = {
        "join_sha256": digest(join_token), "cluster": member.cluster, "token": member.token, "joined": "yes" if joined else "no",
    }  # fmt: skip
    fresh = member.directory / f".{FILE}-{secrets.token_hex(4)}"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(member.directory / FILE)
