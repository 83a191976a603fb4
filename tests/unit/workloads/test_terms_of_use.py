"""Policy on terms of use: kinds, programs, consent, level of security and copies, each by itself and in words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.workloads.samples import licence, product, spec, version
from workloads.catalogue.licence import Licence
from workloads.catalogue.policy import PLACE_INDEPENDENT, Refusal, judge, may_lie, place_independent
from workloads.catalogue.product import Product, ProductVersion
from workloads.programs import program_hash
from workloads.spec import JobSpec

NOW = 1.7e9
PROGRAM = spec(kind="command", sql=None, command=["python", "main.py"], files={"main.py": "print(1)"})
HASH = program_hash(PROGRAM) or ""


def refusals(
    terms: dict[str, Any], job: JobSpec, held: Licence | None = None, *, level: int = 0, versions: tuple[ProductVersion, ...] = ()
) -> tuple[Refusal, ...]:
    inputs: list[tuple[Product, list[Licence]]] = [(product(**terms), [held or licence()])]
    return judge(job, inputs, cluster="sh-1", jurisdiction="CN-SH", now=NOW, security_level=level, versions=versions)


def rules(*given: Any, **more: Any) -> list[str]:
    return [refusal.rule.value for refusal in refusals(*given, **more)]


@pytest.mark.parametrize(("terms", "granted", "expected"), [
    ({}, {}, []), ({"kinds": ["command"]}, {"kinds": ["command"]}, []), ({}, {"kinds": ["sql", "command"]}, []),
    ({"kinds": ["sql"]}, {}, ["product_kind"]), ({}, {"kinds": ["sql", "training"]}, ["licence_kind"]),
    ({"kinds": ["sql"]}, {"kinds": ["sql"]}, ["licence_kind", "product_kind"]),
])  # fmt: skip
def test_kinds_of_jobs_are_the_products_and_the_licences(terms: dict[str, Any], granted: dict[str, Any], expected: list[str]) -> None:
    assert rules(terms, PROGRAM, licence(**granted)) == expected


@pytest.mark.parametrize("limited", [{"delivery": "aggregates-only"}, {"hidden_columns": ["a"]}, {"masked_columns": {"a": "null"}}])
@pytest.mark.parametrize(
    "job",
    [
        PROGRAM,
        spec(kind="training", sql=None, command=["python", "main.py"]),
        spec(kind="ray", sql=None, command=["python", "main.py"]),
        spec(kind="map", sql=None, inputs={"x": "a/b@1"}, files={"a.py": "def fn(t): return t"}, map={"function": "a.py:fn"}),
    ],
    ids=lambda job: job.kind,
)
def test_programs_read_nothing_raw_but_what_the_owner_permits_to_that_program(limited: dict[str, Any], job: JobSpec) -> None:
    assert rules(limited, job) == ["product_program"]
    assert rules({**limited, "algorithms": ["ab" * 32]}, job) == ["product_program"]
    assert rules({**limited, "algorithms": ["ab" * 32, program_hash(job)]}, job) == []
    assert rules(limited, spec()) == []


@pytest.mark.parametrize("changed", [
    {"files": {"main.py": "print(2)"}}, {"files": {"main.py": "print(1)", "more.py": ""}}, {"command": ["python", "-c", "evil"]},
    {"env": {"PYTHONSTARTUP": "x"}}, {"kind": "training"},
])  # fmt: skip
def test_another_program_has_another_hash(changed: dict[str, Any]) -> None:
    other = JobSpec.model_validate({**PROGRAM.model_dump(mode="json"), **changed})
    assert program_hash(other) != HASH
    assert rules({"delivery": "aggregates-only", "algorithms": [HASH]}, other) == ["product_program"]


def test_a_program_is_the_same_whatever_it_works_on_and_a_statement_is_none() -> None:
    same = {"name": "other", "resources": {"cpu": 4}, "purpose": "teaching", "max_runtime": "9h", "inputs": {"x": "a/b@2"}}
    assert program_hash(JobSpec.model_validate({**PROGRAM.model_dump(mode="json"), **same})) == HASH
    assert len(HASH) == 64
    assert program_hash(spec()) is None


def test_personal_data_takes_the_peoples_consent() -> None:
    assert rules({"classification": "personal"}, spec()) == ["licence_consent"]
    assert rules({"classification": "personal"}, spec(), licence(consent="consent-17")) == []
    assert rules({"classification": "restricted"}, spec()) == []


@pytest.mark.parametrize(("asked", "there", "expected"), [(0, 0, []), (2, 2, []), (2, 3, []), (2, 1, ["product_security"])])
def test_a_cluster_is_secured_as_far_as_the_product_asks(asked: int, there: int, expected: list[str]) -> None:
    assert rules({"security_level": asked}, spec(), level=there) == expected
    assert rules({"security_level": asked, "classification": "public"}, spec(), level=there) == expected


def test_what_may_not_be_copied_is_read_where_it_lies() -> None:
    here, away = version(), version(number=2, replicas=[{"cluster": "gz", "uri": "/data/x"}])
    assert rules({"may_copy": False}, spec(), versions=(here,)) == []
    assert rules({"may_copy": False}, spec(), versions=(here, away)) == ["product_copy"]
    assert rules({}, spec(), versions=(here, away)) == []
    assert rules({"may_copy": False}, spec(), versions=(version("other/product", replicas=[{"cluster": "gz", "uri": "/x"}]),)) == []


@pytest.mark.parametrize(("terms", "job", "granted", "message", "remedy"), [
    ({"kinds": ["sql"]}, PROGRAM, {}, "may not be used by jobs of kind command (permits: sql)", "permit kind command"),
    ({}, PROGRAM, {"kinds": ["sql"]}, "does not permit jobs of kind command (permits: sql)", "grant kind command"),
    ({"hidden_columns": ["a"]}, PROGRAM, {}, "has columns that are hidden or masked", f"permit this program, {HASH}"),
    ({"delivery": "aggregates-only"}, PROGRAM, {}, "is delivered as aggregates only", f"permit this program, {HASH}"),
    ({"classification": "personal"}, spec(), {}, "names no consent", "with the reference of their consent"),
    ({"security_level": 3}, spec(), {}, "security level 3 and more, and sh-1 has level 1", "permit level 1"),
    ({"may_copy": False}, spec(), {}, "nycflights/flights@1 may not be copied, and sh-1 holds no replica of it", "run at gz"),
])  # fmt: skip
def test_words_say_what_would_change_it(
    terms: dict[str, Any], job: JobSpec, granted: dict[str, Any], message: str, remedy: str
) -> None:  # fmt: skip
    away = version(replicas=[{"cluster": "gz", "uri": "/data/x"}])
    (refusal,) = refusals(terms, job, licence(**granted), level=1, versions=(away,))
    assert message in refusal.message
    assert remedy in refusal.remedy
    assert "owner nyc-open-data" in refusal.remedy


def test_what_no_place_can_mend_is_known_before() -> None:
    terms = {"kinds": ["sql"], "hidden_columns": ["a"], "classification": "personal", "security_level": 5, "may_copy": False}
    inputs = [(product(**terms), [licence(kinds=["sql"])])]
    found = place_independent(PROGRAM, inputs, now=NOW)
    assert [item.rule.value for item in found] == ["licence_kind", "product_kind", "product_program"]
    assert {item.rule for item in found} <= PLACE_INDEPENDENT


def test_a_copy_may_lie_where_it_is_secured_enough() -> None:
    found = [may_lie(product(security_level=2), [licence()], "CN-SH", NOW, level) for level in (1, 2, 3)]
    assert found == [False, True, True]
