"""Expressions over single rows: which may be used, and how they are kept from telling anything by failing.

A cast that fails names the value in its message, and even without a message the failure is one bit about a row. So what may fail is put
into TRY, where it gives NULL. What cannot fail stays bare, for the engine pushes such conditions down to the data.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from workloads.disclosure.kinds import Kind, cast_kind, compare
from workloads.disclosure.terms import DisclosureError, Refusal, Rule

KindOf = Callable[[exp.Column], Kind | None]

_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ)
_LOGIC = (exp.And, exp.Or, exp.Not)
_TEXT_FUNCTIONS = (exp.Lower, exp.Upper, exp.Trim, exp.Substring, exp.Left, exp.Right, exp.Concat, exp.DPipe)
_TEXT_TESTS = (exp.Like, exp.ILike, exp.StartsWith, exp.Contains)
_TIME_PARTS = (exp.Year, exp.Quarter, exp.Month, exp.Week, exp.Day, exp.DayOfWeek, exp.DayOfWeekIso, exp.DayOfYear, exp.Hour, exp.Minute,
               exp.Extract)  # fmt: skip
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Neg)
_NUMERIC = (exp.Abs, exp.Round, exp.Floor, exp.Ceil, exp.Sign, exp.Sqrt, exp.Ln)
_OTHERS = (exp.Length, exp.TimestampTrunc, exp.DateTrunc, exp.DateDiff, exp.Coalesce, exp.Nullif, exp.Greatest, exp.Least, exp.Dayname,
           exp.Monthname, exp.LastDay)  # fmt: skip
_PLAIN = (exp.Column, exp.Identifier, exp.Literal, exp.Null, exp.Boolean, exp.Paren, exp.Between, exp.In, exp.Is, exp.Case, exp.If,
          exp.Cast, exp.TryCast, exp.DataType, exp.DataTypeParam, exp.Interval, exp.Var, exp.CurrentDate)  # fmt: skip
PERMITTED = frozenset({*_COMPARISONS, *_LOGIC, *_TEXT_FUNCTIONS, *_TEXT_TESTS, *_TIME_PARTS, *_ARITHMETIC, *_NUMERIC, *_OTHERS, *_PLAIN})


def check_permitted(expression: exp.Expr) -> None:
    """Refuse what is not known to be a harmless function of one row. Raises DisclosureError."""
    for node in expression.walk():
        if type(node) not in PERMITTED:
            raise DisclosureError(Refusal(
                Rule.FORM, f"{_name(node)} is not judged on single rows of a product that answers about groups only",
                "use comparisons, arithmetic, CASE, and plain functions of numbers, text and dates",
            ))  # fmt: skip
        if isinstance(node, exp.Cast | exp.TryCast) and cast_kind(node.to) is None:
            raise DisclosureError(Refusal(Rule.FORM, f"a cast to {node.to.sql('duckdb')} is not judged", "cast to a plain type, or not"))


def watched(expression: exp.Expr, kind_of: KindOf) -> exp.Expr:
    """The expression, in TRY where it might fail on some value."""
    return expression if is_safe(expression, kind_of) else exp.Anonymous(this="TRY", expressions=[expression])


def conjuncts(condition: exp.Expr) -> list[exp.Expr]:
    """What is joined by AND."""
    bare = condition.unnest()
    return [*conjuncts(bare.left), *conjuncts(bare.right)] if isinstance(bare, exp.And) else [condition]


def joined(conditions: list[exp.Expr]) -> exp.Expr | None:
    """All of them by AND; each is put in parentheses."""
    return exp.and_(*conditions, copy=False) if conditions else None


def is_safe(node: exp.Expr, kind_of: KindOf) -> bool:
    """Whether an expression of permitted nodes fails on no value of its columns. One without columns fails always or never."""
    if not any(True for _ in node.find_all(exp.Column)):
        return True
    if isinstance(node, exp.Column):
        return True
    if isinstance(node, exp.Paren):
        return is_safe(node.this, kind_of)
    if isinstance(node, exp.And | exp.Or):
        return all(_is_truth(side, kind_of) for side in (node.left, node.right))
    if isinstance(node, exp.Not):
        return _is_truth(node.this, kind_of)
    if isinstance(node, exp.Is):
        return is_safe(node.this, kind_of) and isinstance(node.expression, exp.Null | exp.Boolean)
    if isinstance(node, _COMPARISONS):
        return _alike([node.this, node.expression], kind_of)
    if isinstance(node, exp.Between):
        return _alike([node.this, node.args["low"], node.args["high"]], kind_of)
    if isinstance(node, exp.In):
        return not node.args.get("query") and _alike([node.this, *node.expressions], kind_of)
    if isinstance(node, (*_TEXT_TESTS, *_TEXT_FUNCTIONS, exp.Length)):
        return all(_fits(part, kind_of, "text") for part in _parts(node))
    if isinstance(node, exp.Case):
        return _safe_case(node, kind_of)
    if isinstance(node, (*_TIME_PARTS, exp.TimestampTrunc)):
        parts = [part for part in _parts(node) if any(True for _ in part.find_all(exp.Column))]
        return all(is_safe(part, kind_of) and kind(part, kind_of) == "time" for part in parts)
    return False


def kind(node: exp.Expr, kind_of: KindOf) -> Kind | None:
    """The kind of value that an expression gives, as far as it is known."""
    if isinstance(node, exp.Column):
        return kind_of(node)
    if isinstance(node, exp.Paren | exp.Neg):
        return kind(node.this, kind_of)
    if isinstance(node, exp.Literal):
        return "any" if node.is_string else "number"
    if isinstance(node, exp.Null):
        return "any"
    if isinstance(node, (*_COMPARISONS, *_LOGIC, *_TEXT_TESTS, exp.Between, exp.In, exp.Is, exp.Boolean)):
        return "truth"
    if isinstance(node, exp.Cast | exp.TryCast):
        return cast_kind(node.to)
    if isinstance(node, _TEXT_FUNCTIONS):
        return "text"
    if isinstance(node, (*_TIME_PARTS, exp.Length)):
        return "number"
    if isinstance(node, exp.TimestampTrunc):
        return "time"
    if isinstance(node, exp.Add | exp.Sub) and isinstance(node.expression, exp.Interval):
        return kind(node.this, kind_of)
    if isinstance(node, exp.Add | exp.Sub | exp.Mul):
        sides = {kind(node.this, kind_of), kind(node.expression, kind_of)}
        return "number" if sides == {"number"} else None
    if isinstance(node, exp.Case):
        kinds = {kind(result, kind_of) for result in _results(node)} - {"any"}
        return kinds.pop() if len(kinds) == 1 else None
    return None


def _is_truth(node: exp.Expr, kind_of: KindOf) -> bool:
    return is_safe(node, kind_of) and kind(node, kind_of) in ("truth", "any")


def _fits(node: exp.Expr, kind_of: KindOf, wanted: Kind) -> bool:
    if not any(True for _ in node.find_all(exp.Column)):
        return True
    return is_safe(node, kind_of) and kind(node, kind_of) == wanted


def _alike(nodes: list[exp.Expr], kind_of: KindOf) -> bool:
    kinds = [kind(node, kind_of) for node in nodes]
    given = next((found for found in kinds if found != "any"), None)
    return all(is_safe(node, kind_of) for node in nodes) and all(compare(given, other) for other in kinds)


def _safe_case(node: exp.Case, kind_of: KindOf) -> bool:
    if node.this is not None:
        return False
    if not all(_is_truth(branch.this, kind_of) for branch in node.args["ifs"]):
        return False
    results = _results(node)
    kinds = {kind(result, kind_of) for result in results} - {"any"}
    return all(is_safe(result, kind_of) for result in results) and len(kinds) <= 1 and None not in kinds


def _results(node: exp.Case) -> list[exp.Expr]:
    default = node.args.get("default")
    return [*(branch.args["true"] for branch in node.args["ifs"]), *([default] if default is not None else [])]


def _parts(node: exp.Expr) -> list[exp.Expr]:
    return [part for part in node.iter_expressions() if not isinstance(part, exp.Var | exp.DataType)]


def _name(node: exp.Expr) -> str:
    if isinstance(node, exp.Anonymous):
        return f"the function {str(node.this).lower()}"
    text = node.sql("duckdb")
    return text if len(text) <= 60 else f"{text[:57]}..."
