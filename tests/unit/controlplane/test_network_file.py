"""The network file of a planner: what it becomes, and what is refused with its line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.network_file import read_network
from scheduler.errors import TraceError
from scheduler.simulator.networks import Network, NodeGroup, machines_of, rates_of
from scheduler.simulator.what_if import Change, changed, parse_what_if

GIB = 1024**3
FILE = """clusters:
  - name: sh
    jurisdiction: CN-SH
    prices: {cpu_hour: 0.40 CNY, memory_gib_hour: 0.02 CNY, transfer_gib: 0.50 CNY, accelerator_hour: {H200: 40.00 CNY}}
    nodes:
      - {count: 3, shape: H200x8, cpu: 96, memory: 1TiB}
      - {count: 2, cpu: 32, memory: 128GiB}
  - name: gz
    prices: {cpu_hour: 0.20 CNY, memory_gib_hour: 0.01 CNY, transfer_gib: 0.50 CNY, accelerator_hour: {H200: 30.00 CNY}}
    nodes:
      - {count: 1, shape: H200x8, cpu: 96, memory: 1TiB}
      - {count: 2, shape: A100x4, cpu: 64, memory: 512GiB}
queues:
  - {name: org, quota: {H200: 16}}
  - {name: lab, parent: org, weight: 2.0, quota: {H200: 8, memory: 1TiB}, borrow_limit: {H200: 8}}
