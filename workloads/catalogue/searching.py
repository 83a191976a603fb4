"""Finding products: by words of their name, owner and description, by owner, by classification, and by what they cost at most."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from workloads.catalogue.product import Classification, PriceModel, Product
from workloads.resources import Money


@dataclass(frozen=True)
class Wanted:
    """What is looked for; what is left out does not count."""

    text: str = ""
    owner: str | None = None
    classification: Classification | None = None
    max_price: Money | None = None

    def suits(self, product: Product) -> bool:
        """Whether a product is among what is looked for: it has all the words, in whatever letters."""
        told = f"{product.name} {product.owner} {product.description}".casefold()
        if not all(word in told for word in self.text.casefold().split()):
            return False
        if self.owner not in (None, product.owner) or self.classification not in (None, product.classification):
            return False
        return self.max_price is None or all(_within(price, self.max_price) for price in _prices(product.price))


def _prices(model: PriceModel) -> Iterable[Money]:
    """All that it may charge, whatever for."""
    return [price for name in type(model).model_fields if isinstance(price := getattr(model, name), Money)]


def _within(price: Money, most: Money) -> bool:
    # What is free is within any price, and an amount in another currency cannot be compared.
    return price.amount == 0 or (price.currency == most.currency and price.amount <= most.amount)
