"""Instructions to agents, written in the transaction that decided them, kept until acknowledged."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, Text, bindparam, cast, select, update

from cluster.protocol import MOST_INSTRUCTIONS, Instruction
from scheduler.store.rows import Written, insert_rows
from scheduler.store.tables import outbox

_OPEN = (outbox.c.cluster == bindparam("of_cluster"), outbox.c.acknowledged_at.is_(None))
_PENDING = select(outbox.c.sequence, cast(outbox.c.instruction, Text)).where(*_OPEN).order_by(outbox.c.sequence).limit(bindparam("most"))
_ACKNOWLEDGE = update(outbox).where(*_OPEN, outbox.c.sequence <= bindparam("upto"))
_OPEN_RUNS = select(outbox.c.run_id, outbox.c.instruction).where(*_OPEN)


def put(conn: Connection, cluster: str, instruction: Instruction, now: float) -> None:
    """Queue an instruction; its sequence number is handed out here."""
    put_all(conn, [(cluster, instruction, now)])


def put_all(conn: Connection, orders: Iterable[tuple[str, Instruction, float]]) -> None:
    """Queue instructions, each for the agent of a cluster at a time, in this order."""
    rows = [
        {"cluster": cluster, "run_id": item.run_id, "instruction": Written(item.model_dump_json(exclude={"sequence"})), "created_at": now}
        for cluster, item, now in orders
    ]
    if rows:
        insert_rows(conn, outbox, rows)


def pending(conn: Connection, cluster: str, limit: int = MOST_INSTRUCTIONS) -> tuple[Instruction, ...]:
    """Instructions not acknowledged yet, in order."""
    return tuple(Instruction.model_validate_json(text) for text in pending_texts(conn, cluster, limit))


def pending_texts(conn: Connection, cluster: str, limit: int = MOST_INSTRUCTIONS) -> list[str]:
    """The same as JSON texts, which an agent is sent as they were stored: to read and write them again would say nothing new."""
    rows = conn.execute(_PENDING, {"of_cluster": cluster, "most": limit}).all()
    return [f'{{"sequence":{sequence},{text.lstrip()[1:]}' for sequence, text in rows]


def acknowledge(conn: Connection, cluster: str, upto: int, now: float) -> int:
    """Mark all up to a sequence number as carried out; returns how many that were."""
    return conn.execute(_ACKNOWLEDGE, {"of_cluster": cluster, "upto": upto, "acknowledged_at": now}).rowcount


def withdraw(conn: Connection, cluster: str, now: float) -> None:
    """Drop all open instructions of a member that is gone; what it had started is lost and fenced by epoch."""
    conn.execute(update(outbox).where(outbox.c.cluster == cluster, outbox.c.acknowledged_at.is_(None)).values(acknowledged_at=now))


def starts_pending(conn: Connection, cluster: str) -> frozenset[str]:
    """Runs whose start the agent has not acknowledged."""
    rows = conn.execute(_OPEN_RUNS, {"of_cluster": cluster})
    return frozenset(row.run_id for row in rows if row.instruction["action"] == "start")
