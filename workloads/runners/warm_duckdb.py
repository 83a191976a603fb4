"""Warm DuckDBs for statements: one serves statements in a row that ask for the same.

To make a DuckDB, to confine it and to close it takes several times as long as a small statement, and what it was confined to cannot be
changed any more. So one is lent again to a statement that may read the same files with the same memory and threads, and to no other;
each statement has a connection of its own on it, and what belongs to a connection (views, temporary tables, the seed of random numbers)
ends with that. After a statement that failed, was interrupted or spilled it serves no further one. For one thread.
"""

from __future__ import annotations

import itertools
import shutil
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workloads.catalogue.tables import confine, open_connection
from workloads.runners.statement import KnownStatements

if TYPE_CHECKING:
    import duckdb

MOST_KEPT, MOST_STATEMENTS = 4, 250


@dataclass(frozen=True)
class Terms:
    """What a DuckDB is confined to."""

    paths: tuple[str, ...]
    memory_bytes: int
    threads: int

    @classmethod
    def of(cls, paths: Sequence[Path], memory_bytes: int, threads: int) -> Terms:
        """The same for the same files in any order."""
        return cls(tuple(sorted(map(str, paths))), memory_bytes, max(threads, 1))

    def confine(self, connection: duckdb.DuckDBPyConnection, spill: Path) -> None:
        """Let a fresh DuckDB read these files, and write nothing but what it spills into a folder."""
        settings = {"memory_limit": f"{self.memory_bytes}B", "threads": str(self.threads), "temp_directory": str(spill)}
        confine(connection, [Path(path) for path in self.paths], settings)


@dataclass
class _Engine:
    """A DuckDB, where it spills, and how many statements it has served."""

    connection: duckdb.DuckDBPyConnection
    spill: Path
    statements: int = 0


class Engines:
    """DuckDBs that wait for statements: those that served some already, and one that is not confined yet. They spill below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count(1)
        self._spare: duckdb.DuckDBPyConnection | None = None
        self._kept: OrderedDict[Terms, _Engine] = OrderedDict()
        self._used: list[_Engine] = []
        self._statements = KnownStatements()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def lend(self, terms: Terms) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection for one statement, on a DuckDB that is confined to what it may use. Raises duckdb.Error."""
        engine = self._kept.pop(terms, None) or self._make(terms)
        engine.statements += 1
        connection = engine.connection.cursor()
        try:
            yield connection
        except BaseException:
            self._used.append(engine)
            raise
        else:
            self._keep(terms, engine)
        finally:
            connection.close()

    def read(self, connection: duckdb.DuckDBPyConnection, sql: str, inputs: Collection[str]) -> None:
        """See that a statement is one query over these inputs. Raises StatementError."""
        self._statements.read(connection, sql, inputs)

    @property
    def used(self) -> int:
        """How many serve no further statement and are not closed."""
        return len(self._used)

    @property
    def due(self) -> bool:
        """Whether `renew` has anything to do."""
        return self._spare is None or bool(self._used)

    def renew(self) -> None:
        """Close what is used up and make the next, while nobody waits."""
        while self._used:
            engine = self._used.pop()
            engine.connection.close()
            shutil.rmtree(engine.spill, ignore_errors=True)
        if self._spare is None:
            self._spare = open_connection()

    def _make(self, terms: Terms) -> _Engine:
        connection = self._spare if self._spare is not None else open_connection()
        self._spare = None
        engine = _Engine(connection, self.folder / str(next(self._numbers)))
        try:
            terms.confine(connection, engine.spill)
        except BaseException:
            self._used.append(engine)
            raise
        return engine

    def _keep(self, terms: Terms, engine: _Engine) -> None:
        # A folder that is there tells that something was spilled.
        if engine.statements >= MOST_STATEMENTS or engine.spill.exists():
            self._used.append(engine)
            return
        self._kept[terms] = engine
        if len(self._kept) > MOST_KEPT:
            self._used.append(self._kept.popitem(last=False)[1])
