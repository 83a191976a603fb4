"""Machines that a trace is replayed on, from what a person writes behind `--cluster`.

`nodes.csv` is a list of nodes in the columns of OpenB; `procs=256` is one pool of equal processors; `K80=36,P100=36` are pools
of whole accelerators, one for each model. A pool asks for nothing beside its units: cores and memory are without end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster.carbon import Carbon
from scheduler.errors import TraceError
from scheduler.traces.rows import Row, table
from scheduler.traces.trace import Ints
from workloads.catalogue.tariffs import Tariffs

ENDLESS = 2**62
MOST_DEVICES = 62
POOL = re.compile(r"[A-Za-z0-9_.-]+=[0-9]+")


@dataclass(frozen=True, eq=False)
class Machines:
    """Nodes [N], sorted by model. `model[N]` is a row of `models`; the nameless model of a pool of processors is all models.

    Of a network of clusters a row of `models` is one model at one cluster: `sites` and `accelerators` tell both, rows of a cluster are
    together, and `price` is what an hour of a device costs there with its part of the node. `tariffs` and `carbon` are those of the cluster
    of each row, where it has some. Elsewhere all of these are empty.
    """

    cpu_milli: Ints
    memory_mib: Ints
    devices: Ints
    model: Ints
    models: tuple[str, ...]
    pooled: bool
    accelerators: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    price: tuple[float, ...] = ()
    tariffs: tuple[Tariffs | None, ...] = ()
    carbon: tuple[Carbon | None, ...] = ()


def read_machines(spec: str) -> Machines:
    """The machines that a SPEC stands for."""
    if "=" in spec and not Path(spec).is_file():
        return _pools(spec)
    return _nodes(Path(spec))


def _pools(spec: str) -> Machines:
    parts = [part.strip() for part in spec.split(",")]
    if not all(POOL.fullmatch(part) for part in parts):
        raise TraceError(
            "write a list of nodes as nodes.csv, processors as procs=256, or devices as K80=36,P100=36", file=f"cluster {spec!r}"
        )
    sizes = [(name, int(count)) for name, _, count in (part.partition("=") for part in parts)]
    names = tuple("" if name == "procs" else name for name, _ in sizes)
    if len(set(names)) < len(names) or ("" in names and len(names) > 1) or not all(0 < count < ENDLESS for _, count in sizes):
        raise TraceError("each pool needs a name of its own and at least one unit, and procs stands alone", file=f"cluster {spec!r}")
    endless = np.full(len(sizes), ENDLESS, dtype=np.int64)
    return Machines(endless, endless, np.array([count for _, count in sizes]), np.arange(len(sizes)), names, pooled=True)


def _nodes(path: Path) -> Machines:
    if not path.is_file():
        raise TraceError("there is no such file; write nodes.csv, procs=256, or K80=36,P100=36", file=f"cluster {str(path)!r}")
    rows = [_node(row) for row in table(path, ("cpu_milli", "memory_mib", "gpu", "model"))]
    if not rows:
        raise TraceError("has no node", file=str(path))
    names = tuple(sorted({model for *_, model in rows}))
    rows.sort(key=lambda node: node[3])
    cpu, memory, devices, model = zip(*rows, strict=True)
    home = np.array([names.index(name) for name in model])
    return Machines(np.array(cpu), np.array(memory), np.array(devices), home, names, pooled=False)


def _node(row: Row) -> tuple[int, int, int, str]:
    devices = row.whole("gpu")
    if devices > MOST_DEVICES:
        raise row.fault(f"{devices} devices on one node are more than {MOST_DEVICES}", "gpu")
    return row.whole("cpu_milli"), row.whole("memory_mib"), devices, row.text("model") if devices else ""
