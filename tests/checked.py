"""What the check says of a plan."""

from __future__ import annotations

from scheduler.engine.check import check
from scheduler.engine.plan import Plan
from scheduler.engine.snapshot import Snapshot
from scheduler.errors import PlanRejectedError


def refusal(given: Snapshot, plan: Plan) -> str:
    """Why a plan is not accepted; nothing for one that is."""
    try:
        check(given, plan)
    except PlanRejectedError as error:
        return str(error)
    return ""
