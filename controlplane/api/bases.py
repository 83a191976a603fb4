"""What all documents of the API have in common: no field that is not known."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """A document that the server writes."""

    model_config = ConfigDict(extra="forbid")


class Asked(BaseModel):
    """A document that is read as it is: nothing is taken for what it is not, and nothing changes it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
