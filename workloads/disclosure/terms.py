"""What the policy is given and what it answers: terms of tables in, a rewritten statement or refusals out. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from workloads.catalogue.product import Column

Mask = Literal["null", "hash", "year"]


class Rule(StrEnum):
    """What a statement breaks, in the order in which refusals are given."""

    HIDDEN_COLUMN = "hidden_column"
    ROWS = "disclosure_rows"
    AGGREGATE = "disclosure_aggregate"
    AMOUNT = "disclosure_amount"
    JOIN = "disclosure_join"
    ONE_QUESTION = "disclosure_one_question"
    FORM = "disclosure_form"


@dataclass(frozen=True)
class Refusal:
    """Why a statement may not run; `product` and `column` where one is to blame."""

    rule: Rule
    message: str
    remedy: str
    product: str | None = None
    column: str | None = None


class DisclosureError(Exception):
    """The statement is refused."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.message}; {refusal.remedy}")
        self.refusal = refusal


@dataclass(frozen=True)
class TableTerms:
    """An input as the policy sees it: its columns, and what its product's owner says of them. A group is of `min_group` rows at least."""

    alias: str
    product: str
    owner: str
    columns: tuple[Column, ...]
    aggregates_only: bool = False
    min_group: int = 10
    hidden: tuple[str, ...] = ()
    masked: tuple[tuple[str, Mask], ...] = ()

    @property
    def limited(self) -> bool:
        """Whether a statement over it is rewritten at all."""
        return self.aggregates_only or bool(self.hidden) or bool(self.masked)

    @property
    def hidden_names(self) -> frozenset[str]:
        """Without letter case, by which names do not differ in SQL."""
        return frozenset(name.casefold() for name in self.hidden)

    @property
    def masks(self) -> dict[str, Mask]:
        """By the column's name without letter case."""
        return {name.casefold(): mask for name, mask in self.masked}

    @property
    def visible(self) -> tuple[Column, ...]:
        """The columns that a statement may name, with the types that they have behind their masks."""
        masks = self.masks
        return tuple(
            Column(name=column.name, type="VARCHAR") if masks.get(column.name.casefold()) == "hash" else column
            for column in self.columns if column.name.casefold() not in self.hidden_names
        )  # fmt: skip


@dataclass(frozen=True)
class Rewritten:
    """The statement that runs, why it is not the buyer's own (nothing when it is), and each limited table's sources in it."""

    sql: str
    why: tuple[str, ...]
    sources: tuple[str, ...] = ()
