"""What a statement becomes under the terms of the products that it reads. Pure: text and terms in, text out.

Two ways. Where columns are hidden or masked the buyer's text stays as it is, but for the tables: each is replaced by a subquery of what is
permitted. Where a product answers about groups only, the statement is read and written anew (workloads/disclosure/questions.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.schema import MappingSchema

from workloads.catalogue.tables import identifier
from workloads.disclosure.questions import Questions
from workloads.disclosure.relations import KNOWN, Names
from workloads.disclosure.sources import source
from workloads.disclosure.terms import DisclosureError, Refusal, Rewritten, Rule, TableTerms


def rewrite(sql: str, tables: Sequence[TableTerms], names: Sequence[str] | None = None) -> Rewritten:
    """The statement that runs in place of `sql`, a query that binds over the permitted columns of `tables`.

    `names`: what the columns of its result are called. Raises DisclosureError with why it may not run, and what would change that.
    """
    limited = {terms.alias.casefold(): terms for terms in tables if terms.limited}
    if not limited:
        return Rewritten(sql, ())
    try:
        statements = sqlglot.parse(sql, read="duckdb")
        if len(statements) != 1 or not isinstance(statements[0], exp.Query):
            raise _unreadable("it is no plain SELECT")
        tree = statements[0]
        _check_expressions(tree, tables)
        read = {table.name.casefold() for table in tree.find_all(exp.Table)}
        if any(terms.aggregates_only for alias, terms in limited.items() if alias in read):
            return _grouped(tree, tables, names, [terms for alias, terms in sorted(limited.items()) if alias in read])
        return _replaced(sql, tree, {alias: terms for alias, terms in limited.items() if alias in read})
    except (SqlglotError, RecursionError) as error:
        raise _unreadable(" ".join(str(error).split())[:120]) from error


def _unreadable(why: str) -> DisclosureError:
    return DisclosureError(Refusal(
        Rule.FORM, f"the statement reads a product whose owner limits what it discloses, and cannot be judged: {why}",
        "write it as plain SELECTs, with every column named by its table",
    ))  # fmt: skip


def _check_expressions(tree: exp.Expr, tables: Sequence[TableTerms]) -> None:
    """A common table expression has a name of its own, so that a name means the same wherever it is written."""
    taken = {terms.alias.casefold() for terms in tables}
    for cte in tree.find_all(exp.CTE):
        if cte.alias.casefold() in taken:
            raise DisclosureError(Refusal(
                Rule.FORM, f"the common table expression {cte.alias} has the name of an input or of another one", "give it another name",
            ))  # fmt: skip
        taken.add(cte.alias.casefold())


def _replaced(sql: str, tree: exp.Expr, limited: dict[str, TableTerms]) -> Rewritten:
    """The buyer's own text with each limited table replaced, from the last to the first."""
    places = []
    for table in tree.find_all(exp.Table):
        terms = limited.get(table.name.casefold())
        if terms is not None:
            if table.args.get("db") or "start" not in table.this.meta:
                raise _unreadable(f"{table.sql('duckdb')[:60]} is not a plain name of an input")
            places.append((table.this.meta["start"], table.this.meta["end"] + 1, terms, bool(table.alias)))
    text = sql
    for start, end, terms, has_alias in sorted(places, key=lambda place: -place[0]):
        name = "" if has_alias else f" AS {identifier(terms.alias)}"
        text = f"{text[:start]}({source(terms)}){name}{text[end:]}"
    return Rewritten(text, _reasons(limited.values()) if places else (), tuple(source(terms) for _, _, terms, _ in places))


def _grouped(tree: exp.Query, tables: Sequence[TableTerms], names: Sequence[str] | None, read: Sequence[TableTerms]) -> Rewritten:
    schema: dict[str, object] = {terms.alias: {column.name: "TEXT" for column in terms.visible} for terms in tables}
    qualified = qualify(
        tree, dialect="duckdb", schema=MappingSchema(schema, dialect="duckdb"), validate_qualify_columns=True, quote_identifiers=True
    )
    taken = {name.this.casefold() for name in qualified.find_all(exp.Identifier)}
    columns = {column.name.casefold() for terms in tables for column in terms.columns}
    numbered = Names(frozenset(taken | columns))
    answer = Questions({terms.alias: terms for terms in tables}, numbered).answer(qualified, {})
    if unknown := next((table for table in answer.node.find_all(exp.Table) if not table.meta.get(KNOWN)), None):
        raise _unreadable(f"it reads {unknown.sql('duckdb')[:60]} in a place that is not judged")
    if names is not None:
        _call(answer.node, names)
    limited = {terms.alias for terms in read}
    sources = [
        around.sql(dialect="duckdb")
        for table in answer.node.find_all(exp.Table)
        if _is_source(table, limited) and (around := table.find_ancestor(exp.Select)) is not None
    ]
    return Rewritten(answer.node.sql(dialect="duckdb"), _reasons(read), tuple(sources))


def _is_source(table: exp.Table, limited: set[str]) -> bool:
    """Whether it is a table itself, and no common table expression or public input."""
    return table.name in limited and not table.alias


def _call(node: exp.Query, names: Sequence[str]) -> None:
    """Give the columns of a result their names; those that ORDER BY goes by too."""
    select = node
    while isinstance(select, exp.SetOperation | exp.Subquery):
        select = select.this
    if len(select.expressions) != len(names):
        raise _unreadable("its columns are not those of the statement")
    called = {}
    for projection, name in zip(list(select.expressions), names, strict=True):
        called[projection.alias_or_name] = name
        projection.replace(exp.alias_(projection.unalias(), name, quoted=True))
    for part in (node, select):
        for column in part.args["order"].find_all(exp.Column) if part.args.get("order") is not None else ():
            if not column.table and column.name in called:
                column.set("this", exp.to_identifier(called[column.name], quoted=True))


def _reasons(limited: Iterable[TableTerms]) -> tuple[str, ...]:
    """Why the statement is not the buyer's own, product by product."""
    found = []
    for terms in limited:
        if terms.aggregates_only:
            found.append(f"{terms.product} answers about groups of at least {terms.min_group} rows only: smaller ones are left out")
        if terms.hidden:
            found.append(f"{terms.product} has hidden columns: {', '.join(terms.hidden)}")
        if terms.masked:
            found.append(f"{terms.product} has masked columns: {', '.join(f'{name} ({mask})' for name, mask in terms.masked)}")
    return tuple(found)
