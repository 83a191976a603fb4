"""What the terms of its inputs make of a job's statement: judged before it is stored, before every decision, and as it is sent out.

The text that a buyer submitted is what is stored. What runs is made of it from the terms of the moment in which it is judged, and kept
with the judgement, so that a decision and what is sent out come from the same terms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from scheduler.assess import Against, InputData, rank
from scheduler.engine.reasons import Reason
from scheduler.ways import Way
from workloads.catalogue.product import Column, Product
from workloads.disclosure.terms import DisclosureError, TableTerms
from workloads.errors import StatementError
from workloads.runners.sql import permitted_statement
from workloads.spec import JobSpec, split_ref

# What a buyer is told of a statement that failed over rows of which it may not learn any.
SILENT = "the statement failed while it ran; what it failed on is not told of products that answer about groups only"


@dataclass(frozen=True)
class Disclosed:
    """What runs in place of a statement, and why it is not the buyer's own; or what stands against it."""

    sql: str | None
    why: tuple[str, ...] = ()
    against: Against | None = None


def is_limited(spec: JobSpec, products: Mapping[str, Product]) -> bool:
    """Whether a job's statement is rewritten, or refused, for the terms of an input."""
    return spec.kind == "sql" and any(not products[split_ref(ref)[0]].is_raw for ref in spec.inputs.values())


def disclosed(spec: JobSpec, inputs: Sequence[InputData]) -> Disclosed:
    """What runs of a job's statement by its inputs' terms; it binds over their columns."""
    if not is_limited(spec, {item.product.name: item.product for item in inputs}):
        return Disclosed(spec.sql)
    if spec.chosen_engine is not None and spec.chosen_engine.engine == "daft" and (kept := only_groups(item.product for item in inputs)):
        words = f"{kept} answers about groups only since this job was admitted, and such statements run on DuckDB"
        return Disclosed(None, (), Against(Reason.PRODUCT_DISCLOSURE, words, "cancel the job, and submit it again"))
    try:
        found = permitted_statement(spec.sql or "", [table_terms(item) for item in inputs])
    except DisclosureError as error:
        refusal = error.refusal
        return Disclosed(None, (), Against(Reason.PRODUCT_DISCLOSURE, f"{refusal.message} ({refusal.rule})", refusal.remedy))
    except StatementError as error:
        return Disclosed(None, (), Against(Reason.PRODUCT_DISCLOSURE, f"the statement cannot be judged: {error}", "write a smaller one"))
    return Disclosed(found.sql, found.why)


def table_terms(item: InputData) -> TableTerms:
    """An input as the policy on statements sees it."""
    product = item.product
    columns = tuple(Column(name=column.name, type=column.type) for column in item.version.columns)
    return TableTerms(
        item.alias, product.name, product.owner, columns, product.delivery == "aggregates-only", product.min_group,
        product.hidden_columns, tuple(sorted(product.masked_columns.items())),
    )  # fmt: skip


def with_disclosure(ways: Iterable[Way], found: Disclosed) -> tuple[Way, ...]:
    """The ways with what stands against the statement at every cluster."""
    if found.against is None:
        return tuple(ways)
    against = found.against
    return tuple(
        replace(way, assessments=tuple(
            replace(item, against=tuple(sorted((*item.against, against), key=rank))) for item in way.assessments
        ))
        for way in ways
    )  # fmt: skip


def rewritten_words(found: Disclosed | None) -> str:
    """What the event of a placement says of the statement that was sent out."""
    return f"; another statement runs in place of the job's: {'; '.join(found.why)}" if found is not None and found.why else ""


def only_groups(products: Iterable[Product]) -> str:
    """The first of these products that answers about groups only; empty where none does."""
    return next((product.name for product in products if product.delivery == "aggregates-only"), "")


def told(message: str, products: Iterable[Product]) -> str:
    """The words of a statement's failure, without what they may tell of single rows."""
    return SILENT if only_groups(products) else message
