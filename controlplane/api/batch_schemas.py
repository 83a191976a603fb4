"""Documents of batches: many submissions in one request, each with its own verdict."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from controlplane.api.bases import Answer, Asked
from controlplane.api.schemas import ProblemView
from workloads.spec import JobSpec


class _ShownAsJobSpec:
    """What a JobSpec will be made of: described as one, and read item by item, so that one that is wrong takes no other with it."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(JobSpec.__pydantic_core_schema__)


Manifest = Annotated[dict[str, Any], _ShownAsJobSpec()]


class BatchItem(Asked):
    """One submission of a batch."""

    job: Manifest
    idempotency_key: str | None = Field(default=None, description="1 to 200 visible ASCII characters; a repeated one gives the first job")


class JobBatch(Asked):
    """Jobs and arrays, submitted in this order."""

    items: list[BatchItem] = Field(min_length=1, description="at most CPN_MAX_BATCH, 1,000 where the operator has not changed it")


class ItemVerdict(Answer):
    """What became of one item. Paths in its problem begin with `items.INDEX`."""

    index: int
    verdict: Literal["accepted", "refused"]
    id: str | None = Field(default=None, description="of the job or array")
    new: bool = Field(default=False, description="false where an earlier submission under the same key is the answer")
    problem: ProblemView | None = None


class BatchVerdict(Answer):
    """The verdict on every item, in their order. Everything accepted was made durable by one commit."""

    accepted: int
    refused: int
    items: list[ItemVerdict]
