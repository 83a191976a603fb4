"""Aggregates over groups of protected rows, each behind its guards.

Every value that leaves a group is `CASE WHEN guard THEN value END`, also where the group is dropped anyway: DuckDB may try a later
condition of the buyer's on a group before it is dropped, and there must be nothing in it to try. Guards and values are computed by a
query that groups, each once; another one sets them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlglot import exp

from workloads.disclosure.amounts import Amount, read_amount
from workloads.disclosure.parts import parts
from workloads.disclosure.relations import Level, Names, Symbol, column
from workloads.disclosure.terms import DisclosureError, Refusal, Rule
from workloads.disclosure.values import watched

_MOMENTS = (exp.Variance, exp.VariancePop, exp.Stddev, exp.StddevPop, exp.StddevSamp)
_PAIRS = (exp.Corr, exp.CovarPop, exp.CovarSamp, exp.RegrCount, exp.RegrAvgx, exp.RegrAvgy, exp.RegrSxx, exp.RegrSyy, exp.RegrSxy,
          exp.RegrR2, exp.RegrIntercept, exp.RegrSlope)  # fmt: skip
PERMITTED = "count, count_if, approx_count_distinct, sum, avg, variance, stddev, corr, covar and regr functions"

Condition = Callable[[exp.Expr], exp.Expr]


@dataclass(frozen=True)
class _Test:
    """Conditions under which rows must be many enough; or none at all, where that may be."""

    conditions: Sequence[exp.Expr]
    may_be_none: bool = False


class Guards:
    """The guards of one query's groups; `aggregates` are all of its aggregates, `condition` makes a condition safe on every row."""

    def __init__(self, level: Level, condition: Condition, aggregates: Sequence[exp.Expr], names: Names) -> None:
        self._level, self._condition, self._names = level, condition, names
        self._computed: dict[str, tuple[str, exp.Expr]] = {}
        raw = {test.sql("duckdb"): test for node in aggregates for test in _tests(node)}
        self._safe = {text: condition(test.copy()) for text, test in raw.items()}
        self._parts = parts(list(raw.values()), level.kind)

    def group(self, alias: str) -> exp.Expr:
        """The group has rows enough of each protected occurrence, over the query that groups."""
        return self._over(self._enough([]), alias)

    def computed(self) -> list[exp.Expr]:
        """What the query that groups computes, with their names."""
        return [exp.alias_(value, name, quoted=True) for name, value in self._computed.values()]

    def _over(self, value: exp.Expr, alias: str) -> exp.Expr:
        """A value of a group as a column of the query that groups."""
        name, _ = self._computed.setdefault(value.sql("duckdb"), (self._names.name("c"), value))
        return column(alias, name)

    def value(self, expression: exp.Expr, alias: str) -> exp.Expr:
        """An expression over a group, missing where the group is too small."""
        return self._when([], expression, alias)

    def aggregate(self, node: exp.Expr, alias: str) -> exp.Expr:
        """An aggregate of the buyer's behind all its guards. Raises DisclosureError for one that may carry a row's values."""
        filtered = isinstance(node, exp.Filter)
        inner = node.this if filtered else node
        conditional = filtered or any(True for _ in _tests(inner))
        value, tests = self._unfiltered(inner)
        if filtered:
            value = exp.Filter(this=value, expression=exp.Where(this=self._test(node.expression.this)))
        guards = self._in_parts([]) if conditional else []
        for test in tests:
            guards.extend(self._in_parts(test.conditions, may_be_none=test.may_be_none) if conditional else [self._test_enough(test)])
        return self._when(guards, value, alias)

    def _test(self, raw: exp.Expr) -> exp.Expr:
        return self._safe[raw.sql("duckdb")].copy()

    def _in_parts(self, conditions: Sequence[exp.Expr], *, may_be_none: bool = False) -> list[exp.Expr]:
        """In every part of the group there are rows enough under these conditions."""
        found = []
        for part in self._parts:
            shown = [safe.copy() if truth else _not_true(safe) for safe, truth in zip(self._safe.values(), part.truths, strict=True)]
            test = self._enough([*shown, *conditions], may_be_none=may_be_none or part.only_missing)
            found.append(test)
        return found

    def _test_enough(self, test: _Test) -> exp.Expr:
        return self._enough(test.conditions, may_be_none=test.may_be_none)

    def _unfiltered(self, node: exp.Expr) -> tuple[exp.Expr, list[_Test]]:
        """The aggregate over what it may read, and what must hold of its rows."""
        argument = node.this
        if isinstance(node, exp.CountIf):
            return exp.CountIf(this=self._test(argument)), []
        if isinstance(node, exp.Count) and isinstance(argument, exp.Star):
            return node.copy(), []
        if isinstance(node, exp.Count | exp.ApproxDistinct) and (found := self._distinct(node)) is not None:
            return self._counted(node, found)
        if isinstance(node, exp.Count | exp.Sum | exp.Avg) and not isinstance(argument, exp.Distinct) and not node.expressions:
            return self._summed(node)
        if isinstance(node, _MOMENTS):
            return self._moment(node, [argument])
        if isinstance(node, _PAIRS):
            return self._moment(node, [argument, node.expression])
        raise DisclosureError(Refusal(
            Rule.AGGREGATE, f"{node.sql('duckdb')[:60]} may carry the values of one row", f"use {PERMITTED}, over columns",
        ))  # fmt: skip

    def _distinct(self, node: exp.Expr) -> exp.Expr | None:
        if isinstance(node, exp.ApproxDistinct):
            return None if isinstance(node.this, exp.Distinct) or node.args.get("accuracy") else node.this
        if isinstance(node.this, exp.Distinct) and len(node.this.expressions) == 1 and not node.this.args.get("on"):
            found: exp.Expr = node.this.expressions[0]
            return found
        return None

    def _counted(self, node: exp.Expr, argument: exp.Expr) -> tuple[exp.Expr, list[_Test]]:
        found = self._level.column_of(self._symbol(argument))
        inside: exp.Expr = exp.Distinct(expressions=[found]) if isinstance(node, exp.Count) else found
        return type(node)(this=inside), [_Test([_present(found)])]

    def _summed(self, node: exp.Expr) -> tuple[exp.Expr, list[_Test]]:
        counts = isinstance(node, exp.Count)
        branches = self._branches(node.this, counts=counts)
        amounts = [amount for _, amount in branches if amount is not None]
        tests = [test for amount in amounts for test in self._filled(amount, counts=counts)]
        return type(node)(this=self._rebuilt(branches)), tests

    def _filled(self, amount: Amount, *, counts: bool) -> list[_Test]:
        """Rows that truly add something are many enough, for each product of columns. A factor of whole numbers may be a flag, which cuts
        the group like a condition, and beside another column so does one that is missing on some rows."""
        found: list[_Test] = []
        if len(amount.symbols) > 1:
            found.extend(self._missing(symbol) for symbol in sorted(amount.symbols, key=lambda one: (one.occurrence, one.column)))
        for product in amount.products:
            columns = [self._level.column_of(symbol) for symbol in product]
            found.append(_Test([_present(one) for one in columns] if counts else [self._nonzero(symbol) for symbol in product]))
            flags = [symbol for symbol in product if symbol.may_be_flag] if len(product) > 1 else []
            found.extend(_Test([_not_true(self._nonzero(symbol))], may_be_none=True) for symbol in flags)
        if amount.plain is not None and amount.plain.kind == "truth" and not counts:
            # Its sum is the count of a condition.
            found.append(_Test([_not_true(self._level.column_of(amount.plain))]))
        return found

    def _missing(self, symbol: Symbol) -> _Test:
        return _Test([exp.Is(this=self._level.column_of(symbol), expression=exp.Null())], may_be_none=True)

    def _moment(self, node: exp.Expr, arguments: list[exp.Expr]) -> tuple[exp.Expr, list[_Test]]:
        symbols = [self._symbol(argument) for argument in arguments]
        if any(symbol.kind != "number" for symbol in symbols):
            raise DisclosureError(
                Refusal(Rule.AGGREGATE, f"{node.sql('duckdb')[:60]} is not over numbers", "use it over columns of numbers")
            )
        bounded = [self._bounded(symbol) for symbol in symbols]
        rebuilt = type(node)(this=bounded[0], **({"expression": bounded[1]} if len(bounded) > 1 else {}))
        missing = [self._missing(symbol) for symbol in symbols] if len(symbols) > 1 else []
        return rebuilt, [_Test([self._nonzero(symbol) for symbol in symbols]), *missing]

    def _bounded(self, symbol: Symbol) -> exp.Expr:
        """A column without the numbers on which variances end in an error."""
        found = self._level.column_of(symbol)
        if (symbol.type or "").upper() not in ("DOUBLE", "FLOAT", "REAL"):
            return found
        within = exp.LT(this=exp.Abs(this=found.copy()), expression=exp.Literal.number("1e100"))
        return exp.Case(ifs=[exp.If(this=within, true=found)])

    def _symbol(self, argument: exp.Expr) -> Symbol:
        item = self._level.item(argument) if isinstance(argument, exp.Column) else None
        if item is None or item.symbol is None:
            raise DisclosureError(Refusal(
                Rule.AGGREGATE, f"{argument.sql('duckdb')[:60]} is no column of an input", "give this aggregate a column of an input",
            ))  # fmt: skip
        return item.symbol

    def _branches(self, argument: exp.Expr, *, counts: bool) -> list[tuple[exp.Expr | None, Amount | None]]:
        """What CASE or IF adds under which condition, in their order; one amount without a condition where there is none."""
        case = _as_case(argument)
        if case is None:
            return [(None, read_amount(argument, self._level, counts=counts))]
        default = case.args.get("default")
        branches = [(self._test(test), branch.args["true"]) for test, branch in zip(_case_tests(case), case.args["ifs"], strict=True)]
        return [
            (test, None if value is None or isinstance(value, exp.Null) else read_amount(value, self._level, counts=counts))
            for test, value in [*branches, (None, default)]
        ]

    def _rebuilt(self, branches: Sequence[tuple[exp.Expr | None, Amount | None]]) -> exp.Expr:
        amounts = [amount.over(self._level) if amount is not None else exp.Null() for _, amount in branches]
        if len(branches) == 1:
            return amounts[0]
        ifs = [exp.If(this=test, true=amount) for (test, _), amount in zip(branches[:-1], amounts[:-1], strict=True)]
        return exp.Case(ifs=ifs, default=amounts[-1])

    def _nonzero(self, symbol: Symbol) -> exp.Expr:
        found = self._level.column_of(symbol)
        if symbol.kind == "truth":
            return found
        test = exp.NEQ(this=found, expression=exp.Literal.number(0))
        return watched(test, lambda _: symbol.kind)

    def _enough(self, conditions: Sequence[exp.Expr], *, may_be_none: bool = False) -> exp.Expr:
        """Under these conditions the group has rows enough of each protected occurrence, each row counted once."""
        if self._level.flat:
            counted = [(max(terms.min_group for terms in self._level.protected()), exp.Count(this=exp.Star()))]
        else:
            counted = [(terms.min_group, exp.Count(this=exp.Distinct(expressions=[number]))) for terms, number in self._level.row_numbers()]
        where = exp.Where(this=exp.and_(*(condition.copy() for condition in conditions))) if conditions else None
        tests: list[exp.Expr] = []
        for least, count in counted:
            filtered = exp.Filter(this=count, expression=where.copy()) if where is not None else count
            test: exp.Expr = exp.GTE(this=filtered, expression=exp.Literal.number(least))
            if may_be_none:
                test = exp.Paren(this=exp.or_(exp.EQ(this=filtered.copy(), expression=exp.Literal.number(0)), test))
            tests.append(test)
        return exp.and_(*tests)

    def _when(self, guards: Iterable[exp.Expr], value: exp.Expr, alias: str) -> exp.Expr:
        tests = [self.group(alias), *(self._over(guard, alias) for guard in guards)]
        every = {test.name: test for test in tests}
        return exp.Case(ifs=[exp.If(this=exp.and_(*every.values()), true=self._over(value, alias))])


