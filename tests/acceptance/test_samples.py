"""The catalogue shows first rows of a product where its owner lets it, without what its terms keep back: by HTTP and command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.acceptance.market import Market
from tests.network import Network

PEOPLE = {
    "name": "nyc/people",
    "owner": "nyc",
    "classification": "public",
    "sample": True,
    "hidden_columns": ["email"],
    "masked_columns": {"born": "year"},
}
BORN = ["1980-04-05", "1991-12-31", "2000-02-29"]


def people(folder: Path) -> str:
    path = folder / "people.parquet"
    born = pa.array(BORN).cast(pa.date32())
    pq.write_table(pa.table({"name": ["a", "b", "c"], "email": ["a@x", "b@x", "c@x"], "born": born}), path)
    return path.as_uri()


@pytest.fixture
def network_with_people(network: Network, tmp_path: Path) -> Network:
    network.add_cluster("sh")
    network.ok(network.operator.post("/products", json=PEOPLE))
    version = {"format": "parquet", "replicas": [{"cluster": "sh", "uri": people(tmp_path)}]}
    network.ok(network.operator.post("/products/nyc/people/versions", json=version))
    return network


def sampled(network: Network, **asked: Any) -> Any:
    with network.client("buyer", tenant="acme") as buyer:
        return buyer.get("/products/nyc/people/sample", params=asked)


def test_first_rows_are_shown_without_hidden_columns_and_masked(network_with_people: Network) -> None:
    found = network_with_people.ok(sampled(network_with_people, rows=2))
    assert found["version"] == "nyc/people@1"
    assert found["preview"]["columns"] == ["name", "born"]
    assert found["preview"]["rows"] == [["a", "1980-01-01"], ["b", "1991-01-01"]]
    assert found["preview"]["total_rows"] == 3


def test_only_where_the_terms_allow_it_and_of_what_is_offered(network_with_people: Network) -> None:
    network = network_with_people
    refused = sampled(network, rows=51)
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "query.rows")
    network.ok(network.operator.post("/products/nyc/people/versions/1:withdraw", json={"reason": "wrong"}))
    assert sampled(network).status_code == 404
    network.ok(network.operator.put("/products/nyc/people", json={**PEOPLE, "sample": False}))
    refused = sampled(network)
    assert refused.status_code == 403
    assert "shows no sample; ask owner nyc to allow it" in refused.text
    assert network.operator.get("/products/nyc/nothing/sample").status_code == 404


def test_data_that_cannot_be_read_is_said_so_without_its_place(network_with_people: Network, tmp_path: Path) -> None:
    (tmp_path / "people.parquet").write_bytes(b"PAR1 and nothing more")
    answer = sampled(network_with_people)
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "replicas")
    assert str(tmp_path) not in answer.text


def test_the_command_line_shows_a_table(market: Market, tmp_path: Path) -> None:
    operator, acme = market.operator, market.acme
    version = {"format": "parquet", "replicas": [{"cluster": "sh", "uri": people(tmp_path)}]}
    operator("product", "publish", "-f", operator.write("sampled.yaml", {**PEOPLE, "name": "nyc/sampled", **version}))
    shown = acme("product", "sample", "nyc/sampled", "--rows", "1").out
    assert "1980-01-01" in shown
    assert "a@x" not in shown
    assert acme("product", "sample", "nyc/sampled", "-o", "json").document["preview"]["total_rows"] == 3
    assert "shows no sample" in acme("product", "sample", "nyc/flights", status=4).err
