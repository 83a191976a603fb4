"""Licences: the right of one tenant to use one product, for named purposes, until a date, in named places, so many times."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from workloads.resources import GIB
from workloads.spec import Jurisdiction, Kind, Moment, Name, ProductName, Purpose


def _read_gib(value: object) -> object:
    if isinstance(value, Decimal):
        return value
    try:
        return Decimal("" if isinstance(value, bool) else str(value))
    except InvalidOperation as error:
        raise ValueError(f"{value!r} is not a number; write GiB like 250 or 0.5") from error


Gib = Annotated[
    Decimal, BeforeValidator(_read_gib), Field(gt=0, le=1_000_000_000, decimal_places=9, allow_inf_nan=False),
    PlainSerializer(lambda value: f"{value:f}", return_type=str), WithJsonSchema({"type": "string", "examples": ["250", "0.5"]}),
]  # fmt: skip
Runs = Annotated[int, Field(ge=1, le=1_000_000_000)]
Consent = Annotated[str, Field(max_length=200)]


class Licence(BaseModel):
    """A grant. An empty `jurisdictions` adds no limit to the product's own, nor do empty `kinds`; `purposes` are always named."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    id: str
    tenant: Name
    product: ProductName
    purposes: tuple[Purpose, ...] = Field(strict=False, min_length=1)
    jurisdictions: tuple[Jurisdiction, ...] = Field(default=(), strict=False)
    expires_at: Moment | None = None
    revoked: bool = False
    runs: Runs | None = Field(default=None, description="how many runs it was granted for; null: any number")
    gib: Gib | None = Field(default=None, description="how many GiB of data may be read under it, all runs together; null: any number")
    kinds: tuple[Kind, ...] = Field(default=(), strict=False, max_length=10, description="permitted kinds of jobs; empty: as the product")
    consent: Consent = Field(default="", description="reference of the consent of the people whom the data is about")
    runs_left: int | None = Field(default=None, ge=0, description="of `runs`, what is neither reserved nor consumed")
    bytes_left: int | None = Field(default=None, ge=0, description="of `gib`, what is neither reserved nor consumed, in bytes")

    @property
    def is_limited(self) -> bool:
        """Whether something of it can be used up."""
        return self.runs is not None or self.gib is not None

    @property
    def bytes_granted(self) -> int | None:
        """Of `gib` the whole bytes."""
        return None if self.gib is None else int(self.gib * GIB)

    def as_reserved(self) -> Licence:
        """As it stands for a job that has its use of it reserved already: nothing more is taken."""
        return self.model_copy(update={"runs_left": None, "bytes_left": None})
