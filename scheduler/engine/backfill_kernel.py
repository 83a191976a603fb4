"""EASY backfilling on machines, compiled: jobs start in order, and when one is blocked others may pass it without delaying it.

The textbook algorithm (Mu'alem & Feitelson, IEEE TPDS 2001) for one pool of processors; here the machines may be nodes with
cores, memory and accelerators of several models. The first job that does not fit is promised the earliest time at which it
will, if running jobs take what they asked for, and a place there. A later job starts now if it fits and either ends before
that time, or leaves the promised place alone. `scheduler.engine.backfill` is the oracle for pools.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from scheduler.engine.rooms import COUNT, DEVICES, IDLE, KIND, MILLI, NODE, SPAN, SPAN_END, WHOLE, WORKERS, hold, least, seat


@njit(cache=True)
def start_in_order(order: Any, room: Any, asks: Any, seats: Any, started: Any, models: Any) -> int:
    """Start jobs of `order[Q]` until one does not fit; return how many, with `started` and `models` in their order."""
    count = 0
    while count < order.shape[0]:
        model = seat(room, asks, order[count], seats)
        if model < 0:
            break
        hold(room, asks, order[count], seats, 1)
        started[count], models[count] = order[count], model
        count += 1
    return count


@njit(cache=True)
def pass_by(now: float, order: Any, room: Any, asks: Any, seats: Any, running: Any, ends: Any, started: Any, models: Any) -> int:
    """Start jobs behind `order[0]`, which is blocked, where that does not delay it; return how many.

    `running[R]` are jobs that hold room, sorted by `ends[R]`, when they end if they take what they asked for.
    """
    later, both = room.copy(), room.copy()
    shadow_s = promise(order[0], later, both, asks, seats, running, ends)
    hold(later, asks, order[0], seats, 1)
    for node in range(room.shape[0]):
        least(room, later, both, node)
    count, idle = 0, idle_devices(room)
    for row in range(1, order.shape[0]):
        job = order[row]
        if asks.job[job, MILLI] == WHOLE and asks.job[job, WORKERS] * asks.job[job, DEVICES] > idle:
            continue
        model = seat(room, asks, job, seats)
        if model >= 0 and now + asks.limit[job] / asks.speed[asks.job[job, KIND], model] > shadow_s:
            model = seat(both, asks, job, seats)
            if model >= 0:
                hold(later, asks, job, seats, 1)
        if model < 0:
            continue
        hold(room, asks, job, seats, 1)
        for taken in range(asks.job[job, SPAN], asks.job[job, SPAN_END]):
            if seats[taken, COUNT] == 0:
                break
            least(room, later, both, seats[taken, NODE])
        idle = idle_devices(room)
        started[count], models[count] = job, model
        count += 1
    return count


@njit(cache=True)
def idle_devices(room: Any) -> int:
    """Devices that nobody uses, on all nodes."""
    total = 0
    for node in range(room.shape[0]):
        total += room[node, IDLE]
    return total


@njit(cache=True)
def promise(head: int, room: Any, trial: Any, asks: Any, seats: Any, running: Any, ends: Any) -> float:
    """The earliest time at which the head fits; `room` becomes what is free then, and the head's seats are written.

    `trial` is scratch space of the same shape.
    """
    low, high = 1, running.shape[0]
    while low < high:
        middle = (low + high) // 2
        fill(trial, room)
        for row in range(middle):
            hold(trial, asks, running[row], seats, -1)
        if seat(trial, asks, head, seats) >= 0:
            high = middle
        else:
            low = middle + 1
    shadow_s = ends[low - 1]
    while low < running.shape[0] and ends[low] == shadow_s:
        low += 1
    for row in range(low):
        hold(room, asks, running[row], seats, -1)
    seat(room, asks, head, seats)
    return float(shadow_s)


@njit(cache=True)
def fill(room: Any, source: Any) -> None:
    """Make one room equal to another."""
    for node in range(room.shape[0]):
        for column in range(room.shape[1]):
            room[node, column] = source[node, column]
