"""Which server a command talks to, and with which token.

The server: `--server`, else CPN_SERVER, else what `cpn up` stored, else this machine's default port. The
token: `--token`, else CPN_TOKEN, else the stored one, and that only for the server it was stored for: a token
is never sent to another server because nobody gave one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from controlplane.cli.credentials import BrokenCredentialsError, credentials_path, read_credentials
from controlplane.cli.failures import usage
from controlplane.settings import DEFAULT_PORT

if TYPE_CHECKING:
    import httpx

    from controlplane.client import Client

DEFAULT_SERVER = f"http://127.0.0.1:{DEFAULT_PORT}"
# Tests put another transport here; None is the network.
transport: httpx.BaseTransport | None = None


@dataclass(frozen=True)
class Asked:
    """What the options and the environment say."""

    server: str | None = None
    token: str | None = None


@dataclass(frozen=True)
class Access:
    """What is used. An empty token is none."""

    server: str
    token: str


def access(asked: Asked) -> Access:
    """The server and the token to use. Raises CommandError when the stored credentials are broken and needed."""
    if asked.server and asked.token:
        return Access(asked.server.rstrip("/"), asked.token)
    try:
        stored = read_credentials(credentials_path())
    except BrokenCredentialsError as error:
        raise usage(str(error)) from error
    server = (asked.server or (stored.server if stored else DEFAULT_SERVER)).rstrip("/")
    fitting = stored.token if stored and stored.server.rstrip("/") == server else ""
    return Access(server, asked.token or fitting)


def connect(context: typer.Context) -> Client:
    """A client for this command's server."""
    return client_for(access(context.ensure_object(Asked)))


def client_for(found: Access, answer_s: float | None = None, connect_s: float | None = None) -> Client:
    """A client for a server. Times in seconds; None: the client's own."""
    from controlplane.client import Client as Open
    from controlplane.transport import ANSWER_S, CONNECT_S

    return Open(found.server, found.token, transport=transport, answer_s=answer_s or ANSWER_S, connect_s=connect_s or CONNECT_S)
