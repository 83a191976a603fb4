"""How long the SQL policy takes for a statement: `python -m tests.benchmarks.disclosure`.

The 22 statements of TPC-H, each read anew (never from the prover's memory) under four sets of terms: none, hidden and masked
columns, and answers about groups only, of all tables and of one. A statement that is refused counts as well. Times are processor time of
one process, which other work on the machine changes little; the last line is what the prover takes for a statement that it knows, by
the clock.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import duckdb

from controlplane.tpch import TABLES, make_data, queries
from tests.people import permitted
from workloads.catalogue.product import Column
from workloads.disclosure.terms import DisclosureError, TableTerms
from workloads.runners.proving import StatementProver, prove_statement

REPEATS = 5


def main() -> None:
    """Print a row for each set of terms."""
    columns = _columns()
    statements = list(queries(0.01).values())
    sets = {
        "no such terms": [TableTerms(name, f"tpc/{name}", "tpc", found) for name, found in columns.items()],
        "hidden and masked columns": [
            TableTerms(name, f"tpc/{name}", "tpc", found, hidden=(found[-1].name,), masked=((found[0].name, "hash"),))
            for name, found in columns.items()
        ],
        "groups only": [TableTerms(name, f"tpc/{name}", "tpc", found, True) for name, found in columns.items()],
        "groups of one table only": [TableTerms(name, f"tpc/{name}", "tpc", found, name == "lineitem") for name, found in columns.items()],
    }
    print("terms | statements | refused | median ms | p99 ms")
    for what, tables in sets.items():
        spent, refused = [], 0
        for _ in range(REPEATS):
            for sql in statements:
                begun = time.process_time()
                try:
                    prove_statement(sql, {terms.alias: terms.columns for terms in tables})
                    permitted(sql, tables)
                except DisclosureError:
                    refused += 1
                spent.append((time.process_time() - begun) * 1000)
        print(f"{what} | {len(spent)} | {refused // REPEATS} of {len(statements)} | {median(spent):.1f} | {_p99(spent):.1f}")
    _known(statements, sets["hidden and masked columns"])


def _known(statements: list[str], tables: list[TableTerms]) -> None:
    """Statements that the prover knows already, as at a dispatch after the admission."""
    prover = StatementProver()
    spent = []
    for _ in range(REPEATS):
        for sql in statements:
            begun = time.perf_counter()
            try:
                prover.rewrite(sql, tables)
            except DisclosureError:
                continue
            finally:
                spent.append((time.perf_counter() - begun) * 1000)
    prover.close()
    known = spent[len(statements) :]
    print(f"known to the prover | {len(known)} | | {median(known):.2f} | {_p99(known):.2f}")


def _columns() -> dict[str, tuple[Column, ...]]:
    with TemporaryDirectory() as folder, duckdb.connect() as connection:
        files = make_data(Path(folder), 0.01)
        described = {table: connection.execute(f"DESCRIBE FROM '{files[table]}'").fetchall() for table in TABLES}
        return {table: tuple(Column(name=name, type=type_) for name, type_, *_ in rows) for table, rows in described.items()}


def _p99(spent: list[float]) -> float:
    return sorted(spent)[int(len(spent) * 0.99)]


if __name__ == "__main__":
    main()
