"""Members, their nodes, and the queues."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from pydantic_core import from_json
from sqlalchemy import BindParameter, Connection, Text, bindparam, cast, delete, insert, select, update

from cluster.drivers import ACTORS, Driver
from cluster.health import Health
from cluster.model import ClusterSpec, Node
from cluster.replicas import CacheState, Transfer
from cluster.scaling import Scaling
from scheduler.errors import ConflictError, NotFoundError
from scheduler.links import Sample, Samples, with_transfers
from scheduler.store.records import ClusterRecord, NodeRecord, QueueRecord
from scheduler.store.tables import clusters, nodes, queues, windows
from scheduler.wishes import Wish

# Every decision reads all members and nodes, which hardly ever change: documents are read as text, and each text is parsed once.
MOST_PARSED = 65_536
MOST_PARSED_COPIES = 1024  # They are larger and change more often.

_NAME: BindParameter[str] = bindparam("of_name")
_CLUSTERS = select(
    cast(clusters.c.spec, Text), clusters.c.cordon, clusters.c.health, clusters.c.detail, clusters.c.agent_id, clusters.c.backend_version,
    clusters.c.heard_at, clusters.c.reachable_at, clusters.c.created_at, clusters.c.introduced, clusters.c.resizes,
    clusters.c.remote_id, cast(clusters.c.links, Text),
    cast(clusters.c.copies, Text), cast(clusters.c.driver, Text), cast(clusters.c.scaling, Text),
    cast(clusters.c.wishes, Text),
).order_by(clusters.c.name)  # fmt: skip
_CLUSTER = _CLUSTERS.where(clusters.c.name == _NAME)
_KNOWN_AS = (
    select(clusters.c.name)
    .where(clusters.c.name != _NAME, clusters.c.remote_id == bindparam("of_remote_id"))
    .order_by(clusters.c.name)
    .limit(1)
)
_UPDATE_CLUSTER = update(clusters).where(clusters.c.name == _NAME)
_NODES = select(nodes.c.cluster, cast(nodes.c.node, Text), nodes.c.seen_at).order_by(nodes.c.cluster, nodes.c.name)
_NODES_OF = _NODES.where(nodes.c.cluster == _NAME)
_QUEUES = select(queues).order_by(queues.c.name)
_QUEUE = _QUEUES.where(queues.c.name == _NAME)


def add_cluster(conn: Connection, spec: ClusterSpec, now: float, remote_id: str = "") -> None:
    """Register a member. Raises ConflictError when the name is taken, or the cluster with that own id is a member already."""
    if conn.execute(select(clusters.c.name).where(clusters.c.name == spec.name)).first():
        raise ConflictError(f"there is a cluster {spec.name!r} already; remove it first or choose another name")
    check_remote_id(conn, spec.name, remote_id)
    conn.execute(
        insert(clusters).values(
            name=spec.name, spec=spec.model_dump(mode="json"), cordon="open", health=Health.SUSPECT.value,
            detail="its agent has not reported yet", agent_id="", backend_version="", heard_at=None, reachable_at=None, created_at=now,
            remote_id=remote_id,
        )
    )  # fmt: skip


def known_as(conn: Connection, name: str, remote_id: str) -> str | None:
    """Under which other name than `name` the cluster with this own id is a member."""
    if not remote_id:
        return None
    found: str | None = conn.execute(_KNOWN_AS, {"of_name": name, "of_remote_id": remote_id}).scalar()
    return found


def check_remote_id(conn: Connection, name: str, remote_id: str) -> None:
    """Raises ConflictError when the cluster that is to be `name` is a member under another name."""
    other = known_as(conn, name, remote_id)
    if other is not None:
        raise ConflictError(
            f"this cluster is the member {other!r} already, by the cluster's own id; use that one, or forget it first "
            f"(`cpn cluster remove {other}`)"
        )


def list_clusters(conn: Connection) -> list[ClusterRecord]:
    """All members by name."""
    return [_cluster(row) for row in conn.execute(_CLUSTERS)]


def get_cluster(conn: Connection, name: str) -> ClusterRecord:
    """One member. Raises NotFoundError."""
    row = conn.execute(_CLUSTER, {"of_name": name}).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no cluster {name!r}")
    return _cluster(row)


def update_cluster(conn: Connection, name: str, **columns: Any) -> None:
    """Change columns of a member; `spec` may be a ClusterSpec. Raises NotFoundError."""
    if isinstance(columns.get("spec"), ClusterSpec):
        columns["spec"] = columns["spec"].model_dump(mode="json")
    if conn.execute(_UPDATE_CLUSTER, {"of_name": name, **columns}).rowcount != 1:
        raise NotFoundError(f"there is no cluster {name!r}")


def note_transfers(conn: Connection, name: str, transfers: Iterable[Transfer], at: float) -> None:
    """Keep what came to a member from others, as far as it tells how fast its links are. Raises NotFoundError."""
    found = with_transfers(get_cluster(conn, name).links, transfers, at)
    update_cluster(conn, name, links={
        source: [[item.size_bytes, item.seconds, item.at, item.capped] for item in samples] for source, samples in sorted(found.items())
    })  # fmt: skip


def want_introductions(conn: Connection) -> None:
    """No agent counts as introduced any more: each has to name its runs before something is placed on its cluster."""
    conn.execute(update(clusters).values(introduced=False))


def drop_wishes(conn: Connection) -> list[str]:
    """No autoscaler is asked for anything any more; the members for which that is another answer than before."""
    names = [found.name for found in list_clusters(conn) if found.wishes]
    for name in names:
        update_cluster(conn, name, wishes=[])
    return names


def remove_cluster(conn: Connection, name: str) -> None:
    """Forget a member with its nodes and windows. Raises NotFoundError."""
    conn.execute(delete(nodes).where(nodes.c.cluster == name))
    conn.execute(delete(windows).where(windows.c.cluster == name))
    if conn.execute(delete(clusters).where(clusters.c.name == name)).rowcount != 1:
        raise NotFoundError(f"there is no cluster {name!r}")


def replace_nodes(conn: Connection, cluster: str, found: tuple[Node, ...], now: float) -> None:
    """Make the stored nodes of a member those of its newest inventory."""
    conn.execute(delete(nodes).where(nodes.c.cluster == cluster))
    rows = [{"cluster": cluster, "name": node.name, "node": node.model_dump(mode="json"), "seen_at": now} for node in found]
    if rows:
        conn.execute(insert(nodes), rows)


def list_nodes(conn: Connection, cluster: str | None = None) -> list[NodeRecord]:
    """Nodes by cluster and name."""
    rows = conn.execute(_NODES) if cluster is None else conn.execute(_NODES_OF, {"of_name": cluster})
    return [NodeRecord(name, _read_node(node), seen_at) for name, node, seen_at in rows]


def add_queue(conn: Connection, name: str, weight: float, max_running: int | None, now: float, **more: Any) -> QueueRecord:
    """Create a queue; `more` are its other columns. Raises ConflictError when the name is taken."""
    if conn.execute(select(queues.c.name).where(queues.c.name == name)).first():
        raise ConflictError(f"there is a queue {name!r} already")
    conn.execute(insert(queues).values(name=name, weight=weight, max_running=max_running, created_at=now, **more))
    return get_queue(conn, name)


def get_queue(conn: Connection, name: str) -> QueueRecord:
    """One queue. Raises NotFoundError."""
    row = conn.execute(_QUEUE, {"of_name": name}).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no queue {name!r}")
    return QueueRecord(*row)


def update_queue(conn: Connection, name: str, **columns: Any) -> QueueRecord:
    """Change columns of a queue. Raises NotFoundError."""
    if columns and conn.execute(update(queues).where(queues.c.name == name).values(**columns)).rowcount != 1:
        raise NotFoundError(f"there is no queue {name!r}")
    return get_queue(conn, name)


def list_queues(conn: Connection) -> list[QueueRecord]:
    """All queues by name."""
    return [QueueRecord(*row) for row in conn.execute(_QUEUES)]


def _cluster(row: Any) -> ClusterRecord:
    spec, cordon, health, *rest, links, copies, driver, scaling, wishes = row
    rest += [_read_links(links), _read_copies(copies) if copies else None, _read_driver(driver) if driver else ACTORS]
    rest += [_read_scaling(scaling) if scaling else None, _read_wishes(wishes)]
    return ClusterRecord(_read_spec(spec), cordon, Health(health), *rest)


@lru_cache(MOST_PARSED)
def _read_spec(text: str) -> ClusterSpec:
    return ClusterSpec.model_validate_json(text)


@lru_cache(MOST_PARSED)
def _read_links(text: str) -> Samples:
    # Shared by all who read the same text: nobody changes it.
    return {source: tuple(Sample(*values) for values in found) for source, found in from_json(text).items()}


@lru_cache(MOST_PARSED_COPIES)
def _read_copies(text: str) -> CacheState:
    return CacheState.model_validate_json(text)


@lru_cache(MOST_PARSED)
def _read_driver(text: str) -> Driver:
    return Driver.model_validate_json(text)


@lru_cache(MOST_PARSED)
def _read_scaling(text: str) -> Scaling:
    return Scaling.model_validate_json(text)


@lru_cache(MOST_PARSED)
def _read_wishes(text: str) -> tuple[Wish, ...]:
    return tuple(Wish(**item) for item in from_json(text))


@lru_cache(MOST_PARSED)
def _read_node(text: str) -> Node:
    return Node.model_validate_json(text)
