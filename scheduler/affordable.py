"""Affordable: whether a flexible job whose budget does not pay for a start now finds an hour that it pays for, before it is too late.

Asked once, when the job is submitted: then it is taken in and waits for such an hour, or refused with the least that it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from scheduler.assess import Against, Assessment
from scheduler.engine.reasons import Reason
from scheduler.flexible import Courses
from scheduler.freeze import USUAL_START_S, Candidate
from scheduler.store.records import ClusterRecord
from scheduler.ways import Way
from workloads.resources import Money
from workloads.spec import JobSpec


def finds_paid_hour(spec: JobSpec, ways: tuple[Way, ...], clusters: Sequence[ClusterRecord], now: float) -> bool:
    """Whether the budget pays for a start at some cluster and hour, by some way to run the job, from `now` until its latest start."""
    courses, candidate = _courses(clusters, now), Candidate("", 0, spec, ways)
    return any(
        begin <= courses.latest_s(candidate, row, choice)
        for choice in range(len(ways))
        for row in range(len(clusters))
        if courses.latest_s(candidate, row, choice) > 0
        for begin, _ in courses.within(candidate, row, choice)
    )


def with_hours_told(spec: JobSpec, ways: tuple[Way, ...], clusters: Sequence[ClusterRecord], now: float) -> tuple[Assessment, ...]:
    """The standings of all ways; where a budget is too small, with the least that a start costs until the latest one."""
    courses, candidate = _courses(clusters, now), Candidate("", 0, spec, ways)
    return tuple(
        _told(item, _least(courses, candidate, row, choice, now)) if item.reason is Reason.OVER_BUDGET else item
        for choice, way in enumerate(ways)
        for row, item in enumerate(way.assessments)
    )


def with_why_not(assessments: Sequence[Assessment], why: str) -> tuple[Assessment, ...]:
    """The same standings; where a budget is too small, with why the job may not wait for another hour."""
    return tuple(_told(item, (f", and {why}", "")) if item.reason is Reason.OVER_BUDGET else item for item in assessments)


def _courses(clusters: Sequence[ClusterRecord], now: float) -> Courses:
    return Courses(now, clusters, [USUAL_START_S] * len(clusters))


def _least(courses: Courses, candidate: Candidate, row: int, choice: int, now: float) -> tuple[str, str]:
    """What is to be added to the message, and what would change it."""
    quote, latest_s = candidate.ways[choice].assessments[row].quote, courses.latest_s(candidate, row, choice)
    if quote is None or latest_s <= 0:
        return ", and its deadline leaves no time to wait for another hour", ", or give a later deadline"
    least = min((total for _, total in courses.totals(candidate, row, choice)), default=quote.total.amount)
    latest = datetime.fromtimestamp(now + latest_s, UTC)
    cost = Money(amount=least, currency=quote.currency)
    return f"; no start before its latest one, {latest:%Y-%m-%d %H:%M} UTC, costs less than {cost}", f"; {cost} pays for the cheapest hour"


def _told(item: Assessment, more: tuple[str, str]) -> Assessment:
    message, remedy = more
    against = tuple(
        Against(one.reason, one.message + message, one.remedy + remedy) if one.reason is Reason.OVER_BUDGET else one for one in item.against
    )
    return replace(item, against=against)
