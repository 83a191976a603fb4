"""How the tasks of an array are written."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.records import job_spec
from workloads.arrays import read_array
from workloads.spec import JobSpec


@pytest.mark.parametrize(
    ("text", "indices", "at_most"),
    [
        ("0-4", (0, 1, 2, 3, 4), None), ("0-3%2", (0, 1, 2, 3), 2), ("1,3,7-9%2", (1, 3, 7, 8, 9), 2), ("7-9,3, 1", (1, 3, 7, 8, 9), None),
        ("7", (7,), None), ("5-5%1", (5,), 1),
    ],
)  # fmt: skip
def test_what_is_written_is_what_is_meant(text: str, indices: tuple[int, ...], at_most: int | None) -> None:
    tasks = read_array(text)
    assert (tasks.indices(), tasks.size, tasks.at_most) == (indices, len(indices), at_most)
    spec = job_spec(array=text)
    assert JobSpec.model_validate(spec.model_dump(mode="json"), strict=False) == spec


def test_the_size_of_a_large_one_is_known_before_it_is_made() -> None:
    assert read_array("0-9999999").size == 10_000_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is no index"), ("0-", "'0-' is no index"), ("-3", "'-3' is no index"), ("a-b", "like 0-99"), ("1,,2", "'' is no index"),
        ("9-3", "write it as 3-9"), ("1-5,5", "index 5 is named twice"), ("3,1,3", "index 3 is named twice"),
        ("0-9%0", "'0' is not how many"),
        ("0-9%", "'' is not how many"), ("0-9%x", "'x' is not how many"), ("0-9%2%3", "'2%3' is not how many"), ("0-10000000", "too large"),
        ("0-3:2", "'0-3:2' is no index"), (7, "7 is no text"), ([1, 2], "is no text"), ("1," * 6000 + "1", "submit several"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(text: Any, words: str) -> None:
    with pytest.raises(ValidationError) as refused:
        job_spec(array=text)
    [fault] = refused.value.errors()
    assert fault["loc"] == ("array",)
    assert words in fault["msg"]
