"""Names from the server for the shell's completion. Whatever goes wrong, there are simply no suggestions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from controlplane.client import Client

ANSWER_S = 1.5


def _names(context: typer.Context, incomplete: str, ask: Callable[[Client], list[str]]) -> list[str]:
    try:
        from controlplane.cli.session import Asked, access, client_for

        given = context.find_root().params
        with client_for(access(Asked(given.get("server"), given.get("token"))), answer_s=ANSWER_S, connect_s=ANSWER_S) as client:
            return [name for name in ask(client) if name.startswith(incomplete)]
    except Exception:
        # A message here would land in the middle of the line that the person is typing.
        return []


def clusters(context: typer.Context, incomplete: str) -> list[str]:
    """Names of clusters."""
    return _names(context, incomplete, lambda client: [item.name for item in client.clusters().items])


def queues(context: typer.Context, incomplete: str) -> list[str]:
    """Names of queues."""
    return _names(context, incomplete, lambda client: [item.name for item in client.queues().items])


def products(context: typer.Context, incomplete: str) -> list[str]:
    """Names of products."""
    return _names(context, incomplete, lambda client: [item.product.name for item in client.products().items])


def tenants(context: typer.Context, incomplete: str) -> list[str]:
    """Names of tenants."""
    return _names(context, incomplete, lambda client: [item.name for item in client.tenants().items])


def jobs(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of the newest jobs."""
    return _names(context, incomplete, lambda client: [item.id for item in client.jobs(limit=50).items])
