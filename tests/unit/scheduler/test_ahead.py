"""Ahead: what clusters are going to need for jobs that wait, and do not hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster.health import Health
from cluster.replicas import MOST_AHEAD, CacheState
from scheduler.ahead import BEFORE_S, Awaited, foreseen, planned, with_inputs
from scheduler.assess import InputData
from scheduler.forecast import Saving, StandingPromise
from scheduler.market import Market
from scheduler.store.records import ClaimRecord, ClusterRecord
from tests.records import NOW, candidate, job_spec, machine, member, world_of
from tests.unit.workloads.samples import licence, product, version
from workloads.catalogue.product import ProductVersion

MIB = 2**20


def data(letter: str, mib: int = 10, *licences: Any, at: str = "sh", **terms: Any) -> InputData:
    """A version that lies at sh."""
    found = version(
        f"nyc/{letter}", size_bytes=mib * MIB, sha256=letter * 64, replicas=[{"cluster": at, "uri": f"https://{at}/{letter}.csv"}]
    )
    return InputData(letter, product(f"nyc/{letter}", **terms), found, licences or (licence(f"nyc/{letter}"),))


def awaited(
    *inputs: InputData, job_id: str = "j-1", nodes: tuple[str, ...] = ("n1",), start_at: float = NOW + 60, **fields: Any
) -> Awaited:
    return Awaited(job_id, "gz", nodes, start_at, job_spec(inputs={item.alias: item.version.ref for item in inputs}), inputs, **fields)


def gz(folder_mib: int = 100, **changes: Any) -> ClusterRecord:
    """Where data is to come to, with room for so many MiB of copies on a node."""
    held = changes.pop("held", ())
    copies = CacheState(capacity_bytes=folder_mib * MIB, used_bytes=0, copies=len(held), folder_bytes=folder_mib * MIB, versions=held)
    return replace(member("gz", jurisdiction="CN-GZ", inbound_bandwidth_mib_s=10.0), **{"copies": copies, **changes})


def wanted(*items: Awaited, at: ClusterRecord | None = None) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """In order: the version's letter, the nodes, the jobs."""
    found = planned(items, [at or gz(), member("sh")], NOW)
    assert set(found) <= {"gz"}
    return [(one.wanted.file.sha256[0], one.wanted.nodes, one.jobs) for one in found.get("gz", ())]


def test_what_is_read_first_comes_first_and_is_told_as_to_a_run() -> None:
    late = awaited(data("a"), data("b"), job_id="late", start_at=NOW + 90)
    early = awaited(data("c"), job_id="early", nodes=("n2", "n1"))
    assert wanted(late, early) == [("c", ("n1", "n2"), ("early",)), ("a", ("n1",), ("late",)), ("b", ("n1",), ("late",))]
    file = planned([early], [gz()], NOW)["gz"][0].wanted.file
    assert (file.uri, file.source, file.local, file.size_bytes, file.until) == ("https://sh/c.csv", "sh", False, 10 * MIB, None)


@pytest.mark.parametrize("terms", [{"may_copy": False}, {"security_level": 1}, {"kinds": ["training"]}])
def test_what_may_not_be_copied_or_used_there_is_not_brought_ahead(terms: dict[str, Any]) -> None:
    assert wanted(awaited(data("a", **terms))) == []
    assert wanted(awaited(data("a", **terms), data("b"))) == [], "the job does not run there"


def test_one_version_for_two_jobs_comes_once_to_the_nodes_of_both() -> None:
    ends = licence("nyc/a", expires_at="2030-01-01T00:00:00Z")
    first, second = awaited(data("a", 10, ends), job_id="x"), awaited(data("a"), job_id="y", nodes=("n2",), start_at=NOW + 70)
    assert wanted(first, second) == [("a", ("n1", "n2"), ("x", "y"))]
    [alone], [both] = planned([first], [gz()], NOW)["gz"], planned([first, second], [gz()], NOW)["gz"]
    assert alone.wanted.file.until is not None
    assert both.wanted.file.until is None, "whoever may have it longest decides"


