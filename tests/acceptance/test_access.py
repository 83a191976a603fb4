"""Roles, tenants and problem details."""

from __future__ import annotations

import asyncio
import stat
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends

from controlplane.api.app import create_app, v1_routes
from controlplane.api.auth import declared_roles, deny_undeclared
from controlplane.daemon import OPERATOR_TOKEN
from tests.network import Network, job


def test_every_route_declares_its_roles() -> None:
    routes = dict(v1_routes())
    assert set(routes) == {path for path in create_app(None).openapi()["paths"] if path.startswith("/v1")}
    assert [path for path, route in v1_routes() if not declared_roles(route)] == []


def test_a_route_that_forgot_its_roles_answers_nobody(bare: Network) -> None:
    app = create_app(bare.plane)
    forgetful = APIRouter(prefix="/v1", dependencies=[Depends(deny_undeclared)])
    forgetful.add_api_route("/forgotten", lambda: {"secret": "x"})
    app.include_router(forgetful)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cpn.test") as client:
            return await client.get("/v1/forgotten", headers=bare.bearer(bare.operator_token()))

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["detail"]) == (403, "this route declares no roles")


def test_without_a_good_token_nothing_answers(bare: Network) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic abc"}):
        answer = httpx.get(f"{bare.url}/v1/jobs", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["type"] == "urn:cpn:problem:unauthenticated"
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("role", "allowed", "denied"),
    [
        (
            "viewer",
            [("GET", "/clusters"), ("GET", "/jobs"), ("GET", "/capacity")],
            [("POST", "/jobs"), ("GET", "/tokens"), ("POST", "/clusters")],
        ),
        ("buyer", [("GET", "/products"), ("GET", "/jobs")], [("GET", "/tokens"), ("POST", "/queues"), ("POST", "/clusters/x:cordon")]),
        ("agent", [], [("GET", "/clusters"), ("GET", "/jobs"), ("POST", "/tokens")]),
    ],
)
def test_roles_open_what_they_should(network: Network, role: str, allowed: list[tuple[str, str]], denied: list[tuple[str, str]]) -> None:
    network.add_cluster("sh", agent=False)
    binding = {"buyer": {"tenant": "acme"}, "agent": {"cluster": "sh"}}.get(role, {})
    with network.client(role, **binding) as client:
        for method, path in allowed:
            assert client.request(method, path).status_code == 200, path
        for method, path in denied:
            body: Any = job() if path == "/jobs" else {"name": "x", "role": "viewer"}
            answer = client.request(method, path, json=body if method == "POST" else None)
            assert answer.status_code in (403, 422), f"{path}: {answer.text}"
            if answer.status_code == 422:
                pytest.fail(f"{path} looked at the body before the role")


def test_a_buyer_sees_and_cancels_only_its_tenants_jobs(network: Network) -> None:
    network.add_tenant("other")
    mine, theirs = network.submit(job("mine")), network.submit(job("theirs", tenant="other"))
    with network.client("buyer", tenant="acme") as buyer:
        assert [item["id"] for item in network.ok(buyer.get("/jobs"))["items"]] == [mine["id"]]
        assert [item["id"] for item in network.ok(buyer.get("/jobs", params={"tenant": "other"}))["items"]] == [mine["id"]]
        for method, path in (
            ("GET", ""),
            ("POST", ":cancel"),
            ("GET", "/logs"),
            ("GET", "/events"),
            ("GET", "/explanation"),
            ("GET", "/receipt"),
        ):
            assert buyer.request(method, f"/jobs/{theirs['id']}{path}").status_code == 404, path
        assert buyer.post("/jobs", json=job(tenant="other")).status_code == 422
        assert network.ok(buyer.post(f"/jobs/{mine['id']}:cancel"))["state"] == "cancelled"
    assert network.job(theirs["id"])["state"] == "queued"


def test_an_agent_speaks_for_its_own_cluster_only(network: Network) -> None:
    network.add_cluster("one", agent=False)
    network.add_cluster("two", agent=False)
    with network.client("agent", cluster="one") as agent:
        report = {"agent_id": "a", "reachable": True, "known_runs": []}
        assert agent.post("/agents/one/sync", json=report).status_code == 200
        assert agent.post("/agents/two/sync", json=report).status_code == 403


def test_a_revoked_token_ends_at_once(network: Network) -> None:
    created = network.ok(network.operator.post("/tokens", json={"role": "viewer"}))
    headers = network.bearer(created["token"])
    assert httpx.get(f"{network.url}/v1/clusters", headers=headers).status_code == 200
    network.ok(network.operator.delete(f"/tokens/{created['id']}"))
    assert httpx.get(f"{network.url}/v1/clusters", headers=headers).status_code == 401


def test_an_expired_token_is_refused(network: Network) -> None:
    created = network.ok(network.operator.post("/tokens", json={"role": "viewer", "expires_in": "1ms"}))
    assert httpx.get(f"{network.url}/v1/clusters", headers=network.bearer(created["token"])).status_code == 401


def test_tokens_must_be_bound_as_their_role_asks(bare: Network) -> None:
    for body in ({"role": "buyer"}, {"role": "agent"}, {"role": "viewer", "tenant": "acme"}, {"role": "buyer", "tenant": "nobody"}):
        assert bare.operator.post("/tokens", json=body).status_code == 422, body


def test_the_first_operator_token_is_private_and_only_hashes_are_stored(network: Network) -> None:
    path = network.settings.data_dir / OPERATOR_TOKEN
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    database = (network.settings.data_dir / "cpn.sqlite").read_bytes() + (network.settings.data_dir / "cpn.sqlite-wal").read_bytes()
    assert network.operator_token().encode() not in database


def test_errors_are_problem_documents(bare: Network) -> None:
    for answer, status in (
        (bare.operator.get("/jobs/job-nothing"), 404), (bare.operator.get("/nowhere"), 404), (bare.operator.put("/jobs"), 405),
        (bare.operator.post("/jobs", content=b"{not json"), 400), (bare.operator.post("/queues", json={"name": "default"}), 409),
        (bare.operator.post("/jobs", data={"name": "x"}), 415), (bare.operator.post("/jobs"), 422),
        (bare.operator.post("/jobs", content=b"\xff\xfe"), 400), (bare.operator.get("/jobs/a%00b"), 404),
    ):  # fmt: skip
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        document = answer.json()
        assert document["status"] == status
        assert document["type"].startswith("urn:cpn:problem:")
        assert document["detail"]
