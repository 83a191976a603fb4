"""The answer before the run, for people: every cluster's standing, what it would cost, and what stands against it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from controlplane.cli.output import grid, heading, say
from controlplane.cli.text import MISSING, clock, joined, number, size, span
from scheduler.engine.reasons import FOR_GOOD

if TYPE_CHECKING:
    from controlplane.api.price_schemas import FlexiblePlan, StartPrice
    from controlplane.api.schemas import ClusterVerdict, PlanView, ScoreAspect
    from workloads.catalogue.pricing import Quote, QuoteLine
    from workloads.catalogue.tariffs import HoursAt
    from workloads.engines import EngineChoice

_FOR_GOOD = frozenset(reason.label for reason in FOR_GOOD)


def refused_everywhere(verdicts: Sequence[ClusterVerdict]) -> bool:
    """Whether rights, residency, money or the size of its inputs forbid the job at every cluster."""
    return bool(verdicts) and all(any(item.reason in _FOR_GOOD for item in verdict.obstacles) for verdict in verdicts)


def print_plan(view: PlanView) -> None:
    """A plan: the clusters, the quote of the chosen one, and what stands against the others."""
    if not view.verdicts:
        say("no cluster is registered; add one with `cpn cluster register`")
        return
    print_verdicts(view.verdicts, title=f"{view.name}: {_headline(view)}")
    if view.engine is not None:
        say(f"\n{engine_words(view.engine)}")
    for warning in view.warnings:
        say(f"\nwarning: {warning}")
    if view.program is not None:
        say(f"\nits program, for owners that permit programs: {view.program}")
    for line in rewritten_words(view.rewritten):
        say(line)
    chosen = next((item for item in view.verdicts if item.cluster == view.chosen), None)
    if chosen is not None and chosen.quote is not None:
        heading(f"Quote of {chosen.cluster}: at most {chosen.quote.total}")
        print_lines(chosen.quote.lines, str(chosen.quote.total))
        print_hours(chosen.quote.hours)
        if view.quote_id is not None:
            say(f"these prices hold until {clock(view.quote_expires_at)}: submit with --quote {view.quote_id}")
    if view.flexible is not None:
        _print_starts(view.flexible)
    print_scores(view.verdicts)
    print_obstacles(view.verdicts)


def rewritten_words(why: Sequence[str]) -> list[str]:
    """That another statement runs in place of the buyer's, and why."""
    return ["", "Another statement runs in place of this one:", *(f"  {reason}" for reason in why)] if why else []


def engine_words(choice: EngineChoice) -> str:
    """What runs a statement, and why, in one line."""
    name = {"duckdb": "DuckDB", "daft": "Daft"}[choice.engine]
    return f"Runs on {name}, with {choice.workers} worker{'s' if choice.workers > 1 else ''}: {choice.reason}"


def _print_starts(view: FlexiblePlan) -> None:
    """What a flexible job costs and emits by the hour at which it starts, and what it would wait for."""
    best, cleanest = view.waits_for, view.by == "cleanest"
    if cleanest and not view.starts:
        heading("What it emits by when it starts")
        where = f" ({', '.join(view.unrated)})" if view.unrated else ""
        say(f"no cluster that may take it has an estimate of CO2{where}, so it does not wait and starts like any other")
        return
    heading("What it emits by when it starts, where that is least" if cleanest else "What it costs by when it starts, where it costs least")
    carbon = any(item.carbon_g is not None for item in view.starts)
    rows = [(clock(item.at), item.cluster, _price(item), *([grams(item.carbon_g)] if carbon else [])) for item in view.starts]
    grid(["START", "CLUSTER", ">AT MOST", *([">CO2"] if carbon else [])], rows)
    if view.unrated:
        say(f"not waited for, because nobody has said what runs emit there: {', '.join(view.unrated)}")
    if best is None or best.saving is None:
        say(f"it would start now: no hour before its latest start {'is so much cleaner' if cleanest else 'saves enough'}")
        return
    saving = best.saving
    say(f"it would wait until about {clock(best.start_at)} for {best.cluster}: {saving.cost_then} instead of {saving.cost_now}, "
        f"which {saving.gain}; latest start {clock(saving.latest_start)}")  # fmt: skip


def _price(item: StartPrice) -> str:
    return str(item.price) if item.within_budget else f"{item.price}, over the budget"


def _headline(view: PlanView) -> str:
    if view.chosen is not None:
        return f"would run on {view.chosen}"
    if view.flexible is not None and view.flexible.waits_for is not None:
        saving = view.flexible.waits_for.saving
        return f"would wait for {saving.hour if saving else 'another hour'} on {view.flexible.waits_for.cluster}"
    return "refused at every cluster" if refused_everywhere(view.verdicts) else "would wait; no cluster can take it now"


