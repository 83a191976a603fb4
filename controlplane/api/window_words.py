"""Windows in words: which maintenance or reservation keeps a job off a cluster, from when until when."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.api.schemas import ClusterVerdict, Obstacle
from controlplane.api.views import clock, moment
from scheduler.engine.reasons import Reason
from scheduler.freeze import Frozen
from scheduler.store.records import WindowRecord
from scheduler.windows import MAINTENANCE, is_open_to, lines_of

PURPOSES = {Reason.MAINTENANCE.label: True, Reason.RESERVED_FOR_OTHERS.label: False}
NAMED = 3


def told_windows(verdicts: Sequence[ClusterVerdict], frozen: Frozen) -> list[ClusterVerdict]:
    """The same verdicts; where maintenance or a reservation stands against a cluster, with its times."""
    return [_told(verdict, frozen) for verdict in verdicts]


def _told(verdict: ClusterVerdict, frozen: Frozen) -> ClusterVerdict:
    obstacles = [_with_times(item, verdict, frozen) if item.reason in PURPOSES else item for item in verdict.obstacles]
    return verdict.model_copy(update={"obstacles": obstacles})


def _with_times(item: Obstacle, verdict: ClusterVerdict, frozen: Frozen) -> Obstacle:
    spec, now = frozen.candidates[0].spec, frozen.world.now
    wait_s = dict(zip(frozen.snapshot.clusters.names, frozen.snapshot.clusters.wait_s.tolist(), strict=True))[verdict.cluster]
    until = now + spec.max_runtime + verdict.transfer_s + wait_s
    lines = lines_of(frozen.world.queues)
    there = [
        window
        for window in frozen.world.windows
        if window.cluster == verdict.cluster and (window.purpose == MAINTENANCE) == PURPOSES[item.reason]
        and window.begins_at < until and window.ends_at > now and not is_open_to(window, spec, lines)
    ]  # fmt: skip
    words = "; ".join(_words(window, now) for window in there[:NAMED])
    return item.model_copy(update={"message": f"{item.message}: {words}"}) if words else item


def _words(window: WindowRecord, now: float) -> str:
    where = f"nodes {', '.join(window.nodes)}" if window.nodes else "all nodes"
    begins = "now" if window.begins_at <= now else f"from {clock(moment(window.begins_at))}"
    reason = f" ({window.reason})" if window.reason else ""
    return f"{where}, {begins} until {clock(moment(window.ends_at))}{reason}"
