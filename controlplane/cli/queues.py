"""`cpn queue`: where jobs wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from controlplane.cli import completion
from controlplane.cli.failures import usage
from controlplane.cli.options import Output, QueueName, group
from controlplane.cli.output import fields, grid, heading, note, show
from controlplane.cli.session import connect
from controlplane.cli.text import clock, joined, number, size

if TYPE_CHECKING:
    from controlplane.api.queue_schemas import QueueView
    from controlplane.api.schemas import Page

app = group()


Parent = Annotated[str | None, typer.Option(metavar="QUEUE", help="The queue that it is below.", autocompletion=completion.queues)]
Quota = Annotated[
    list[str] | None,
    typer.Option(metavar="RESOURCE=AMOUNT", help="Guaranteed, like cpu=64, memory=256GiB or H200=8; repeatable."),
]
BorrowLimit = Annotated[
    list[str] | None,
    typer.Option(metavar="RESOURCE=AMOUNT", help="Most that it may hold beyond its quota; repeatable. [default: no limit]"),
]
LendLimit = Annotated[
    list[str] | None,
    typer.Option(metavar="RESOURCE=AMOUNT", help="Most of its unused quota that others get; repeatable. [default: all]"),
]
Strict = Annotated[
    bool | None,
    typer.Option("--strict/--best-effort", help="Whether jobs start in their order alone, even where the first does not fit."),
]

Policy = Annotated[
    Literal["never", "lower-priority", "reclaim-quota", "inherit"] | None,
    typer.Option(
        help="Whom its jobs may have ended to make room: nobody; runs of a lower priority in the same queue; also those by which others "
        "hold what it has lent; or as the queue above it (the default).",
        show_default=False,
    ),
]


Spread = Annotated[
    bool | None,
    typer.Option("--spread/--pack", help="Whether its work goes to as many nodes as possible or to few. [default: as the queue above]"),
]


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="QUEUE", help="The name to give it.")],
    parent: Parent = None,
    weight: Annotated[float, typer.Option(help="Its share against the weights of queues with the same parent.")] = 1.0,
    quota: Quota = None,
    borrow_limit: BorrowLimit = None,
    lend_limit: LendLimit = None,
    max_running: Annotated[int | None, typer.Option(help="Jobs that run at once in it and below it, at most.")] = None,
    strict: Strict = None,
    spread: Spread = None,
    preemption: Policy = None,
    output: Output = "table",
) -> None:
    """Create a queue, at the top or below another."""
    from controlplane.api.queue_schemas import QueueRequest
    from controlplane.cli.documents import validated

    amounts = _amounts(quota=quota, borrow_limit=borrow_limit, lend_limit=lend_limit)
    document = {
        "name": name,
        "weight": weight,
        "max_running": max_running,
        "parent": parent,
        **_order(strict, preemption),
        **_layout(spread),
        **amounts,
    }
    request = validated(QueueRequest, document, "the queue")
    with connect(context) as client:
        show(client.create_queue(request), output, _created)


def _created(found: QueueView) -> None:
    below = f" below {found.parent}" if found.parent else ""
    print(f"created queue {found.name}{below}, weight {number(found.weight)}")
    _warn(found)


@app.command("change")
def change(
    context: typer.Context,
    name: QueueName,
    parent: Annotated[
        str | None, typer.Option(metavar="QUEUE", help='Move it below this queue; "" for the top.', autocompletion=completion.queues)
    ] = None,
    weight: Annotated[float | None, typer.Option(help="Its share against the weights of queues with the same parent.")] = None,
    quota: Quota = None,
    borrow_limit: BorrowLimit = None,
    lend_limit: LendLimit = None,
    max_running: Annotated[int | None, typer.Option(help="Jobs that run at once in it and below it, at most; 0 for no limit.")] = None,
    strict: Strict = None,
    spread: Spread = None,
    preemption: Policy = None,
    output: Output = "table",
) -> None:
    """Change a queue; what is not given stays, and amounts of a kind are given all at once."""
    from controlplane.api.queue_schemas import QueuePatch
    from controlplane.cli.documents import validated

    document: dict[str, Any] = _amounts(quota=quota, borrow_limit=borrow_limit, lend_limit=lend_limit)
    document |= _order(strict, preemption) | _layout(spread)
    if weight is not None:
        document["weight"] = weight
    if parent is not None:
        document["parent"] = parent or None
    if max_running is not None:
        document["max_running"] = max_running or None
    if not document:
        raise usage(
            "nothing to change",
            "give --parent, --weight, --quota, --borrow-limit, --lend-limit, --max-running, --strict, --best-effort, --spread, --pack or "
            "--preemption",
        )
    with connect(context) as client:
        show(client.change_queue(name, validated(QueuePatch, document, "the change")), output, _details)


def _order(strict: bool | None, preemption: str | None) -> dict[str, Any]:
    order = {} if strict is None else {"order": "strict" if strict else "best-effort"}
    return order if preemption is None else {**order, "preemption": None if preemption == "inherit" else preemption}


def _layout(spread: bool | None) -> dict[str, Any]:
    return {} if spread is None else {"layout": "spread" if spread else "pack"}


def _amounts(**options: list[str] | None) -> dict[str, Any]:
    """The options that are given, each as a mapping of resource to amount."""
    found: dict[str, Any] = {}
    for field, texts in options.items():
        for text in texts or []:
            resource, equals, amount = text.partition("=")
            if not resource or not equals or not amount:
                option = f"--{field.replace('_', '-')}"
                raise usage(f"{option} {text!r} is not RESOURCE=AMOUNT", f"write it like {option} cpu=64 or {option} memory=256GiB")
            try:
                found.setdefault(field, {})[resource] = float(amount)
            except ValueError:
                found.setdefault(field, {})[resource] = amount
    return found


@app.command("list")
def list_queues(context: typer.Context, output: Output = "table") -> None:
    """All queues as a tree: what each is entitled to, receives and borrows, all below it included, now and lately."""
    with connect(context) as client:
        show(client.queues(), output, _table)


def _table(page: Page[QueueView]) -> None:
    rows = [
        ("  " * item.depth + item.name, number(item.weight), item.max_running, item.layout, item.queued, item.running,
         f"{item.entitled_share:.1%}", f"{item.dominant_share:.1%}", f"{item.borrowed_share:.1%}", f"{item.recent_share:.1%}",
         item.preemption)
        for item in in_tree_order(page.items)
    ]  # fmt: skip
    headers = [
        "NAME",
        ">WEIGHT",
        ">MAX RUNNING",
        "LAYOUT",
        ">QUEUED",
        ">RUNNING",
        ">ENTITLED",
        ">RECEIVED",
        ">BORROWED",
        ">LATELY",
        "PREEMPTION",
    ]
    grid(headers, rows, none="no queues yet")
    for item in page.items:
        _warn(item)


def in_tree_order(items: Sequence[QueueView], parent: str | None = None) -> list[QueueView]:
    """Queues by name, each followed by those below it."""
    return [found for item in items if item.parent == parent for found in (item, *in_tree_order(items, item.name))]


def _warn(item: QueueView) -> None:
    for warning in item.warnings:
        note(f"warning: queue {item.name}: {warning}")


@app.command("show")
def show_queue(context: typer.Context, name: QueueName, output: Output = "table") -> None:
    """One queue, with what it is entitled to and holds of each resource."""
    with connect(context) as client:
        show(client.queue(name), output, _details)


def _details(item: QueueView) -> None:
    fields([
        ("name", item.name), ("below", item.parent or "the top"), ("queues below it", joined(item.children)),
        ("weight", number(item.weight)), ("max running", item.max_running or "no limit"), ("order", item.order),
        ("layout", f"{item.layout}, as the queue above" if item.layout_inherited and item.parent else item.layout),
        ("preemption", item.preemption if item.preemption_own else f"{item.preemption} (as the queue above it)" if item.parent
         else f"{item.preemption} (nothing is said)"), ("queued", item.queued),
        ("running", item.running),
        ("entitled to", f"{item.entitled_share:.1%}"), ("received", f"{item.dominant_share:.1%}"),
        ("borrowed", f"{item.borrowed_share:.1%}"), ("received lately", f"{item.recent_share:.1%}"), ("created", clock(item.created_at)),
    ])  # fmt: skip
    rows = [
        (part.resource, *(_amount(part.resource, value) for value in (part.total, part.quota, part.entitled)),
         "no limit" if part.ceiling is None else _amount(part.resource, part.ceiling),
         *(_amount(part.resource, value) for value in (part.kept, part.held, part.borrowed, part.recent)))
        for part in item.resources
    ]  # fmt: skip
    headers = ["RESOURCE", ">NETWORK", ">QUOTA", ">ENTITLED", ">CEILING", ">NEVER LENT", ">HELD", ">BORROWED", ">LATELY"]
    heading("resources")
    grid(headers, rows, none="the network has none")
    _warn(item)


def _amount(resource: str, value: float) -> str:
    return size(value) if resource == "memory" else number(round(value, 3))
