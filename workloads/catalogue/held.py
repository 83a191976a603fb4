"""Held prices: what clusters and products cost when a quote was asked for, which holds for jobs that are submitted with it in time."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from workloads.catalogue.pricing import Prices
from workloads.catalogue.product import PriceModel, Product
from workloads.spec import Name, ProductName


class HeldPrices(BaseModel):
    """The prices of every cluster that there was, and of the products that were asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    clusters: dict[Name, Prices]
    products: dict[ProductName, PriceModel] = {}

    def prices(self, cluster: str, today: Prices) -> Prices:
        """Those of a cluster; of one that has come since, today's."""
        return self.clusters.get(cluster, today)

    def product(self, product: Product) -> Product:
        """A product at the price that it had; one that was not asked for at today's."""
        price = self.products.get(product.name)
        return product if price is None else product.model_copy(update={"price": price})
