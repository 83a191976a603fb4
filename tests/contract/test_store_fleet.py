"""Clusters, nodes and queues as the store keeps them, on SQLite and on a real PostgreSQL alike."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

import scheduler.store.migrate as steps
from cluster.drivers import ACTORS, Driver
from cluster.model import ClusterSpec, Node
from cluster.replicas import CacheState, Transfer
from cluster.scaling import NodeType, Scaling
from scheduler.errors import ConflictError, NotFoundError
from scheduler.links import MIB, MOST_SAMPLES, Inbound, Sample
from scheduler.store import catalogue, fleet
from scheduler.store.migrate import migrate
from scheduler.store.records import QueueRecord, WindowRecord
from scheduler.store.session import Store, Transaction
from scheduler.store.windows import add_window, list_windows
from scheduler.wishes import Wish
from scheduler.withdrawn import withdrawn
from tests.contract.test_store import NOW, postgres_url, store, url
from tests.unit.workloads.samples import licence, product, version

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


def test_how_a_member_is_driven_comes_back(store: Store) -> None:
    store.write(lambda tx: fleet.add_cluster(tx.conn, cluster_spec(), NOW))
    driver = Driver(way="job-api", why="another Ray")
    for given, found in ((None, ACTORS), (driver.model_dump(mode="json"), driver)):
        store.write(lambda tx, given=given: fleet.update_cluster(tx.conn, "c", driver=given))  # type: ignore[misc]
        with store.read() as conn:
            assert fleet.get_cluster(conn, "c").driver == found


def test_what_a_member_could_have_and_is_asked_for_comes_back(store: Store) -> None:
    store.write(lambda tx: fleet.add_cluster(tx.conn, cluster_spec(), NOW))
    with store.read() as conn:
        fresh = fleet.get_cluster(conn, "c")
    assert (fresh.scaling, fresh.wishes) == (None, ())
    scaling, wish = Scaling(types=(NodeType(name="big", cpu=16, most=2),), trouble="no quota"), Wish("big", 1, NOW, 0, NOW + 1)
    columns = {"scaling": scaling.model_dump(mode="json"), "wishes": [wish.stored()]}
    store.write(lambda tx: fleet.update_cluster(tx.conn, "c", **columns))
    with store.read() as conn:
        found = fleet.get_cluster(conn, "c")
    assert (found.scaling, found.wishes) == (scaling, (wish,))
    assert [store.write(lambda tx: fleet.drop_wishes(tx.conn)) for _ in range(2)] == [["c"], []]
    with store.read() as conn:
        assert fleet.get_cluster(conn, "c").wishes == ()


def test_transfers_and_copies_of_a_member_come_back(store: Store) -> None:
    store.write(lambda tx: fleet.add_cluster(tx.conn, cluster_spec(), NOW))
    with store.read() as conn:
        fresh = fleet.get_cluster(conn, "c")
    assert (fresh.links, fresh.copies, fresh.inbound) == ({}, None, Inbound(100.0))
    for number in range(MOST_SAMPLES + 1):
        moved = [Transfer(source=source, size_bytes=MIB, seconds=number + 1.0, capped=source == "b") for source in ("b", "a")]
        store.write(lambda tx, moved=moved, number=number: fleet.note_transfers(tx.conn, "c", moved, NOW + number))  # type: ignore[misc]
    state = CacheState(capacity_bytes=10, used_bytes=5, copies=1, versions=("ab" * 32,))
    store.write(lambda tx: fleet.update_cluster(tx.conn, "c", copies=state.model_dump(mode="json")))
    with store.read() as conn:
        found = fleet.get_cluster(conn, "c")
    assert [sample.seconds for sample in found.links["a"]] == [float(number) for number in range(2, MOST_SAMPLES + 2)]
    assert found.links["b"][-1] == Sample(MIB, MOST_SAMPLES + 1.0, NOW + MOST_SAMPLES, True)
    assert (found.copies, found.inbound.held) == (state, {"ab" * 32})
    store.write(lambda tx: fleet.update_cluster(tx.conn, "c", copies=None))
    with store.read() as conn:
        assert fleet.get_cluster(conn, "c").copies is None


def test_beginnings_and_what_only_some_nodes_have_are_withdrawn_too(store: Store) -> None:
    def fill(tx: Transaction) -> None:
        fleet.add_cluster(tx.conn, cluster_spec(), NOW)
        state = CacheState(capacity_bytes=10, used_bytes=5, copies=1, versions=("a" * 64,), partly=("b" * 64, "c" * 64, "d" * 64))
        fleet.update_cluster(tx.conn, "c", copies=state.model_dump(mode="json"))
        for letter in "abc":
            catalogue.add_product(tx.conn, product(f"nyc/{letter}", classification="restricted"), NOW)
            catalogue.add_version(tx.conn, version(f"nyc/{letter}", sha256=letter * 64), NOW)
        catalogue.add_licence(tx.conn, licence("nyc/c", id="1"), NOW)

    store.write(fill)
    with store.read() as conn:
        assert withdrawn(conn, fleet.get_cluster(conn, "c"), NOW) == ("a" * 64, "b" * 64)


def test_copies_are_withdrawn_when_nobody_may_use_them_there_any_more(store: Store) -> None:
    shared, own, public = (version(name, sha256=digit * 64) for name, digit in (("nyc/a", "a"), ("nyc/b", "b"), ("nyc/c", "c")))
    twin = version("nyc/a", 2, sha256="b" * 64)
    grants = [
        licence("nyc/a", id="1", expires_at="2027-01-01T00:00:00Z"), licence("nyc/b", id="2", tenant="other"),
        licence("nyc/b", id="3", jurisdictions=["US"]),
    ]  # fmt: skip

    def fill(tx: Transaction) -> None:
        fleet.add_cluster(tx.conn, cluster_spec(), NOW)
        state = CacheState(capacity_bytes=10, used_bytes=5, copies=4, versions=tuple(digit * 64 for digit in "abcd"))
        fleet.update_cluster(tx.conn, "c", copies=state.model_dump(mode="json"))
        for name, classification in (("nyc/a", "restricted"), ("nyc/b", "restricted"), ("nyc/c", "public")):
            catalogue.add_product(tx.conn, product(name, classification=classification), NOW)
        for one in (shared, own, public):
            catalogue.add_version(tx.conn, one, NOW)
        for grant in grants:
            catalogue.add_licence(tx.conn, grant, NOW)

    def gone(at: float) -> str:
        with store.read() as conn:
            return "".join(sha256[0] for sha256 in withdrawn(conn, fleet.get_cluster(conn, "c"), at))

    store.write(fill)
    before, after = (datetime(year, 6, 1, tzinfo=UTC).timestamp() for year in (2026, 2027))
    assert (gone(before), gone(after)) == ("", "a")
    store.write(lambda tx: catalogue.revoke_licence(tx.conn, "nyc/b", "2", NOW))
    assert (gone(before), gone(after)) == ("b", "ab")
    store.write(lambda tx: catalogue.add_version(tx.conn, twin, NOW))
    assert (gone(before), gone(after)) == ("", "ab"), "the same bytes may stay by the other product"
    store.write(lambda tx: catalogue.replace_product(tx.conn, product("nyc/c", classification="public", jurisdictions=["US"])))
    assert gone(before) == "c"
    assert "d" not in gone(after), "what the catalogue does not know may be another network's"


def test_copies_are_withdrawn_by_new_terms_of_copying_and_security(store: Store) -> None:
    here, away = [{"cluster": "c", "uri": "s3://b/a"}], [{"cluster": "d", "uri": "s3://b/b"}]

    def fill(tx: Transaction) -> None:
        fleet.add_cluster(tx.conn, cluster_spec().model_copy(update={"security_level": 2}), NOW)
        state = CacheState(capacity_bytes=10, used_bytes=5, copies=2, versions=("a" * 64, "b" * 64))
        fleet.update_cluster(tx.conn, "c", copies=state.model_dump(mode="json"))
        for letter, places in (("a", here), ("b", away)):
            catalogue.add_product(tx.conn, product(f"nyc/{letter}", classification="public"), NOW)
            catalogue.add_version(tx.conn, version(f"nyc/{letter}", sha256=letter * 64, replicas=places), NOW)

    def gone(**terms: Any) -> str:
        for letter in "ab":
            new = product(f"nyc/{letter}", classification="public", **terms)
            store.write(lambda tx, new=new: catalogue.replace_product(tx.conn, new))
        with store.read() as conn:
            return "".join(sha256[0] for sha256 in withdrawn(conn, fleet.get_cluster(conn, "c"), NOW))

    store.write(fill)
    assert gone() == ""
    assert gone(may_copy=False) == "b", "what lies there is read there"
    assert gone(security_level=2) == ""
    assert gone(security_level=3) == "ab"


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
