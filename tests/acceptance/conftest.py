"""Networks for acceptance tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.market import Market, open_market
from tests.network import PATIENT, Network


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """An empty network with the tenant acme."""
    with Network(tmp_path / "data") as running:
        running.add_tenant()
        yield running


@pytest.fixture
def patient_network(tmp_path: Path) -> Iterator[Network]:
    """The same, whose members are not given up while a busy machine lets their agents wait."""
    with Network(tmp_path / "data", **PATIENT) as running:
        running.add_tenant()
        yield running


@pytest.fixture(scope="package")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """A network with the tenant acme, the queue org and no member, for tests of what is refused: all of them leave it as it is."""
    with Network(tmp_path_factory.mktemp("bare") / "data", **PATIENT) as running:
        running.add_tenant()
        running.ok(running.operator.post("/queues", json={"name": "org"}))
        yield running
        found = {
            what: running.ok(running.operator.get(f"/{what}"))["items"] for what in ("jobs", "clusters", "queues", "products", "targets")
        }
    assert {what: [item.get("name") for item in items] for what, items in found.items()} == {
        "jobs": [], "clusters": [], "queues": ["default", "org"], "products": [], "targets": [],
    }  # fmt: skip


@pytest.fixture(scope="package")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """A served network with something of everything. Each test leaves it as it found it, but for ended jobs."""
    with open_market(tmp_path_factory.mktemp("market")) as opened:
        yield opened
