"""The demo's data products and licences. The data is open; the terms are made up to show what terms do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.demo.data import LOCATIONS, replica_path
from controlplane.demo.members import GUIZHOU, SHANGHAI
from workloads.catalogue.product import PriceModel, Product
from workloads.resources import Money

OWNER, TENANT, QUEUE, TARGET = "nyc-open-data", "acme", "analytics", "computing-power"
OPEN_PURPOSES = ("research", "operations", "marketing")


def _product(table: str, description: str, **terms: Any) -> Product:
    return Product(name=f"{OWNER}/{table}", owner=OWNER, description=description, **terms)


PRODUCTS = (
    _product(
        "flights", "Flights that left New York in 2013, without the aircraft's marks", classification="internal", purposes=OPEN_PURPOSES,
        jurisdictions=("CN",), price=PriceModel(per_run=Money.parse("0.50 CNY")),
    ),
    _product(
        "weather", "Hourly weather at New York's airports in 2013", classification="internal", purposes=OPEN_PURPOSES,
        jurisdictions=("CN",), price=PriceModel(per_run=Money.parse("0.20 CNY"), per_gib=Money.parse("1.00 CNY")),
    ),
    _product(
        "tail-log", "Which aircraft flew which flight; tells on single aircraft, so it is processed in Shanghai only",
        classification="restricted", purposes=("research",), jurisdictions=("CN-SH",), price=PriceModel(per_run=Money.parse("0.80 CNY")),
    ),
    _product("planes", "Aircraft by their marks", classification="public"),
    _product("airports", "Airports", classification="public"),
    _product("airlines", "Airlines by their codes", classification="public"),
)  # fmt: skip


@dataclass(frozen=True)
class Grant:
    """A licence for the demo's tenant."""

    table: str
    purposes: tuple[str, ...]


GRANTS = (Grant("flights", ("research",)), Grant("weather", ("research",)), Grant("tail-log", ("research",)))


def product_document(product: Product, data_dir: Path) -> dict[str, Any]:
    """What `cpn product publish` is given: the terms, and one version with its replicas."""
    table = product.name.partition("/")[2]
    replicas = [{"cluster": cluster, "uri": replica_path(data_dir, cluster, table).as_uri()} for cluster in LOCATIONS[table]]
    return {**product.model_dump(mode="json", exclude_defaults=True), "format": "parquet", "replicas": replicas}


def target_document() -> dict[str, Any]:
    """A target with a baseline of the demo's own, and saying so."""
    return {
        "name": TARGET, "compute_class": "intelligent", "precision": "fp16", "baseline": "2.5PFLOPS", "baseline_date": "2020-12-31",
        "multiple": 4.0, "due": "2030-12-31", "scope": f"the demo's pretended clusters {SHANGHAI} and {GUIZHOU}",
        "source": "an example figure made up for this demo; it stands for no published baseline",
    }  # fmt: skip
