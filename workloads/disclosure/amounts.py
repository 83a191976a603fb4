"""What is added up over a group: sums of products of columns, so that no row can be picked out inside.

`sum(salary * (id = 42))` reads one row however large its group is, and so does any function that is zero on all rows but one. An amount
is therefore a polynomial: columns and numbers with +, -, * and division by a number, of degree 3 at most. It is multiplied out, and each
product of columns is guarded by itself: rows on which none of its factors is zero or missing must be many enough.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from sqlglot import exp

from workloads.disclosure.kinds import INTEGERS
from workloads.disclosure.relations import Level, Symbol, column
from workloads.disclosure.terms import DisclosureError, Refusal, Rule

MOST_FACTORS, MOST_PRODUCTS = 3, 12
MOST_DIGITS = 12  # of all numbers that are written in an amount
_SYMBOL = "cpn symbol"
_PLAIN_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")

Product = tuple[Symbol, ...]
Terms = Mapping[Product, Fraction]


@dataclass(frozen=True)
class Amount:
    """An amount as text over symbols, and multiplied out."""

    text: exp.Expr
    terms: Terms

    @property
    def is_constant(self) -> bool:
        """Whether no column is in it."""
        return not any(self.terms)

    @property
    def products(self) -> list[Product]:
        """The sets of columns to be guarded: those that no other set covers."""
        sets = {frozenset(product) for product in self.terms if product}
        widest = [found for found in sets if not any(found < other for other in sets)]
        return sorted((tuple(sorted(found, key=_order)) for found in widest), key=lambda product: [_order(symbol) for symbol in product])

    @property
    def symbols(self) -> set[Symbol]:
        """All columns in it, those too that cancel out: where one of them is missing, so is the amount."""
        return {symbol for node in self.text.find_all(exp.Column) if (symbol := _symbol_of(node)) is not None}

    @property
    def plain(self) -> Symbol | None:
        """The one column that it is, if it is nothing else."""
        return _symbol_of(self.text)

    def over(self, level: Level) -> exp.Expr:
        """The amount over a FROM; what is computed gives NULL instead of an error, in whole numbers wide enough for three factors."""
        if (plain := self.plain) is not None:
            return level.column_of(plain)
        whole = all(_is_integer(symbol) for symbol in self.symbols)
        wide = exp.DataType.build("HUGEINT" if whole else "BIGINT", dialect="duckdb")

        def placed(node: exp.Expr) -> exp.Expr:
            symbol = _symbol_of(node)
            if symbol is None:
                return node
            found = level.column_of(symbol)
            return exp.Cast(this=found, to=wide.copy()) if _is_integer(symbol) else found

        text = self.text.copy().transform(placed, copy=False)
        return exp.Anonymous(this="TRY", expressions=[text]) if self.symbols else text


def read_amount(expression: exp.Expr, level: Level, *, counts: bool = False) -> Amount:
    """Multiply an amount out; for one that is only counted a column may hold anything. Raises DisclosureError for what is none."""
    text = expression.copy().transform(lambda node: _symbolic(node, level), copy=False)
    digits = sum(len(node.name.replace(".", "")) for node in text.find_all(exp.Literal))
    if digits > MOST_DIGITS:
        raise _refused(expression, f"the numbers in it have more than {MOST_DIGITS} digits together")
    terms = {product: factor for product, factor in _multiplied(text, expression).items() if factor}
    if len(terms) > MOST_PRODUCTS:
        raise _refused(expression, f"multiplied out it has more than {MOST_PRODUCTS} products")
    plain = _symbol_of(text.unnest())
    if plain is not None and counts:
        return Amount(text.unnest(), {(plain,): Fraction(1)})
    if any(symbol.kind not in ("number", "truth", None) for product in terms for symbol in product):
        raise _refused(expression, "a column in it holds no numbers")
    return Amount(text, terms)


def _symbolic(node: exp.Expr, level: Level) -> exp.Expr:
    if not isinstance(node, exp.Column) or _symbol_of(node) is not None:
        return node
    item = level.item(node)
    if item is not None and item.symbol is not None:
        found = column("", _SYMBOL)
        found.meta["symbol"] = item.symbol
        return found
    if item is not None and item.amount is not None:
        return exp.Paren(this=item.amount.copy())
    raise _refused(node, "it is no column of an input, but computed by a function or CASE")


def _symbol_of(node: exp.Expr) -> Symbol | None:
    found = node.meta.get("symbol") if isinstance(node, exp.Column) else None
    return found if isinstance(found, Symbol) else None


def _multiplied(node: exp.Expr, whole: exp.Expr) -> dict[Product, Fraction]:
    symbol = _symbol_of(node)
    if symbol is not None:
        return {(symbol,): Fraction(1)}
    if isinstance(node, exp.Literal) and not node.is_string:
        return {(): _number(node, whole)}
    if isinstance(node, exp.Paren):
        return _multiplied(node.this, whole)
    if isinstance(node, exp.Neg):
        return {product: -factor for product, factor in _multiplied(node.this, whole).items()}
    if isinstance(node, exp.Add | exp.Sub):
        sign = -1 if isinstance(node, exp.Sub) else 1
        total = dict(_multiplied(node.this, whole))
        for product, factor in _multiplied(node.expression, whole).items():
            total[product] = total.get(product, Fraction(0)) + sign * factor
        return total
    if isinstance(node, exp.Mul):
        return _product(_multiplied(node.this, whole), _multiplied(node.expression, whole), whole)
    if isinstance(node, exp.Div) and isinstance(node.expression, exp.Literal) and not node.expression.is_string:
        divisor = _number(node.expression, whole)
        if divisor:
            return {product: factor / divisor for product, factor in _multiplied(node.this, whole).items()}
    if isinstance(node, exp.Coalesce) and _is_zero(node.expressions) and _symbol_of(node.this) is not None:
        return _multiplied(node.this, whole)
    if isinstance(node, exp.Cast) and node.to.this == exp.DataType.Type.DOUBLE:
        return _multiplied(node.this, whole)
    raise _refused(whole, "only columns and numbers with +, -, *, and / by a number, are added up")


def _product(first: dict[Product, Fraction], second: dict[Product, Fraction], whole: exp.Expr) -> dict[Product, Fraction]:
    total: dict[Product, Fraction] = {}
    for one, factor in first.items():
        for other, times in second.items():
            product = tuple(sorted(one + other, key=_order))
            if len(product) > MOST_FACTORS:
                raise _refused(whole, f"more than {MOST_FACTORS} columns are multiplied with each other")
            total[product] = total.get(product, Fraction(0)) + factor * times
    return total


def _number(node: exp.Literal, whole: exp.Expr) -> Fraction:
    if not _PLAIN_NUMBER.fullmatch(node.name):
        raise _refused(whole, f"{node.name} is no plain number")
    return Fraction(node.name)


def _is_zero(values: list[exp.Expr]) -> bool:
    return len(values) == 1 and isinstance(values[0], exp.Literal) and not values[0].is_string and values[0].name in ("0", "0.0")


def _is_integer(symbol: Symbol) -> bool:
    return symbol.type is not None and symbol.type.upper() in INTEGERS


def _order(symbol: Symbol) -> tuple[int, str]:
    return symbol.occurrence, symbol.column


def _refused(expression: exp.Expr, why: str) -> DisclosureError:
    text = expression.sql("duckdb").replace(f'"".{_SYMBOL}', "column")
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return DisclosureError(Refusal(
        Rule.AMOUNT, f"{shown} cannot be added up over protected rows: {why}",
        "add up columns, or products of them; put conditions into WHERE, FILTER or one CASE around the amount",
    ))  # fmt: skip
