"""The part of the catalogue that some jobs refer to, as one decision reads it: terms, versions, licences and what is reserved of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from scheduler.assess import InputData
from scheduler.store import catalogue, quotes, subscriptions, uses
from scheduler.store.session import Connection
from workloads.catalogue.held import HeldPrices
from workloads.catalogue.licence import Licence
from workloads.catalogue.product import Product, ProductVersion
from workloads.spec import JobSpec, split_ref


@dataclass(frozen=True)
class Market:
    """The part of the catalogue that some jobs refer to; `reserved` are the licences of which jobs have a use reserved, by job, where
    something can be used up."""

    products: Mapping[str, Product]
    versions: Mapping[str, ProductVersion]
    licences: Mapping[tuple[str, str], tuple[Licence, ...]]
    months: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)  # Paid subscriptions by tenant and product.
    held: Mapping[str, HeldPrices] = field(default_factory=dict)  # By the quote that holds them.
    reserved: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def inputs(self, spec: JobSpec, job_id: str = "") -> tuple[InputData, ...]:
        """The inputs of a job, by alias, with licences as they stand for the job of this id. KeyError when a reference is unknown."""
        found, reserved = [], self.reserved.get(job_id, ())
        for alias, ref in sorted(spec.inputs.items()):
            product = self.products[split_ref(ref)[0]]
            whose = spec.tenant, product.name
            licences = self.licences.get(whose, ())
            if reserved:
                licences = tuple(one.as_reserved() if one.id in reserved else one for one in licences)
            found.append(InputData(alias, product, self.versions[ref], licences, self.months.get(whose, frozenset())))
        return tuple(found)

    def tells_programs(self, spec: JobSpec) -> bool:
        """Whether what a job's program is counts for its rights."""
        return spec.kind != "sql" and any(not self.products[split_ref(ref)[0]].is_raw for ref in spec.inputs.values())


def read_market(conn: Connection, specs: Sequence[JobSpec], job_ids: Iterable[str] = ()) -> Market:
    """Read what these jobs refer to; of stored jobs, by id, also what they have reserved."""
    names = {split_ref(ref)[0] for spec in specs for ref in spec.inputs.values()}
    held = quotes.prices_of(conn, {spec.quote for spec in specs if spec.quote is not None})
    if not names:
        return Market({}, {}, {}, held=held)
    tenants = {spec.tenant for spec in specs}
    products, licences = catalogue.products_named(conn, names), catalogue.licences_of(conn, tenants, names)
    months = subscriptions.months_of(conn, tenants, [name for name, found in products.items() if found.price.per_month is not None])
    reserved: dict[str, tuple[str, ...]] = {}
    if any(one.is_limited for granted in licences.values() for one in granted):
        reserved = {name: tuple(use.licence_id for use in found) for name, found in uses.uses_of(conn, job_ids).items()}
    return Market(products, catalogue.versions_of(conn, names), licences, months, held, reserved)
