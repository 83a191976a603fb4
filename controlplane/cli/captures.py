"""`cpn capture` and `cpn replay`: what the network decided on, fetched, and decided again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from controlplane.cli.failures import FAILED, CommandError, usage
from controlplane.cli.options import Output
from controlplane.cli.output import grid, note, print_document, say
from controlplane.cli.session import connect

DEFAULT_FILE = Path("captures.jsonl.gz")


def add_to(app: typer.Typer) -> None:
    """Put the commands without a group into an application."""
    for command in (capture, replay):
        app.command(command.__name__)(command)


def capture(
    context: typer.Context,
    file: Annotated[Path, typer.Option("-o", "--output-file", metavar="FILE", help="Where they are written.")] = DEFAULT_FILE,
    last: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only so many of the newest; else all that are kept.")] = None,
) -> None:
    """Fetch the decisions that the server keeps: of each, the snapshot and the plan.

    A server keeps them when it runs with CPN_CAPTURE=N. They tell the network's jobs, nodes and prices: operators only.
    """
    from scheduler.captures import read_captures
    from scheduler.errors import CaptureError

    with connect(context) as client:
        try:
            client.captures(file, last)
        except OSError as error:
            raise usage(f"{file} cannot be written ({error.strerror})") from error
    try:
        count = sum(1 for _ in read_captures(file))
    except CaptureError as error:
        raise CommandError(str(error), status=FAILED, hint="are client and server of the same version?") from error
    say(f"{count} decisions in {file}; decide them again with `cpn replay {file}`")


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `cpn capture` wrote.")],
    output: Output = "table",
) -> None:
    """Decide again on captured snapshots with this version's engine, and compare: same snapshot, same plan, to the byte.

    Exit status 1 if a plan differs; the first difference is told. No server is needed.
    """
    from scheduler.captures import read_captures
    from scheduler.captures import replay as decide_again
    from scheduler.errors import CaptureError

    if not file.is_file():
        raise usage(f"{file}: there is no such file", "fetch one with `cpn capture -o FILE`")
    try:
        found = [decide_again(one) for one in read_captures(file)]
    except CaptureError as error:
        raise usage(str(error)) from error
    different = [one for one in found if one.difference]
    if output == "table":
        grid([">CYCLE", "AT", ">JOBS", ">PLACED", "PLAN"], [
            [one.sequence, _moment(one.at), one.jobs, one.placed, one.difference or "the same, to the byte"] for one in found
        ])  # fmt: skip
    else:
        print_document({"decisions": len(found), "different": len(different), "items": [_item(one) for one in found]}, output)
    if different:
        note(
            f"{len(different)} of {len(found)} plans differ; the first is that of cycle {different[0].sequence}: {different[0].difference}"
        )
        raise typer.Exit(FAILED)


def _item(one: Any) -> dict[str, Any]:
    return {
        "sequence": one.sequence, "at": _moment(one.at), "jobs": one.jobs, "placed": one.placed, "same": not one.difference,
        "difference": one.difference or None,
    }  # fmt: skip


def _moment(at: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
