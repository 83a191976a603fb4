"""A statement over products that answer about groups only, rewritten query by query.

Every query of the statement is one of three. It reads public data only, answers of other queries among them: it stays as it is. Or it
reads protected rows and hands rows on: it becomes a part of the query that asks for them, and must not be the statement's answer. Or it
groups protected rows: then it is cut in two. The inner query groups, with nothing of the buyer's but conditions on rows, keys and
aggregates, each of them behind guards; all else that the buyer computes, compares and orders stands in the outer one, over what the
inner one has let go. What is not understood is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlglot import exp

from workloads.disclosure.amounts import read_amount
from workloads.disclosure.groups import Grouping, is_aggregating
from workloads.disclosure.joins import check_joined
from workloads.disclosure.kinds import kind_of
from workloads.disclosure.relations import KNOWN, Derived, Given, Item, Level, Names, Relation, Source, source_node
from workloads.disclosure.terms import DisclosureError, Refusal, Rule, TableTerms
from workloads.disclosure.values import check_permitted, conjuncts, joined, kind, watched

_ROW_PARTS = {"expressions", "from_", "joins", "where", "with_"}
_GROUP_PARTS = _ROW_PARTS | {"group", "having", "qualify", "order", "limit", "offset", "distinct"}
_JOINS = {"", "INNER", "CROSS", "OUTER"}
_SIDES = {"", "LEFT", "RIGHT", "FULL"}


@dataclass(frozen=True)
class Answer:
    """A query whose rows may be given away, the types of its columns where they are known, and whether all it holds comes from inputs."""

    node: exp.Query
    types: dict[str, str | None]
    grounded: bool


@dataclass(frozen=True)
class RowQuery:
    """A query that hands protected rows on."""

    select: exp.Select
    level: Level
    items: dict[str, Item]


@dataclass(frozen=True)
class _Later:
    """A common table expression of rows: it is put in anew wherever it is named."""

    node: exp.Query
    scope: Scope


Scope = Mapping[str, "Answer | _Later"]


class Questions:
    """One statement, qualified: every column with its relation, stars expanded. `tables` are all inputs, by alias."""

    def __init__(self, tables: Mapping[str, TableTerms], names: Names) -> None:
        self._tables, self._names = tables, names
        self._asked: Counter[str] = Counter()

    def answer(self, node: exp.Query, scope: Scope) -> Answer:
        """A query whose rows may be given away. Raises DisclosureError."""
        found = self.query(node, scope)
        if isinstance(found, Answer):
            return found
        terms = found.level.protected()[0]
        raise DisclosureError(Refusal(
            Rule.ROWS, f"{terms.product} answers about groups of at least {terms.min_group} rows only, and this gives single rows",
            "use GROUP BY or aggregates over its rows", terms.product,
        ))  # fmt: skip

    def query(self, node: exp.Expr, scope: Scope) -> Answer | RowQuery:
        """Any query; it is changed in place."""
        if isinstance(node, exp.Subquery) and not _parts(node) - {"this", "alias"}:
            return self.query(node.this, scope)
        if isinstance(node, exp.SetOperation):
            return self._set_operation(node, scope)
        if isinstance(node, exp.Select):
            return self._select(node, scope)
        raise _form(node)

    def _set_operation(self, node: exp.SetOperation, scope: Scope) -> Answer:
        inner = self._with(node, scope)
        left, right = self.answer(node.left, inner), self.answer(node.right, inner)
        node.set("this", left.node)
        node.set("expression", right.node)
        self._nested(node, inner, skip={"this", "expression", "with_"})
        return Answer(node, dict.fromkeys(left.types), left.grounded and right.grounded)

    def _with(self, node: exp.Query, scope: Scope) -> Scope:
        """The scope with the query's own common table expressions; those of rows are taken out of the text."""
        with_ = node.args.get("with_")
        if with_ is None:
            return scope
        if with_.args.get("recursive"):
            raise _form(with_)
        inner = dict(scope)
        kept = []
        for cte in with_.expressions:
            if cte.args["alias"].args.get("columns") or _parts(cte) - {"this", "alias", "materialized"}:
                raise _form(cte)
            before = cte.this.copy()
            asked = self._asked.copy()
            found = self.query(cte.this, inner)
            if isinstance(found, Answer):
                cte.set("this", found.node)
                kept.append(cte)
                inner[cte.alias] = found
            else:
                self._asked = asked  # It is counted where it is put in.
                inner[cte.alias] = _Later(before, dict(inner))
        with_.set("expressions", kept)
        if not kept:
            node.set("with_", None)
        return inner

    def _select(self, node: exp.Select, scope: Scope) -> Answer | RowQuery:
        inner = self._with(node, scope)
        from_ = node.args.get("from_")
        holders = [from_, *(node.args.get("joins") or [])] if from_ is not None else []
        relations = [self._relation(holder, inner) for holder in holders]
        level = Level({relation.alias: relation for relation in relations})
        if len(level.relations) != len(relations):
            raise _form(node)
        if not level.protected():
            return self._public(node, holders, relations, inner)
        for holder, relation in zip(holders, relations, strict=True):
            _check_join(holder)
            holder.set("this", relation.node)
        if any(isinstance(relation, Given) and not relation.grounded for relation in relations):
            raise DisclosureError(Refusal(
                Rule.JOIN, "protected rows are joined with rows written in the statement", "join with inputs; put values into WHERE",
            ))  # fmt: skip
        aggregating = is_aggregating(node)
        if unknown := _parts(node) - (_GROUP_PARTS if aggregating else _ROW_PARTS):
            raise self._refused_part(sorted(unknown)[0], level)
        where = self._conditions(node, level, inner)
        check_joined(node, level)
        for place, safe in where:
            place.set("on" if isinstance(place, exp.Join) else "this", safe)
        return self._group(node, level, inner) if aggregating else self._rows(node, level)

    def _relation(self, holder: exp.Expr, scope: Scope) -> Relation:
        node = holder.this
        if isinstance(node, exp.Table) and not _parts(node) - {"this", "alias"} and isinstance(node.this, exp.Identifier):
            node.meta[KNOWN] = True
            return self._table(node, scope)
        if isinstance(node, exp.Subquery) and not _parts(node) - {"this", "alias"} and not free_columns(node.this, frozenset()):
            return self._derived(node.alias, self.query(node.this, scope))
        raise _form(node)

    def _table(self, node: exp.Table, scope: Scope) -> Relation:
        if node.args["alias"].args.get("columns") if node.args.get("alias") else False:
            raise _form(node)
        alias, known = node.alias or node.name, scope.get(node.name)
        if isinstance(known, _Later):
            return self._derived(alias, self.query(known.node.copy(), known.scope))
        if isinstance(known, Answer):
            return Given(alias, node, known.types, self._names.number(), known.grounded)
        terms = self._tables.get(node.name)
        if terms is None:
            raise _form(node)
        if terms.limited and terms.aggregates_only:
            return Source(alias, terms, self._names.number(), self._names.name("row"))
        types: dict[str, str | None] = {column.name.lower(): column.type for column in terms.visible}
        shown: exp.Expr = source_node(alias, terms) if terms.limited else node
        return Given(alias, shown, types, self._names.number(), grounded=True)

    def _derived(self, alias: str, found: Answer | RowQuery) -> Relation:
        if isinstance(found, RowQuery):
            return Derived(alias, found.select, found.level, found.items, self._names)
        node = exp.Subquery(this=found.node, alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
        return Given(alias, node, found.types, self._names.number(), found.grounded)

    def _public(self, node: exp.Select, holders: list[exp.Expr], relations: list[Relation], scope: Scope) -> Answer:
        for holder, relation in zip(holders, relations, strict=True):
            holder.set("this", relation.node)
        self._nested(node, scope, skip={"from_", "with_"})
        level = Level({relation.alias: relation for relation in relations})
        types: dict[str, str | None] = {}
        for projection in node.expressions:
            inner = projection.unalias()
            item = level.item(inner) if isinstance(inner, exp.Column) else None
            types[projection.alias_or_name] = item.symbol.type if item is not None and item.symbol is not None else None
        grounded = bool(relations) and all(isinstance(relation, Given) and relation.grounded for relation in relations)
        return Answer(node, types, grounded)

    def _nested(self, node: exp.Expr, scope: Scope, skip: set[str]) -> None:
        """Judge the queries inside expressions of a query over public data."""
        for part in sorted(_parts(node) - skip):
            value = node.args[part]
            for child in value if isinstance(value, list) else [value]:
                expression = child.args.get("on") if isinstance(child, exp.Join) else child
                if isinstance(expression, exp.Expr):
                    self.replace_queries(expression, scope)

    def replace_queries(self, expression: exp.Expr, scope: Scope) -> None:
        """Rewrite each query inside an expression. One that reads limited data must not depend on what is around it."""
        for query in list(_outermost(expression)):
            if self._is_limited(query, scope) and free_columns(query, frozenset()):
                raise DisclosureError(Refusal(
                    Rule.FORM, "a subquery over protected rows depends on the query around it", "write it as a join, or without that",
                ))  # fmt: skip
            found = self.answer(query, scope)
            if found.node is not query:
                query.replace(found.node)

    def _is_limited(self, query: exp.Query, scope: Scope) -> bool:
        names = {table.name for table in query.find_all(exp.Table)}
        aggregates_only = {alias for alias, terms in self._tables.items() if terms.aggregates_only}
        return bool(names & aggregates_only) or any(isinstance(scope.get(name), _Later) for name in names)

    def _conditions(self, node: exp.Select, level: Level, scope: Scope) -> list[tuple[exp.Expr, exp.Expr]]:
        """Each place of a condition with its safe form."""
        places = [join for join in node.args.get("joins") or [] if join.args.get("on") is not None]
        found = [(place, self.condition(place.args["on"], level, scope)) for place in places]
        where = node.args.get("where")
        return [*found, *([(where, self.condition(where.this, level, scope))] if where is not None else [])]

    def condition(self, condition: exp.Expr, level: Level, scope: Scope) -> exp.Expr:
        """A condition on protected rows that fails on none of them. Raises DisclosureError."""
        safe = []
        for part in conjuncts(condition.copy()):
            if any(True for _ in part.find_all(exp.Query)):
                safe.append(self._with_query(part, level, scope))
                continue
            self._check_columns(part, level)
            check_permitted(part)
            safe.append(watched(part, level.kind))
        found = joined(safe)
        assert found is not None, "a condition has one part at least"
        return found

    def _with_query(self, part: exp.Expr, level: Level, scope: Scope) -> exp.Expr:
        """`column IN (query)` and `column > (query)`, where the query reads what may be given away and stands by itself."""
        bare = part.unnest()
        inner = bare.this.unnest() if isinstance(bare, exp.Not) else bare
        column = inner.this if isinstance(inner, exp.In | exp.EQ | exp.NEQ | exp.GT | exp.GTE | exp.LT | exp.LTE) else None
        query = inner.args.get("query") if isinstance(inner, exp.In) else inner.args.get("expression")
        if isinstance(query, exp.Subquery):
            query = query.this
        known = isinstance(column, exp.Column) and level.item(column) is not None
        if not isinstance(column, exp.Column) or not known or not isinstance(query, exp.Query) or free_columns(query, frozenset()):
            raise DisclosureError(Refusal(
                Rule.FORM, "a condition on protected rows asks a subquery in a form that is not judged",
                "write column IN (SELECT …) or column > (SELECT …), with a subquery that stands by itself; or join",
            ))  # fmt: skip
        found = self.answer(query, scope)
        types = list(found.types.values())
        wanted = level.kind(column)
        if len(types) != 1 or (wanted != "number" and (wanted is None or kind_of(types[0]) != wanted)):
            raise DisclosureError(Refusal(
                Rule.FORM, "a column is compared with a subquery of a type that is not known to be the same", "compare numbers, or join",
            ))  # fmt: skip
        if found.node is not query:
            query.replace(found.node)
        return part

    def _check_columns(self, expression: exp.Expr, level: Level) -> None:
        for column in expression.find_all(exp.Column):
            if level.item(column) is None:
                raise _form(column)

    def row_value(self, expression: exp.Expr, level: Level) -> exp.Expr:
        """A value of one protected row that is computed without failing. Raises DisclosureError."""
        self._check_columns(expression, level)
        check_permitted(expression)
        return watched(expression.copy(), level.kind)

    def _rows(self, node: exp.Select, level: Level) -> RowQuery:
        items: dict[str, Item] = {}
        projections = []
        for projection in node.expressions:
            value, name = projection.unalias(), projection.alias_or_name
            safe = self.row_value(value, level)
            items[name] = self._item(value, level)
            projections.append(exp.alias_(safe, name, quoted=True))
        if len(items) != len(projections):
            raise _form(node)
        node.set("expressions", projections)
        return RowQuery(node, level, items)

    def _item(self, value: exp.Expr, level: Level) -> Item:
        if isinstance(value, exp.Column) and (item := level.item(value)) is not None:
            return item
        try:
            return Item(kind(value, level.kind), None, read_amount(value, level).text)
        except DisclosureError:
            return Item(kind(value, level.kind))

    def _group(self, node: exp.Select, level: Level, scope: Scope) -> Answer:
        for product in sorted({terms.product for terms in level.protected()}):
            self._asked[product] += 1
            if self._asked[product] > 1:
                raise DisclosureError(Refusal(
                    Rule.ONE_QUESTION, f"the statement groups rows of {product} twice or more, and answers can be set against each other",
                    "group once; what is computed of that with window functions or a common table expression is free", product,
                ))  # fmt: skip
        grouping = Grouping(self, node, level, scope, self._names)
        return Answer(grouping.rewritten(), grouping.types(), grounded=True)

    def _refused_part(self, part: str, level: Level) -> DisclosureError:
        terms = level.protected()[0]
        words = {"order": "ORDER BY", "limit": "LIMIT", "windows": "WINDOW", "qualify": "QUALIFY", "offset": "OFFSET"}.get(part, part)
        return DisclosureError(Refusal(
            Rule.ROWS, f"{words.strip('_')} is applied to single rows of {terms.product}", "apply it to groups", terms.product,
        ))  # fmt: skip


def free_columns(query: exp.Expr, bound: frozenset[str]) -> bool:
    """Whether a query names a column of what is around it; a name without a relation counts, outside ORDER BY."""
    from_ = query.args.get("from_")
    holders = [from_, *(query.args.get("joins") or [])] if from_ is not None else []
    own = bound | {holder.this.alias_or_name for holder in holders}
    return any(_is_free(child, own, ordered=False) for child in query.iter_expressions())


def _is_free(node: exp.Expr, own: frozenset[str], *, ordered: bool) -> bool:
    if isinstance(node, exp.Column):
        return node.table not in own if node.table else not ordered
    if isinstance(node, exp.Query) and not isinstance(node, exp.Subquery):
        return free_columns(node, own)
    return any(_is_free(child, own, ordered=ordered or isinstance(node, exp.Order)) for child in node.iter_expressions())


def _outermost(node: exp.Expr) -> Iterator[exp.Query]:
    if isinstance(node, exp.Query) and not isinstance(node, exp.Subquery):
        yield node
        return
    for child in node.iter_expressions():
        yield from _outermost(child)


def _check_join(holder: exp.Expr) -> None:
    if isinstance(holder, exp.Join) and (
        holder.kind.upper() not in _JOINS or holder.side.upper() not in _SIDES or _parts(holder) - {"this", "on", "side", "kind"}
    ):
        raise DisclosureError(Refusal(
            Rule.JOIN, f"{holder.method or holder.kind} JOIN is not judged over protected rows", "use inner and outer joins on columns",
        ))  # fmt: skip


def _parts(node: exp.Expr) -> set[str]:
    """The parts that are there."""
    return {name for name, value in node.args.items() if value not in (None, False, [])}


def _form(node: exp.Expr) -> DisclosureError:
    text = node.sql("duckdb")
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return DisclosureError(Refusal(
        Rule.FORM, f"{shown} is not judged in a statement over a product that answers about groups only",
        "write plain SELECTs with joins on equal columns, WHERE, GROUP BY and HAVING; WITH and UNION over their answers",
    ))  # fmt: skip
