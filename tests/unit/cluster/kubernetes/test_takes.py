"""What pods take of nodes, by the rules of Kubernetes' scheduler."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.backends.kubernetes.takes import Take, is_device, take_of
from tests.unit.cluster.kubernetes.fake_api import pod

MIB = 1024**2


def asks(cpu: str = "0", memory: str = "0", **more: Any) -> dict[str, Any]:
    """A container."""
    return {"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}, **more}


def taken(**spec: Any) -> Take | None:
    return take_of({"metadata": {}, "spec": {"nodeName": "n1", **spec}, "status": {"phase": "Running"}})


def test_containers_count_together() -> None:
    assert taken(containers=[asks("250m", "128Mi"), asks("1.5", "64Mi")]) == Take(1750, 192 * MIB)


def test_a_pod_without_requests_holds_a_place_and_nothing_else() -> None:
    assert taken(containers=[{"name": "c"}]) == Take(0, 0)
    assert taken(containers=[{"name": "c", "resources": {"limits": {"cpu": "4"}}}]) == Take(0, 0)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_is_over_holds_nothing(phase: str) -> None:
    assert take_of(pod("p", phase=phase)) is None


def test_a_pod_that_is_bound_nowhere_holds_nothing() -> None:
    assert take_of(pod("p", on="", phase="Pending")) is None
    assert take_of(pod("p", phase="Pending")) is not None


def test_the_largest_init_container_counts_where_it_is_more() -> None:
    init = [asks("4", "32Mi"), asks("100m", "512Mi")]
    assert taken(containers=[asks("1", "128Mi")], initContainers=init) == Take(4000, 512 * MIB)


def test_sidecars_run_on_beside_containers_and_later_init_containers() -> None:
    sidecar = asks("500m", "100Mi", restartPolicy="Always")
    assert taken(containers=[asks("1", "100Mi")], initContainers=[sidecar]) == Take(1500, 200 * MIB)
    assert taken(containers=[asks("1", "100Mi")], initContainers=[sidecar, asks("2", "10Mi")]) == Take(2500, 200 * MIB)
    assert taken(containers=[asks("1", "100Mi")], initContainers=[asks("2", "10Mi"), sidecar]) == Take(2000, 200 * MIB)


def test_overhead_is_added_and_the_pods_own_request_goes_first() -> None:
    overhead = {"cpu": "250m", "memory": "10Mi"}
    assert taken(containers=[asks("1", "100Mi")], overhead=overhead) == Take(1250, 110 * MIB)
    assert taken(containers=[asks("1", "100Mi")], resources={"requests": {"cpu": "3"}}, overhead=overhead) == Take(3250, 110 * MIB)


def test_a_container_that_is_resized_counts_as_the_larger_one() -> None:
    item = pod("p", cpu="1", memory="2Gi")
    item["status"]["containerStatuses"] = [{"name": "c", "allocatedResources": {"cpu": "2", "memory": "1Gi"}}]
    assert take_of(item) == Take(2000, 2048 * MIB)


def test_devices_are_counted_by_resource() -> None:
    item = pod("p", cpu="0", memory="0", nvidia_com__gpu="2", huawei_com__Ascend910="0", ephemeral="7Gi")
    assert take_of(item) == Take(0, 0, (("nvidia.com/gpu", 2),))


@pytest.mark.parametrize(
    ("text", "milli"), [("0.1", 100), ("100u", 1), ("1e1", 10_000), ("2k", 2_000_000), ("1n", 1), ("abc", 0), ("-1", 0), ("", 0)]
)
def test_quantities_are_rounded_up_and_nonsense_is_nothing(text: str, milli: int) -> None:
    assert taken(containers=[asks(text)]) == Take(milli, 0)


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("nvidia.com/gpu", True), ("nvidia.com/gpu.shared", True), ("nvidia.com/mig-1g.10gb", True), ("amd.com/gpu", True),
        ("huawei.com/Ascend910", True), ("huawei.com/Ascend310P", True), ("example.org/npu", True), ("cpu", False), ("gpu", False),
        ("hugepages-2Mi", False), ("rdma/hca", False), ("attachable-volumes-aws-ebs", False), ("scheduling.kubernetes.io/gpu", False),
    ],
)  # fmt: skip
def test_accelerators_are_told_from_other_resources(name: str, device: bool) -> None:
    assert is_device(name) is device