def print_verdicts(verdicts: Iterable[ClusterVerdict], title: str = "") -> None:
    """The clusters' standing, one a line."""
    verdicts = list(verdicts)
    # Which model a quote is for is worth a column only for jobs with accelerators.
    model, speed = any(item.accelerator_model for item in verdicts), any(item.speed for item in verdicts)
    carbon = any(item.carbon_g is not None for item in verdicts)
    rows = [
        (item.cluster, *([item.accelerator_model] if model else []), *([_speed(item)] if speed else []), item.verdict,
         span(item.start_s) if item.start_s is not None else MISSING, _transfer(item),
         _at_most(item), *([grams(item.carbon_g)] if carbon else []), item.obstacles[0].message if item.obstacles else None)
        for item in verdicts
    ]  # fmt: skip
    columns = ["CLUSTER", *(["MODEL"] if model else []), *(["SPEED"] if speed else [])]
    columns += ["VERDICT", ">STARTS IN", "TRANSFER", ">AT MOST", *([">CO2"] if carbon else []), "AGAINST IT"]
    grid(columns, rows, title=title)


def _speed(item: ClusterVerdict) -> str:
    return f"{item.speed.value:.2f} ({item.speed.words})" if item.speed else MISSING


def grams(value: float | None) -> str:
    """An amount of CO2, which is an estimate; where a part of it is unknown there is none."""
    from workloads.resources import format_grams

    return "unrated" if value is None else format_grams(value)


def _at_most(item: ClusterVerdict) -> str:
    """The quote; of an elastic gang from the fewest workers to the most, and with how many it would start now."""
    if item.quote is None or item.least_quote is None:
        paid_s = item.quote.runtime_s if item.quote else None
        stopped = "" if paid_s is None else f" (the budget; stopped after {span(paid_s)})"
        return f"{item.quote.total}{stopped}" if item.quote else MISSING
    now = f" ({item.workers} workers now)" if item.workers is not None else ""
    return f"{item.least_quote.total} to {item.quote.total}{now}"


def print_scores(verdicts: Iterable[ClusterVerdict]) -> None:
    """What the choice went by, where there was one."""
    scored = [item for item in verdicts if item.score_parts]
    if len(scored) < 2:
        return
    heading("Scores: each 0 (the best candidate) to its weight (the worst), in brackets what it is made of; the lowest sum wins")
    rows = [
        (item.cluster, *(f"{part.points:.3f} ({_aspect_value(part)})" for part in item.score_parts), f"{item.score:.3f}")
        for item in sorted(scored, key=lambda item: (item.score or 0.0, item.cluster))
    ]
    grid(["CLUSTER", *(f">{part.aspect.upper()} x{part.weight:g}" for part in scored[0].score_parts), ">SCORE"], rows)


def _aspect_value(part: ScoreAspect) -> str:
    """A value with its unit: money without its currency, times, devices, nodes, parts of a cluster, CO2."""
    if part.value is None or part.aspect == "carbon":
        return grams(part.value)
    if part.aspect == "price":
        return number(part.value)
    if part.aspect == "fragmentation":
        return f"{part.value:.3f} devices"
    if part.aspect == "topology":
        return f"{part.value:.0f} node{'' if part.value == 1 else 's'}"
    return f"{part.value:.0%}" if part.aspect in ("spread", "pack") else span(part.value)


def _transfer(item: ClusterVerdict) -> str:
    if not item.transfer_bytes:
        return "nothing"
    return f"{size(item.transfer_bytes)} in {span(item.transfer_s)} from {joined(sorted({one.source for one in item.transfers}))}"


def print_obstacles(verdicts: Iterable[ClusterVerdict]) -> None:
    """What stands against each cluster and what would change it."""
    against = [item for item in verdicts if item.obstacles]
    if against:
        heading("What stands against the others" if any(item.verdict == "chosen" for item in verdicts) else "What stands against it")
    for verdict in against:
        for item in verdict.obstacles:
            say(f"  {verdict.cluster}: {item.message}")
            if item.remedy:
                say(f"      → {item.remedy}")


def print_hours(hours: Sequence[HoursAt]) -> None:
    """Where there are tariffs: how many hours are charged at which."""
    if hours:
        parts = " and ".join(f"{number(float(item.hours))} h at {number(float(item.factor))}" for item in hours)
        say(f"hourly quantities are weighed by the tariffs of the hours: {parts} of the price")


def print_lines(lines: Sequence[QuoteLine], total: str, quoted: Quote | None = None) -> None:
    """The positions of a quote or receipt with their total; of a receipt beside what each was quoted at."""
    at_most = {(line.item, line.detail): str(line.amount) for line in quoted.lines} if quoted else {}
    rows: list[tuple[str, ...]] = [
        (
            line.item, f"{line.detail}: {line.note}" if line.note else line.detail,
            f"{number(float(line.quantity))} {line.unit}", str(line.unit_price),
            *([at_most.get((line.item, line.detail), MISSING)] if quoted else []), str(line.amount),
        )
        for line in lines
    ]  # fmt: skip
    headers = ["ITEM", "DETAIL", ">QUANTITY", ">UNIT PRICE", *([">QUOTED"] if quoted else []), ">AMOUNT"]
    grid(headers, [*rows, ("total", "", "", "", *([str(quoted.total)] if quoted else []), total)])
