"""Nodes that are not there yet, in words: for a job that could run on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controlplane.api.prose import reason_words
from controlplane.api.schemas import ClusterVerdict, Obstacle
from scheduler.engine.reasons import Reason
from scheduler.freeze import Frozen
from scheduler.scale_up import ROOM, USUAL_S, types_for
from scheduler.wishes import scale_key

_ROOM = {reason.label for reason in ROOM}


def told_scaling(verdicts: Sequence[ClusterVerdict], frozen: Frozen, waits: Mapping[str, float]) -> list[ClusterVerdict]:
    """The same verdicts; where no node has room now and an autoscaler can bring some that have, with these and when they would be there.

    The first candidate of `frozen` is the job that they are about.
    """
    places = {cluster.name: place for place, cluster in enumerate(frozen.world.clusters)}
    return [_told(verdict, frozen, places[verdict.cluster], waits) for verdict in verdicts]


def _told(verdict: ClusterVerdict, frozen: Frozen, place: int, waits: Mapping[str, float]) -> ClusterVerdict:
    if verdict.verdict in ("chosen", "possible") or not {item.reason for item in verdict.obstacles} <= _ROOM:
        return verdict
    cluster = frozen.world.clusters[place]
    kinds = {kind.name: kind for _, kind in types_for(frozen.candidates[0], cluster, place, frozen.world.now)}
    if not kinds:
        return verdict
    wait_s = waits.get(scale_key(cluster.name), USUAL_S)
    message, remedy = reason_words(Reason.SCALING_UP)
    named = ", ".join(f"{kind.name} ({kind.present} of at most {kind.most} are there)" for kind in kinds.values())
    obstacle = Obstacle(reason=Reason.SCALING_UP.label, message=f"{message}: {named}, usually in {wait_s:.0f} s", remedy=remedy)
    return verdict.model_copy(update={
        "verdict": "busy", "start_s": wait_s + verdict.transfer_s, "obstacles": [*verdict.obstacles, obstacle],
    })  # fmt: skip
