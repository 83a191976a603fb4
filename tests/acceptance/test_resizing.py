"""Running gangs that grow into room that nobody wants and shrink for whoever waits, over HTTP and on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_gangs import cpn, gang, lasting
from tests.network import PATIENT, Network, job, node, until


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Network]:
    """A network whose gangs grow again as soon as they have settled."""
    with Network(tmp_path, resize_settle_s=0.0, **PATIENT) as found:
        found.add_tenant()
        yield found


def size(network: Network, job_id: str) -> tuple[int, int | None]:
    """How many workers a job's run has, and how many it will have."""
    run = network.job(job_id)["runs"][-1]
    return run["workers"], run["resizing_to"]


def small(name: str, cores: int = 1, **fields: Any) -> dict[str, Any]:
    return job(name, kind="command", resources={"cpu": cores, "memory": "1GiB"}, **fields)


def told(network: Network, job_id: str) -> list[str]:
    """What was said of a job's size."""
    events = network.ok(network.operator.get(f"/jobs/{job_id}/events"))["items"]
    return [item["message"] for item in events if item["cause"] in ("resizing", "resized")]


def test_a_gang_grows_when_another_job_ends_and_gives_back_what_it_grew_into(quick: Network) -> None:
    cluster = quick.add_cluster("sh", node("n1", 4), script=lasting)
    other = quick.wait(quick.submit(small("other", 2))["id"], "running")
    elastic = quick.wait(quick.submit(gang({"min": 1, "max": 8}, "elastic", max_runtime="1h"))["id"], "running")
    assert size(quick, elastic["id"]) == (2, None)
    quick.operator.post(f"/jobs/{other['id']}:cancel")
    until(lambda: size(quick, elastic["id"]) == (4, None), "it has the room of the job that ended")
    grown = quick.job(elastic["id"])
    assert (grown["state"], grown["nodes"], grown["quote"]["total"]) == ("running", ["n1"] * 4, "1.68 CNY")
    assert "4 of 1 to 8" in cpn(quick, "job", "show", elastic["id"]).stdout
    # Whoever waits gets one worker's room, and no more is taken than that.
    late = quick.wait(quick.submit(small("late"))["id"], "running")
    assert late["nodes"] == ["n1"]
    assert size(quick, elastic["id"]) == (3, None)
    # What it was granted in its turn is its own.
    large = quick.submit(small("large", 2))
    until(lambda: quick.job(large["id"])["cause"] == "node_busy", "it waits")
    assert size(quick, elastic["id"]) == (3, None)
    assert told(quick, elastic["id"]) == [
        "growing from 2 to 4 workers: nobody waits for the room", "grown from 2 to 4 workers: nobody waits for the room",
        "shrinking from 4 to 3 workers: somebody waits for the room that it had grown into",
        "shrunk from 4 to 3 workers: somebody waits for the room that it had grown into",
    ]  # fmt: skip
    assert "3 of 1 to 8" in cpn(quick, "job", "show", elastic["id"]).stdout
    assert not cluster.violations
    metrics = quick.operator.get(f"{quick.url}/metrics").text
    assert 'cpn_resizes_total{direction="grown",reason="idle_room"} 1.0' in metrics
    assert 'cpn_resizes_total{direction="shrunk",reason="grown_room"} 1.0' in metrics
    quick.operator.post(f"/jobs/{elastic['id']}:cancel")
    ended = quick.wait(elastic["id"])
    receipt = quick.ok(quick.operator.get(f"/jobs/{ended['id']}/receipt"))
    cpu = next(line for line in receipt["lines"] if line["item"] == "cpu")
    assert cpu["detail"] == "1 cores, 4 workers"
    # Less than four workers for all of the time, more than two: paid is what was held.
    hours = Decimal(str(receipt["wall_s"])) / 3600
    assert 2 * hours < Decimal(cpu["quantity"]) < 4 * hours
