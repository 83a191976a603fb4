"""What a live network decided, fetched by its operator, and decided again elsewhere: the same plans, to the byte."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.network import Network, job, node
from tests.served import Cpn


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """A network that keeps its last decisions."""
    return Network(tmp_path / "data", capture=50)


def _cpn(network: Network, folder: Path) -> Cpn:
    return Cpn(folder, network.url, network.operator_token())


def test_a_captured_plan_is_decided_again_to_the_byte(network: Network, tmp_path: Path) -> None:
    with network:
        network.add_tenant()
        network.ok(network.operator.post("/queues", json={"name": "org", "quota": {"cpu": 4}}))
        network.ok(network.operator.post("/queues", json={"name": "lab", "parent": "org", "weight": 2.0}))
        network.add_cluster("sh", node("n1", 4, 16), node("n2", 4, 16, "H200", 2))
        network.add_cluster("gz", node("n1", 2, 8), jurisdiction="CN-GZ", cpu_hour="0.20 CNY")
        many = [network.submit(job(f"j{row}", queue=("lab", "default")[row % 2], resources={"cpu": 1 + row % 3})) for row in range(8)]
        network.submit(job("large", resources={"cpu": 64}))
        for item in many:
            network.wait(item["id"])
        cpn = _cpn(network, tmp_path / "me")
        path = str(tmp_path / "decisions.gz")
        assert "decide them again with `cpn replay " in cpn("capture", "-o", path).out
        cpn("capture", "-o", str(tmp_path / "two.gz"), "--last", "2")
        with network.client("buyer", tenant="acme") as buyer:
            assert buyer.get("/captures").status_code == 403
        assert network.operator.get("/captures", params={"last": 0}).status_code == 422
    assert len(gzip.decompress((tmp_path / "two.gz").read_bytes()).splitlines()) == 2
    # No server runs any more; another process hashes text in another way.
    said = cpn.run("replay", path, "-o", "json", PYTHONHASHSEED="77")
    document = said.document
    assert document["decisions"] >= 2
    assert document["different"] == 0
    assert all(item["same"] for item in document["items"])
    assert sum(item["placed"] for item in document["items"]) == 8
    assert "the same, to the byte" in cpn("replay", path).out
    # A plan that somebody changed is found, with what differs first.
    lines = [json.loads(line) for line in gzip.decompress(Path(path).read_bytes()).splitlines()]
    placed = next(line for line in lines if line["plan"]["fields"]["placements"]["tuple"])
    placed["plan"]["fields"]["placements"]["tuple"][0]["fields"]["score"] = 0.123
    Path(path).write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    wrong = cpn("replay", path, status=1)
    assert f"the first is that of cycle {placed['sequence']}: plan.placements[0].score was 0.123, now" in wrong.err


def test_a_server_that_keeps_nothing_says_how_to_keep(tmp_path: Path) -> None:
    with Network(tmp_path / "data") as network:
        said = _cpn(network, tmp_path / "me")("capture", "-o", str(tmp_path / "f.gz"), status=1)
        assert "start it with CPN_CAPTURE=100" in said.err
        assert not (tmp_path / "f.gz").exists()


def test_before_the_first_decision_there_is_none(network: Network, tmp_path: Path) -> None:
    with network:
        assert "no decision has been kept yet" in _cpn(network, tmp_path / "me")("capture", status=1).err


def test_what_is_no_capture_is_a_usage_error(tmp_path: Path) -> None:
    cpn = Cpn(tmp_path)
    assert "there is no such file" in cpn("replay", str(tmp_path / "nowhere.gz"), status=2).err
    assert "what `cpn capture` writes" in cpn("replay", cpn.write("text.gz", "text"), status=2).err
