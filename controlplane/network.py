"""A whole network on this machine: a control plane and one real Ray for each member, all of them children of ours.

`cpn up` and the demo use the same network. Server and Rays start at the same time; everything ends with us,
in order, or all at once when we are killed. Members are attached in one of two ways: in pull mode their agents
are children beside the Rays, and find their member again at the next start, whatever its ports are then; in
push mode the server starts the agents itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from cluster.backends.ray.local import LocalRay
from cluster.errors import ClusterError
from cluster.model import ClusterSpec, Endpoint
from controlplane.api.schemas import TokenRequest
from controlplane.children import Child
from controlplane.client import Client
from controlplane.errors import ClientError

SERVER_READY_S, MEMBERS_HEALTHY_S = 120.0, 120.0
LOOK_S, SUPERVISE_S = 0.05, 1.0
OPERATOR_TOKEN, SERVER_FILE = "operator.token", "server.json"

Say = Callable[[str], None]


class NetworkError(Exception):
    """A part of the local network does not start or does not stay; the message says which, and how its log ends."""


@dataclass(frozen=True)
class Member:
    """A member and the size of the Ray that plays it. The spec's mode and endpoint are set when it is attached."""

    spec: ClusterSpec
    cpus: float
    memory_bytes: int
    gpus: int = 0
    accelerator_model: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The member's name."""
        return self.spec.name


