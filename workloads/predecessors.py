"""When a job may begin: after which other jobs.

A manifest names them in a list, `after: [job-4tq, {job: job-9xk, when: always}]`. A bare id stands for one whose success
is needed. Only jobs that are there already can be named, so no circle can arise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

MOST_PREDECESSORS = 1000

JobId = Annotated[str, StringConstraints(pattern=r"^job-[a-z0-9]{1,20}(-[0-9]{1,7})?$")]
When = Literal["success", "always"]


class Predecessor(BaseModel):
    """A job that has to end first, and how. `always` takes any end, `success` no other."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    job: JobId
    when: When = "success"


def _read(value: object) -> object:
    return {"job": value} if isinstance(value, str) else value


After = Annotated[
    tuple[Annotated[Predecessor, BeforeValidator(_read, json_schema_input_type=JobId | Predecessor)], ...],
    Field(strict=False, max_length=MOST_PREDECESSORS, description="jobs that have to end first: ids, or {job: ID, when: success | always}"),
]


def repeated(after: Sequence[Predecessor]) -> Iterator[tuple[int, str]]:
    """(position, id) of each job that was named before."""
    seen: set[str] = set()
    for position, item in enumerate(after):
        if item.job in seen:
            yield position, item.job
        seen.add(item.job)
