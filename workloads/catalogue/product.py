"""Data products, their immutable versions and the replicas that hold the bytes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from workloads.resources import MoneyAmount
from workloads.spec import Jurisdiction, Name, ProductName, Purpose

Classification = Literal["public", "internal", "restricted", "personal"]
Format = Literal["parquet", "csv", "jsonl", "arrow"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PriceModel(_Frozen):
    """What a use costs: a fixed amount per run and an amount per GiB of input."""

    per_run: MoneyAmount | None = None
    per_gib: MoneyAmount | None = None


class Product(_Frozen):
    """A data product and the terms that hold for everybody."""

    name: ProductName
    owner: Name
    description: str = Field(default="", max_length=2000)
    classification: Classification
    purposes: tuple[Purpose, ...] = Field(default=(), strict=False, description="permitted purposes; empty: any")
    jurisdictions: tuple[Jurisdiction, ...] = Field(default=(), strict=False, description="where it may be processed; empty: anywhere")
    price: PriceModel = PriceModel()


class Column(_Frozen):
    """A column with its type in DuckDB's words (`BIGINT`, `VARCHAR`, …)."""

    name: str
    type: str


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

    @property
    def ref(self) -> str:
        return f"{self.product}@{self.version}"
