"""What the engine answers: who goes where, and for everybody else why not."""

from __future__ import annotations

from dataclasses import dataclass

from scheduler.engine.reasons import Reason


@dataclass(frozen=True)
class Placement:
    """One job's place: indices into the snapshot; `nodes[w]` is the node of the worker of rank w.

    `devices[w]` are the devices of that worker, each as (row of the resource, number on the node); empty where devices are not
    told apart or none is asked for. `choice` is the way that the job is run by: 0 its own row, else that many of its further ones.
    """

    job: int
    cluster: int
    nodes: tuple[int, ...]
    score: float
    devices: tuple[tuple[tuple[int, int], ...], ...] = ()
    choice: int = 0


@dataclass(frozen=True)
class Unplaced:
    """Why a job waits once the plan is carried out: per cluster the rule against it, and the nodes that rules took out.

    `clusters[c]` is what stands against cluster c, never FITS; where that is a rule about nodes, the one of the node
    that came closest. `nodes` counts the nodes of permitted clusters (policy, health and cordon allow them) by reason,
    sorted by reason; a job that its queue's limit or ceiling holds back is not compared with nodes. `blocker` is the reason of
    the cluster that came closest, the greatest one, and with no cluster at all CLUSTER_UNHEALTHY.
    """

    job: int
    blocker: Reason
    clusters: tuple[Reason, ...]
    nodes: tuple[tuple[Reason, int], ...]


@dataclass(frozen=True)
class Promise:
    """When a job that waits is expected to start, where and in which way (see Placement); nothing is placed that would delay it.

    Seconds from now.
    """

    job: int
    cluster: int
    nodes: tuple[int, ...]
    start_s: float
    end_s: float
    choice: int = 0


@dataclass(frozen=True)
class Eviction:
    """Runs (rows of `Evictable`) that are ended for a job, by which right each (`lower-priority` or `reclaim-quota`), in this order.

    `nodes[w]` is the node that the job claims for its worker of rank w, all of them nodes of `cluster`; it goes there once the
    runs have ended, so it is among the unplaced of the same plan. `choice` is the way that room is made for (see Placement).
    """

    job: int
    cluster: int
    nodes: tuple[int, ...]
    runs: tuple[int, ...]
    rights: tuple[str, ...]
    choice: int = 0


@dataclass(frozen=True)
class Shrink:
    """Gangs that give up workers for a job, as (row of `Evictable`, workers that it keeps), in this order, and by which right each.

    A right is `grown-room`, `lower-priority` or `reclaim-quota`. `nodes[w]` is the node that the job claims, as in an Eviction.
    """

    job: int
    cluster: int
    nodes: tuple[int, ...]
    gangs: tuple[tuple[int, int], ...]
    rights: tuple[str, ...]
    choice: int = 0


@dataclass(frozen=True)
class Growth:
    """Workers that join a gang (row of `Elastic`): the node of each, in the order of ranks, and its devices as in a Placement."""

    gang: int
    nodes: tuple[int, ...]
    devices: tuple[tuple[tuple[int, int], ...], ...] = ()


@dataclass(frozen=True)
class Plan:
    """Placements and promises in the order they were decided, all that wait in the order of the snapshot, and whom to end for them.

    `shrinks` come before `evictions`: those are for jobs for which these do not suffice. `growths` are for what is left after all.
    """

    placements: tuple[Placement, ...]
    unplaced: tuple[Unplaced, ...]
    promises: tuple[Promise, ...] = ()
    evictions: tuple[Eviction, ...] = ()
    shrinks: tuple[Shrink, ...] = ()
    growths: tuple[Growth, ...] = ()


@dataclass(frozen=True)
class ScorePart:
    """One aspect of a cluster's score: its value there, its weight, and the points that it adds (weight times 0 best … 1 worst).

    A value of None is one that nobody knows; it counts as the worst.
    """

    aspect: str
    value: float | None
    weight: float
    points: float


@dataclass(frozen=True)
class Verdict:
    """One cluster's standing for one job, for `job plan` and `explain`.

    `score` (0 is best) and `start_s`, the seconds until the job would start there, are None unless the job fits now. The points
    of `parts` add up to the score, and it would start with `workers`. Where a gang does not fit, `room` is how many of its
    workers fit now (together, where they must be in one group), and `room_empty` how many would if nothing ran there; else None.
    `choice` is the way to run the job that the verdict is about (see Placement).
    """

    cluster: int
    reason: Reason
    chosen: bool
    score: float | None
    start_s: float | None
    parts: tuple[ScorePart, ...] = ()
    workers: int | None = None
    room: int | None = None
    room_empty: int | None = None
    choice: int = 0
