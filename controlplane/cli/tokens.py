"""`cpn token`: who may call the server, as what, until when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from controlplane.cli import completion
from controlplane.cli.options import Output, group
from controlplane.cli.output import grid, note, show
from controlplane.cli.session import connect
from controlplane.cli.text import clock

if TYPE_CHECKING:
    from controlplane.api.schemas import Page, TokenCreated, TokenView

app = group()


@app.command("create")
def create(
    context: typer.Context,
    role: Annotated[Literal["operator", "buyer", "viewer", "agent"], typer.Option(help="What its holder may do.")],
    tenant: Annotated[str | None, typer.Option(help="The tenant that a buyer acts for.", autocompletion=completion.tenants)] = None,
    cluster: Annotated[str | None, typer.Option(help="The cluster that an agent speaks for.", autocompletion=completion.clusters)] = None,
    expires_in: Annotated[str | None, typer.Option(metavar="DURATION", help="How long it is valid, like 30d; else without end.")] = None,
    output: Output = "table",
) -> None:
    """Create a token. Its text is shown this once."""
    from controlplane.api.schemas import TokenRequest
    from controlplane.cli.documents import validated

    document = {"role": role, "tenant": tenant, "cluster": cluster, "expires_in": expires_in}
    request = validated(TokenRequest, {key: value for key, value in document.items() if value is not None}, "the token")
    with connect(context) as client:
        show(client.create_token(request), output, _created)


def _created(item: TokenCreated) -> None:
    until = f"until {clock(item.expires_at)}" if item.expires_at else "without end"
    note(f"{item.id}: {item.role}{_bound(item)}, valid {until}. Its text, shown this once:")
    print(item.token)


def _bound(item: TokenView) -> str:
    bound = item.tenant or item.cluster
    return f" of {bound}" if bound else ""


@app.command("list")
def list_tokens(context: typer.Context, output: Output = "table") -> None:
    """All tokens, without their texts."""
    with connect(context) as client:
        show(client.tokens(), output, _table)


def _table(page: Page[TokenView]) -> None:
    ids = {item.id for item in page.items}
    rows = [
        (
            item.id,
            item.role,
            item.tenant or item.cluster,
            clock(item.created_at),
            clock(item.expires_at),
            "revoked" if item.revoked_at else "used" if item.role == "join" and f"{item.id}-agent" in ids else "valid",
        )
        for item in page.items
    ]
    grid(["ID", "ROLE", "BOUND TO", "CREATED", "EXPIRES", "STATE"], rows, none="no tokens")


@app.command("revoke")
def revoke(
    context: typer.Context, token_id: Annotated[str, typer.Argument(metavar="ID", help="The token's id, tok-….")], output: Output = "table"
) -> None:
    """End a token at once."""
    with connect(context) as client:
        show(client.revoke_token(token_id), output, lambda found: print(f"revoked {found.id} ({found.role}{_bound(found)})"))
