"""Routes that are called for every job, answered without what most of a small request's time goes to.

FastAPI resolves what a function asks for anew at each request, by a walk over its dependencies, and writes its answer in several steps.
For a function that asks for nothing but a body, its caller, the control plane, and texts from path and headers, that can be said
beforehand. Only requests without a fault are answered so; all others take the usual way, so that errors, and the description of the
API, are FastAPI's. Nor does such a request pass through the layers around FastAPI's routes: its path is looked up, and what is raised
is answered by the same table of problems.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.types import Message, Receive, Scope, Send

from controlplane.api import problems
from controlplane.api.auth import Allow, plane_of

JSON = "application/json"
F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Response]])


@dataclass(frozen=True)
class _Plan:
    """What a function asks for, and the names under which it takes that; `body`, `headers` and `paths` are FastAPI's fields."""

    body: Any
    body_name: str
    allow: Allow
    caller: str
    plane: str
    headers: tuple[Any, ...]
    paths: tuple[Any, ...]

    @classmethod
    def of(cls, route: APIRoute) -> _Plan:
        """That of a route. Raises TypeError for a function that asks for something else."""
        asked = route.dependant
        allows = [(item.name or "", item.call) for item in asked.dependencies if isinstance(item.call, Allow)]
        planes = [item.name or "" for item in asked.dependencies if item.call is plane_of]
        more = asked.query_params or asked.cookie_params or asked.request_param_name or asked.response_param_name
        counts = len(asked.dependencies), len(allows), len(planes), len(asked.body_params)
        if counts != (2, 1, 1, 1) or more or route.body_field is None:
            raise TypeError(f"{route.name} asks for other things than a body, its caller, the control plane, and texts of path and headers")
        (caller, allow), (plane,) = allows[0], planes
        return cls(
            body=route.body_field, body_name=asked.body_params[0].name, allow=allow, caller=caller, plane=plane,
            headers=tuple(asked.header_params), paths=tuple(asked.path_params),
        )  # fmt: skip

    async def arguments(self, request: Request) -> dict[str, Any] | None:
        """What the function is called with; None where something is not as it should be. Raises HTTPException for a caller who may not."""
        if not request.headers.get("content-type", JSON).startswith(JSON):
            return None
        document = _document(await request.body())
        if document is None:
            return None
        plane = request.app.state.plane
        found = {self.caller: await self.allow(request, plane), self.plane: plane}
        given = [(field, request.headers.get(field.alias)) for field in self.headers]
        given += [(field, request.path_params[field.name]) for field in self.paths]
        for field, value in (*given, (self.body, document)):
            if value is None:
                found[field.name] = field.get_default()
                continue
            read, errors = field.validate(value, {}, loc=())
            if errors:
                return None
            found[self.body_name if field is self.body else field.name] = read
        return found


def _document(body: bytes) -> Any:
    """What a body says; None where it says nothing that a request may. Raises HTTPException for text that is none, which Python's own
    reader takes: what holds it could be stored, and never be shown or decided on."""
    try:
        return from_json(body)
    except ValueError as error:
        try:
            json.loads(body)
        except ValueError:
            return None
        raise HTTPException(
            400, f"the body holds what is no text ({error}); send whole characters, as UTF-8 or as pairs of \\u escapes"
        ) from error


class DirectRoute(APIRoute):
    """A route whose function asks for a body, its caller, the control plane and texts only, and answers with a response that it wrote."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._plan = _Plan.of(self)

    async def short(self, request: Request) -> Response | None:
        """The answer to a request without a fault; None for one that has to take the usual way."""
        arguments = await self._plan.arguments(request)
        if arguments is None:
            return None
        answer: Response = await self.endpoint(**arguments)
        return answer


class DirectApp(FastAPI):
    """An application that looks direct routes up by their paths, and hands everything else to FastAPI."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._fixed: dict[str, DirectRoute] = {}
        self._open: list[tuple[str, str, str, DirectRoute]] = []

    def shorten(self, routes: Iterable[tuple[str, APIRoute]]) -> None:
        """Look these up, as far as they are direct, by their whole paths, in which at most one part is open."""
        for path, route in routes:
            if not isinstance(route, DirectRoute):
                continue
            before, brace, rest = path.partition("{")
            name, _, after = rest.partition("}")
            if "{" in after or ":" in name:
                raise TypeError(f"{path} has more open parts than one, or one that is not plain text")
            if brace:
                self._open.append((before, after, name, route))
            else:
                self._fixed[path] = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        found = self._find(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None:
            await super().__call__(scope, receive, send)
            return
        route, path_params = found
        request = Request({**scope, "app": self, "path_params": path_params}, receive)
        try:
            answer = await route.short(request)
        except Exception as error:
            answer = problems.answer(request, error)
        if answer is None:
            await super().__call__(scope, _again(request, receive), send)
        else:
            await answer(scope, receive, send)

    def _find(self, scope: Scope) -> tuple[DirectRoute, dict[str, str]] | None:
        path: str = scope["path"]
        if (route := self._fixed.get(path)) is not None:
            return route, {}
        for before, after, name, route in self._open:
            part = path[len(before) : len(path) - len(after)]
            if part and "/" not in part and path == before + part + after:
                return route, {name: part}
        return None


def _again(request: Request, receive: Receive) -> Receive:
    """What gives a body that was read once more, and then what comes."""
    body: bytes | None = getattr(request, "_body", None)

    async def again() -> Message:
        nonlocal body
        if body is None:
            return await receive()
        given, body = body, None
        return {"type": "http.request", "body": given, "more_body": False}

    return again


def post(router: APIRouter, path: str, *, kind: type[DirectRoute] = DirectRoute, **options: Any) -> Callable[[F], F]:
    """Like `router.post`, for such a function; `kind` is the class of its route."""

    def add(function: F) -> F:
        router.add_api_route(path, function, methods=["POST"], route_class_override=kind, **options)
        return function

    return add
