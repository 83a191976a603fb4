"""Prove a statement without running it, and without trusting it with this process.

Binding is not free of running: DuckDB computes constant expressions in arguments while it binds, where
nothing can interrupt it, and a tenant may write one that takes hours or all memory. So statements are bound
in a child process that stays warm (about a millisecond a statement) and that the kernel ends when one
statement uses more than its processor time. The child ends by itself when this process does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from workloads.catalogue.product import Column
from workloads.catalogue.tables import confined_connection, identifier, plain_message
from workloads.disclosure.terms import DisclosureError, Refusal, Rewritten, Rule, TableTerms
from workloads.errors import StatementError
from workloads.runners.daft_dialect import to_daft
from workloads.runners.daft_types import UntranslatableError
from workloads.runners.statement import read_statement

if TYPE_CHECKING:
    import duckdb

CPU_S = 2.0
WALL_S = 60.0  # far beyond what CPU_S takes on a busy machine; only a stuck child gets here
MOST_KNOWN = 1024
_MEMORY = "256MiB"
_ADDRESS_SPACE_BYTES = 4 * 1024**3
_TOO_LONG = "the statement takes too long to check: write values in place of computed constants, and make it smaller"


@dataclass(frozen=True)
class DaftVerdict:
    """Why Daft cannot run a statement with DuckDB's rows, or None and the columns of each input that it reads."""

    refusal: str | None
    read: dict[str, list[str]]


_Known = DaftVerdict | Rewritten | Refusal | None


def _daft_verdict(connection: duckdb.DuckDBPyConnection, sql: str, inputs: Mapping[str, Sequence[Column]]) -> DaftVerdict:
    try:
        statement = to_daft(connection, sql, inputs)
    except UntranslatableError as error:
        return DaftVerdict(str(error), {})
    return DaftVerdict(None, {alias: list(names) for alias, names in statement.read.items()})


def prove_statement(sql: str, inputs: Mapping[str, Sequence[Column]], *, for_daft: bool = False) -> DaftVerdict | None:
    """Prove in this process that `sql` is one query over `inputs` (name → columns) that binds. Raises StatementError.

    With `for_daft` the answer is what Daft would make of it.
    """
    import duckdb

    connection = _base_connection().cursor()
    try:
        read_statement(connection, sql, inputs)
        for name, columns in inputs.items():
            # Temporary views belong to this cursor alone, and it is closed at the end.
            declared = ", ".join(f"CAST(NULL AS {column.type}) AS {identifier(column.name)}" for column in columns)
            connection.execute(f"CREATE TEMP VIEW {identifier(name)} AS SELECT {declared}")
        _ = connection.sql(sql).columns
        return _daft_verdict(connection, sql, inputs) if for_daft else None
    except duckdb.Error as error:
        raise StatementError(plain_message(error)) from error
    finally:
        connection.close()


def rewrite_statement(sql: str, tables: Sequence[TableTerms]) -> Rewritten:
    """Prove in this process that `sql` binds over `tables`, and what runs in its place. Raises StatementError, DisclosureError."""
    # The reader of statements takes a third of a second to be imported, and most servers never need it.
    from workloads.disclosure.statements import permitted_statement

    prove_statement(sql, {terms.alias: terms.columns for terms in tables})
    return permitted_statement(_base_connection(), sql, tables)


