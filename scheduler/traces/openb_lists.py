"""Nodes and pods of OpenB's lists as things to place, without their times (Weng et al., USENIX ATC 2023).

Nodes keep the order of the file, because policies break ties by it. Pods that ask for one and the same are one kind, so
that a list of millions is a column of small numbers; only rows that are new are looked at twice. Lists may be plain or gzipped,
and have the first five columns of their format alone; without `gpu_spec` every model may serve a pod.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scheduler.errors import TraceError
from scheduler.traces.machines import MOST_DEVICES
from scheduler.traces.rows import Row, table
from scheduler.traces.trace import WHOLE, Ints

NODE_COLUMNS = ("cpu_milli", "memory_mib", "gpu", "model")
POD_COLUMNS = ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
Request = tuple[int, int, int, int, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class NodeList:
    """Nodes [N] in the order of the file. `model[N]` is a row of `models`, which are sorted."""

    cpu_milli: Ints
    memory_mib: Ints
    devices: Ints
    model: Ints
    models: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class PodList:
    """Pods in the order of the file: `kind[P]` is a row of `requests`, which are sorted.

    A request is cores and memory, how many devices, thousandths of each, and the models that may serve it (none named: all).
    """

    requests: tuple[Request, ...]
    kind: Ints


def read_nodes(path: Path) -> NodeList:
    """The nodes of a list, at least one of them with a device."""
    rows = [_node(row) for row in table(path, NODE_COLUMNS)]
    if not any(devices for _, _, devices, _ in rows):
        raise TraceError("has no node with a GPU" if rows else "has no node", file=str(path))
    models = tuple(sorted({model for *_, model in rows}))
    cpu, memory, devices, model = zip(*rows, strict=True)
    home = np.array([models.index(name) for name in model], dtype=np.int64)
    return NodeList(np.array(cpu, dtype=np.int64), np.array(memory, dtype=np.int64), np.array(devices, dtype=np.int64), home, models)


def _node(row: Row) -> tuple[int, int, int, str]:
    devices = row.whole("gpu")
    if devices > MOST_DEVICES:
        raise row.fault(f"{devices} GPUs on one node are more than {MOST_DEVICES}", "gpu")
    return row.whole("cpu_milli"), row.whole("memory_mib"), devices, row.text("model")


def read_pods(path: Path, most_devices: int) -> PodList:
    """The pods of a list, each with at most `most_devices`, the devices of the largest node, and at least one with a device."""
    known: dict[tuple[str, ...], int] = {}
    rows: dict[Request, int] = {}
    kind, column = array("i"), (*POD_COLUMNS, "gpu_spec")
    for row in table(path, POD_COLUMNS):
        cells = tuple(row.cells.get(name, "") for name in column)
        if cells not in known:
            known[cells] = rows.setdefault(_request(row, most_devices), len(rows))
        kind.append(known[cells])
    if not any(devices for _, _, devices, _, _ in rows):
        raise TraceError("has no pod that asks for a GPU" if rows else "has no pod", file=str(path))
    requests = tuple(sorted(rows))
    place = np.array([requests.index(request) for request in rows], dtype=np.int64)
    return PodList(requests, place[np.frombuffer(kind, dtype=np.intc)])


def _request(row: Row, most_devices: int) -> Request:
    devices = row.whole("num_gpu")
    if devices > most_devices:
        raise row.fault(f"{devices} GPUs are more than any node has ({most_devices})", "num_gpu")
    return row.whole("cpu_milli"), row.whole("memory_mib"), devices, _share(row, devices), _models(row)


def _share(row: Row, devices: int) -> int:
    if not devices:
        return 0
    milli = row.whole("gpu_milli", least=1)
    if milli > WHOLE:
        raise row.fault(f"{milli} is more than one GPU ({WHOLE})", "gpu_milli")
    if devices > 1 and milli != WHOLE:
        raise row.fault(f"{milli} of each of {devices} GPUs; several GPUs are whole ones ({WHOLE})", "gpu_milli")
    return milli


def _models(row: Row) -> tuple[str, ...]:
    text = row.text("gpu_spec")
    names = {name.strip() for name in text.split("|")} if text else set()
    if "" in names:
        raise row.fault(f"{text!r} has an empty name between its |", "gpu_spec")
    return tuple(sorted(names))