@pytest.mark.parametrize(
    ("inputs", "at"),
    [
        ([data("a")], gz(held=("a" * 64,))),
        ([data("a")], replace(gz(), copies=None)),
        ([data("a")], gz(health=Health.SUSPECT)),
        ([data("a")], gz(cordon="draining")),
        ([data("a", 10, licence("nyc/a", expires_at="2020-01-01T00:00:00Z"))], gz()),
        ([data("a", 10, licence("nyc/a", jurisdictions=["CN-SH"]))], gz()),
        ([data("a", jurisdictions=["CN-SH"])], gz()),
        ([data("a"), data("b", jurisdictions=["CN-SH"])], gz()),
        ([data("a", 10, licence("nyc/a", revoked=True))], gz()),
        ([data("a", 51)], gz()),
        ([data("a", 101)], gz()),
    ],
    ids=[
        "it is there", "its cache is not known", "it is not healthy", "nothing is placed there", "the licence has ended",
        "the licence does not cover the place", "the product may not be processed there", "another input may not be",
        "the licence was revoked", "more than half of the cache", "more than the cache",
    ],
)  # fmt: skip
def test_nothing_is_wanted_where(inputs: list[InputData], at: ClusterRecord) -> None:
    assert wanted(awaited(*inputs), at=at) == []


def test_what_lies_on_a_disk_there_is_not_brought_and_what_lies_there_otherwise_is() -> None:
    disk = replace(data("a"), version=version("nyc/a", sha256="a" * 64, replicas=[{"cluster": "gz", "uri": "/data/a.csv"}]))
    assert wanted(awaited(disk, data("b", at="gz"))) == [("b", ("n1",), ("j-1",))]


def test_half_of_the_cache_is_counted_by_node_and_what_is_small_enough_goes_on() -> None:
    first = awaited(data("a", 30), data("b", 30), data("c", 20), job_id="x")
    second = awaited(data("b", 30), job_id="y", nodes=("n1", "n2"), start_at=NOW + 99)
    assert wanted(first, second) == [("a", ("n1",), ("x",)), ("c", ("n1",), ("x",)), ("b", ("n2",), ("y",))]


def test_so_many_are_told_at_most() -> None:
    many = [
        InputData(f"v{number}", product(), version(number=number, size_bytes=1, sha256=f"{number:064x}"), (licence(),))
        for number in range(1, MOST_AHEAD + 9)
    ]
    assert len(wanted(*(awaited(one, job_id=f"j-{number:03}") for number, one in enumerate(many)))) == MOST_AHEAD


def test_a_job_that_chose_a_later_hour_gets_its_data_shortly_before_it() -> None:
    transfer_s = 1.0
    soon, late = (BEFORE_S + 2 * transfer_s + more for more in (0.0, 1.0))
    assert wanted(awaited(data("a"), start_at=NOW + soon, chosen=True)) == [("a", ("n1",), ("j-1",))]
    assert wanted(awaited(data("a"), start_at=NOW + late, chosen=True)) == []
    assert wanted(awaited(data("a"), start_at=NOW + late)) == [("a", ("n1",), ("j-1",))], "another one may start whenever there is room"


def test_a_budget_that_is_short_now_may_pay_at_the_hour_that_the_job_waits_for() -> None:
    poor = replace(awaited(data("a")), spec=job_spec(inputs={"a": "nyc/a@1"}, budget="0.01 CNY"))
    assert wanted(poor) == [("a", ("n1",), ("j-1",))]


def test_whose_place_is_known_are_those_promised_a_start_and_those_others_end_for() -> None:
    market = _market(data("a").version)
    world = world_of(member("gz"), nodes=[machine("gz")])
    jobs = {
        name: candidate(world, job_spec(inputs=inputs), id=name, market=market)
        for name, inputs in (("promised", {"x": "nyc/a@1"}), ("claims", {"y": "nyc/a@1"}), ("waits", {"x": "nyc/a@1"}), ("none", {}))
    }
    saving = Saving(2.0, 1.0, "CNY", NOW + 99)
    promises = (
        StandingPromise("promised", "acme", "gz", ("n1",), {}, NOW + 50, NOW + 60, saving),
        StandingPromise("none", "acme", "gz", ("n1",), {}, NOW + 50, NOW + 60),
        StandingPromise("gone", "acme", "gz", ("n1",), {}, NOW + 50, NOW + 60),
    )
    claims = [ClaimRecord("claims", "sh", ["n7"], {}, "default", NOW + 9)]
    found = foreseen(promises, claims, jobs.values())
    assert [(one.job_id, one.cluster, one.nodes, one.start_at, one.chosen) for _, one in found] == [
        ("promised", "gz", ("n1",), NOW + 50, True), ("claims", "sh", ("n7",), 0.0, False),
    ]  # fmt: skip
    assert [[item.version.ref for item in one.inputs] for one in with_inputs(found, market)] == [["nyc/a@1"]] * 2
    assert with_inputs(found, Market({}, {}, {})) == [], "what is not in the catalogue any more is looked up by nobody"
    assert foreseen((), [], jobs.values()) == []


def _market(*versions: ProductVersion) -> Market:
    return Market({one.product: product(one.product) for one in versions}, {one.ref: one for one in versions}, {})
