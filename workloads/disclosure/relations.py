"""What stands behind FROM where rows of protected products are read, and how a query finds there what its guards need.

A guard counts distinct rows of each protected input and looks at the columns that an amount is made of. A row-level subquery hands
both on only when they are asked for: a number for each row, and the columns by names of our own.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import sqlglot
from sqlglot import exp

from workloads.disclosure.kinds import Kind, kind_of
from workloads.disclosure.sources import source
from workloads.disclosure.terms import TableTerms

PREFIX = "cpn_"
KNOWN = "cpn known"  # The mark of tables in a syntax tree that were judged.
_FRACTIONS = re.compile(r"DECIMAL\(\d+,\s*[1-9]\d*\)")


@dataclass(frozen=True)
class Symbol:
    """A column of one occurrence of a table in the statement."""

    occurrence: int
    column: str
    type: str | None

    @property
    def kind(self) -> Kind | None:
        """The kind of its values."""
        return kind_of(self.type)

    @property
    def may_be_flag(self) -> bool:
        """Whether it may hold ones and zeros: whole numbers and truths do, and who knows what a type that is not known holds."""
        return not (self.type or "").upper().startswith(("DOUBLE", "FLOAT", "REAL")) and not _FRACTIONS.fullmatch((self.type or "").upper())


@dataclass(frozen=True)
class Item:
    """A column of a relation: the symbol that it is, or the amount of symbols that it computes, or neither."""

    kind: Kind | None
    symbol: Symbol | None = None
    amount: exp.Expr | None = None


class Relation(Protocol):
    """One relation behind FROM."""

    alias: str
    items: dict[str, Item]
    node: exp.Expr

    @property
    def flat(self) -> bool:
        """Whether it holds each protected row once at most."""

    def holds(self, symbol: Symbol) -> bool:
        """Whether the symbol comes from here."""

    def column_of(self, symbol: Symbol) -> exp.Column:
        """The symbol as a column of this relation."""

    def row_numbers(self) -> list[tuple[TableTerms, exp.Column]]:
        """For each protected occurrence in it, the column that numbers its rows."""

    def protected(self) -> list[TableTerms]:
        """The terms of each protected occurrence in it."""


class Names:
    """Names and numbers that are given out once."""

    def __init__(self, taken: frozenset[str]) -> None:
        self._numbers = itertools.count()
        self._prefix = PREFIX
        while any(name.startswith(self._prefix) for name in taken):
            self._prefix += "_"

    def number(self) -> int:
        """The next number."""
        return next(self._numbers)

    def name(self, what: str) -> str:
        """A name that no column and no table of the statement has."""
        return f"{self._prefix}{what}{self.number()}"


def column(alias: str, name: str) -> exp.Column:
    """A column, qualified and quoted."""
    return exp.column(exp.to_identifier(name, quoted=True), table=exp.to_identifier(alias, quoted=True), quoted=True)


@dataclass
class Given:
    """A relation of public data: a table without limits, or what an earlier query answered about groups."""

    alias: str
    node: exp.Expr
    types: dict[str, str | None]
    occurrence: int
    grounded: bool
    items: dict[str, Item] = field(init=False)

    def __post_init__(self) -> None:
        symbols = {name: Symbol(self.occurrence, name, type_) for name, type_ in self.types.items()}
        self.items = {name: Item(symbol.kind, symbol) for name, symbol in symbols.items()}

    flat = False

    def holds(self, symbol: Symbol) -> bool:
        return symbol.occurrence == self.occurrence

    def column_of(self, symbol: Symbol) -> exp.Column:
        return column(self.alias, symbol.column)

    def row_numbers(self) -> list[tuple[TableTerms, exp.Column]]:
        return []

    def protected(self) -> list[TableTerms]:
        return []


def source_node(alias: str, terms: TableTerms, row: str | None = None) -> exp.Subquery:
    """What stands for a limited table, as a syntax tree."""
    found = exp.Subquery(this=sqlglot.parse_one(source(terms, row), read="duckdb"), alias=_alias(alias))
    for table in found.find_all(exp.Table):
        table.meta[KNOWN] = True
    return found


@dataclass
class Source:
    """An occurrence of a protected table. Its rows are numbered when that is first asked for: it keeps conditions from the scan."""

    alias: str
    terms: TableTerms
    occurrence: int
    row: str
    node: exp.Expr = field(init=False)
    items: dict[str, Item] = field(init=False)
    numbered: bool = False
    flat = True

    def __post_init__(self) -> None:
        symbols = {found.name.lower(): Symbol(self.occurrence, found.name.lower(), found.type) for found in self.terms.visible}
        self.items = {name: Item(symbol.kind, symbol) for name, symbol in symbols.items()}
        self.node = source_node(self.alias, self.terms)

    def holds(self, symbol: Symbol) -> bool:
        return symbol.occurrence == self.occurrence

    def column_of(self, symbol: Symbol) -> exp.Column:
        return column(self.alias, symbol.column)

    def row_numbers(self) -> list[tuple[TableTerms, exp.Column]]:
        """Its rows are numbered from now on."""
        if not self.numbered:
            self.numbered = True
            self.node.set("this", source_node(self.alias, self.terms, self.row).this)
        return [(self.terms, column(self.alias, self.row))]

    def protected(self) -> list[TableTerms]:
        return [self.terms]


@dataclass
class Level:
    """All relations behind one FROM, by alias."""

    relations: dict[str, Relation]

    @property
    def flat(self) -> bool:
        """Whether each protected row is there once at most, so that rows need not be told apart to be counted."""
        return len(self.relations) == 1 and all(relation.flat for relation in self.relations.values())

    def item(self, found: exp.Column) -> Item | None:
        """The item that a column names; None for one that is not of this FROM."""
        relation = self.relations.get(found.table)
        return relation.items.get(found.name) if relation else None

    def kind(self, found: exp.Column) -> Kind | None:
        """The kind of a column of this FROM."""
        item = self.item(found)
        return item.kind if item else None

    def column_of(self, symbol: Symbol) -> exp.Column:
        """The symbol as a column of this FROM."""
        return next(relation.column_of(symbol) for relation in self.relations.values() if relation.holds(symbol))

    def holds(self, symbol: Symbol) -> bool:
        """Whether the symbol comes from this FROM."""
        return any(relation.holds(symbol) for relation in self.relations.values())

    def row_numbers(self) -> Iterator[tuple[TableTerms, exp.Column]]:
        """For each protected occurrence, the column that numbers its rows."""
        for relation in self.relations.values():
            yield from relation.row_numbers()

    def protected(self) -> list[TableTerms]:
        """The terms of each protected occurrence."""
        return [terms for relation in self.relations.values() for terms in relation.protected()]


@dataclass
class Derived:
    """A row-level subquery over a FROM of its own."""

    alias: str
    select: exp.Select
    level: Level
    items: dict[str, Item]
    names: Names
    node: exp.Expr = field(init=False)
    _handed_on: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.node = exp.Subquery(this=self.select, alias=_alias(self.alias))

    @property
    def flat(self) -> bool:
        return self.level.flat

    def holds(self, symbol: Symbol) -> bool:
        return self.level.holds(symbol)

    def column_of(self, symbol: Symbol) -> exp.Column:
        return self._hand_on(self.level.column_of(symbol))

    def row_numbers(self) -> list[tuple[TableTerms, exp.Column]]:
        return [(terms, self._hand_on(found)) for terms, found in self.level.row_numbers()]

    def protected(self) -> list[TableTerms]:
        return self.level.protected()

    def _hand_on(self, found: exp.Column) -> exp.Column:
        key = found.sql("duckdb")
        if key not in self._handed_on:
            self._handed_on[key] = self.names.name("c")
            self.select.append("expressions", exp.alias_(found, self._handed_on[key], quoted=True))
        return column(self.alias, self._handed_on[key])


def _alias(name: str) -> exp.TableAlias:
    return exp.TableAlias(this=exp.to_identifier(name, quoted=True))
