"""Join tokens: one use, an end, one cluster; and what an agent keeps of one."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import httpx
import pytest

from controlplane.agent_client import AgentClient
from controlplane.api.joining_schemas import JoinRequest
from controlplane.errors import NotReachableError, RequestRefusedError
from controlplane.joining import FILE, Membership, join
from controlplane.tokens import JOIN_S, TokenBook, digest
from scheduler.store import access
from tests.acceptance.test_joining import register
from tests.network import Network

HASH, OTHER = digest("cpn_agent_one"), digest("cpn_agent_two")


@pytest.fixture
def joining(patient_network: Network) -> Network:
    """A network with the members sh and gz."""
    for name in ("sh", "gz"):
        register(patient_network, name)
    return patient_network


def join_token(network: Network, cluster: str = "sh", expires_in: str | None = None) -> tuple[str, str]:
    """Id and text."""
    document = {"role": "join", "cluster": cluster} | ({"expires_in": expires_in} if expires_in else {})
    made = network.ok(network.operator.post("/tokens", json=document))
    return made["id"], made["token"]


def use(network: Network, token: str, agent_hash: str = HASH, **more: str) -> httpx.Response:
    document = {"agent_token_sha256": agent_hash, **more}
    return httpx.post(f"{network.url}/v1/agents:join", json=document, headers=network.bearer(token), trust_env=False)


def reason(answer: httpx.Response) -> str:
    """Why a join token was refused; the words say what to do."""
    assert answer.status_code == 403, answer.text
    (error,) = answer.json()["errors"]
    assert "join token" in error["message"]
    return str(error["reason"])


def test_a_join_token_has_one_use_and_its_agent_can_work(joining: Network) -> None:
    identity, token = join_token(joining)
    assert use(joining, token).json() == {"cluster": "sh", "token_id": f"{identity}-agent"}
    assert use(joining, token).status_code == 200, "an agent whose answer was lost asks again"
    assert reason(use(joining, token, OTHER)) == "used"
    report = {"agent_id": "one", "reachable": True}
    for secret, cluster, status in (("cpn_agent_one", "sh", 200), ("cpn_agent_one", "gz", 403), ("cpn_agent_two", "sh", 401)):
        headers = joining.bearer(secret)
        assert httpx.post(f"{joining.url}/v1/agents/{cluster}/sync", json=report, headers=headers, trust_env=False).status_code == status
    assert joining.operator.delete(f"/tokens/{identity}-agent").status_code == 200
    assert reason(use(joining, token)) == "revoked"


def test_a_join_token_opens_nothing_else(joining: Network) -> None:
    _, token = join_token(joining)
    for method, path in (("GET", "/clusters"), ("POST", "/agents/sh/sync"), ("GET", "/agents/sh"), ("POST", "/tokens"), ("POST", "/jobs")):
        answer = httpx.request(method, f"{joining.url}/v1{path}", json={}, headers=joining.bearer(token), trust_env=False)
        assert answer.status_code == 403, path
    assert use(joining, joining.operator_token()).status_code == 403
    assert use(joining, "cpn_join_nonsense").status_code == 401
    assert joining.operator.post("/tokens", json={"role": "join"}).status_code == 422


def test_a_join_token_for_another_cluster_or_revoked(joining: Network) -> None:
    identity, token = join_token(joining, "gz")
    assert reason(use(joining, token, cluster="sh")) == "another-cluster"
    joining.operator.delete(f"/tokens/{identity}")
    assert reason(use(joining, token, cluster="gz")) == "revoked"


class At:
    """A clock that stands where a test puts it."""

    def __init__(self, at: float) -> None:
        self.at = at

    def now(self) -> float:
        return self.at


def test_a_join_token_ends_by_itself(joining: Network) -> None:
    made_at, clock = joining.plane.clock.now(), At(0.0)
    (identity, _), (long_lived, _) = join_token(joining), join_token(joining, expires_in="2d")
    book = TokenBook(joining.plane.store, clock)
    with joining.plane.store.read() as conn:
        short, long = (access.token_by_id(conn, one) for one in (identity, long_lived))
    assert short is not None
    assert long is not None
    clock.at = made_at + JOIN_S / 2
    book.check_join(short, "sh")
    clock.at = made_at + 2 * JOIN_S
    book.check_join(long, None)
    with pytest.raises(Exception, match="has expired; make another with `cpn cluster token sh`"):
        book.join(short, "sh", HASH)
    clock.at = made_at + JOIN_S / 2
    book.join(short, "sh", HASH)
    clock.at = made_at + 2 * JOIN_S
    assert book.join(short, "sh", HASH).hash == HASH, "the same use is accepted again, however late"


def test_an_agent_joins_and_needs_the_token_no_more(joining: Network, tmp_path: Path) -> None:
    identity, token = join_token(joining)
    made = join(token, None, None, tmp_path, lambda secret: AgentClient(joining.url, secret))
    assert made == Membership("sh", made.token, tmp_path / "sh")
    path = made.directory / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token not in path.read_text()

    def nobody(_secret: str) -> AgentClient:
        return AgentClient("http://127.0.0.1:9", connect_s=0.1)

    for cluster, folder in ((None, None), ("sh", None), (None, made.directory), ("sh", made.directory)):
        assert join(token, cluster, folder, tmp_path, nobody) == made
    with AgentClient(joining.url, made.token) as client:
        assert (client.standing("sh").role, client.standing("sh").known_as) == ("agent", None)
        with pytest.raises(RequestRefusedError):
            client.standing("gz")
    with pytest.raises(RequestRefusedError, match="used already"):
        join(token, None, None, tmp_path / "another-disk", lambda secret: AgentClient(joining.url, secret))
    tokens = {item["id"]: item["role"] for item in joining.ok(joining.operator.get("/tokens"))["items"]}
    assert (tokens[identity], tokens[f"{identity}-agent"]) == ("join", "agent")


def test_an_agent_that_was_killed_while_it_joined_joins_again(joining: Network, tmp_path: Path) -> None:
    _, token = join_token(joining)

    class Lossy(AgentClient):
        def join(self, request: JoinRequest) -> None:  # type: ignore[override]
            super().join(request)
            raise NotReachableError("the answer was lost")

    with pytest.raises(NotReachableError):
        join(token, "sh", None, tmp_path, lambda secret: Lossy(joining.url, secret))
    pending = json.loads((tmp_path / "sh" / FILE).read_text())
    assert pending["joined"] == "no"
    made = join(token, "sh", None, tmp_path, lambda secret: AgentClient(joining.url, secret))
    assert made.token == pending["token"]


def test_another_join_token_on_the_same_disk_makes_another_agent(joining: Network, tmp_path: Path) -> None:
    def make(secret: str) -> AgentClient:
        return AgentClient(joining.url, secret)

    (_, first), (_, second) = join_token(joining), join_token(joining)
    one, two = join(first, "sh", None, tmp_path, make), join(second, "sh", None, tmp_path, make)
    assert one.directory == two.directory
    assert one.token != two.token
    with AgentClient(joining.url, two.token) as client:
        assert client.standing("sh").cluster == "sh"