target: {precision: fp16, flops: 100PFLOPS}
"""


def _read(folder: Path, text: str = FILE) -> Network:
    path = folder / "network.yaml"
    path.write_text(text)
    return read_network(path)


def test_a_file_becomes_clusters_queues_and_a_target(tmp_path: Path) -> None:
    network = _read(tmp_path)
    assert [(site.name, site.jurisdiction, len(site.groups)) for site in network.sites] == [("sh", "CN-SH", 2), ("gz", "ZZ", 2)]
    assert network.capacity() == {"cpu": 576.0, "memory": (4 * 1024 + 256 + 1024) * GIB, "H200": 32.0, "A100": 8.0}
    assert [(queue.name, queue.parent, queue.weight, queue.quota.get("H200")) for queue in network.queues] == [
        ("org", None, 1.0, 16.0), ("lab", "org", 2.0, 8.0),
    ]  # fmt: skip
    assert network.goal is not None
    assert (network.goal.flops, network.currency, network.warnings()) == (1e17, "CNY", ("queue org: quotas of the queues below it come to "
        "1024 GiB memory, more than its own 0 GiB memory",))  # fmt: skip
    assert network.flops() == pytest.approx(32 * 989.5e12 + 8 * 312e12, rel=1e-3)


def test_quotas_above_the_capacity_are_warned_of(tmp_path: Path) -> None:
    assert (
        "queue org: quotas at the top come to 99 H200, more than the network's 32 H200"
        in _read(tmp_path, FILE.replace("{name: org, quota: {H200: 16}}", "{name: org, quota: {H200: 99}}")).warnings()
    )


def test_tariffs_and_carbon_are_read_and_a_slip_of_the_pen_in_them_is_told_with_its_place(tmp_path: Path) -> None:
    night = "tariffs: {time_zone: Asia/Shanghai, hours: [{from: '22:00', to: '06:00', factor: 0.6}]}"
    text = FILE.replace("transfer_gib: 0.50 CNY, ", f"transfer_gib: 0.50 CNY, {night}, ", 1)
    assert _read(tmp_path, text).warnings() == _read(tmp_path, FILE).warnings()
    assert [site.prices.tariffs is not None for site in _read(tmp_path, text).sites].count(True) == 1
    clean = FILE.replace("    prices:", "    carbon: {grams_per_kwh: 300, watts: {core: 5}}\n    prices:", 1)
    assert [site.carbon.grams_per_kwh for site in _read(tmp_path, clean).sites if site.carbon] == [300.0]
    with pytest.raises(TraceError, match=r"clusters\[0\].carbon.grams_per_kwh"):
        _read(tmp_path, clean.replace("grams_per_kwh: 300", "grams_per_kwh: -1"))
    with pytest.raises(TraceError, match=r"clusters\[0\].prices.tariffs.hours\[0\].from: .* is not a time of day"):
        _read(tmp_path, text.replace("'22:00'", "22:00"))


def test_nodes_are_rows_by_cluster_and_model_and_the_cheapest_is_preferred(tmp_path: Path) -> None:
    network = _read(tmp_path)
    machines = machines_of(network)
    assert machines.models == ("gz/A100", "gz/H200", "sh/", "sh/H200")
    assert (machines.model.tolist(), machines.devices.tolist()) == ([0, 0, 1, 2, 2, 3, 3, 3], [4, 4, 8, 0, 0, 8, 8, 8])
    assert machines.sites == ("gz", "gz", "sh", "sh")
    price = dict(zip(machines.models, machines.price, strict=True))
    assert price["gz/H200"] == pytest.approx((96 * 0.2 + 1024 * 0.01 + 8 * 30) / 8)
    assert price["sh/"] == pytest.approx((32 * 0.4 + 128 * 0.02) / 32)
    # A model without a price is not charged.
    assert rates_of(network).accelerator.tolist() == [0.0, 30.0, 0.0, 40.0]


NODE = "      - {count: 3, shape: H200x8, cpu: 96, memory: 1TiB}"
GZ_PRICES = FILE.splitlines()[8]
PLACE = FILE.splitlines().index(NODE) + 1


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "fault"),
    [
        ("count: 3", "count: -3", PLACE, "17", r"clusters\[0\].nodes\[0\].count: .*greater than or equal to 0"),
        ("count: 3", "count: nan", PLACE, "17", r"clusters\[0\].nodes\[0\].count"),
        ("count: 3", "count: 1.5", PLACE, "17", r"clusters\[0\].nodes\[0\].count"),
        ("cpu: 96", "cpu: .nan", PLACE, "40", "finite|greater than 0"),
        ("memory: 1TiB", "memory: 1024", PLACE, "52", "write it as text"),
        ("shape: H200x8", "shape: H2000x8", PLACE, "27", r"nobody has rated an accelerator 'H2000'; did you mean .*H200.*`unrated`"),
        ("shape: H200x8", "shape: H200x0", PLACE, "27", "1 to 62 accelerators"),
        ("shape: H200x8", "shape: eight", PLACE, "27", "pattern"),
        ("shape: H200x8", "shapes: H200x8", PLACE, "28", "there is no such field"),
        ("jurisdiction: CN-SH", "jurisdiction: China", 3, "19", "pattern"),
        ("name: gz", "name: sh", 8, "11", "there are two clusters 'sh'"),
        (GZ_PRICES, GZ_PRICES.replace("CNY", "USD"), 9, "24", "is in USD, and sh in CNY; use one currency"),
        ("cpu_hour: 0.40 CNY", "cpu_hour: 0.40", 4, "24", "5.00 CNY"),
        ("parent: org", "parent: lab", 15, "25", "the queues would form a circle"),
        ("{name: org,", "{name: org, parent: lab,", 14, "25", "the queues would form a circle"),
        ("parent: org", "parent: nobody", 15, "25", "there is no queue 'nobody'"),
        ("name: lab", "name: org", 15, "12", "there are two queues 'org'"),
        ("quota: {H200: 16}", "quota: {B200: 16}", 14, "31", "there is no resource 'B200'"),
        ("quota: {H200: 16}", "quota: {H200: -1}", 14, "31", "greater than or equal to 0"),
        ("flops: 100PFLOPS", "flops: 100", 16, "34", "computing power|unit"),
        ("clusters:\n", "clusters: []\nx:\n", 1, "11", "give at least 1"),
        ("  - name: sh", "  - name: [sh", 3, "17", "is not YAML"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_line_and_column(tmp_path: Path, old: str, new: str, line: int, column: str, fault: str) -> None:
    assert old in FILE
    with pytest.raises(TraceError, match=fault) as caught:
        _read(tmp_path, FILE.replace(old, new, 1))
    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty"),
        ("- a\n", "is no mapping"),
        ("clusters: *x\n", "is not YAML"),
        ("a: \x00", "is not YAML"),
        ("? [1]: 2\n", "not YAML|Field"),
    ],
)
def test_what_is_no_network_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(TraceError, match=fault):
        _read(tmp_path, text)
    with pytest.raises(TraceError, match="no such file"):
        read_network(tmp_path / "nowhere.yaml")


def test_an_unrated_model_may_be_named(tmp_path: Path) -> None:
    network = _read(tmp_path, FILE.replace("A100x4", "G2x4") + "unrated: [G2]\n")
    assert network.capacity()["G2"] == 8.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+200 nodes H200x8 at gz", (Change(200, "H200", 8, "gz"),)),
        ("-1 node cpu at sh", (Change(-1, "", 0, "sh"),)),
        ("+1 nodes A100 SXM 80GBx8 at gz , - 2 nodes cpu at sh", (Change(1, "A100 SXM 80GB", 8, "gz"), Change(-2, "", 0, "sh"))),
        ("+2 nodes B200x8 cpu=224 memory=2TiB at gz", (Change(2, "B200", 8, "gz", 224.0, 2048 * GIB),)),
    ],
)
def test_what_ifs_are_read(text: str, expected: tuple[Change, ...]) -> None:
    assert parse_what_if(text) == expected


@pytest.mark.parametrize(
    ("text", "column", "fault"),
    [
        ("200 nodes H200x8 at gz", "1", "is no change; write"),
        ("+200 H200x8 at gz", "1", "is no change; write"),
        ("+200 nodes H200x8", "1", "is no change; write"),
        ("+0 nodes H200x8 at gz", "2", "1 to 1,000,000 nodes"),
        ("+5 nodes H200 at gz", "10", "'H200' is no shape of a node; write"),
        ("+5 nodes H200x0 at gz", "10", "at least one device"),
        ("+5 nodes H200x8 at gz, +x", "23", "'\\+x' is no change; write"),
        ("+5 nodes cpu cpu=1 memory=5 at gz", "27", "amount of memory"),
        ("", "1", "'' is no change; write"),
    ],
)
def test_a_what_if_that_does_not_parse_shows_the_grammar(text: str, column: str, fault: str) -> None:
    with pytest.raises(TraceError, match=fault) as caught:
        parse_what_if(text)
    assert (caught.value.line, caught.value.column) == (1, column)


def _after(network: Network, text: str) -> Network:
    return changed(network, parse_what_if(text), text)


def test_new_nodes_are_like_those_that_are_there(tmp_path: Path) -> None:
    network = _read(tmp_path)
    assert _after(network, "+5 nodes H200x8 at gz").sites[1].groups[-1] == NodeGroup(5, 96.0, 1024 * GIB, "H200", 8)
    # gz has no node without accelerators, so they are like those of sh.
    assert _after(network, "+5 nodes cpu at gz").sites[1].groups[-1] == NodeGroup(5, 32.0, 128 * GIB)
    assert _after(network, "-3 nodes H200x8 at sh, +1 nodes cpu at sh").capacity()["H200"] == 8.0
    assert _after(network, "+2 nodes B200x8 cpu=224 memory=2TiB at gz").capacity()["B200"] == 16.0


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("+1 nodes H200x8 at bj", "there is no cluster 'bj'; there are: gz, sh"),
        ("-4 nodes H200x8 at sh", "sh has 3 nodes H200x8, and 4 were to go"),
        ("+1 nodes B200x8 at gz", "say what it has: B200x8 cpu=96 memory=1TiB"),
        ("-3 nodes H200x8 at sh, -2 nodes cpu at sh, -1 nodes H200x8 at gz, -2 nodes A100x4 at gz", "no node would be left"),
    ],
)
def test_a_what_if_that_cannot_be_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(TraceError, match=fault):
        _after(_read(tmp_path), text)
