"""Links: the speed that transfers are expected to have."""

from __future__ import annotations

import pytest

from cluster.replicas import Transfer
from scheduler.links import MIB, MOST_SAMPLES, Inbound, Sample, Samples, with_transfers
from tests.unit.workloads.samples import version

AT = 1_800_000_000.0


def moved(mib: float, seconds: float, source: str = "sh", *, capped: bool = False) -> Transfer:
    return Transfer(source=source, size_bytes=int(mib * MIB), seconds=seconds, capped=capped)


def after(*transfers: Transfer, samples: Samples | None = None) -> dict[str, tuple[Sample, ...]]:
    return with_transfers(samples or {}, transfers, AT)


def test_a_link_is_as_declared_until_something_came_over_it() -> None:
    inbound = Inbound(100.0, after(moved(10, 2.0)))
    assert (inbound.mib_s("sh"), inbound.mib_s("gz")) == (5.0, 100.0)


def test_one_transfer_that_crawled_changes_little() -> None:
    usual = [moved(100, 1.0 + number / 100) for number in range(15)]
    assert Inbound(1.0, after(*usual, moved(100, 1000.0))).mib_s("sh") == pytest.approx(100.0, rel=0.1)


def test_only_the_last_transfers_count() -> None:
    samples = after(*[moved(10, 1.0)] * MOST_SAMPLES)
    samples = after(*[moved(20, 1.0)] * MOST_SAMPLES, samples=samples)
    assert len(samples["sh"]) == MOST_SAMPLES
    assert Inbound(1.0, samples).mib_s("sh") == 20.0


@pytest.mark.parametrize("useless", [moved(0.9, 1.0), moved(10, 0.0)])
def test_what_tells_nothing_of_a_links_breadth_is_left_out(useless: Transfer) -> None:
    assert after(useless) == {}


def test_samples_say_when_and_whether_a_cap_held_them_back() -> None:
    assert after(moved(2, 4.0, capped=True)) == {"sh": (Sample(2 * MIB, 4.0, AT, True),)}


def test_a_version_comes_from_where_the_link_is_fastest() -> None:
    replicas = [{"cluster": name, "uri": f"/{name}"} for name in ("a", "b", "c", "d")]
    there = version(size_bytes=100 * MIB, replicas=replicas)
    inbound = Inbound(50.0, after(moved(10, 1.0, "a"), moved(90, 1.0, "c")))
    found = inbound.move_of(there, "gz")
    assert (found.source, found.others, found.mib_s) == ("c", ("b", "d", "a"), 90.0)
    assert (found.ref, found.size_bytes, found.seconds) == (there.ref, 100 * MIB, pytest.approx(100 / 90))


def test_a_clusters_own_replica_goes_before_all_and_of_equals_the_first_by_name() -> None:
    replicas = [{"cluster": name, "uri": f"/{name}"} for name in ("c", "b", "d")]
    for cluster, order in (("d", "dbc"), ("a", "bcd")):
        found = Inbound(1.0).sources_of(version(replicas=replicas), cluster)
        assert "".join(replica.cluster for replica in found) == order
