"""Data brought ahead on real Ray: a server, an agent and a place that speaks HTTP, over a link with a cap."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from cluster.model import ClusterSpec
from controlplane.api.schemas import TenantRequest, VersionRequest
from controlplane.network import LocalNetwork, Member
from tests.file_server import FileServer, serving_files
from tests.network import until
from tests.ray import GIB, WAIT_S, SmallRay
from tests.ray_place import Place
from workloads.catalogue.pricing import Prices
from workloads.catalogue.product import Product, Replica
from workloads.resources import Money

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

HERE, THERE = "guizhou", "shanghai"
HOLD = "while [ ! -e go ]; do sleep 0.1; done"
# More than one piece of what is read at once, and some seconds at the link's cap.
LINE, LINES = "word-{:08}\n", 800_000


@pytest.fixture
def place(ray_head: SmallRay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A member on real Ray, and another one where the data lies, of which no agent is ever heard."""
    folder, price = tmp_path_factory.mktemp("ahead"), Money.parse("0.01 CNY")
    prices = Prices(cpu_hour=price, memory_gib_hour=price, transfer_gib=price)
    here, there = (ClusterSpec(name=name, backend="ray", jurisdiction="CN-GZ", prices=prices) for name in (HERE, THERE))
    environ = {**os.environ, "CPN_TRANSFER_MIB_S": f"{THERE}=4"}
    with LocalNetwork(folder, 0, [], say=lambda _: None, environ=environ) as network:
        network.start()
        with network.operator() as client:
            client.create_tenant(TenantRequest(name="acme"))
            client.register_cluster(there)
            network.rays = {HERE: ray_head}
            network.attach(Member(here, cpus=8, memory_bytes=16 * GIB))
            network.wait_healthy()
            yield Place(network, client, {HERE: ray_head})
        network.rays = {}


@pytest.fixture
def source() -> Iterator[FileServer]:
    with serving_files() as server:
        server.files = {"/words.csv": ("word\n" + "".join(LINE.format(number) for number in range(LINES))).encode()}
        yield server


def test_the_data_of_a_job_comes_over_a_capped_link_while_the_job_waits(place: Place, source: FileServer) -> None:
    client = place.client
    until(lambda: client.cluster(HERE).cache is not None, "its cache is known", WAIT_S)
    client.create_product(Product(name="acme/words", owner="acme", classification="public"))
    replicas = (Replica(cluster=THERE, uri=f"{source.url}/words.csv"),)
    version = client.publish_version("acme/words", VersionRequest(format="csv", replicas=replicas))
    source.asked.clear()
    all_cores = {"cpu": client.cluster(HERE).cpu, "memory": "64MiB"}
    holder = place.submit(kind="command", command=["sh", "-c", HOLD], resources=all_cores, placement={"clusters": [HERE]})
    place.wait(holder, "running")
    reader = place.submit(sql="SELECT count(*) AS n FROM words", inputs={"words": version.ref}, placement={"clusters": [HERE]})
    source.gate.clear()
    until(lambda: source.asked["/words.csv"] == 1, "its data is on its way", WAIT_S)
    assert "meanwhile its data is brought to guizhou: acme/words@1 (10.7 MiB)" in client.explanation(reader.id).summary
    source.gate.set()
    until(lambda: not client.explanation(reader.id).brought_ahead, "all of it is there", WAIT_S)
    assert (client.job(holder.id).state, client.job(reader.id).state) == ("running", "queued"), "before anything could start"
    place.let_go(holder)
    done = place.wait(reader)
    assert (done.state, done.message) == ("succeeded", "")
    assert source.asked == {"/words.csv": 1}, "there was one transfer"
    (transfer,) = (line for line in client.receipt(reader.id).lines if line.item == "transfer")
    assert transfer.note == "", "it is paid for by who reads it first"
    (link,) = (item for item in client.links(HERE).items if item.source == THERE)
    assert (link.origin, link.transfers, link.capped) == ("measured", 1, True)
    assert link.mib_s < 6, "the cap held"
