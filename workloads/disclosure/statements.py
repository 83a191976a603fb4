"""A statement as it may run under its products' terms: bound over what it may name, rewritten, proved, and bound again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from workloads.catalogue.product import Column
from workloads.catalogue.tables import identifier, plain_message
from workloads.disclosure.policy import rewrite
from workloads.disclosure.proof import prove_sources
from workloads.disclosure.terms import DisclosureError, Refusal, Rewritten, Rule, TableTerms
from workloads.errors import StatementError
from workloads.runners.statement import read_statement

if TYPE_CHECKING:
    import duckdb


def permitted_statement(base: duckdb.DuckDBPyConnection, sql: str, tables: Sequence[TableTerms]) -> Rewritten:
    """The statement that runs in place of `sql`, which binds over all columns of `tables`. Runs nothing on `base`.

    DuckDB itself binds the buyer's text over the permitted columns alone: whatever names a hidden one, in whatever form, fails there.
    Raises DisclosureError.
    """
    import duckdb

    limited = [terms for terms in tables if terms.limited]
    if not limited:
        return Rewritten(sql, ())
    try:
        names = _columns(base, sql, [(terms.alias, terms.visible) for terms in tables])
    except duckdb.Error as error:
        raise _hidden(sql, limited, plain_message(error)) from error
    rewritten = rewrite(sql, tables, names)
    with base.cursor() as connection:
        prove_sources(connection, rewritten, [terms.alias for terms in limited])
    try:
        found = _columns(base, rewritten.sql, [(terms.alias, terms.columns) for terms in tables])
    except (duckdb.Error, StatementError) as error:
        raise _not_written(str(error)) from error
    if found != names:
        other = next((name for name, now in zip(names, found, strict=False) if name != now), "")
        raise DisclosureError(Refusal(
            Rule.FORM, f"a column of the result is called by the text that is rewritten: {other[:60]}", "give that column a name with AS",
        ))  # fmt: skip
    return rewritten


def _columns(base: duckdb.DuckDBPyConnection, sql: str, tables: Sequence[tuple[str, Sequence[Column]]]) -> list[str]:
    """What the columns of a statement's result are called. Raises duckdb.Error, StatementError."""
    with base.cursor() as connection:
        read_statement(connection, sql, [alias for alias, _ in tables])
        for alias, columns in tables:
            declared = ", ".join(f"CAST(NULL AS {column.type}) AS {identifier(column.name)}" for column in columns) or "NULL AS none"
            connection.execute(f"CREATE TEMP VIEW {identifier(alias)} AS SELECT {declared}")
        return list(connection.sql(sql).columns)


def _hidden(sql: str, limited: Sequence[TableTerms], words: str) -> DisclosureError:
    """The refusal of a statement that binds over all columns and not over the permitted ones."""
    written = {word.casefold() for word in re.findall(r"\w+", sql)}
    for terms in limited:
        for column in terms.hidden:
            if column.casefold() in written or f'"{column.casefold()}"' in sql.casefold():
                return DisclosureError(Refusal(
                    Rule.HIDDEN_COLUMN, f"column {column} of {terms.product} is hidden", f"leave it out, or ask owner {terms.owner}",
                    terms.product, column,
                ))  # fmt: skip
    return DisclosureError(Refusal(
        Rule.HIDDEN_COLUMN, f"the statement does not hold over the permitted columns: {words}",
        "leave hidden columns out, and take masked ones for what their masks give", limited[0].product,
    ))  # fmt: skip


def _not_written(why: str) -> DisclosureError:
    shown = " ".join(why.split())[:160]
    return DisclosureError(Refusal(
        Rule.FORM, f"the statement cannot be rewritten as its products' owners want: {shown}", "write it as plain SELECTs of named columns",
    ))  # fmt: skip
