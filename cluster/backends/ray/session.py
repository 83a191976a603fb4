"""The connection of this process to one Ray cluster, and the care that Ray's client needs.

One process speaks to one cluster: Ray's client keeps address and token in the process. Its calls may block for as
long as the head is away, and after `gcs_rpc_server_reconnect_timeout_s` (60 s by default) it ends the whole process;
so that time is set to a day before Ray is imported, every blocking call runs in a thread with a time limit, and the
head is asked over its own line first (`gcs.py`). Without that setting an agent would die a minute after its head,
in the middle of telling the control plane about it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from cluster.backends.ray import tables
from cluster.backends.ray.gcs import cluster_id
from cluster.errors import AuthenticationError, ClusterError, ClusterReplacedError, PermanentError, UnreachableError, WorkerGoneError

T = TypeVar("T")

NAMESPACE = "cpn"
RECONNECT_S = 86_400
_RECONNECT_VARIABLE = "RAY_gcs_rpc_server_reconnect_timeout_s"
_RETRY_S = (0.05, 0.2, 0.5, 1.0)


class Session:
    """The connection. All methods are called from one event loop."""

    def __init__(self, address: str, token_file: Path | None, *, call_limit_s: float = 5.0, probe_limit_s: float = 2.0) -> None:
        self.address = address
        self._token_file = token_file
        self._call_limit_s, self._probe_limit_s = call_limit_s, probe_limit_s
        self._cluster_id = b""
        self._connected = False
        self._calls: list[threading.Thread] = []

    async def connect(self) -> None:
        """Connect this process, if it is not. Raises UnreachableError, AuthenticationError, PermanentError (another version of Ray)."""
        if self._connected:
            return await self.check()
        token = self._read_token()
        self._cluster_id = await self._ask_head(token)
        _set_environment(self._token_file)
        await self.call(_connect, self.address, limit_s=max(30.0, self._call_limit_s))
        self._connected = True

    @property
    def cluster_id(self) -> str:
        """The id of the cluster that this process connected to; empty before."""
        return self._cluster_id.hex()

    async def disconnect(self) -> None:
        """Leave the cluster; detached actors go on. Twice does no harm."""
        if self._connected:
            self._connected = False
            with contextlib.suppress(UnreachableError):
                await self.call(_disconnect, tuple(self._calls), limit_s=10.0)

    async def check(self) -> None:
        """Raises UnreachableError when the head does not answer, ClusterReplacedError when it is not the one that we connected to."""
        found = await self._ask_head(self._read_token())
        if found != self._cluster_id:
            raise ClusterReplacedError(f"the Ray head at {self.address} was restarted; an agent that is started anew connects to it again")

    async def was_replaced(self) -> bool:
        """The head answers, and is another one than we connected to: all that the old one ran is gone."""
        with contextlib.suppress(ClusterError):
            return await self._ask_head(self._read_token()) != self._cluster_id
        return False

    async def call(self, function: Callable[..., T], *arguments: Any, limit_s: float | None = None) -> T:
        """A blocking call of Ray's in a thread, which is left behind when it takes too long. Raises UnreachableError then."""
        limit = self._call_limit_s if limit_s is None else limit_s
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        thread = threading.Thread(target=_work, args=(loop, answer, function, arguments), daemon=True, name="ray-call")
        self._calls = [call for call in self._calls if call.is_alive()]
        thread.start()
        self._calls.append(thread)
        try:
            return await asyncio.wait_for(answer, limit)
        except TimeoutError:
            raise UnreachableError(f"Ray at {self.address} does not answer within {limit:g} s") from None

    async def ask(self, actor: Any, method: str, *arguments: Any) -> Any:
        """Call an actor's method (which must be repeatable) until it answers, however long the cluster is away.

        Raises WorkerGoneError when the actor is dead for good.
        """
        import ray

        tries = 0
        while True:
            try:
                return await getattr(actor, method).remote(*arguments)
            except ray.exceptions.ActorDiedError as error:
                raise WorkerGoneError(_first_line(error)) from error
            except (ray.exceptions.ActorUnavailableError, ray.exceptions.RaySystemError, ray.exceptions.GetTimeoutError) as error:
                if await self.was_replaced():
                    raise WorkerGoneError(f"the Ray head at {self.address} was restarted") from error
            except ray.exceptions.RayActorError as error:
                raise WorkerGoneError(_first_line(error)) from error
            await _pause(tries)
            tries += 1

    async def kill(self, actor: Any) -> bool:
        """End an actor's process, if it still has one. False when the cluster does not answer."""
        try:
            await self.call(_kill, actor)
        except UnreachableError:
            return False
        return True

    async def actor(self, name: str) -> Any | None:
        """The named actor of ours, or None when there is none. Raises UnreachableError."""
        return await self.call(_find, name)

    async def surely_actor(self, name: str) -> Any | None:
        """The named actor of ours, asked for until the cluster answers, however long it is away; None when another one does."""
        tries = 0
        while True:
            try:
                await self.check()
                return await self.actor(name)
            except ClusterReplacedError:
                return None
            except UnreachableError:
                await _pause(tries)
                tries += 1

    async def actor_names(self) -> list[str]:
        """The names of all living actors of ours, sorted. Raises UnreachableError, ClusterReplacedError."""
        await self.check()
        return await self.call(_names)

    async def node_entries(self) -> list[dict[str, Any]]:
        """All nodes now, like `ray.nodes()`. Raises UnreachableError, within a few seconds when the head is gone; ClusterReplacedError."""
        await self.check()
        return await self.call(tables.nodes, self.address)

    async def free(self) -> dict[str, dict[str, float]]:
        """What Ray says is left of each node's resources, by node id. Raises UnreachableError."""
        return await self.call(tables.free, self.address)

    async def _ask_head(self, token: str) -> bytes:
        return await self.call(cluster_id, self.address, token, self._probe_limit_s, limit_s=self._probe_limit_s + 1.0)

    def _read_token(self) -> str:
        if self._token_file is None:
            return ""
        try:
            return self._token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise AuthenticationError(f"the token file {self._token_file} cannot be read: {error.strerror}") from error


