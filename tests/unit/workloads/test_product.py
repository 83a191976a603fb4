"""Products' terms and licences: what they may say, and what of it their data must bear out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from tests.unit.workloads.samples import licence, product
from workloads.catalogue.licence import Licence
from workloads.catalogue.product import Column, Product, column_faults

HASH = "ab" * 32
COLUMNS = (Column(name="id", type="BIGINT"), Column(name="born", type="DATE"), Column(name="Email", type="VARCHAR"))


def test_terms_that_say_nothing_limit_nothing() -> None:
    plain = product()
    assert plain.is_raw
    assert (plain.security_level, plain.delivery, plain.min_group, plain.may_copy, plain.sample) == (0, "rows", 10, True, False)
    assert Product.model_validate_json(plain.model_dump_json()) == plain


def test_all_terms_read_back() -> None:
    full = product(
        security_level=3, delivery="aggregates-only", min_group=5, hidden_columns=["email"], masked_columns={"born": "year", "id": "hash"},
        kinds=["sql", "training"], algorithms=[HASH], may_copy=False,
    )  # fmt: skip
    assert not full.is_raw
    assert Product.model_validate_json(full.model_dump_json()) == full


@pytest.mark.parametrize(("terms", "path"), [
    ({"security_level": 6}, ("security_level",)), ({"security_level": -1}, ("security_level",)),
    ({"delivery": "everything"}, ("delivery",)), ({"min_group": 1}, ("min_group",)),
    ({"delivery": "aggregates-only", "min_group": 0}, ("min_group",)),
    ({"hidden_columns": ["a", "A"]}, ("hidden_columns", 1)),
    ({"hidden_columns": ["a"], "masked_columns": {"A": "null"}}, ("masked_columns", "A")),
    ({"masked_columns": {"a": "null", "A": "hash"}}, ("masked_columns", "a")),
    ({"masked_columns": {"a": "blur"}}, ("masked_columns", "a")),
    ({"kinds": ["juggling"]}, ("kinds", 0)), ({"algorithms": ["abc"]}, ("algorithms", 0)),
    ({"sample": True, "delivery": "aggregates-only"}, ("sample",)),
])  # fmt: skip
def test_terms_that_cannot_be_are_refused_by_their_path(terms: dict[str, Any], path: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        product(**terms)
    assert path in [fault["loc"] for fault in refused.value.errors()]


@pytest.mark.parametrize(("terms", "expected"), [
    ({}, {}),
    ({"hidden_columns": ["Email"], "masked_columns": {"born": "year", "id": "hash"}}, {}),
    ({"hidden_columns": ["id", "email"]}, {("hidden_columns", 1): "it has: id, born, Email"}),
    ({"masked_columns": {"name": "null"}}, {("masked_columns", "name"): "no such column"}),
    ({"masked_columns": {"id": "year"}}, {("masked_columns", "id"): "it is BIGINT"}),
])  # fmt: skip
def test_columns_that_terms_name_are_those_of_the_data(terms: dict[str, Any], expected: dict[tuple[Any, ...], str]) -> None:
    found = dict(column_faults(product(**terms), COLUMNS))
    assert found.keys() == expected.keys()
    assert all(words in found[path] for path, words in expected.items())


def test_what_a_licence_may_use_up_reads_back() -> None:
    granted = licence(runs=3, gib="2.5", kinds=["sql"], consent="consent-2026-17")
    assert granted.gib == Decimal("2.5")
    assert Licence.model_validate_json(granted.model_dump_json()) == granted


@pytest.mark.parametrize(
    "fields", [{"runs": 0}, {"runs": 1.5}, {"gib": 0}, {"gib": "many"}, {"gib": True}, {"gib": "NaN"}, {"kinds": ["juggling"]}]
)
def test_a_licence_over_nothing_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        licence(**fields)
