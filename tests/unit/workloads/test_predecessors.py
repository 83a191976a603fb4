"""What a manifest says about when a job may begin."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.records import job_spec
from workloads.spec import JobSpec


def test_an_id_alone_needs_success_and_a_spec_reads_back() -> None:
    spec = job_spec(after=["job-a", {"job": "job-b", "when": "always"}], start_after="2030-01-01T00:00:00+08:00")
    assert [(item.job, item.when) for item in spec.after] == [("job-a", "success"), ("job-b", "always")]
    assert spec.start_after_s() == 1_893_427_200.0
    assert JobSpec.model_validate(spec.model_dump(mode="json"), strict=False) == spec


@pytest.mark.parametrize(
    ("fields", "path", "words"),
    [
        ({"after": ["job-a", "job-b", "job-a"]}, ("after", 2, "job"), "named twice"),
        ({"after": ["Job A"]}, ("after", 0, "job"), "pattern"),
        ({"after": [{"job": "job-a", "when": "failure"}]}, ("after", 0, "when"), "'success' or 'always'"),
        ({"after": [{"when": "always"}]}, ("after", 0, "job"), "required"),
        ({"after": [7]}, ("after", 0), "Predecessor"),
        ({"after": "job-a"}, ("after",), "tuple"),
        ({"after": [f"job-{number}" for number in range(1001)]}, ("after",), "1000"),
        ({"start_after": "2030-01-01T00:00:00"}, ("start_after",), "timezone"),
        ({"start_after": 1893456000}, ("start_after",), "write it like 2026-12-01"),
        ({"start_after": "soon"}, ("start_after",), "write it like 2026-12-01"),
        ({"start_after": "2030-01-02T00:00:00Z", "deadline": "2030-01-02T00:00:00Z"}, ("start_after",), "a later deadline"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], path: tuple[object, ...], words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        job_spec(**fields)
    [fault] = refused.value.errors()
    assert fault["loc"] == path
    assert words in fault["msg"]