def connect_process(address: str, token_file: Path | None) -> None:
    """Connect this process at once, for a short question; it may block for long. Raises as `Session.connect` does."""
    _set_environment(token_file)
    _connect(address)


def _set_environment(token_file: Path | None) -> None:
    """Ray reads these when it is imported, and the token when it first connects."""
    if token_file is None:
        os.environ["RAY_AUTH_MODE"] = "disabled"
    else:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file.absolute())
    os.environ[_RECONNECT_VARIABLE] = str(RECONNECT_S)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


async def _pause(tries: int) -> None:
    await asyncio.sleep(_RETRY_S[min(tries, len(_RETRY_S) - 1)])


def _work(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], function: Callable[..., T], arguments: tuple[Any, ...]) -> None:
    def resolve(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        if not answer.done():
            set_outcome(outcome)

    try:
        outcome: Any = function(*arguments)
        settle: Callable[[Any], None] = answer.set_result
    except BaseException as error:  # carried over to the loop
        outcome, settle = error, answer.set_exception
    with contextlib.suppress(RuntimeError):  # the loop was closed while Ray kept us waiting
        loop.call_soon_threadsafe(resolve, settle, outcome)


def _connect(address: str) -> None:
    import ray

    if ray.is_initialized():
        raise PermanentError("this process is connected to a Ray cluster already; each cluster needs an agent process of its own")
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except ray.exceptions.AuthenticationError as error:
        raise AuthenticationError(f"the Ray head at {address} refuses the token: {_first_line(error)}") from error
    except ConnectionError as error:
        raise UnreachableError(f"cannot connect to Ray at {address}: {_first_line(error)}") from error
    except (RuntimeError, ValueError) as error:
        raise PermanentError(f"cannot use Ray at {address}: {_first_line(error)}") from error


def _disconnect(calls: Iterable[threading.Thread]) -> None:
    """Leave the cluster after the calls that are under way: Ray crashes the process when it is shut down in the middle of one."""
    import ray

    for call in calls:
        call.join()
    ray.shutdown()


def _kill(actor: Any) -> None:
    import ray

    with contextlib.suppress(ray.exceptions.RayError, ValueError):
        ray.kill(actor, no_restart=True)


def _find(name: str) -> Any | None:
    import ray

    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


def _names() -> list[str]:
    import ray.util

    return sorted(name for name in ray.util.list_named_actors() if isinstance(name, str))


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
