"""The store: one writer, many readers.

All writes go through one thread that gathers whatever is waiting into one transaction and commits it once:
a commit costs a disk flush however much is in it, so under load the price of durability is shared. Each
write runs in its own savepoint, so a refused one takes nothing with it. A caller gets its answer only after
the commit, and callbacks (wake-ups) run only after it too.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError

from scheduler.errors import SchedulerError
from scheduler.store.rows import dumps, loads

# What the steps are handed; SQLAlchemy itself stays in this package.
__all__ = ["Connection", "Store", "StoreUnavailableError", "Transaction", "answering", "ping"]

T = TypeVar("T")
MAX_BATCH = 256
BUSY_TIMEOUT_MS = 10_000
JSON: dict[str, Any] = {"json_serializer": dumps, "json_deserializer": loads}


class StoreUnavailableError(SchedulerError):
    """The database does not answer or refuses to commit; nothing was stored."""


@contextmanager
def answering() -> Iterator[None]:
    """Raises StoreUnavailableError in place of what SQLAlchemy raises when a database is not there, goes away or is full."""
    try:
        yield
    except (InterfaceError, OperationalError, NoConnectionError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise StoreUnavailableError(f"the database does not answer: {reason}") from error


@dataclass
class Transaction:
    """What a write is handed: the connection, and a place for what must happen after the commit."""

    conn: Connection
    _callbacks: list[Callable[[], None]] = field(default_factory=list)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call once the commit is durable; not called when the write or the commit fails."""
        self._callbacks.append(callback)


@dataclass
class _Write:
    work: Callable[[Transaction], Any]
    future: Future[Any]


class Store:
    """Reads in any thread, writes in one. `url` is SQLAlchemy's: sqlite:///… or postgresql+psycopg://…"""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._closed = False
        self._is_file = self.engine.dialect.name == "sqlite"
        self._kept: Connection | None = None
        self._thread = threading.Thread(target=self._write_loop, name="store-writer", daemon=True)
        self._thread.start()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection on one consistent state of the database; nothing written on it is kept. Raises StoreUnavailableError."""
        with answering(), self.engine.connect() as conn:
            yield conn

    @property
    def reads_at_once(self) -> bool:
        """Whether a small read takes no longer than to hand it to another thread: of a file that nobody else writes, for which no reader
        waits."""
        return self._is_file

    def submit(self, work: Callable[[Transaction], T]) -> Future[T]:
        """Queue a write; the future is done after its commit, or fails with what `work` raised."""
        future: Future[T] = Future()
        if self._closed:
            future.set_exception(StoreUnavailableError("the store is closed"))
            return future
        self._writes.put(_Write(work, future))
        return future

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Write and wait for the commit."""
        return self.submit(work).result()

    def close(self) -> None:
        """Finish what is queued and end the writer."""
        if self._closed:
            return
        self._closed = True
        self._writes.put(None)
        self._thread.join()
        if self._kept is not None:
            self._kept.close()
        self.engine.dispose()

    def _write_loop(self) -> None:
        while True:
            first = self._writes.get()
            if first is None:
                return
            batch, ended = self._gather(first)
            self._commit(batch)
            if ended:
                return

    def _gather(self, first: _Write) -> tuple[list[_Write], bool]:
        batch = [first]
        while len(batch) < MAX_BATCH:
            try:
                item = self._writes.get_nowait()
            except queue.Empty:
                return batch, False
            if item is None:
                return batch, True
            batch.append(item)
        return batch, False

    def _commit(self, batch: list[_Write]) -> None:
        done: list[tuple[_Write, Any]] = []
        callbacks: list[Callable[[], None]] = []
        try:
            with self._begun() as conn:
                for write in batch:
                    if not write.future.set_running_or_notify_cancel():
                        # Nobody waits for it any more; from here on it can no longer be cancelled.
                        continue
                    transaction = Transaction(conn)
                    try:
                        with answering(), _savepoint(conn):
                            answer = write.work(transaction)
                    except Exception as error:
                        write.future.set_exception(error)
                        continue
                    done.append((write, answer))
                    callbacks.extend(transaction._callbacks)
        except Exception as error:
            for write, _ in done:
                failure = StoreUnavailableError(f"the database did not commit: {error}")
                failure.__cause__ = error
                write.future.set_exception(failure)
            for write in batch:
                if not write.future.done():
                    write.future.set_exception(StoreUnavailableError(f"the database does not answer: {error}"))
            return
        try:
            # First who waits for what was written: an agent's answer, or that something was accepted, can wait for that better.
            for callback in callbacks:
                callback()
        finally:
            for write, answer in done:
                write.future.set_result(answer)

    @contextmanager
    def _begun(self) -> Iterator[Connection]:
        """The writer's connection in a transaction that is committed at the end, or rolled back.

        A file's is kept: to take it from the pool and give it back costs a tenth of a small write. A server's is not, because the pool
        sees whether it is still there.
        """
        if not self._is_file:
            with self.engine.begin() as conn:
                yield conn
            return
        if self._kept is None:
            self._kept = self.engine.connect()
        try:
            with self._kept.begin():
                yield self._kept
        except BaseException:
            kept, self._kept = self._kept, None
            kept.close()
            raise


@contextmanager
def _savepoint(conn: Connection) -> Iterator[None]:
    """A write alone in its transaction. In plain statements, which cost a tenth of SQLAlchemy's nested transactions."""
    conn.exec_driver_sql("SAVEPOINT one_write")
    try:
        yield
    except BaseException:
        conn.exec_driver_sql("ROLLBACK TO SAVEPOINT one_write")
        raise
    finally:
        conn.exec_driver_sql("RELEASE SAVEPOINT one_write")


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, connect_args={"check_same_thread": False}, pool_size=16, max_overflow=32, **JSON)
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    from scheduler.store.postgres_text import take_any_text

    engine = create_engine(url, pool_pre_ping=True, pool_size=8, max_overflow=24, **JSON)
    event.listen(engine, "connect", take_any_text)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own transaction handling breaks savepoints, so transactions are begun below.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_TIMEOUT_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(conn: Connection) -> None:
    conn.exec_driver_sql("BEGIN")


def ping(store: Store) -> None:
    """Raise when the database does not answer."""
    with store.read() as conn:
        conn.execute(text("SELECT 1"))
