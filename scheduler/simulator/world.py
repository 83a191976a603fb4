"""A trace on machines: what each job asks of them, which of them may run it, and which jobs never could.

A pool counts units: a processor of a log, a GPU, or a whole pod are one unit each of it, because a pool has no cores and no
memory of its own. Nodes count what jobs ask for; where any job asks for accelerators, they are what is measured by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cluster.computing_power import canonical_model
from scheduler.engine.rooms import FIRST_DEVICE, KIND, SPAN_END, Asks, empty_seats, fitting
from scheduler.engine.snapshot import Bools, Floats, Ints
from scheduler.errors import TraceError
from scheduler.traces.machines import Machines
from scheduler.traces.trace import WHOLE, Kind, Trace


@dataclass(frozen=True, eq=False)
class World:
    """Everything that does not change while jobs run. `size[J]` is in thousandths of `capacity`'s unit; `fits[J]` tells rejected ones.

    `length_s[J]` is how long a job takes and `limit_s[J]` how long it asked for on the best of the models here. `share[J]` is its
    dominant share of all machines.
    """

    trace: Trace
    machines: Machines
    models: tuple[str, ...]
    room: Ints
    asks: Asks
    seats: Ints
    size: Floats
    capacity: float
    capacities: Floats
    length_s: Floats
    limit_s: Floats
    share: Floats
    fits: Bools

    @property
    def is_mixed(self) -> bool:
        """Whether some kind of job is faster on one model than on another."""
        speed = self.asks.speed
        best = speed.max(axis=1, keepdims=True)
        return bool(((speed > 0) & (speed < best)).any())


def build_world(trace: Trace, machines: Machines) -> World:
    """Put a trace on machines."""
    room, models = _room(trace, machines), machines.models
    asks = _asks(trace, machines)
    seats = empty_seats(int(asks.job[-1, SPAN_END]))
    fits = np.zeros(len(trace), dtype=np.bool_)
    _judge(room, asks, seats, fits)
    counts_devices = machines.pooled or bool((trace.devices > 0).any())
    workers, cpu, _, devices, milli = (asks.job[:, column] for column in range(KIND))
    size: Floats = (workers * (devices * milli if counts_devices else cpu)).astype(np.float64)
    unit = machines.devices * WHOLE if counts_devices else machines.cpu_milli
    capacities = np.array([unit[machines.model == model].sum() for model in range(len(models))], dtype=np.float64)
    best = asks.speed.max(axis=1)[trace.kind]
    with np.errstate(divide="ignore"):
        length_s, limit_s = trace.work / best, trace.limit / best
    return World(
        trace, machines, models, room, asks, seats, size, float(capacities.sum()), capacities, length_s, limit_s,
        _shares(asks, machines), fits,
    )  # fmt: skip


def _room(trace: Trace, machines: Machines) -> Ints:
    """Everything free."""
    shared = not machines.pooled and bool((trace.gpu_milli < WHOLE).any())
    room = np.zeros((len(machines.devices), FIRST_DEVICE + (int(machines.devices.max()) if shared else 0)), dtype=np.int64)
    room[:, :FIRST_DEVICE] = np.stack([machines.cpu_milli, machines.memory_mib, machines.devices], axis=1)
    room[:, FIRST_DEVICE:] = np.where(np.arange(room.shape[1] - FIRST_DEVICE) < machines.devices[:, None], WHOLE, -1)
    return room


def _asks(trace: Trace, machines: Machines) -> Asks:
    speed = np.array([_speeds(kind, machines) for kind in trace.kinds])
    price = np.array(machines.price or [0.0] * len(machines.models))
    order = np.lexsort((np.broadcast_to(price, speed.shape), -speed), axis=1)
    prefer = np.where(np.take_along_axis(speed, order, axis=1) > 0, order, -1)
    ends = np.cumsum(np.minimum(np.maximum(trace.workers, 1), len(machines.devices)))
    none = np.zeros(len(trace), dtype=np.int64)
    if machines.pooled:
        each = (none, none, np.maximum(trace.devices, 1), np.full(len(trace), WHOLE))
    else:
        each = (trace.cpu_milli, trace.memory_mib, trace.devices, trace.gpu_milli)
    job = np.stack([trace.workers, *each, trace.kind, np.concatenate([[0], ends[:-1]]), ends], axis=1)
    first = np.searchsorted(machines.model, np.arange(len(machines.models) + 1)).astype(np.int64)
    return Asks(job.astype(np.int64), trace.limit, prefer, speed, first, _reach(machines, first))


def _reach(machines: Machines, first: Ints) -> Ints:
    """[M, 2] The nodes on which a job without devices may be seated: all, or those of the cluster of a row of `models`."""
    sites = machines.sites or ("",) * len(machines.models)
    last = {site: row for row, site in enumerate(sites)}
    reach: Ints = np.array([[first[sites.index(site)], first[last[site] + 1]] for site in sites], dtype=np.int64)
    return reach


def _speeds(kind: Kind, machines: Machines) -> list[float]:
    models = machines.models
    if kind.speeds is None:
        return [1.0] * len(models)
    if machines.sites:
        known = {canonical_model(name) or name: speed for name, speed in kind.speeds.items()}
        return [known.get(model, 0.0) for model in machines.accelerators]
    if models == ("",):
        if len(set(kind.speeds.values())) > 1:
            names = ", ".join(sorted(kind.speeds))
            raise TraceError(
                f"jobs run at another speed on each of {names}; give pools of these, like {names.split(', ')[0]}=36", file="cluster"
            )
        return [max(kind.speeds.values())]
    return [kind.speeds.get(model, 0.0) for model in models]


def _judge(room: Ints, asks: Asks, seats: Ints, fits: Bools) -> None:
    """Write which jobs fit on empty machines; equal ones are tried once."""
    _, rows, back = np.unique(asks.job[:, : KIND + 1], axis=0, return_index=True, return_inverse=True)
    answers = np.zeros(len(rows), dtype=np.bool_)
    fitting(room, asks, rows.astype(np.int64), seats, answers)
    fits[:] = answers[back.reshape(-1)]


def _shares(asks: Asks, machines: Machines) -> Floats:
    """[J] The largest part of any resource of all machines that a job needs."""
    workers, cpu, memory, devices, milli = (asks.job[:, column] for column in range(KIND))
    asked: tuple[tuple[Ints, float], ...] = (
        (cpu, float(machines.cpu_milli.sum(dtype=np.float64))), (memory, float(machines.memory_mib.sum(dtype=np.float64))),
        (devices * milli, float(machines.devices.sum()) * WHOLE),
    )  # fmt: skip
    parts = [workers * amount / total for amount, total in asked if total > 0]
    share: Floats = np.max(parts, axis=0)
    return share
