"""Licences: the right of one tenant to use one product, for named purposes, until a date, in named places."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from workloads.spec import Jurisdiction, Moment, Name, ProductName, Purpose


class Licence(BaseModel):
    """A grant. An empty `jurisdictions` adds no limit to the product's own; `purposes` are always named."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    id: str
    tenant: Name
    product: ProductName
    purposes: tuple[Purpose, ...] = Field(strict=False, min_length=1)
    jurisdictions: tuple[Jurisdiction, ...] = Field(default=(), strict=False)
    expires_at: Moment | None = None
    revoked: bool = False