def _tests(node: exp.Expr) -> Iterator[exp.Expr]:
    """The conditions inside an aggregate, as the buyer wrote them."""
    if isinstance(node, exp.Filter):
        yield node.expression.this
        node = node.this
    if isinstance(node, exp.CountIf):
        yield node.this
    case = _as_case(node.this) if isinstance(node, exp.Count | exp.Sum | exp.Avg) else None
    if case is not None:
        yield from _case_tests(case)


def _as_case(argument: exp.Expr) -> exp.Case | None:
    bare = argument.unnest()
    if isinstance(bare, exp.If):
        return exp.Case(ifs=[exp.If(this=bare.this.copy(), true=bare.args["true"].copy())], default=bare.args.get("false"))
    return bare if isinstance(bare, exp.Case) else None


def _case_tests(case: exp.Case) -> list[exp.Expr]:
    tests = [branch.this for branch in case.args["ifs"]]
    return tests if case.this is None else [exp.EQ(this=case.this.copy(), expression=test.copy()) for test in tests]


def _not_true(condition: exp.Expr) -> exp.Expr:
    return exp.Not(this=exp.Is(this=exp.Paren(this=condition.copy()), expression=exp.Boolean(this=True)))


def _present(found: exp.Expr) -> exp.Expr:
    return exp.Not(this=exp.Is(this=found, expression=exp.Null()))
