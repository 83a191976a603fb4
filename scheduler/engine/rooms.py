"""Rooms: what is free on machines, and which of them take a gang, compiled for simulations of many jobs.

A gang is seated whole or not at all: on one node if one has room, the tightest of those; else on the roomiest nodes of one
model, filled one after the other. Models are tried in the order in which the gang prefers them. A share of an accelerator
goes to the tightest device with room for it. Axes: N nodes, sorted by model; D devices of a node, told apart only where jobs
share some; M models; J jobs; K kinds of job; S seats, a span of them for each job.

Tables of whole numbers are passed about, because what a compiled function costs to compile grows with its arguments:
`room[N, 3 + D]` (cores, memory, idle devices, then what is free on each), `asks.job[J, 8]`, `seats[S, 3]`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from scheduler.engine.snapshot import Floats, Ints

WHOLE = 1000
# More workers than any job has; a request of nothing would fit without end.
MANY = 2**31
# Columns of a room. A device that a node does not have is -1.
CPU, MEMORY, IDLE, FIRST_DEVICE = 0, 1, 2, 3
# Columns of a job, each of its workers: thousandths of cores, MiB, devices, thousandths of each; its kind and its span of seats.
WORKERS, NEEDS_CPU, NEEDS_MEMORY, DEVICES, MILLI, KIND, SPAN, SPAN_END = range(8)
# Columns of a seat. No workers end a span; the mask tells devices, where they are told apart.
NODE, COUNT, MASK = range(3)


class Asks(NamedTuple):
    """What gangs ask for, and what models are to them.

    `prefer[K, M]` are models, the fastest first, -1 behind the last; `speed[K, M]` is how much work a second a model does and
    `limit[J]` the work that was asked for. Nodes of model m are rows `first[m] … first[m + 1] - 1`; who needs no device may be seated
    on rows `reach[m, 0] … reach[m, 1] - 1`, which are all nodes, or those of a cluster.
    """

    job: Ints
    limit: Floats
    prefer: Ints
    speed: Floats
    first: Ints
    reach: Ints


@njit(cache=True)
def workers_on(room: Any, asks: Any, job: int, node: int) -> int:
    """How many workers fit on a node; of shares one at most."""
    most = MANY
    if asks.job[job, NEEDS_CPU] > 0:
        most = min(most, room[node, CPU] // asks.job[job, NEEDS_CPU])
    if asks.job[job, NEEDS_MEMORY] > 0:
        most = min(most, room[node, MEMORY] // asks.job[job, NEEDS_MEMORY])
    if asks.job[job, DEVICES] > 0:
        if asks.job[job, MILLI] == WHOLE:
            most = min(most, room[node, IDLE] // asks.job[job, DEVICES])
        elif most > 0:
            most = int(tightest(room, node, asks.job[job, MILLI]) >= 0)
    return int(most)


@njit(cache=True)
def tightest(room: Any, node: int, milli: int) -> int:
    """The column of the device with the least room that takes a share, -1 for none."""
    best = -1
    for column in range(FIRST_DEVICE, room.shape[1]):
        free = room[node, column]
        if free >= milli and (best < 0 or free < room[node, best]):
            best = column
    return best


@njit(cache=True)
def mask_of(room: Any, asks: Any, job: int, node: int, count: int) -> int:
    """The devices that so many workers would take on a node; 0 where devices are not told apart."""
    if room.shape[1] == FIRST_DEVICE or asks.job[job, DEVICES] == 0:
        return 0
    if asks.job[job, MILLI] < WHOLE:
        return int(1 << (tightest(room, node, asks.job[job, MILLI]) - FIRST_DEVICE))
    mask, wanted = 0, count * asks.job[job, DEVICES]
    for column in range(FIRST_DEVICE, room.shape[1]):
        if wanted > 0 and room[node, column] == WHOLE:
            mask |= 1 << (column - FIRST_DEVICE)
            wanted -= 1
    return mask


@njit(cache=True)
def seat(room: Any, asks: Any, job: int, seats: Any) -> int:
    """Write the seats of a job and return its model, or -1 if it does not fit. Nothing is taken yet."""
    kind = asks.job[job, KIND]
    for choice in range(asks.prefer.shape[1]):
        model = asks.prefer[kind, choice]
        if model < 0 or seat_on(room, asks, job, model, seats):
            return int(model)
        if asks.job[job, DEVICES] == 0 and asks.reach[model, 1] - asks.reach[model, 0] == room.shape[0]:
            break
    return -1


@njit(cache=True)
def seat_on(room: Any, asks: Any, job: int, model: int, seats: Any) -> bool:
    """Write the seats of a job on nodes of one model, or of all in reach if it needs no device, if all of it fits there."""
    begin, end = asks.first[model], asks.first[model + 1]
    if asks.job[job, DEVICES] == 0:
        begin, end = asks.reach[model, 0], asks.reach[model, 1]
    wanted, total, best = asks.job[job, WORKERS], 0, -1
    for node in range(begin, end):
        rooms = workers_on(room, asks, job, node)
        total += rooms
        if rooms >= wanted and (best < 0 or tighter(room, node, best)):
            best = node
    if total < wanted or wanted <= 0:
        return False
    row = asks.job[job, SPAN]
    while wanted > 0:
        node = best if best >= 0 else roomiest(room, asks, job, seats, row, begin, end)
        count = min(wanted, workers_on(room, asks, job, node))
        seats[row, NODE], seats[row, COUNT], seats[row, MASK] = node, count, mask_of(room, asks, job, node, count)
        wanted -= count
        row += 1
    if row < asks.job[job, SPAN_END]:
        seats[row, COUNT] = 0
    return True


@njit(cache=True)
def tighter(room: Any, node: int, other: int) -> bool:
    """Whether a node has less left than another: fewer idle devices, then fewer cores."""
    if room[node, IDLE] != room[other, IDLE]:
        return bool(room[node, IDLE] < room[other, IDLE])
    return bool(room[node, CPU] < room[other, CPU])


@njit(cache=True)
def roomiest(room: Any, asks: Any, job: int, seats: Any, row: int, begin: int, end: int) -> int:
    """The node with room for most workers that is not among the seats written before `row`."""
    best, most = -1, 0
    for node in range(begin, end):
        rooms = workers_on(room, asks, job, node)
        if rooms > most:
            used = False
            for seated in range(asks.job[job, SPAN], row):
                used = used or seats[seated, NODE] == node
            if not used:
                best, most = node, rooms
    return best


@njit(cache=True)
def hold(room: Any, asks: Any, job: int, seats: Any, sign: int) -> None:
    """Take what a job's seats need off a room (sign 1), or give it back (sign -1)."""
    for row in range(asks.job[job, SPAN], asks.job[job, SPAN_END]):
        count = seats[row, COUNT]
        if count == 0:
            return
        node = seats[row, NODE]
        room[node, CPU] -= sign * count * asks.job[job, NEEDS_CPU]
        room[node, MEMORY] -= sign * count * asks.job[job, NEEDS_MEMORY]
        milli = asks.job[job, MILLI]
        if milli == WHOLE:
            room[node, IDLE] -= sign * count * asks.job[job, DEVICES]
        for column in range(FIRST_DEVICE, room.shape[1]):
            if seats[row, MASK] >> (column - FIRST_DEVICE) & 1:
                before = room[node, column]
                room[node, column] = before - sign * milli
                if milli < WHOLE:
                    # The first share on a device makes it one that is not idle, the last one to leave makes it idle.
                    room[node, IDLE] += int(room[node, column] == WHOLE) - int(before == WHOLE)


