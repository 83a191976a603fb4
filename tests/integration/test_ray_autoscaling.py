"""A real Ray autoscaler: what it may bring is read from its state, and what it is asked for comes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.backends.ray.autoscaling import read_configuration
from cluster.scaling import NodeType
from tests.network import until
from tests.ray import WAIT_S, Connection, RayAgent, SmallRay, running

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

# The provider knows its head by these.
HEAD_ID, HEAD_TYPE = "f" * 51 + "00000", "ray.head.default"


class ScaledRay(SmallRay):
    """A head whose autoscaler starts further nodes as processes of this machine, by Ray's own provider for that."""

    @property
    def configuration(self) -> Path:
        return self.directory / "autoscaling.json"

    def _arguments(self) -> list[str]:
        provider = {
            "type": "external", "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True, "disable_node_updaters": True, "disable_launch_config_check": True, "launch_multiple": True,
            "gcs_address": self.address, "head_node_id": HEAD_ID,
        }  # fmt: skip
        document = {
            "cluster_name": "scaled", "max_workers": 2, "provider": provider, "head_node_type": HEAD_TYPE, "upscaling_speed": 1.0,
            "idle_timeout_minutes": 60, "auth": {}, "docker": {}, "initialization_commands": [], "setup_commands": [],
            "head_setup_commands": [], "worker_setup_commands": [], "head_start_ray_commands": [], "worker_start_ray_commands": [],
            "file_mounts": {}, "cluster_synced_files": [], "file_mounts_sync_continuously": False, "rsync_exclude": [], "rsync_filter": [],
            "available_node_types": {
                HEAD_TYPE: {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
                "big": {"resources": {"CPU": 5}, "labels": {"pool": "big"}, "node_config": {}, "min_workers": 0, "max_workers": 2},
            },
        }  # fmt: skip
        self.configuration.write_text(json.dumps(document))
        return [*super()._arguments(), f"--autoscaling-config={self.configuration}"]

    def _environment(self) -> dict[str, str]:
        return {
            **super()._environment(), "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": HEAD_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        }  # fmt: skip


@pytest.fixture
def scaled(tmp_path: Path) -> Iterator[ScaledRay]:
    head = ScaledRay("scaled", tmp_path)
    head.cpus, head.gpus, head.labels = 1, 0, {}
    with running(head):
        yield head


def present(connection: Connection) -> int | None:
    scaling = connection.inventory().scaling
    return scaling.types[0].present if scaling else None


@pytest.mark.slow
def test_nodes_that_are_asked_for_come(scaled: ScaledRay, tmp_path: Path) -> None:
    types = read_configuration(scaled.configuration)
    assert types == (NodeType(name="big", cpu=5, labels={"pool": "big"}, most=2),)
    with RayAgent(tmp_path / "agent.log") as agent:
        connection = agent.connect(scaled, tmp_path / "data", warm_workers=0, types=[kind.model_dump() for kind in types])
        assert present(connection) == 0
        connection.scale({"big": 1})
        until(lambda: present(connection) == 1, "the node is there", WAIT_S)
        (new,) = [node for node in connection.inventory().nodes if node.labels.get("pool") == "big"]
        assert new.cpu == 5
        connection.scale({})
        connection.close()


def test_the_state_of_the_autoscaler_goes_before_what_an_operator_named(ray_head: SmallRay, tmp_path: Path) -> None:
    named = NodeType(name="named", cpu=1, most=3).model_dump()
    with RayAgent(tmp_path / "agent.log") as agent:
        connection = agent.connect(ray_head, tmp_path / "data", warm_workers=0, types=[named])
        try:
            scaling = connection.inventory().scaling
            assert [kind.name for kind in scaling.types] == ["named"] if scaling else False
            groups = {
                "gpus": {"resources": {"CPU": 64, "GPU": 8, "memory": 2**40, "accelerator_type:H200": 1}, "min_count": 1, "max_count": 4},
                "any": {"resources": {"CPU": 2}, "min_count": 0, "max_count": -1},
            }  # fmt: skip
            connection.report_types(groups)
            scaling = connection.inventory().scaling
            assert scaling is not None
            assert [(kind.name, kind.least, kind.most, kind.present) for kind in scaling.types] == [
                ("any", 0, 100_000, 0),
                ("gpus", 1, 4, 0),
            ]
            assert (scaling.types[1].accelerators, scaling.types[1].memory_bytes) == ({"H200": 8}, 2**40)
        finally:
            connection.report_types({})
            connection.close()
