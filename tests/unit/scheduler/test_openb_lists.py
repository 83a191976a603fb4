"""Lists of nodes and pods in the format of OpenB: what is read, and what is refused with file, line and column."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from scheduler.errors import TraceError
from scheduler.traces.openb_lists import read_nodes, read_pods

NODES = "sn,cpu_milli,memory_mib,gpu,model\nn0,64000,262144,2,P100\nn1,96000,393216,8,G2\nn2,32000,1024,0,\n"
PODS = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\np0,6000,12288,1,460,\n"
    "p1,8000,100,0,0,\np2,6000,12288,1,460,\np3,1000,1,2,1000,T4|G2\n"
)


def _file(folder: Path, text: str, name: str = "list.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_nodes_keep_the_order_of_the_file(tmp_path: Path) -> None:
    nodes = read_nodes(_file(tmp_path, NODES))
    assert nodes.models == ("", "G2", "P100")
    assert nodes.model.tolist() == [2, 1, 0]
    assert nodes.devices.tolist() == [2, 8, 0]
    assert nodes.cpu_milli.tolist() == [64000, 96000, 32000]
    assert nodes.memory_mib.tolist() == [262144, 393216, 1024]


def test_pods_that_ask_for_the_same_are_one_kind(tmp_path: Path) -> None:
    pods = read_pods(_file(tmp_path, PODS), 8)
    assert pods.requests == ((1000, 1, 2, 1000, ("G2", "T4")), (6000, 12288, 1, 460, ()), (8000, 100, 0, 0, ()))
    assert pods.kind.tolist() == [1, 2, 1, 0]


def test_a_gzipped_list_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "pods.csv.gz"
    path.write_bytes(gzip.compress(PODS.encode()))
    assert len(read_pods(path, 8).kind) == 4


def test_the_first_five_columns_are_enough(tmp_path: Path) -> None:
    pods = read_pods(_file(tmp_path, "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np0,6000,1,8,1000\n"), 8)
    assert pods.requests == ((6000, 1, 8, 1000, ()),)


def test_models_are_a_set(tmp_path: Path) -> None:
    text = "cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n1,1,1,500,T4|G2\n1,1,1,500,G2|T4|G2\n"
    assert len(read_pods(_file(tmp_path, text), 8).requests) == 1


def test_a_pod_without_devices_may_name_any_share(tmp_path: Path) -> None:
    text = "cpu_milli,memory_mib,num_gpu,gpu_milli\n1,1,0,\n1,1,0,1000\n1,1,1,1000\n"
    assert read_pods(_file(tmp_path, text), 8).kind.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("row", "line", "column"),
    [
        ("p,-1,1,1,500,", 3, "cpu_milli"),
        ("p,1,nan,1,500,", 3, "memory_mib"),
        ("p,1,inf,1,500,", 3, "memory_mib"),
        ("p,1,1,9,1000,", 3, "num_gpu"),
        ("p,1,1,-1,1000,", 3, "num_gpu"),
        ("p,1,1,1.5,1000,", 3, "num_gpu"),
        ("p,1,1,1,0,", 3, "gpu_milli"),
        ("p,1,1,1,1001,", 3, "gpu_milli"),
        ("p,1,1,2,500,", 3, "gpu_milli"),
        ("p,1,1,1,half,", 3, "gpu_milli"),
        ("p,1,1,1", 3, "gpu_milli"),
        ("p,1,1,1,500,T4||G2", 3, "gpu_spec"),
        ("p,1,1,1,500,|", 3, "gpu_spec"),
        ("p,1,1,,500,", 3, "num_gpu"),
        ("p,1e300,1,1,500,", 3, "cpu_milli"),
    ],
)
def test_a_bad_pod_is_refused_with_its_place(tmp_path: Path, row: str, line: int, column: str) -> None:
    path = _file(tmp_path, f"name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\np,1,1,1,500,\n{row}\n")
    with pytest.raises(TraceError) as caught:
        read_pods(path, 8)
    assert (caught.value.file, caught.value.line, caught.value.column) == (str(path), line, column)


@pytest.mark.parametrize(
    ("row", "column"),
    [("n,-5,1,1,T4", "cpu_milli"), ("n,1", "gpu"), ("n,1,1,99,T4", "gpu"), ("n,1,1,x,T4", "gpu"), ("n,1,nan,1,T4", "memory_mib")],
)
def test_a_bad_node_is_refused_with_its_place(tmp_path: Path, row: str, column: str) -> None:
    path = _file(tmp_path, f"sn,cpu_milli,memory_mib,gpu,model\n{row}\n")
    with pytest.raises(TraceError) as caught:
        read_nodes(path)
    assert (caught.value.file, caught.value.line, caught.value.column) == (str(path), 2, column)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty"),
        ("sn,cpu_milli,memory_mib,gpu,model\n", "has no node"),
        ("sn,cpu_milli,memory_mib,gpu,model\nn,1,1,0,\n", "has no node with a GPU"),
        ("sn,cpu_milli,memory_mib,gpu\nn,1,1,1\n", "no column model"),
    ],
)
def test_a_useless_list_of_nodes_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(TraceError, match=fault):
        read_nodes(_file(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty"),
        ("cpu_milli,memory_mib,num_gpu,gpu_milli\n", "has no pod"),
        ("cpu_milli,memory_mib,num_gpu,gpu_milli\n1,1,0,0\n", "has no pod that asks for a GPU"),
        ("cpu_milli,memory_mib,num_gpu\n1,1,0\n", "no column gpu_milli"),
    ],
)
def test_a_useless_list_of_pods_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(TraceError, match=fault):
        read_pods(_file(tmp_path, text), 8)
