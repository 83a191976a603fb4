"""What stands for a limited table in a statement: a subquery of its permitted columns, masked ones behind their masks.

No expression of the buyer's shares a SELECT with a raw value, so there is no way to name a hidden column, by star, regular expression,
whole row, position or natural join.
"""

from __future__ import annotations

from workloads.catalogue.product import Column
from workloads.catalogue.tables import identifier, literal
from workloads.disclosure.terms import DisclosureError, Mask, Refusal, Rule, TableTerms

_TIMES = ("DATE", "TIMESTAMP")


def source(terms: TableTerms, row: str | None = None) -> str:
    """The subquery's text; with `row`, each row has a number of its own under that name."""
    masks = terms.masks
    shown = [_shown(terms, column, masks.get(column.name.casefold())) for column in terms.columns
             if column.name.casefold() not in terms.hidden_names]  # fmt: skip
    if not shown:
        raise DisclosureError(Refusal(
            Rule.HIDDEN_COLUMN, f"all columns of {terms.product} are hidden", f"ask its owner {terms.owner} for another product",
            terms.product,
        ))  # fmt: skip
    number = [f"ROW_NUMBER() OVER () AS {identifier(row)}"] if row else []
    return f"SELECT {', '.join([*shown, *number])} FROM {identifier(terms.alias)}"


def _shown(terms: TableTerms, column: Column, mask: Mask | None) -> str:
    name = identifier(column.name)
    if mask is None:
        return name
    if mask == "hash":
        # The product's name keeps equal values of two products apart; it is no secret, and who can guess a value can tell it.
        return f"SHA256({literal(f'{terms.product}/{column.name}/')} || CAST({name} AS TEXT)) AS {name}"
    if mask == "year" and column.type.upper().startswith(_TIMES):
        return f"CAST(DATE_TRUNC('YEAR', {name}) AS {column.type}) AS {name}"
    return f"CAST(NULL AS {column.type}) AS {name}"
