"""Topology: from labels to groups of nodes."""

from __future__ import annotations

import numpy as np
import pytest

from controlplane.settings import Settings, load
from scheduler.freeze import freeze
from scheduler.topology import LEVELS, USUAL_TOPOLOGY, Topology
from tests.records import candidate, job_spec, machine, member, world_of

ZONE, RACK = "topology.kubernetes.io/zone", "topology.kubernetes.io/rack"


@pytest.mark.parametrize(
    ("labels", "zones", "racks"),
    [
        ([{ZONE: "a"}, {ZONE: "b"}, {ZONE: "a"}], [0, 1, 0], [-1, -1, -1]),
        ([{RACK: "r1"}, {}, {RACK: "r1"}, {RACK: ""}], [-1, -1, -1, -1], [0, -1, 0, -1]),
        ([{ZONE: "a", RACK: "1"}, {ZONE: "b", RACK: "1"}, {ZONE: "a", RACK: "1"}], [0, 1, 0], [0, 1, 0]),
        ([{"cpn/rack": "x", RACK: "1"}, {RACK: "1"}, {"cpn/rack": "x"}], [-1, -1, -1], [1, 0, 1]),
        ([], [], []),
    ],
    ids=["zones", "racks and none", "racks of two zones with one name", "our key wins", "no nodes"],
)
def test_labels_name_the_groups(labels: list[dict[str, str]], zones: list[int], racks: list[int]) -> None:
    found = USUAL_TOPOLOGY.groups([0] * len(labels), labels)
    assert found.shape == (len(labels), len(LEVELS))
    assert (found[:, 0].tolist(), found[:, 1].tolist()) == (zones, racks)


def test_groups_of_two_clusters_are_two_though_they_have_one_name() -> None:
    assert USUAL_TOPOLOGY.groups([0, 1, 1], [{ZONE: "a"}] * 3)[:, 0].tolist() == [0, 1, 1]


def test_settings_add_keys_that_are_looked_for_first(tmp_path: object) -> None:
    found = load({"CPN_RACK_LABELS": " example.com/shelf, row ", "CPN_DATA_DIR": str(tmp_path)})
    assert isinstance(found, Settings)
    assert (found.label_keys("rack_labels"), found.label_keys("zone_labels")) == (("example.com/shelf", "row"), ())
    topology = USUAL_TOPOLOGY.with_more(rack=found.label_keys("rack_labels"))
    assert topology == Topology(USUAL_TOPOLOGY.zone, ("example.com/shelf", "row", *USUAL_TOPOLOGY.rack))
    assert topology.groups([0, 0], [{"row": "1", RACK: "7"}, {"row": "2", RACK: "7"}])[:, 1].tolist() == [0, 1]


def test_a_snapshot_has_groups_when_a_job_asks_for_them() -> None:
    nodes = [machine(name="n1", **{RACK: "1"}), machine(name="n2"), machine(name="n3", **{RACK: "1"})]
    world = world_of(member(labels={ZONE: "east"}), nodes=nodes)
    gang = job_spec(resources={"workers": 2}, placement={"same": "rack"})
    snapshot = freeze(world, [candidate(world, job_spec()), candidate(world, gang)], {}).snapshot
    assert snapshot.nodes.group.tolist() == [[0, 0], [0, -1], [0, 0]]
    assert snapshot.jobs.same.tolist() == [-1, LEVELS.index("rack")]
    plain = freeze(world, [candidate(world, job_spec())], {}).snapshot
    assert (plain.nodes.group.shape, plain.jobs.same.tolist()) == ((3, 0), [-1])
    assert np.array_equal(plain.nodes.label_ok, snapshot.nodes.label_ok)
