"""A node's document as cpn's node: amounts, models, and why it takes no runs."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.backends.kubernetes.nodes import Use, machine_of, node_of
from cluster.backends.kubernetes.taints import read_toleration
from cluster.backends.kubernetes.takes import Take
from cluster.computing_power import canonical_model, rate_node
from cluster.model import NodeAccelerator, Others
from tests.unit.cluster.kubernetes.fake_api import node

GIB = 1024**3


def models(labels: dict[str, str] | None = None, **resources: int) -> dict[str, int]:
    found = node_of(machine_of(node(labels=labels, **resources)))
    return {item.model: item.count for item in found.accelerators}


def trouble(*tolerations: str, **more: Any) -> str:
    item = node(**more)
    found = node_of(machine_of(item, [read_toleration(text) for text in tolerations]))
    assert found.ready is (found.trouble == "")
    return found.trouble


def test_a_node_has_what_it_lets_pods_have_less_what_others_hold() -> None:
    machine = machine_of(node(cpu="7910m", memory="30Gi", nvidia_com__gpu=8, labels={"nvidia.com/gpu.product": "NVIDIA-H200"}))
    use = Use()
    use.add(Take(1500, 2 * GIB, (("nvidia.com/gpu", 3),)))
    found = node_of(machine, use)
    assert (found.name, found.cpu, found.memory_bytes, found.ready) == ("n1", 6.41, 28 * GIB, True)
    assert found.accelerators == (NodeAccelerator(model="NVIDIA-H200", count=5),)
    assert found.others == Others(cpu=1.5, memory_bytes=2 * GIB, accelerators=3)
    assert node_of(machine).others is None


def test_what_others_hold_over_the_nodes_amounts_leaves_nothing_and_not_less() -> None:
    use = Use()
    use.add(Take(99_000, 99 * GIB, (("amd.com/gpu", 9),)))
    found = node_of(machine_of(node(amd_com__gpu=8)), use)
    assert (found.cpu, found.memory_bytes, found.accelerators) == (0.0, 0, (NodeAccelerator(model="GPU", count=0),))


def test_labels_are_the_nodes_own() -> None:
    labels = {"topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1"}
    assert machine_of(node(labels=labels)).labels == labels


@pytest.mark.parametrize(
    ("product", "model"),
    [
        ("NVIDIA-H100-80GB-HBM3", "H100 SXM"), ("NVIDIA-A100-SXM4-80GB", "A100"), ("Tesla-V100-SXM2-32GB", "V100 SXM2"),
        ("NVIDIA-L40S", "L40S"), ("NVIDIA-H200", "H200 SXM"), ("NVIDIA-A100-SXM4-80GB-SHARED", None),
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", None),
    ],
)  # fmt: skip
def test_the_product_label_of_nvidia_leads_to_the_rating_and_a_part_of_a_device_to_none(product: str, model: str | None) -> None:
    (found,) = models({"nvidia.com/gpu.product": product}, nvidia_com__gpu=8)
    assert (found, canonical_model(found)) == (product, model)


@pytest.mark.parametrize(
    ("labels", "model"),
    [
        ({"amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM", "amd.com/gpu.family": "AI"}, "MI300X"),
        ({"beta.amd.com/gpu.product-name": "AMD_Instinct_MI250X"}, "MI250X"), ({"amd.com/gpu.family": "MI300X"}, "MI300X"), ({}, None),
    ],
)  # fmt: skip
def test_the_labels_of_amd_lead_to_the_rating(labels: dict[str, str], model: str | None) -> None:
    (found,) = models(labels, amd_com__gpu=8)
    assert canonical_model(found) == model


@pytest.mark.parametrize(
    ("resource", "chip", "shown", "model"),
    [
        ("huawei_com__Ascend910", "", "Ascend910", "Ascend 910"), ("huawei_com__Ascend910", "910A", "Ascend910A", "Ascend 910"),
        ("huawei_com__Ascend910", "910B3", "Ascend910B3", None), ("huawei_com__Ascend310", "310", "Ascend310", "Ascend 310"),
        ("huawei_com__Ascend310P", "310P3", "Ascend310P3", None), ("huawei_com__Ascend910-2c", "910A", "Ascend910-2c", None),
    ],
)  # fmt: skip
def test_chips_of_ascend_are_known_by_their_label(resource: str, chip: str, shown: str, model: str | None) -> None:
    labels = {"node.kubernetes.io/npu.chip.name": chip} if chip else {}
    (found,) = models(labels, **{resource: 8})
    assert (found, canonical_model(found)) == (shown, model)


def test_slices_of_a_device_are_models_of_their_own_beside_the_whole_ones() -> None:
    labels = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}
    item = node(labels=labels)
    item["status"]["allocatable"] |= {"nvidia.com/gpu": "6", "nvidia.com/mig-1g.10gb": "7"}
    found = {part.model: part.count for part in node_of(machine_of(item)).accelerators}
    assert found == {"NVIDIA-A100-SXM4-80GB": 6, "NVIDIA-A100-SXM4-80GB-MIG-1G.10GB": 7}
    rated = rate_node(node_of(machine_of(item)))
    assert "NVIDIA-A100-SXM4-80GB-MIG-1G.10GB" in rated.unrated


def test_an_operators_own_label_goes_first() -> None:
    assert models({"cpn.dev/accelerator-model": "H20", "nvidia.com/gpu.product": "NVIDIA-Graphics-Device"}, nvidia_com__gpu=4) == {"H20": 4}


def test_a_node_that_takes_runs_has_no_trouble() -> None:
    assert trouble(taints=[{"key": "soft", "effect": "PreferNoSchedule"}]) == ""
    assert trouble(conditions=[{"type": "MemoryPressure", "status": "False"}, {"type": "DiskPressure", "status": "Unknown"}]) == ""


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"unschedulable": True}, "it is cordoned"),
        ({"conditions": [{"type": "MemoryPressure", "status": "True", "message": "kubelet has insufficient memory available"}]},
         "MemoryPressure: kubelet has insufficient memory available"),
        ({"conditions": [{"type": "DiskPressure", "status": "True", "reason": "KubeletHasDiskPressure"}]},
         "DiskPressure: KubeletHasDiskPressure"),
        ({"conditions": [{"type": "PIDPressure", "status": "True"}]}, "PIDPressure"),
        ({"conditions": [{"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status."}]},
         "not ready: Kubelet stopped posting node status."),
        ({"taints": [{"key": "dedicated", "value": "db", "effect": "NoSchedule"}]}, "taint dedicated=db:NoSchedule"),
        ({"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]}, "taint node.kubernetes.io/unreachable:NoExecute"),
        ({"labels": {"kubernetes.io/os": "windows"}}, "it runs windows"),
    ],
)  # fmt: skip
def test_why_a_node_takes_no_runs_is_said(more: dict[str, Any], words: str) -> None:
    assert trouble(**more) == words


def test_a_node_whose_kubelet_never_reported_takes_no_runs() -> None:
    item = node()
    item["status"] = {}
    found = node_of(machine_of(item))
    assert (found.ready, found.trouble, found.cpu) == (False, "its kubelet has not reported yet", 0.0)


def test_a_node_that_is_being_removed_takes_no_runs() -> None:
    item = node()
    item["metadata"]["deletionTimestamp"] = "2026-12-01T00:00:00Z"
    assert node_of(machine_of(item)).trouble == "it is being removed"


def test_a_node_full_of_pods_takes_no_more() -> None:
    use = Use()
    for _ in range(110):
        use.add(Take(0, 0))
    assert node_of(machine_of(node()), use).trouble == "it has no room for more than its 110 pods"


def test_a_long_word_is_cut() -> None:
    said = trouble(conditions=[{"type": "DiskPressure", "status": "True", "message": "x" * 500}])
    assert len(said) == 200


@pytest.mark.parametrize(
    ("toleration", "covers"),
    [
        ("dedicated", True), ("dedicated=cpn", True), ("dedicated:NoSchedule", True), ("dedicated=cpn:NoSchedule", True),
        ("dedicated=db", False), ("dedicated:NoExecute", False), ("dedicate", False), ("dedicated=", False),
    ],
)  # fmt: skip
def test_taints_that_the_operator_names_keep_no_runs_away(toleration: str, covers: bool) -> None:
    found = trouble(toleration, taints=[{"key": "dedicated", "value": "cpn", "effect": "NoSchedule"}])
    assert found == ("" if covers else "taint dedicated=cpn:NoSchedule")


def test_the_taints_of_accelerators_keep_no_runs_away() -> None:
    assert trouble(taints=[{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]) == ""


@pytest.mark.parametrize("text", ["", "=x", "a b", "key:Never", "key=v:", "key=a=b", "/key", "-key", "key=" + "x" * 64])
def test_what_is_no_taint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no taint; write KEY, KEY=VALUE or KEY=VALUE:NoSchedule"):
        read_toleration(text)


def test_a_toleration_is_written_as_pods_carry_it() -> None:
    assert read_toleration("a.b/c").document() == {"key": "a.b/c", "operator": "Exists"}
    assert read_toleration("c=v:NoExecute").document() == {"key": "c", "operator": "Equal", "value": "v", "effect": "NoExecute"}
