"""Policy: each rule by itself, the closest licence, and what holds everywhere."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.workloads.samples import licence, product, spec
from workloads.catalogue.licence import Licence
from workloads.catalogue.policy import Refusal, Rule, covers, judge, licensed_until, may_lie, place_independent
from workloads.catalogue.product import Product

NOW = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
PAST, FUTURE = "2026-05-31T00:00:00Z", "2026-06-02T00:00:00Z"


def refusals(inputs: list[tuple[Product, list[Licence]]], **changed: Any) -> tuple[Refusal, ...]:
    return judge(spec(**changed), inputs, cluster="sh-1", jurisdiction="CN-SH", now=NOW)


def rules(inputs: list[tuple[Product, list[Licence]]], **changed: Any) -> list[str]:
    return [refusal.rule.value for refusal in refusals(inputs, **changed)]


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        ([licence()], []),
        ([licence(expires_at=FUTURE, jurisdictions=["CN"])], []),
        ([], ["licence_missing"]),
        ([licence(revoked=True)], ["licence_missing"]),
        ([licence(tenant="other")], ["licence_missing"]),
        ([licence("nycflights/weather")], ["licence_missing"]),
        ([licence(expires_at=PAST)], ["licence_expired"]),
        ([licence(purposes=["marketing"])], ["licence_purpose"]),
        ([licence(jurisdictions=["US", "CN-BJ"])], ["licence_jurisdiction"]),
        ([licence(expires_at=PAST), licence(purposes=["marketing"])], ["licence_purpose"]),
        ([licence(jurisdictions=["US"]), licence(purposes=["marketing"]), licence(expires_at=PAST)], ["licence_jurisdiction"]),
        ([licence(jurisdictions=["US"]), licence(expires_at=PAST), licence()], []),
        ([licence(expires_at=PAST, jurisdictions=["US"], purposes=["marketing"])], ["licence_expired"]),
    ],
)
def test_licences(licences: list[Licence], expected: list[str]) -> None:
    assert rules([(product(), licences)]) == expected


def test_a_licence_ends_at_its_very_second() -> None:
    at_now = datetime.fromtimestamp(NOW, tz=UTC).isoformat()
    assert rules([(product(), [licence(expires_at=at_now)])]) == ["licence_expired"]


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({"purposes": ["research", "marketing"], "jurisdictions": ["CN"]}, []),
        ({"purposes": ["marketing"]}, ["product_purpose"]),
        ({"jurisdictions": ["CN-BJ"]}, ["product_jurisdiction"]),
        ({"purposes": ["marketing"], "jurisdictions": ["US"]}, ["product_purpose", "product_jurisdiction"]),
    ],
)
def test_the_products_own_terms(terms: dict[str, Any], expected: list[str]) -> None:
    assert rules([(product(**terms), [licence()])]) == expected
    public = product(**terms, classification="public")
    assert rules([(public, [])]) == expected


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        ({"jurisdictions": ["CN"], "clusters": ["sh-1", "bj-1"]}, []),
        ({"jurisdictions": ["CN-BJ"]}, ["job_jurisdiction"]),
        ({"clusters": ["bj-1"]}, ["job_cluster"]),
        ({"jurisdictions": ["US"], "clusters": ["us-1"]}, ["job_jurisdiction", "job_cluster"]),
    ],
)
def test_the_jobs_own_rules(placement: dict[str, Any], expected: list[str]) -> None:
    found = refusals([], placement=placement)
    assert [refusal.rule.value for refusal in found] == expected
    assert all(refusal.product is None for refusal in found)


def test_refusals_are_ordered_by_rule_then_product() -> None:
    inputs = [(product("b/b", purposes=["marketing"]), []), (product("a/a"), [])]
    found = refusals(inputs, placement={"clusters": ["x"]})
    assert [(refusal.rule, refusal.product) for refusal in found] == [
        (Rule.LICENCE_MISSING, "a/a"), (Rule.LICENCE_MISSING, "b/b"), (Rule.PRODUCT_PURPOSE, "b/b"), (Rule.JOB_CLUSTER, None),
    ]  # fmt: skip


def test_two_versions_of_a_product_are_refused_once() -> None:
    assert rules([(product(), []), (product(), [])]) == ["licence_missing"]


def test_words_say_what_is_missing_and_who_can_change_it() -> None:
    (refusal,) = refusals([(product(), [licence()])], purpose="marketing")
    assert refusal.message == "licence for nycflights/flights lacks purpose 'marketing' (has: research)"
    assert refusal.remedy == "ask owner nyc-open-data to grant purpose 'marketing'"
    (refusal,) = refusals([(product(), [licence(expires_at=PAST)])])
    assert refusal.message == "licence for nycflights/flights expired on 2026-05-31 00:00 UTC"
    (refusal,) = refusals([(product(), [licence(jurisdictions=["US"]), licence(jurisdictions=["CN-BJ"])])])
    assert refusal.message == "licence for nycflights/flights does not cover CN-SH (covers: CN-BJ, US)"
    assert "grant jurisdiction CN-SH" in refusal.remedy


def test_an_entry_covers_its_subdivisions_and_nothing_else() -> None:
    assert covers([], "CN-SH")
    assert covers(["CN"], "CN-SH")
    assert covers(["US", "CN-SH"], "CN-SH")
    assert not covers(["CN-SH"], "CN")
    assert not covers(["CN-S"], "CN-SH")
    assert not covers(["CN-SH"], "CN-BJ")


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([(product(), [])], ["licence_missing"]),
        ([(product(), [licence(expires_at=PAST)])], ["licence_expired"]),
        ([(product(purposes=["marketing"]), [licence(purposes=["marketing"])])], ["licence_purpose", "product_purpose"]),
        ([(product(jurisdictions=["US"]), [licence(jurisdictions=["US"])])], []),
    ],
)
def test_what_holds_at_every_cluster(inputs: list[tuple[Product, list[Licence]]], expected: list[str]) -> None:
    found = place_independent(spec(placement={"clusters": ["nowhere"]}), inputs, now=NOW)
    assert [refusal.rule.value for refusal in found] == expected


@pytest.mark.parametrize(
    ("terms", "licences", "expected"),
    [
        ({}, [licence()], True),
        ({}, [licence(tenant="other", purposes=["marketing"])], True),
        ({}, [], False),
        ({}, [licence(revoked=True), licence(expires_at=PAST), licence(jurisdictions=["US"]), licence("nycflights/weather")], False),
        ({}, [licence(expires_at=FUTURE, jurisdictions=["CN"])], True),
        ({"classification": "public"}, [], True),
        ({"classification": "public", "jurisdictions": ["US"]}, [licence()], False),
        ({"jurisdictions": ["CN-BJ"]}, [licence()], False),
    ],
)
def test_a_copy_may_lie_where_somebody_may_use_it(terms: dict[str, Any], licences: list[Licence], expected: bool) -> None:
    assert may_lie(product(**terms), licences, "CN-SH", NOW) is expected


@pytest.mark.parametrize(
    ("terms", "licences", "expected"),
    [
        ({}, [licence(expires_at=FUTURE)], "2026-06-02"),
        ({}, [licence(expires_at=FUTURE), licence(expires_at="2026-07-01T00:00:00Z")], "2026-07-01"),
        ({}, [licence(expires_at=FUTURE), licence(expires_at="2026-07-01T00:00:00Z", jurisdictions=["US"])], "2026-06-02"),
        ({}, [licence(expires_at=FUTURE), licence(expires_at="2026-07-01T00:00:00Z", tenant="other")], "2026-06-02"),
        ({}, [licence(expires_at=FUTURE), licence()], None),
        ({"classification": "public"}, [], None),
        ({}, [licence(revoked=True), licence(purposes=["marketing"])], "2026-06-01"),
    ],
)
def test_the_right_to_bring_data_in_ends_with_a_licence(terms: dict[str, Any], licences: list[Licence], expected: str | None) -> None:
    end = licensed_until(spec(), product(**terms), licences, "CN-SH", NOW)
    assert (None if end is None else datetime.fromtimestamp(end, tz=UTC).strftime("%Y-%m-%d")) == expected