class StatementProver:
    """The client of one child process, started when it is first needed. Safe to call from several threads.

    Whether a statement binds depends on nothing but its text and its inputs' columns, so the last `most_known` that did are not
    proved again.
    """

    def __init__(self, cpu_s: float = CPU_S, most_known: int = MOST_KNOWN) -> None:
        self._cpu_s, self._most_known = cpu_s, most_known
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None

    def prove(self, sql: str, inputs: Mapping[str, Sequence[Column]], *, for_daft: bool = False) -> DaftVerdict | None:
        """prove_statement in the child. Raises StatementError, also when the check needs too much time or memory."""
        columns = {name: [column.model_dump() for column in found] for name, found in inputs.items()}
        verdict = self._answer({"sql": sql, "inputs": columns, "for_daft": for_daft}, _daft_answer)
        assert verdict is None or isinstance(verdict, DaftVerdict), "it was asked for"
        return verdict

    def rewrite(self, sql: str, tables: Sequence[TableTerms]) -> Rewritten:
        """rewrite_statement in the child. Raises StatementError, DisclosureError."""
        found = self._answer({"sql": sql, "tables": [asdict(terms) | {"columns": _dumped(terms.columns)} for terms in tables]}, _rewritten)
        if isinstance(found, Refusal):
            raise DisclosureError(found)
        assert isinstance(found, Rewritten), "it was asked for"
        return found

    def _answer(self, asked: dict[str, Any], read: Callable[[dict[str, Any]], _Known]) -> _Known:
        request = json.dumps(asked)
        key = hashlib.sha256(request.encode()).digest()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
            answer = self._ask(request)
            if answer["error"] == _TOO_LONG and "tables" in asked:
                # Each decision asks again, and must not wait so long each time.
                answer = {"error": None, "refusal": {"rule": Rule.FORM, "message": _TOO_LONG, "remedy": "write it as several"}}
            if answer["error"] is not None:
                raise StatementError(answer["error"])
            found = read(answer)
            self._known[key] = found
            if len(self._known) > self._most_known:
                self._known.popitem(last=False)
            return found

    def close(self) -> None:
        """End the child; the next statement starts a new one."""
        with self._lock:
            self._end()

    def _ask(self, request: str) -> dict[str, Any]:
        child = self._child if self._child is not None and self._child.poll() is None else self._start()
        assert child.stdin is not None
        try:
            child.stdin.write(f"{request}\n")
            child.stdin.flush()
        except BrokenPipeError:
            pass  # it died while it waited; the missing answer says so
        line = _line(child, WALL_S)
        if not line:
            self._end()
            return {"error": _TOO_LONG}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> subprocess.Popen[str]:
        self._end()
        environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PATH": os.environ.get("PATH", "")}
        self._child = subprocess.Popen(
            [sys.executable, "-m", "workloads.runners.proving", str(self._cpu_s)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, encoding="utf-8",
        )  # fmt: skip
        if not _line(self._child, WALL_S):
            self._end()
            raise RuntimeError("the process that checks statements did not start")
        return self._child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            # Closing the pipe to a child that is gone may report what it did not read.
            with contextlib.suppress(BrokenPipeError), child:
                pass


def serve(cpu_s: float) -> None:
    """The child's life: one JSON line in, one out, until the input ends. The default action of SIGPROF ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, _ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _base_connection()
    print("ready", flush=True)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        answer = _answer(json.loads(line))
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(answer), flush=True)


def _daft_answer(answer: dict[str, Any]) -> DaftVerdict | None:
    return DaftVerdict(**answer["daft"]) if answer["daft"] is not None else None


def _rewritten(answer: dict[str, Any]) -> Rewritten | Refusal:
    if answer["refusal"] is not None:
        return Refusal(**answer["refusal"] | {"rule": Rule(answer["refusal"]["rule"])})
    found = answer["rewritten"]
    return Rewritten(found["sql"], tuple(found["why"]), tuple(found["sources"]))


def _dumped(columns: Sequence[Column]) -> list[dict[str, Any]]:
    return [column.model_dump() for column in columns]


def _table(given: dict[str, Any]) -> TableTerms:
    columns = tuple(Column.model_validate(column) for column in given["columns"])
    masked = tuple((name, mask) for name, mask in given["masked"])
    return TableTerms(**given | {"columns": columns, "hidden": tuple(given["hidden"]), "masked": masked})


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    if "tables" in request:
        return _disclosed(request)
    inputs = {name: [Column.model_validate(column) for column in columns] for name, columns in request["inputs"].items()}
    try:
        verdict = prove_statement(request["sql"], inputs, for_daft=request["for_daft"])
        return {"error": None, "daft": asdict(verdict) if verdict is not None else None}
    except StatementError as error:
        return {"error": str(error), "daft": None}
    except MemoryError:
        return {"error": _TOO_LONG, "daft": None}


def _disclosed(request: dict[str, Any]) -> dict[str, Any]:
    try:
        rewritten = rewrite_statement(request["sql"], [_table(given) for given in request["tables"]])
        return {"error": None, "refusal": None, "rewritten": asdict(rewritten)}
    except DisclosureError as error:
        return {"error": None, "refusal": asdict(error.refusal)}
    except StatementError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": _TOO_LONG}


def _line(child: subprocess.Popen[str], wall_s: float) -> str:
    """The child's next line, empty when it is gone or stuck."""
    assert child.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        return child.stdout.readline() if selector.select(wall_s) else ""


@cache
def _base_connection() -> duckdb.DuckDBPyConnection:
    return confined_connection([], {"memory_limit": _MEMORY, "threads": "1", "temp_directory": ""})


if __name__ == "__main__":
    serve(float(sys.argv[1]))
