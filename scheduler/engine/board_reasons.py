"""Why jobs wait, from the sums that the board keeps: as cheap for a million jobs as for one of each class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.engine.board import Board
from scheduler.engine.filters import CLUSTER_FILTERS
from scheduler.engine.reasons import Reason
from scheduler.engine.snapshot import Ints


@dataclass(frozen=True, eq=False)
class Standings:
    """Why jobs of each class wait: `clusters[K, C]` and `blocker[K]` hold Reasons, `nodes[K, reasons]` counts nodes of permitted
    clusters by Reason, as in `Unplaced`."""

    clusters: Ints
    blocker: Ints
    nodes: Ints


def standings(board: Board, *, held_back: bool = False, reason: Reason = Reason.QUEUE_LIMIT) -> Standings:
    """What stands against each class with the room that is left now, or for jobs that their queue holds back for a `reason`."""
    clusters = _cluster_reasons(board)
    permitted = clusters == Reason.FITS
    if held_back:
        clusters = np.where(permitted, np.int64(reason), clusters)
        nodes = np.zeros((len(clusters), len(Reason)), dtype=np.int64)
    else:
        clusters = np.where(permitted, _room_reasons(board), clusters)
        nodes = _node_counts(board, permitted)
    blocker = clusters.max(axis=1, initial=0) if clusters.shape[1] else np.full(len(clusters), np.int64(Reason.CLUSTER_UNHEALTHY))
    blocker = np.where((clusters == Reason.FITS).any(axis=1), np.int64(Reason.FITS), blocker)
    return Standings(clusters, blocker, nodes)


def _cluster_reasons(board: Board) -> Ints:
    """[K, C] The first rule about the cluster as a whole that is against a class, FITS where there is none."""
    world = board.world
    assert len(CLUSTER_FILTERS) == 3, "a new rule about clusters must be counted here too"
    reasons = np.where(world.clusters.healthy, np.int64(Reason.FITS), np.int64(Reason.CLUSTER_UNHEALTHY))
    reasons = np.where((reasons == Reason.FITS) & world.clusters.cordoned, np.int64(Reason.CLUSTER_CORDONED), reasons)
    found: Ints = np.where(board.classes.policy == Reason.FITS, reasons, board.classes.policy)
    return found


def _room_reasons(board: Board) -> Ints:
    """[K, C] The reason of the node that came closest."""
    shape, workers = board.class_shape, board.classes.workers[:, None]
    lasting = board.against.copy()
    lasting[:, :, Reason.FITS] = 0
    greatest = np.where(lasting.any(axis=2), len(Reason) - 1 - (lasting[:, :, ::-1] > 0).argmax(axis=2), np.int64(Reason.NODE_NOT_READY))
    found = np.where(board.against[:, :, Reason.FITS] > 0, np.int64(Reason.NODE_BUSY), greatest)[shape]
    found = np.where(board.open_nodes[shape] > 0, np.int64(Reason.GANG_DOES_NOT_FIT), found)
    return np.where(board.there[shape] >= workers, np.int64(Reason.FITS), found)


def _node_counts(board: Board, permitted: np.ndarray) -> Ints:
    counts = board.against.copy()
    counts[:, :, Reason.NODE_BUSY] += counts[:, :, Reason.FITS] - board.open_nodes
    counts[:, :, Reason.FITS] = board.open_nodes
    found: Ints = np.einsum("kc,kcr->kr", permitted.astype(np.int64), counts[board.class_shape])
    return found
