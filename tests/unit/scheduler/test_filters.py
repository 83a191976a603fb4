"""Filters: one rule at a time, and which of several gives the reason."""

from __future__ import annotations

import numpy as np
import pytest

from scheduler.engine.filters import (
    CLUSTER_FILTERS,
    NODE_FILTERS,
    Filter,
    busy,
    cordoned,
    first_reasons,
    not_ready,
    policy,
    too_small,
    unhealthy,
    without_labels,
    without_model,
)
from scheduler.engine.reasons import POLICY, Reason
from tests.builders import DrawnCluster, DrawnJob, cluster, job, world

FITS = Reason.FITS


@pytest.mark.parametrize(
    ("rule", "nodes", "asked", "expected"),
    [
        (not_ready, "8 8! 0/8", job("j"), [FITS, Reason.NODE_NOT_READY, FITS]),
        (without_labels, "8@gold 8@gold@ssd 8@ssd 8", job("j", labels="gold"), [FITS, FITS, Reason.NODE_LABELS, Reason.NODE_LABELS]),
        (without_labels, "8@gold 8@gold@ssd", job("j", labels="ssd gold"), [Reason.NODE_LABELS, FITS]),
        (without_labels, "8 8@gold", job("j"), [FITS, FITS]),
        (without_model, "8+4H200 8+0/4H200 8 8+4A100", job("j", "1+1H200"), [FITS, FITS, *[Reason.NODE_ACCELERATOR_MODEL] * 2]),
        (without_model, "8+4H200 8", job("j", "1"), [FITS, FITS]),
        (without_model, "8+1H200 8+.5,1H200 8", job("j", "1+.5H200"), [FITS, FITS, Reason.NODE_ACCELERATOR_MODEL]),
        (too_small, "8 0/8 7", job("j", "8"), [FITS, FITS, Reason.NODE_TOO_SMALL]),
        (too_small, "8:64 8:16 64:8", job("j", "4:32"), [FITS, Reason.NODE_TOO_SMALL, Reason.NODE_TOO_SMALL]),
        (too_small, "8+4H200 8+2H200", job("j", "1+4H200"), [FITS, Reason.NODE_TOO_SMALL]),
        (busy, "8 4/8 3/8", job("j", "4"), [FITS, FITS, Reason.NODE_BUSY]),
        (busy, "8:16/64 8:8/64", job("j", "1:16"), [FITS, Reason.NODE_BUSY]),
        (busy, "8+1/4H200 8+4/4H200", job("j", "1+2H200"), [Reason.NODE_BUSY, FITS]),
    ],
)  # fmt: skip
def test_rules_about_nodes(rule: Filter, nodes: str, asked: DrawnJob, expected: list[Reason]) -> None:
    assert rule(world(cluster("sh", nodes), jobs=[asked]), 0).tolist() == expected


@pytest.mark.parametrize(
    ("rule", "member", "expected"),
    [
        (unhealthy, cluster("sh", healthy=False), Reason.CLUSTER_UNHEALTHY),
        (unhealthy, cluster("sh", cordoned=True), FITS),
        (cordoned, cluster("sh", cordoned=True), Reason.CLUSTER_CORDONED),
        (cordoned, cluster("sh", healthy=False), FITS),
        (policy, cluster("sh", healthy=False, cordoned=True), Reason.LICENCE_PURPOSE),
    ],
)
def test_rules_about_clusters(rule: Filter, member: DrawnCluster, expected: Reason) -> None:
    given = world(cluster("gz"), member, jobs=[job("j", refused={"sh": Reason.LICENCE_PURPOSE})])
    assert rule(given, 0).tolist() == [FITS, expected]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("0/2!", Reason.NODE_NOT_READY),
        ("0/2", Reason.NODE_LABELS),
        ("0/2@gold", Reason.NODE_ACCELERATOR_MODEL),
        ("0/2+0/4H200@gold", Reason.NODE_TOO_SMALL),
        ("0/8+0/4H200@gold", Reason.NODE_BUSY),
        ("8+4H200@gold", FITS),
    ],
)
def test_the_first_rule_against_a_node_gives_its_reason(word: str, expected: Reason) -> None:
    given = world(cluster("sh", word), jobs=[job("j", "4+1H200", labels="gold")])
    assert first_reasons(NODE_FILTERS, given, 0).tolist() == [expected]


def test_rights_are_named_before_health_and_cordon() -> None:
    given = world(
        cluster("a", healthy=False, cordoned=True), cluster("b", healthy=False, cordoned=True), cluster("c", cordoned=True), cluster("d"),
        jobs=[job("j", refused={"a": Reason.PRODUCT_JURISDICTION})],
    )  # fmt: skip
    assert first_reasons(CLUSTER_FILTERS, given, 0).tolist() == [
        Reason.PRODUCT_JURISDICTION, Reason.CLUSTER_UNHEALTHY, Reason.CLUSTER_CORDONED, FITS,
    ]  # fmt: skip


def test_filters_answer_for_an_empty_world() -> None:
    given = world(jobs=[job("j", "1+1H200", labels="gold")])
    assert first_reasons(CLUSTER_FILTERS, given, 0).tolist() == []
    assert first_reasons(NODE_FILTERS, given, 0).tolist() == []


def test_reasons_that_filters_give_are_reasons() -> None:
    given = world(cluster("sh", "8 0/8 8! 2"), jobs=[job("j", "4")])
    found = first_reasons(NODE_FILTERS, given, 0)
    assert found.dtype == np.int64
    assert [Reason(value).label for value in found.tolist()] == ["fits", "node_busy", "node_not_ready", "node_too_small"]


def test_reasons_of_policy_are_rights_residency_and_money() -> None:
    assert {reason.label for reason in POLICY} == {
        "licence_missing", "licence_expired", "licence_purpose", "licence_kind", "licence_consent", "licence_spent",
        "licence_jurisdiction", "product_withdrawn", "product_purpose", "product_kind", "product_program", "product_disclosure",
        "product_jurisdiction", "product_security", "product_copy",
        "job_jurisdiction", "job_cluster", "currency", "over_budget",
    }  # fmt: skip
