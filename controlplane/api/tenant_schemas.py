"""Tenants as documents: who submits jobs, where its results lie and how long."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field, field_validator

from cluster.model import whole_store
from controlplane.api.bases import Answer, Asked
from workloads.spec import Name

MOST_BYTES = 2**62


class TenantPatch(Asked):
    """Fields to change; what is left out stays."""

    result_store: str | None = Field(
        default=None, max_length=1000, description="where its results lie: `s3://bucket/prefix`; null: in the server's own directory"
    )
    keep_results_days: float | None = Field(
        default=None, ge=0, le=1e6, description="how long after the end of their run; 0: no limit; null: as CPN_KEEP_RESULTS_DAYS says"
    )
    keep_results_bytes: int | None = Field(
        default=None, ge=0, le=MOST_BYTES,
        description="how much of them, the oldest go first; 0: no limit; null: together with others as CPN_KEEP_RESULTS_BYTES says",
    )  # fmt: skip

    @field_validator("result_store")
    @classmethod
    def _is_a_store(cls, url: str | None) -> str | None:
        return whole_store(url)

    def columns(self) -> dict[str, Any]:
        """What is to be stored, of the fields that are given."""
        return {name: getattr(self, name) for name in TenantPatch.model_fields if name in self.model_fields_set}


class TenantRequest(TenantPatch):
    """A new tenant."""

    name: Name


class TenantView(Answer):
    """A tenant: who submits jobs and holds licences."""

    name: str
    created_at: datetime
    result_store: str | None = Field(description="where its results lie; null: in the server's own directory")
    keep_results_days: float | None
    keep_results_bytes: int | None
    waiting_results: int = Field(description="results that the server has because their store could not be used")
    waiting_for: str = Field(description="why they wait, and what to do")


class ResultPlace(Answer):
    """Where a result lies now."""

    state: Literal["stored", "moving", "waiting"] = Field(
        description="stored: where it is to lie; moving: the server has it and sends it; waiting: it has it, the store cannot be used"
    )
    url: str | None = Field(description="the store, of the tenant or of the cluster where it ran; null: the server's own directory")
    message: str = Field(description="why it waits; empty when it does not")