class LocalNetwork:
    """The network, not running yet. Use as a context manager: leaving it stops everything. `say` is told the progress."""

    def __init__(self, data_dir: Path, port: int, members: Sequence[Member], *, say: Say, environ: Mapping[str, str] | None = None) -> None:
        self.data_dir, self.members = data_dir, tuple(members)
        self._say = say
        self._environ = dict(os.environ if environ is None else environ)
        self.server = Child(
            "server",
            ["serve", "--host", "127.0.0.1", "--port", str(port), "--data-dir", str(data_dir)],
            data_dir / "server.log",
            self._environ,
        )
        self.rays = {member.name: self._ray(member) for member in self.members}
        self.agents: dict[str, Child] = {}
        self._tokens: list[str] = []
        self._lock = -1
        self._old_server: tuple[int, int] | None = None
        self.url = ""
        self.operator_token = ""

    def _ray(self, member: Member) -> LocalRay:
        return LocalRay(
            member.name, self.data_dir / "rays" / member.name, cpus=member.cpus, memory_bytes=member.memory_bytes, gpus=member.gpus,
            accelerator_model=member.accelerator_model, labels=member.labels,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Start server and Rays together, do `meanwhile`, and return when all answer. Raises NetworkError."""
        self._take_data_dir()
        began = time.monotonic()
        self.server.start()
        with ThreadPoolExecutor(max_workers=len(self.rays) + 1) as pool:
            try:
                waits = [pool.submit(self._start_ray, ray, began) for ray in self.rays.values()]
                waits.append(pool.submit(self._await_server, began))
                meanwhile()
                for wait in as_completed(waits):
                    wait.result()
            except BaseException:
                # What is stopped is waited for no longer, so the pool ends soon.
                self.stop()
                raise

    def _take_data_dir(self) -> None:
        """Hold the data directory for this network alone, and know an earlier server's file from the one to come."""
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(self.data_dir / "network.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise NetworkError(f"another network runs in {self.data_dir}; end it, or choose another folder with --data-dir") from error
        self._old_server = _stamp(self.data_dir / SERVER_FILE)

    def _start_ray(self, ray: LocalRay, began: float) -> None:
        try:
            ray.start()
            ray.wait_ready()
        except (ClusterError, OSError) as error:
            raise NetworkError(str(error)) from error
        self._say(f"Ray {ray.name} answers at {ray.address} ({time.monotonic() - began:.1f} s)")

    def _await_server(self, began: float) -> None:
        while not self._server_answers():
            if not self.server.running:
                raise NetworkError(f"the server ended while starting; its log {self.server.log_file} ends with:\n{self.server.log_tail()}")
            if time.monotonic() - began > SERVER_READY_S:
                raise NetworkError(f"the server is not ready after {SERVER_READY_S:g} s; its log is {self.server.log_file}")
            time.sleep(LOOK_S)
        self.operator_token = self._read_token()
        self._say(f"the control plane answers at {self.url} ({time.monotonic() - began:.1f} s)")

    def _server_answers(self) -> bool:
        path = self.data_dir / SERVER_FILE
        if _stamp(path) in (None, self._old_server):
            return False
        self.url = str(json.loads(path.read_text())["url"])
        with Client(self.url, answer_s=2.0) as client:
            return client.ready()

    def _read_token(self) -> str:
        path = self.data_dir / OPERATOR_TOKEN
        try:
            return path.read_text().strip()
        except OSError as error:
            message = (
                f"the first operator token is not in {path} ({error.strerror}); was the database first used with another data directory?"
            )
            raise NetworkError(message) from error

    def operator(self) -> Client:
        """A client with the first operator's token."""
        return Client(self.url, self.operator_token)

    def pushed(self, member: Member) -> ClusterSpec:
        """The member's spec for push mode, with the endpoint that its Ray has now."""
        ray = self.rays[member.name]
        endpoint = Endpoint(address=ray.address, token_file=str(ray.token_file.absolute()))
        return member.spec.model_copy(update={"mode": "push", "endpoint": endpoint})

    def attach(self, member: Member) -> None:
        """Register the member in pull mode, where it is not yet, and start its agent beside its Ray. Raises ClientError."""
        with self.operator() as client:
            if member.name not in {view.name for view in client.clusters().items}:
                client.register_cluster(member.spec.model_copy(update={"mode": "pull", "endpoint": Endpoint()}))
            ray, folder = self.rays[member.name], self.data_dir / "agents" / member.name
            agent, token_id = agent_beside(client, member.name, ray, folder, self._environ)
        self._tokens.append(token_id)
        agent.start()
        self.agents[member.name] = agent

    def wait_healthy(self, *more: str) -> None:
        """Until every member, and these others, are healthy with a ready node. Raises NetworkError, ClientError."""
        deadline = time.monotonic() + MEMBERS_HEALTHY_S
        with self.operator() as client:
            while True:
                views = {view.name: view for view in client.clusters().items}
                waiting = [
                    name
                    for name in sorted({*self.rays, *more})
                    if name not in views or views[name].health != "healthy" or not views[name].nodes_ready
                ]
                if not waiting:
                    return
                if time.monotonic() > deadline:
                    detail = "; ".join(f"{name}: {views[name].detail or views[name].health}" for name in waiting if name in views)
                    raise NetworkError(
                        f"{', '.join(waiting)} not healthy after {MEMBERS_HEALTHY_S:g} s ({detail}); logs: {self.data_dir / 'agents'}"
                    )
                time.sleep(LOOK_S)

    def supervise(self) -> None:
        """Start agents again that ended, for as long as the server runs. Raises NetworkError when it has ended."""
        while True:
            time.sleep(SUPERVISE_S)
            if not self.server.running:
                raise NetworkError(f"the server has ended; its log {self.server.log_file} ends with:\n{self.server.log_tail()}")
            for agent in self.agents.values():
                if not agent.running:
                    self._say(f"{agent.name} has ended and is started again; its log is {agent.log_file}")
                    agent.stop()
                    agent.start()

    def stop(self) -> None:
        """Stop agents, server and Rays. Twice does no harm."""
        with undisturbed():
            self._stop()

    def _stop(self) -> None:
        self._revoke_tokens()
        with ThreadPoolExecutor(max_workers=max(len(self.agents), len(self.rays), 1)) as pool:
            list(pool.map(lambda agent: agent.stop(), self.agents.values()))
            self.server.stop()
            list(pool.map(lambda ray: ray.stop(), self.rays.values()))
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _revoke_tokens(self) -> None:
        tokens, self._tokens = self._tokens, []
        if not tokens or not self.server.running:
            return
        with Client(self.url, self.operator_token, answer_s=3.0) as client:
            for token in tokens:
                try:
                    client.revoke_token(token)
                except ClientError as error:
                    self._say(f"the token {token} could not be revoked ({error}); `cpn token revoke {token}` does it later")


def agent_beside(client: Client, cluster: str, ray: LocalRay, folder: Path, environ: Mapping[str, str]) -> tuple[Child, str]:
    """The agent of a pull member beside its Ray, not started yet, and the id of the token that was made for it. Raises ClientError."""
    token = client.create_token(TokenRequest(role="agent", cluster=cluster))
    arguments = [
        "agent", cluster, "--address", ray.address, "--ray-token-file", str(ray.token_file.absolute()), "--data-dir", str(folder),
    ]  # fmt: skip
    own = {name: value for name, value in environ.items() if name != "CPN_JOIN_TOKEN"}
    own |= {"CPN_SERVER": client.server, "CPN_TOKEN": token.token}
    return Child(f"the agent of {cluster}", arguments, folder / "agent.log", own), token.id


def _stamp(path: Path) -> tuple[int, int] | None:
    """What tells one writing of a file from the next; None when it is not there."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


@contextmanager
def ending_in_order() -> Iterator[None]:
    """SIGTERM ends this process as Ctrl-C does: what was started is stopped in order."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not interrupt what the first one began. If that hangs, SIGKILL is safe: all children end with us."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM) if main}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
