"""How protected rows may be joined: on equal columns, each relation linked to the others.

`FROM people JOIN numbers ON people.id <> numbers.v GROUP BY numbers.v` gives for everybody the sum of all others. So a comparison that
spans two relations is an equality of two columns, and equalities link all of them, in every branch of an OR.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from sqlglot import exp

from workloads.disclosure.relations import Level
from workloads.disclosure.terms import DisclosureError, Refusal, Rule

Link = frozenset[str]


def check_joined(node: exp.Select, level: Level) -> None:
    """Raises DisclosureError where rows meet otherwise than by equal columns."""
    conditions = [join.args["on"] for join in node.args.get("joins") or [] if join.args.get("on") is not None]
    if node.args.get("where") is not None:
        conditions.append(node.args["where"].this)
    links: set[Link] = set()
    for condition in conditions:
        _check_atoms(condition, level)
        links |= {frozenset({first.table, second.table}) for first, second in equalities(condition)}
    reached = {next(iter(level.relations))}
    while more := {name for link in links if link & reached for name in link} - reached:
        reached |= more
    if alone := sorted(set(level.relations) - reached):
        raise DisclosureError(Refusal(
            Rule.JOIN, f"{alone[0]} meets protected rows on no equal columns", "join each relation ON a column = a column of another",
        ))  # fmt: skip


def equalities(condition: exp.Expr) -> set[tuple[exp.Column, exp.Column]]:
    """The pairs of columns of two relations that are equal wherever a condition holds."""
    bare = condition.unnest()
    if isinstance(bare, exp.And):
        return equalities(bare.left) | equalities(bare.right)
    if isinstance(bare, exp.Or):
        return equalities(bare.left) & equalities(bare.right)
    if isinstance(bare, exp.EQ):
        left, right = bare.this.unnest(), bare.expression.unnest()
        if isinstance(left, exp.Column) and isinstance(right, exp.Column) and left.table != right.table:
            first, second = sorted((left, right), key=lambda column: column.sql("duckdb"))
            return {(first, second)}
    return set()


def _columns(node: exp.Expr) -> Iterator[exp.Column]:
    """The columns of an expression, without those of queries in it."""
    if isinstance(node, exp.Column):
        yield node
    for child in node.iter_expressions():
        if not isinstance(child, exp.Query):
            yield from _columns(child)


def _check_atoms(condition: exp.Expr, level: Level) -> None:
    bare = condition.unnest()
    if isinstance(bare, exp.And | exp.Or):
        _check_atoms(bare.left, level)
        _check_atoms(bare.right, level)
        return
    if isinstance(bare, exp.Not):
        _check_atoms(bare.this, level)
        return
    spanned = {column.table for column in _columns(bare) if column.table in level.relations}
    protected = any(level.relations[name].protected() for name in spanned)
    if len(spanned) > 1 and protected and not equalities(bare):
        one, other = next(combinations(sorted(spanned), 2))
        raise DisclosureError(Refusal(
            Rule.JOIN, f"a condition sets {one} and {other} against each other otherwise than by equal columns",
            "join protected rows on a column = a column; compare columns within one input",
        ))  # fmt: skip
