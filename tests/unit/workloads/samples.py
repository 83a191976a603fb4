"""Small products, licences and prices for the tests of this folder."""

from __future__ import annotations

from typing import Any

from workloads.catalogue.licence import Licence
from workloads.catalogue.pricing import Prices
from workloads.catalogue.product import Product, ProductVersion
from workloads.spec import JobSpec


def product(name: str = "nycflights/flights", **terms: Any) -> Product:
    return Product.model_validate({"name": name, "owner": "nyc-open-data", "classification": "internal", **terms})


def version(name: str = "nycflights/flights", number: int = 1, size_bytes: int = 2**30, **terms: Any) -> ProductVersion:
    return ProductVersion.model_validate({
        "product": name, "version": number, "format": "parquet", "size_bytes": size_bytes, "rows": 1, "sha256": "0" * 64,
        "columns": [{"name": "carrier", "type": "VARCHAR"}], "replicas": [{"cluster": "sh-1", "uri": "/data/flights.parquet"}],
        **terms,
    })  # fmt: skip


def licence(name: str = "nycflights/flights", **terms: Any) -> Licence:
    return Licence.model_validate({"id": "l-1", "tenant": "acme", "product": name, "purposes": ["research"], **terms})


def prices(currency: str = "CNY", **changed: Any) -> Prices:
    standard = {"cpu_hour": f"0.36 {currency}", "memory_gib_hour": f"0.04 {currency}", "transfer_gib": f"0.50 {currency}"}
    return Prices.model_validate({**standard, "accelerator_hour": {"H200": f"20.00 {currency}"}, **changed})


def spec(**changed: Any) -> JobSpec:
    return JobSpec.model_validate({"name": "j", "tenant": "acme", "kind": "sql", "purpose": "research", "sql": "SELECT 1", **changed})
