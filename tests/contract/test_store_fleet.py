"""Clusters, nodes and queues as the store keeps them, on SQLite and on a real PostgreSQL alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

import scheduler.store.migrate as steps
from cluster.model import ClusterSpec, Node
from scheduler.errors import ConflictError, NotFoundError
from scheduler.store import fleet
from scheduler.store.migrate import migrate
from scheduler.store.records import QueueRecord, WindowRecord
from scheduler.store.session import Store
from scheduler.store.windows import add_window, list_windows
from tests.contract.test_store import NOW, postgres_url, store, url

__all__ = ["postgres_url", "store", "url"]


def cluster_spec(name: str = "c") -> ClusterSpec:
    prices = {"cpu_hour": "0.1 CNY", "memory_gib_hour": "0.01 CNY", "transfer_gib": "0.5 CNY"}
    return ClusterSpec.model_validate({"name": name, "backend": "memory", "jurisdiction": "CN-SH", "prices": prices})


def test_clusters_and_nodes_come_back_as_they_went_in(store: Store) -> None:
    spec = cluster_spec()
    store.write(lambda tx: fleet.add_cluster(tx.conn, spec, NOW))
    nodes = (Node(name="n2", cpu=4.5, memory_bytes=8), Node(name="n1", cpu=2, memory_bytes=4, labels={"a": "b"}))
    store.write(lambda tx: fleet.replace_nodes(tx.conn, "c", nodes, NOW))
    with store.read() as conn:
        assert fleet.get_cluster(conn, "c").spec == spec
        assert [row.node for row in fleet.list_nodes(conn)] == [nodes[1], nodes[0]]
    with pytest.raises(ConflictError):
        store.write(lambda tx: fleet.add_cluster(tx.conn, spec, NOW))
    window = WindowRecord("w", "maintenance", "c", [], None, None, "", NOW, NOW + 60, NOW)
    store.write(lambda tx: add_window(tx.conn, window))
    store.write(lambda tx: fleet.remove_cluster(tx.conn, "c"))
    with store.read() as conn:
        assert (fleet.list_nodes(conn), list_windows(conn, NOW)) == ([], [])


def test_queues_are_a_tree_with_quotas(store: Store) -> None:
    terms = {"quota": {"cpu": 64.0, "H200": 8.0}, "borrow_limit": {"cpu": 32.0}, "lend_limit": {"H200": 0.0}}
    store.write(lambda tx: fleet.add_queue(tx.conn, "org", 1.0, None, NOW))
    store.write(lambda tx: fleet.add_queue(tx.conn, "lab", 2.0, 5, NOW, parent="org", **terms))
    with store.read() as conn:
        org, lab = fleet.get_queue(conn, "org"), fleet.get_queue(conn, "lab")
        assert fleet.list_queues(conn) == [lab, org]
    assert (org.parent, org.quota, org.borrow_limit, org.lend_limit) == (None, {}, {}, {})
    assert (lab.parent, lab.quota, lab.borrow_limit, lab.lend_limit) == ("org", *terms.values())
    changed = store.write(lambda tx: fleet.update_queue(tx.conn, "lab", parent=None, quota={}, weight=3.0))
    assert (changed.parent, changed.quota, changed.weight, changed.lend_limit) == (None, {}, 3.0, {"H200": 0.0})
    with pytest.raises(NotFoundError):
        store.write(lambda tx: fleet.update_queue(tx.conn, "gone", weight=1.0))


def test_queues_of_the_first_schema_stand_at_the_top(url: str) -> None:
    old = Store(url)
    config = Config()
    config.set_main_option("script_location", str(Path(steps.__file__).with_name("migrations")))
    with old.engine.begin() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "0001")
        conn.execute(text("INSERT INTO queues (name, weight, max_running, created_at) VALUES ('old', 2.0, 7, 1.0)"))
    migrate(old)
    with old.read() as conn:
        assert fleet.list_queues(conn) == [QueueRecord("old", 2.0, 7, 1.0, None, {}, {}, {})]
    with old.engine.begin() as conn:
        config.attributes["connection"] = conn
        command.downgrade(config, "0001")
        assert conn.execute(text("SELECT name FROM queues")).scalars().all() == ["old"]
    old.close()
