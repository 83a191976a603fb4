"""What takes the short way through the application, and that nothing else does."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from controlplane.api.app import create_app, v1_routes
from controlplane.api.direct import DirectApp, DirectRoute
from controlplane.tokens import Principal

DIRECT = {"/v1/jobs", "/v1/jobs:batch", "/v1/agents/{cluster}/sync"}
AGENT = Principal("tok-1", "agent", None, "sh")


def found(path: str, method: str = "POST") -> tuple[str, dict[str, str]] | None:
    """The direct route of a path, by its own, and what stands for its open part."""
    seen = create_app(None)._find({"type": "http", "method": method, "path": path})
    return None if seen is None else ("/v1" + seen[0].path_format, seen[1])


def ask(plane: Any, path: str, **options: Any) -> httpx.Response:
    """One request to an application with this control plane."""

    async def send() -> httpx.Response:
        app = create_app(None)
        app.state.plane = plane
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cpn") as client:
            return await client.post(path, **options)

    return asyncio.run(send())


def test_routes_that_are_called_for_every_job_are_found_by_their_paths() -> None:
    assert {path for path, route in v1_routes() if isinstance(route, DirectRoute)} == DIRECT
    assert found("/v1/jobs") == ("/v1/jobs", {})
    assert found("/v1/jobs:batch") == ("/v1/jobs:batch", {})
    assert found("/v1/agents/sh-1/sync") == ("/v1/agents/{cluster}/sync", {"cluster": "sh-1"})


@pytest.mark.parametrize(
    "path", ["/v1/jobs/", "/v1/jobs:plan", "/v1/agents//sync", "/v1/agents/a/b/sync", "/v1/agents/sync", "/v1/agents/sh/sync/", "/jobs", ""]
)
def test_no_other_path_is(path: str) -> None:
    assert found(path) is None


def test_a_path_with_two_open_parts_is_no_direct_route() -> None:
    route = next(route for _, route in v1_routes() if isinstance(route, DirectRoute))
    for path in ("/v1/{a}/{b}", "/v1/{rest:path}"):
        with pytest.raises(TypeError, match="open parts"):
            DirectApp().shorten([(path, route)])


def test_what_is_raised_on_the_short_way_is_answered_as_a_problem(caplog: pytest.LogCaptureFixture) -> None:
    refused = ask(SimpleNamespace(), "/v1/agents/sh/sync", json={})
    assert (refused.status_code, refused.json()["type"]) == (401, "urn:cpn:problem:unauthenticated")

    def broken(_secret: str) -> Principal:
        raise RuntimeError("not thought of")

    failed = ask(SimpleNamespace(tokens=SimpleNamespace(identify=broken)), "/v1/jobs", json={}, headers={"Authorization": "Bearer x"})
    assert (failed.status_code, failed.json()["type"]) == (500, "urn:cpn:problem:internal")
    assert "POST /v1/jobs failed" in caplog.text


def test_a_request_with_a_fault_is_given_to_the_usual_way_whole() -> None:
    plane = SimpleNamespace(tokens=SimpleNamespace(identify=lambda _secret: AGENT))
    wrong = ask(plane, "/v1/agents/sh/sync", json={"agent_id": 3}, headers={"Authorization": "Bearer x"})
    assert (wrong.status_code, wrong.json()["type"]) == (422, "urn:cpn:problem:invalid")
    assert "agent_id" in {item["path"] for item in wrong.json()["errors"]}
