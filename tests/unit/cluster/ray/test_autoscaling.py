"""An autoscaler's configuration: which types of nodes it names, and what is wrong with one that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.backends.ray.autoscaling import counted, read_configuration
from cluster.errors import PermanentError
from cluster.scaling import NodeType


def write(folder: Path, document: Any) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def types(**more: Any) -> dict[str, Any]:
    return {"head_node_type": "head", "max_workers": 10, "available_node_types": {"head": {"resources": {"CPU": 1}}, **more}}


def test_types_of_workers_are_read_with_what_they_have(tmp_path: Path) -> None:
    found = read_configuration(write(tmp_path, types(
        gpus={"resources": {"CPU": 64, "GPU": 8, "memory": 2**40, "accelerator_type:H200": 1}, "min_workers": 1, "max_workers": 4},
        plain={"resources": {"CPU": 8}, "labels": {"pool": "a"}},
        old={"resources": {"CPU": 8, "GPU": 1}, "labels": {"ray.io/accelerator-type": "A100"}, "max_workers": 0},
    )))  # fmt: skip
    assert [(kind.name, kind.cpu, kind.memory_bytes, kind.accelerators, kind.least, kind.most) for kind in found] == [
        ("gpus", 64, 2**40, {"H200": 8}, 1, 4), ("old", 8, None, {"A100": 1}, 0, 0), ("plain", 8, None, {}, 0, 10),
    ]  # fmt: skip
    assert found[2].labels == {"ray.io/node-group": "plain", "pool": "a"}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("available_node_types: [", "cannot be read"),
        ("- a", "is no autoscaler's configuration"),
        ({}, "is no autoscaler's configuration .*available_node_types"),
        (types(bad={"resources": {"CPU": "many"}}), "is no autoscaler's configuration"),
        (types(bad={"resources": {"CPU": -1}, "max_workers": 1}), "is no autoscaler's configuration"),
        (types(bad={"min_workers": 5, "max_workers": 1}), "is no autoscaler's configuration"),
        (types(**{f"t{number}": {"resources": {"CPU": 1}} for number in range(101)}), "is no autoscaler's configuration"),
    ],
)
def test_a_file_that_is_no_configuration_is_told(tmp_path: Path, document: Any, words: str) -> None:
    with pytest.raises(PermanentError, match=words):
        read_configuration(write(tmp_path, document))
    with pytest.raises(PermanentError, match=r"CPN_RAY_AUTOSCALING: .*nowhere cannot be read"):
        read_configuration(tmp_path / "nowhere")


def test_nodes_are_counted_by_the_label_of_their_type() -> None:
    def entry(group: str | None, alive: bool = True) -> dict[str, Any]:
        return {"Alive": alive, "Labels": {"ray.io/node-group": group} if group else {}}

    kinds = [NodeType(name="a", cpu=1, most=4), NodeType(name="b", cpu=1, most=4)]
    found = counted(kinds, [entry("a"), entry("a"), entry("a", alive=False), entry(None), entry("c")], "1 of b could not be started")
    assert found is not None
    assert [(kind.name, kind.present, kind.absent) for kind in found.types] == [("a", 2, 2), ("b", 0, 4)]
    assert found.trouble == "1 of b could not be started"
    assert counted([], [entry("a")]) is None
