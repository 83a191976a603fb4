"""Data products, their immutable versions and the replicas that hold the bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from workloads.faults import Fault, refuse
from workloads.resources import MoneyAmount
from workloads.spec import Jurisdiction, Kind, Name, ProductName, Purpose

Classification = Literal["public", "internal", "restricted", "personal"]
Format = Literal["parquet", "csv", "jsonl", "arrow"]
Delivery = Literal["rows", "aggregates-only"]
Mask = Literal["null", "hash", "year"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Standing = Literal["offered", "deprecated", "withdrawn"]
# How far a cluster is secured, by its operator's word: 0 nothing is promised, 5 the most.
SecurityLevel = Annotated[int, Field(ge=0, le=5)]
LEAST_GROUP = 2


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PriceModel(_Frozen):
    """What a use costs; nothing given: nothing. A subscription is charged to a tenant with its first use in a calendar month (UTC)."""

    per_run: MoneyAmount | None = None
    per_gib: MoneyAmount | None = Field(default=None, description="of what is read")
    per_row: MoneyAmount | None = Field(
        default=None,
        exclude_if=lambda value: value is None,
        description="of what is returned, which is counted for statements alone",
    )
    per_month: MoneyAmount | None = Field(
        default=None, exclude_if=lambda value: value is None, description="subscription: once for a tenant and calendar month (UTC)"
    )

    @model_validator(mode="after")
    def _one_currency(self) -> Self:
        given = {name: price for name in ("per_run", "per_gib", "per_row", "per_month") if (price := getattr(self, name)) is not None}
        first = next(iter(given), "")
        refuse("PriceModel", (
            ((name,), f"is in {price.currency}, {first} in {given[first].currency}; give all prices in one currency")
            for name, price in given.items() if price.currency != given[first].currency
        ))  # fmt: skip
        return self


class Product(_Frozen):
    """A data product and the terms that hold for everybody."""

    name: ProductName
    owner: Name
    description: str = Field(default="", max_length=2000)
    classification: Classification
    purposes: tuple[Purpose, ...] = Field(default=(), strict=False, description="permitted purposes; empty: any")
    jurisdictions: tuple[Jurisdiction, ...] = Field(default=(), strict=False, description="where it may be processed; empty: anywhere")
    price: PriceModel = PriceModel()
    security_level: SecurityLevel = Field(default=0, description="the least level of a cluster that may process it")
    delivery: Delivery = Field(default="rows", description="whether a result may hold rows, or aggregates over groups alone")
    min_group: int = Field(default=10, ge=LEAST_GROUP, le=1_000_000, description="of aggregates: smaller groups are left out")
    hidden_columns: tuple[ColumnName, ...] = Field(default=(), strict=False, max_length=1000, description="columns that nobody may read")
    masked_columns: dict[ColumnName, Mask] = Field(default={}, max_length=1000, description="column → what stands in its place")
    kinds: tuple[Kind, ...] = Field(default=(), strict=False, max_length=10, description="permitted kinds of jobs; empty: any")
    algorithms: tuple[Sha256, ...] = Field(
        default=(), strict=False, max_length=1000, description="permitted programs, by content hash, that may read it raw"
    )
    may_copy: bool = Field(default=True, description="whether it may be copied to clusters that hold no replica")
    sample: bool = Field(default=False, description="whether the catalogue may show its first rows")

    @model_validator(mode="after")
    def _terms_agree(self) -> Self:
        refuse("Product", _term_faults(self))
        return self

    @property
    def is_raw(self) -> bool:
        """Whether every reader sees all rows and columns as they are."""
        return self.delivery == "rows" and not self.hidden_columns and not self.masked_columns


def _term_faults(product: Product) -> Iterator[Fault]:
    # Columns are named without regard to case, as in SQL.
    hidden = [name.casefold() for name in product.hidden_columns]
    times = Counter([*hidden, *(name.casefold() for name in product.masked_columns)])
    for index, name in enumerate(hidden):
        if hidden.index(name) != index:
            yield ("hidden_columns", index), f"{product.hidden_columns[index]!r} is named twice; name it once"
    for name in product.masked_columns:
        if name.casefold() in hidden:
            yield ("masked_columns", name), "it is hidden as well, so nothing of it is to be masked; name it in one of both"
        elif times[name.casefold()] > 1:
            yield ("masked_columns", name), "it is masked twice, in other letters; name it once, as the data does"
    if product.sample and product.delivery == "aggregates-only":
        yield ("sample",), "a sample shows rows, and delivery is aggregates-only; leave one of them out"


class Column(_Frozen):
    """A column with its type in DuckDB's words (`BIGINT`, `VARCHAR`, …)."""

    name: str
    type: str


def column_faults(product: Product, columns: Iterable[Column]) -> list[Fault]:
    """What stands between the terms and these columns of its data: hidden and masked ones must be there, and fit their mask."""
    types = {column.name: column.type for column in columns}
    words = f"the data has no such column; it has: {', '.join(types)}"
    faults: list[Fault] = [(("hidden_columns", index), words) for index, name in enumerate(product.hidden_columns) if name not in types]
    for name, mask in product.masked_columns.items():
        if name not in types:
            faults.append((("masked_columns", name), words))
        elif mask == "year" and not types[name].startswith(("DATE", "TIMESTAMP")):
            faults.append((("masked_columns", name), f"only dates and times have a year, it is {types[name]}; mask it by null or hash"))
    return faults


class Replica(_Frozen):
    """One copy of a version: at which cluster, at which fsspec URI."""

    cluster: Name
    uri: str = Field(min_length=1, max_length=2000)


class ProductVersion(_Frozen):
    """An immutable version: every replica has the same bytes, so one size and checksum hold for all."""

    product: ProductName
    version: int = Field(ge=1)
    format: Format
    size_bytes: int = Field(ge=0)
    rows: int = Field(ge=0)
    sha256: Sha256
    columns: tuple[Column, ...] = Field(strict=False)
    replicas: tuple[Replica, ...] = Field(strict=False, min_length=1)
    standing: Standing = Field(default="offered", description="of a deprecated one plans warn, a withdrawn one starts nothing more")
    standing_reason: str = Field(default="", exclude_if=lambda value: not value, description="why it is not offered any more")

    @property
    def ref(self) -> str:
        return f"{self.product}@{self.version}"
