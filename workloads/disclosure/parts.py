"""Into which parts the conditions inside aggregates cut a group.

`sum(salary) FILTER (WHERE city = 'X')` beside `sum(salary) FILTER (WHERE city = 'X' AND name <> 'Alice')` tells one salary, though each
of them adds up many. So all conditions of a query are taken together: every combination of them being true or not that some row may show
is a part, and every part must have rows enough. Combinations that no row can show (`x > 60` without `x > 15`) are found by trying the
numbers and texts that the conditions name, and what lies between; what is no comparison of a column with a constant may be anything.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from sqlglot import exp

from workloads.disclosure.kinds import Kind
from workloads.disclosure.terms import DisclosureError, Refusal, Rule
from workloads.disclosure.values import KindOf

MOST_TRIED, MOST_PARTS = 20_000, 40
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")
_MIRRORED: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.GT: exp.LT,
    exp.LT: exp.GT,
    exp.GTE: exp.LTE,
    exp.LTE: exp.GTE,
    exp.EQ: exp.EQ,
    exp.NEQ: exp.NEQ,
}

Point = tuple[int, object] | None  # Where a value of a column lies: the constants by odd numbers, between them by even ones; or NULL.
State = dict[str, "Point | bool"]
Test = Callable[[State], "bool | None"]


@dataclass(frozen=True)
class Part:
    """One combination of the conditions; `only_missing` when only rows on which some column is NULL show it."""

    truths: tuple[bool, ...]
    only_missing: bool


@dataclass
class _Variables:
    """What the conditions depend on: the constants that each column is compared with, and tests of which nothing is known."""

    kind_of: KindOf
    constants: dict[str, set[object]] = field(default_factory=dict)
    ordered: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    _places: dict[str, dict[object, int]] = field(default_factory=dict)

    def places(self, name: str) -> dict[object, int]:
        """The constants of a column in their order, once all conditions are read."""
        if name not in self._places:
            found = sorted(self.constants[name], key=lambda value: (str(type(value)), value))
            self._places[name] = {constant: 2 * place + 1 for place, constant in enumerate(found)}
        return self._places[name]


def parts(conditions: Sequence[exp.Expr], kind_of: KindOf) -> list[Part]:
    """The parts that some row may show. Raises DisclosureError when they are too many to be tried."""
    if not conditions:
        return []
    variables = _Variables(kind_of)
    tests = [_read(condition, variables) for condition in conditions]
    names = [*sorted(variables.constants), *sorted(variables.unknown)]
    choices = [_points(variables, name) if name in variables.constants else [True, False, None] for name in names]
    tried = 1
    for choice in choices:
        tried *= len(choice)
    if tried > MOST_TRIED:
        raise _too_many()
    found: dict[tuple[bool, ...], bool] = {}
    for values in itertools.product(*choices):
        state: State = dict(zip(names, values, strict=True))
        truths = tuple(test(state) is True for test in tests)
        found[truths] = found.get(truths, True) and any(value is None for value in values)
    if len(found) > MOST_PARTS:
        raise _too_many()
    return [Part(truths, only) for truths, only in sorted(found.items())]


def _too_many() -> DisclosureError:
    return DisclosureError(Refusal(
        Rule.AGGREGATE, "the conditions inside aggregates cut the rows into too many parts", "group by what they ask for instead",
    ))  # fmt: skip


def _points(variables: _Variables, name: str) -> list[Point | bool]:
    places = variables.places(name)
    at: list[Point | bool] = [(place, constant) for constant, place in places.items()]
    between: list[Point | bool] = [(2 * place, None) for place in range(len(places) + 1)]
    return [*at, *(between if name in variables.ordered else between[:1]), None]


def _read(node: exp.Expr, variables: _Variables) -> Test:
    """A condition as a function of the variables' state, in SQL's logic of three values."""
    if isinstance(node, exp.Paren):
        return _read(node.this, variables)
    if isinstance(node, exp.And | exp.Or):
        return _joined(_read(node.left, variables), _read(node.right, variables), exp_and=isinstance(node, exp.And))
    if isinstance(node, exp.Not):
        return _negated(_read(node.this, variables))
    if isinstance(node, exp.Between):
        low = exp.GTE(this=node.this, expression=node.args["low"])
        high = exp.LTE(this=node.this, expression=node.args["high"])
        return _joined(_read(low, variables), _read(high, variables), exp_and=True)
    if isinstance(node, exp.In) and node.expressions and not node.args.get("query"):
        tests = [_read(exp.EQ(this=node.this, expression=value), variables) for value in node.expressions]
        together = tests[0]
        for test in tests[1:]:
            together = _joined(together, test, exp_and=False)
        return together
    if isinstance(node, tuple(_MIRRORED)):
        return _comparison(node, variables)
    return _unknown(node, variables)


def _comparison(node: exp.Expr, variables: _Variables) -> Test:
    operation, left, right = type(node), node.this.unnest(), node.expression.unnest()
    if isinstance(right, exp.Column):
        operation, left, right = _MIRRORED[operation], right, left
    constant = _constant(right, variables.kind_of(left)) if isinstance(left, exp.Column) else None
    ordered = operation not in (exp.EQ, exp.NEQ)
    if constant is None or (ordered and isinstance(constant, str) and not _DATE.fullmatch(constant)):
        return _unknown(node, variables)
    name = left.sql("duckdb")
    variables.constants.setdefault(name, set()).add(constant)
    if ordered:
        variables.ordered.add(name)

    def test(state: State) -> bool | None:
        point = state[name]
        if not isinstance(point, tuple):
            return None
        sign = point[0] - variables.places(name)[constant]
        found: dict[type[exp.Expr], bool] = {
            exp.EQ: sign == 0, exp.NEQ: sign != 0, exp.GT: sign > 0, exp.GTE: sign >= 0, exp.LT: sign < 0, exp.LTE: sign <= 0,
        }  # fmt: skip
        return found[operation]

    return test


def _constant(node: exp.Expr, kind: Kind | None) -> Fraction | str | None:
    """A constant whose order among others is known; None for any other."""
    if kind == "number" and isinstance(node, exp.Neg):
        inner = _constant(node.this.unnest(), kind)
        return -inner if isinstance(inner, Fraction) else None
    if kind == "number" and isinstance(node, exp.Literal) and not node.is_string and _NUMBER.fullmatch(node.name):
        return Fraction(node.name)
    if kind == "text" and isinstance(node, exp.Literal) and node.is_string and not _DATE.fullmatch(node.name):
        return str(node.name)
    if kind == "time":
        bare = node.this if isinstance(node, exp.Cast) and node.to.this == exp.DataType.Type.DATE else node
        if isinstance(bare, exp.Literal) and bare.is_string and _DATE.fullmatch(bare.name):
            return str(bare.name)
    return None


def _unknown(node: exp.Expr, variables: _Variables) -> Test:
    name = f"? {node.sql('duckdb')}"
    variables.unknown.add(name)
    return lambda state: value if isinstance(value := state[name], bool) else None


def _joined(left: Test, right: Test, *, exp_and: bool) -> Test:
    decides = not exp_and

    def test(state: State) -> bool | None:
        first, second = left(state), right(state)
        if decides in (first, second):
            return decides
        return None if None in (first, second) else not decides

    return test


def _negated(inner: Test) -> Test:
    def test(state: State) -> bool | None:
        found = inner(state)
        return None if found is None else not found

    return test
