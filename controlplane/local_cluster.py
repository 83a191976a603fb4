"""A Ray of our own on this machine as a member of a network that is there already: `cpn cluster start-local`.

The Ray, its agent and the agent's token end with us, in order or all at once when we are killed; the member stays registered, and
the same command finds it again. Whose member it is says a file in its directory: a name that somebody else registered is
never taken over.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from cluster.backends.ray.local import LocalRay
from cluster.errors import ClusterError
from controlplane.api.schemas import ClusterView
from controlplane.children import Child
from controlplane.client import Client
from controlplane.errors import ClientError
from controlplane.network import (
    LOOK_S,
    MEMBERS_HEALTHY_S,
    SUPERVISE_S,
    Member,
    NetworkError,
    Say,
    agent_beside,
    ending_in_order,
    undisturbed,
)

MEMBER_FILE, LOCK_FILE, READY_FILE = "member.json", "lock", "ready"


class LocalCluster:
    """One member on this machine. Use as a context manager: leaving it stops everything. `directory` is the member's own."""

    def __init__(
        self, member: Member, directory: Path, client: Client, *, say: Say, environ: Mapping[str, str] | None = None,
        make_ray: Callable[..., LocalRay] = LocalRay,
    ) -> None:  # fmt: skip
        self.member, self._directory, self._client, self._say = member, directory, client, say
        self._environ = dict(os.environ if environ is None else environ)
        self.ray = make_ray(
            member.name, directory / "ray", cpus=member.cpus, memory_bytes=member.memory_bytes, gpus=member.gpus,
            accelerator_model=member.accelerator_model, labels=member.labels,
        )  # fmt: skip
        self.agent: Child | None = None
        self._token_id = ""
        self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start the Ray, register the member where it is not one yet, and start its agent; returns when it is healthy.

        Raises NetworkError, ClientError. The name is looked at first, so that nothing is started in vain.
        """
        self._take_directory()
        known = self._known()
        try:
            self.ray.start()
            self.ray.wait_ready()
        except (ClusterError, OSError) as error:
            raise NetworkError(str(error)) from error
        self._say(f"Ray answers at {self.ray.address}; its token is in {self.ray.token_file}")
        if known is None:
            view = self._client.register_cluster(self.member.spec)
            _write(self._directory / MEMBER_FILE, {"server": self._client.server, "created_at": view.created_at.isoformat()})
            self._say(f"registered {view.name} ({view.jurisdiction}, {view.mode} mode)")
        self.agent, self._token_id = agent_beside(self._client, self.member.name, self.ray, self._directory / "agent", self._environ)
        self.agent.start()
        self._await_healthy()
        (self._directory / READY_FILE).write_text(str(os.getpid()), encoding="utf-8")

    def supervise(self) -> None:
        """Start the agent again when it ends, for as long as the Ray lives. Raises NetworkError when that has ended."""
        while True:
            time.sleep(SUPERVISE_S)
            self.look()

    def look(self) -> None:
        """One look of `supervise`."""
        if not self.ray.running:
            raise NetworkError(f"Ray {self.member.name} has ended; its log is {self.ray.log_file}")
        if self.agent is not None and not self.agent.running:
            self._say(f"{self.agent.name} has ended and is started again; its log is {self.agent.log_file}")
            self.agent.stop()
            self.agent.start()

    def stop(self) -> None:
        """Stop the agent and the Ray, and end the agent's token. Twice does no harm."""
        with undisturbed():
            self._revoke_token()
            if self.agent is not None:
                self.agent.stop()
                self.agent = None
            self.ray.stop()
            lock, self._lock = self._lock, -1
            if lock >= 0:
                os.close(lock)

    def _take_directory(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise NetworkError(f"{self.member.name} runs here already ({self._directory}); end it, or choose another name") from error
        self._lock = lock
        (self._directory / READY_FILE).unlink(missing_ok=True)
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())

    def _known(self) -> ClusterView | None:
        """The member as it is registered, if it is. Raises NetworkError when it is not the one that was made here."""
        view = next((view for view in self._client.clusters().items if view.name == self.member.name), None)
        if view is None:
            return None
        if _read(self._directory / MEMBER_FILE) != {"server": self._client.server, "created_at": view.created_at.isoformat()}:
            message = f"there is a cluster {view.name!r} already, and it was not started here with this --data-dir; choose another name"
            raise NetworkError(f"{message}, or forget that one first (`cpn cluster remove {view.name}`)")
        return view

    def _await_healthy(self) -> None:
        deadline = time.monotonic() + MEMBERS_HEALTHY_S
        while True:
            view = self._client.cluster(self.member.name)
            if view.health == "healthy" and view.nodes_ready:
                return
            self.look()
            if time.monotonic() > deadline:
                assert self.agent is not None
                message = f"{view.name} is not healthy after {MEMBERS_HEALTHY_S:g} s ({view.detail or view.health})"
                raise NetworkError(f"{message}; the agent's log {self.agent.log_file} ends with:\n{self.agent.log_tail()}")
            time.sleep(LOOK_S)

    def _revoke_token(self) -> None:
        token, self._token_id = self._token_id, ""
        if not token:
            return
        try:
            self._client.revoke_token(token)
        except ClientError as error:
            self._say(f"the token {token} could not be revoked ({error}); `cpn token revoke {token}` does it later")


def start_local(member: Member, directory: Path, client: Client, *, say: Say) -> int:
    """Run the member until Ctrl-C or SIGTERM. Returns the exit status: 0 ended as asked, 1 it broke. Raises ClientError."""
    try:
        with ending_in_order(), LocalCluster(member, directory, client, say=say) as running:
            running.start()
            say(f"{member.name} is healthy: {member.cpus:g} cores, {member.memory_bytes / 1024**3:.1f} GiB. Ctrl-C stops it.")
            running.supervise()
    except KeyboardInterrupt:
        say(f"stopped; {member.name} stays registered: the same command starts it again, `cpn cluster remove {member.name}` forgets it")
    except (NetworkError, OSError) as error:
        say(f"error: {error}")
        return 1
    return 0


def _write(path: Path, document: dict[str, str]) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
