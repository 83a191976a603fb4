"""The part of the catalogue that jobs refer to, read once for all that are judged together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scheduler.assess import InputData
from scheduler.store import catalogue, quotes, subscriptions
from scheduler.store.session import Connection
from workloads.catalogue.held import HeldPrices
from workloads.catalogue.licence import Licence
from workloads.catalogue.product import Product, ProductVersion
from workloads.spec import JobSpec, split_ref


@dataclass(frozen=True)
class Market:
    """The part of the catalogue that some jobs refer to."""

    products: Mapping[str, Product]
    versions: Mapping[str, ProductVersion]
    licences: Mapping[tuple[str, str], tuple[Licence, ...]]
    months: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)  # Paid subscriptions by tenant and product.
    held: Mapping[str, HeldPrices] = field(default_factory=dict)  # By the quote that holds them.

    def inputs(self, spec: JobSpec) -> tuple[InputData, ...]:
        """The inputs of a job, by alias. KeyError when a reference is unknown."""
        found = []
        for alias, ref in sorted(spec.inputs.items()):
            product = self.products[split_ref(ref)[0]]
            whose = spec.tenant, product.name
            found.append(InputData(alias, product, self.versions[ref], self.licences.get(whose, ()), self.months.get(whose, frozenset())))
        return tuple(found)

    def tells_programs(self, spec: JobSpec) -> bool:
        """Whether what a job's program is counts for its rights."""
        return spec.kind != "sql" and any(not self.products[split_ref(ref)[0]].is_raw for ref in spec.inputs.values())


def read_market(conn: Connection, specs: Sequence[JobSpec]) -> Market:
    """Read what these jobs refer to."""
    names = {split_ref(ref)[0] for spec in specs for ref in spec.inputs.values()}
    held = quotes.prices_of(conn, {spec.quote for spec in specs if spec.quote is not None})
    if not names:
        return Market({}, {}, {}, held=held)
    tenants = {spec.tenant for spec in specs}
    products = catalogue.products_named(conn, names)
    months = subscriptions.months_of(conn, tenants, [name for name, found in products.items() if found.price.per_month is not None])
    return Market(products, catalogue.versions_of(conn, names), catalogue.licences_of(conn, tenants, names), months, held)
