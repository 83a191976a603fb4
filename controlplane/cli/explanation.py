"""Where a job stands, for people: its place in the line, what it waits for, what would start it sooner, and how it came there."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from controlplane.cli.output import fields, grid, heading, say
from controlplane.cli.text import MISSING, clock, joined, span
from controlplane.cli.verdicts import print_obstacles, print_scores, print_verdicts

if TYPE_CHECKING:
    from controlplane.api.explanation_schemas import ChangeView, ExpectedView, ExplanationView, WaitingView


def print_explanation(view: ExplanationView) -> None:
    """One job's explanation."""
    summary = view.summary if len(view.summary.splitlines()) == 1 else view.summary.splitlines()[0] + " …"
    say(f"{view.job_id}: {summary}")
    if view.holds:
        heading("What holds it")
        for item in view.holds:
            say(f"  {item.message}")
            say(f"      → {item.remedy}")
    if view.waiting is not None:
        _waiting(view.waiting)
    if view.placed is not None:
        say(f"placed at {view.placed.cluster} ({joined(view.placed.nodes)}) with a score of {view.placed.score:.3f}; 0 is the best")
    if view.verdicts:
        say()
        print_verdicts(view.verdicts, title="Its standing at each cluster now")
        print_scores(view.verdicts)
        print_obstacles(view.verdicts)
    if not view.events:
        say(f"its tasks have stories of their own; see `cpn job list --array {view.job_id}`")
        return
    heading("How it came there")
    rows = [
        (clock(event.at), f"{event.start} → {event.finish}" if event.start else event.finish, event.cause, event.run_id,
         event.message.splitlines()[0] if event.message else None)
        for event in view.events
    ]  # fmt: skip
    grid(["AT", "MOVE", "BECAUSE", "RUN", "MESSAGE"], rows)


def _waiting(view: WaitingView) -> None:
    heading("Where it waits")
    beyond = "" if view.position_known else " or later"
    remedy = f"; {view.waits_for.remedy}" if view.waits_for.remedy else ""
    fields([
        ("in its queue", f"{view.queue_position} of {view.queue_length} in {view.queue}"),
        ("overall", f"{view.position}{beyond} of {view.waiting}"), ("waits for", f"{view.waits_for.message}{remedy}"),
        ("expected start", _expected(view.expected)), ("reckoned from", "; ".join(view.expected.basis)),
        ("not foreseen", "; ".join(view.expected.unknown)), ("as of", clock(view.as_of)),
    ])  # fmt: skip
    if view.ahead:
        heading("Right before it, the nearest last")
        rows = [(item.job_id or "another tenant's", item.name, item.tenant, item.queue, item.message) for item in view.ahead]
        grid(["JOB", "NAME", "TENANT", "QUEUE", "WHY"], rows)
    heading("What would start it sooner")
    grid(
        ["CHANGE", "INSTEAD OF", "STARTS AT", ">IN", ">AT MOST"],
        [
            (_changes(item.changes), joined([_written(change.old) for change in item.changes]), item.cluster, span(item.start_s),
             str(item.price))
            for item in view.sooner
        ],
        none=_no_proposal(view),
    )  # fmt: skip


def _expected(view: ExpectedView) -> str:
    if view.p50_s is None:
        return "nobody can say"
    usual = f"in {span(view.p50_s)} ({clock(view.p50_at)})"
    return f"{usual}; nine in ten within {span(view.p90_s)}" if view.p90_s is not None else f"{usual}; it may be much later"


def _no_proposal(view: WaitingView) -> str:
    if view.waits_for.reason in ("next_cycle", "not_before", "per_queue"):
        return "nothing that the job itself asks for"
    if view.waits_for.reason in ("start_after", "dependency", "array_limit"):
        return "what holds it has to change first"
    return "no single change of what it asks for would start it now"


def _changes(changes: list[ChangeView]) -> str:
    return " ".join("--set " + shlex.quote(f"{change.path}={_written(change.new)}") for change in changes)


def _written(value: Any) -> str:
    """A value as `--set` reads it."""
    if value is None:
        return MISSING
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
