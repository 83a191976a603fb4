"""Who may call what. Deny by default: a route under /v1 that declares no roles answers nobody."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from fastapi.routing import APIRoute

from controlplane.tokens import Principal
from controlplane.wiring import ControlPlane


# Dependencies are coroutines although they await nothing: others are run in a thread each, which costs more than they do.
async def plane_of(request: Request) -> ControlPlane:
    """The control plane that the application serves."""
    plane: ControlPlane = request.app.state.plane
    return plane


Plane = Annotated[ControlPlane, Depends(plane_of)]


class Allow:
    """A dependency that lets these roles pass and hands the handler its caller."""

    def __init__(self, *roles: str) -> None:
        self.roles = roles

    async def __call__(self, request: Request, plane: Plane) -> Principal:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise HTTPException(401, "send the header Authorization: Bearer TOKEN (`cpn up` stores one; `cpn token create` makes more)")
        principal = plane.tokens.identify(secret.strip())
        if principal is None:
            raise HTTPException(401, "the token is unknown, expired or revoked; ask an operator for a new one (`cpn token create`)")
        if principal.role not in self.roles:
            allowed = " or ".join(self.roles)
            raise HTTPException(403, f"this needs the role {allowed}; your token has the role {principal.role}")
        return principal


async def deny_undeclared(request: Request) -> None:
    """Refuse routes that forgot to say who may call them."""
    route: Any = request.scope.get("route")
    if isinstance(route, APIRoute) and not declared_roles(route):
        raise HTTPException(403, "this route declares no roles")


def declared_roles(route: APIRoute) -> tuple[str, ...]:
    """The roles a route declares; empty when it declares none."""
    return tuple(role for part in route.dependant.dependencies if isinstance(part.call, Allow) for role in part.call.roles)


Operator = Annotated[Principal, Depends(Allow("operator"))]
Reader = Annotated[Principal, Depends(Allow("operator", "buyer", "viewer"))]
Buyer = Annotated[Principal, Depends(Allow("operator", "buyer"))]
AgentOf = Annotated[Principal, Depends(Allow("agent"))]