@njit(cache=True)
def least(room: Any, other: Any, both: Any, node: int) -> None:
    """Write what is free on a node in one room and in another into `both`."""
    for column in range(room.shape[1]):
        both[node, column] = min(room[node, column], other[node, column])
    if room.shape[1] > FIRST_DEVICE:
        both[node, IDLE] = 0
        for column in range(FIRST_DEVICE, room.shape[1]):
            both[node, IDLE] += int(both[node, column] == WHOLE)


@njit(cache=True)
def fitting(room: Any, asks: Any, jobs: Any, seats: Any, fits: Any) -> None:
    """Write whether each of `jobs` would fit alone, in an empty room."""
    for row in range(jobs.shape[0]):
        fits[row] = seat(room, asks, jobs[row], seats) >= 0


@njit(cache=True)
def deal(room: Any, asks: Any, seats: Any, jobs: Any, models: Any, dealt: Any) -> None:
    """Give machines to pairs [P] of a job and a model, in order; `dealt[J]` becomes the model of each job that got some.

    A job that has a model in `dealt` already is passed over.
    """
    for row in range(jobs.shape[0]):
        job = jobs[row]
        if dealt[job] < 0 and seat_on(room, asks, job, models[row], seats):
            hold(room, asks, job, seats, 1)
            dealt[job] = models[row]


def empty_seats(count: int) -> Ints:
    """Seats that nobody has taken."""
    return np.zeros((count, 3), dtype=np.int64)
