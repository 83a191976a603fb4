"""Faults that pydantic finds are told in words that say what to do."""

from __future__ import annotations

import typing
from datetime import date, datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import core_schema

from workloads.fault_words import words_of
from workloads.faults import refuse


class _Two(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["two"] = "two"
    name: str


class _One(BaseModel):
    kind: Literal["one"] = "one"


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (_Two, {}, "this field is required; add it"),
        (_Two, {"name": "a", "nme": "b"}, "there is no such field; correct its name or leave it out"),
        (_Two, "two", "write fields with their values (an object)"),
        (dict[str, int], 5, "write fields with their values (an object)"),
        (_Two, {"name": 5}, "write a text, in quotes where it looks like a number"),
        (Annotated[float, Field(gt=0)], 0, "it must be greater than 0"),
        (Annotated[int, Field(ge=1)], 0, "it must be greater than or equal to 1"),
        (Annotated[int, Field(lt=5)], 5, "it must be less than 5"),
        (Annotated[int, Field(le=5)], 6, "it must be less than or equal to 5"),
        (Annotated[int, Field(multiple_of=4)], 6, "it must be a multiple of 4"),
        (Annotated[float, Field(allow_inf_nan=False)], float("nan"), "it must be a finite number; write digits"),
        (float, "many", "write a valid number, like 2.5"),
        (float, [], "write a valid number, like 2.5"),
        (int, "many", "write a whole number, like 2"),
        (int, [], "write a whole number, like 2"),
        (int, 1.5, "write a whole number, like 2"),
        (bool, "perhaps", "write true or false"),
        (bool, [], "write true or false"),
        (list[int], 5, "write a list of values"),
        (tuple[int, ...], 5, "write a list of values"),
        (Annotated[list[int], Field(min_length=2)], [1], "it holds 1; give at least 2"),
        (Annotated[list[int], Field(max_length=1)], [1, 2], "it holds too many; give at most 1"),
        (Annotated[str, Field(min_length=2)], "a", "it is too short; its length must be at least 2"),
        (Annotated[str, Field(max_length=1)], "ab", "it is too long; its length must be at most 1"),
        (Annotated[str, Field(pattern="^[a-z]$")], "B", "it does not fit the pattern ^[a-z]$; write it so that it does"),
        (Literal["push", "pull"], "pul", "write 'push' or 'pull'"),
        (None, 5, "leave it out, or write null"),
        (date, "soon", "write a date, like 2026-12-01"),
        (datetime, "soon", "write a time with its zone, like 2026-12-01T08:00:00+08:00"),
        (AwareDatetime, "2026-12-01T08:00:00", "add the time zone, like 2026-12-01T08:00:00+08:00"),
        (Annotated[_One | _Two, Field(discriminator="kind")], {"kind": "three"}, "'kind' is 'three'; write one of 'one', 'two'"),
        (Annotated[_One | _Two, Field(discriminator="kind")], {}, "add the field 'kind', which says what the others mean"),
        (bytes, 5, "Input should be a valid bytes; correct this value"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_what_to_write(kind: Any, value: Any, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    assert [words_of(dict(fault)) for fault in caught.value.errors()] == [words]


def test_a_text_that_is_no_json_is_told_with_its_place() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(dict[str, int]).validate_json("{")
    [words] = [words_of(dict(fault)) for fault in caught.value.errors()]
    assert words == "this is no JSON (EOF while parsing an object at line 1 column 1); send one JSON document"


def test_the_words_of_our_own_validators_are_passed_on() -> None:
    def own(_value: int) -> int:
        raise ValueError("5 has no unit; write it as text, like 5GiB")

    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Annotated[int, Field(), AfterValidator(own)]).validate_python(5)
    assert words_of(dict(caught.value.errors()[0])) == "5 has no unit; write it as text, like 5GiB"
    with pytest.raises(ValidationError) as caught:
        refuse("Job", [(("inputs",), "Input is not published; publish it first")])
    assert words_of(dict(caught.value.errors()[0])) == "Input is not published; publish it first"


def test_every_type_of_error_has_words() -> None:
    known = typing.get_args(core_schema.ErrorType)
    assert known
    for kind in known:
        assert words_of({"type": kind, "msg": "Input should be fine", "ctx": {}}).strip()
    # A limit under a name that is not known leaves pydantic's own words.
    assert (
        words_of({"type": "greater_than", "msg": "Input should be greater than 0"}) == "Input should be greater than 0; correct this value"
    )
