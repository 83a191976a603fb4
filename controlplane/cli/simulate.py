"""`cpn simulate`: recorded work on machines or on a network, replayed under several policies and what-ifs, decided by the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from controlplane.cli.failures import usage

if TYPE_CHECKING:
    from scheduler.simulator.comparison import Comparison
    from scheduler.simulator.networks import Network
    from scheduler.traces.trace import Trace

FORMATS = ("openb", "philly", "gavel", "swf")
Machines = Annotated[
    str | None, typer.Option(metavar="SPEC", help="The machines: nodes.csv (columns of OpenB), procs=256, or K80=36,P100=36,V100=36.")
]
NetworkFile = Annotated[Path | None, typer.Option(metavar="FILE", help="A network instead: clusters, prices, nodes and queues in YAML.")]
WhatIfs = Annotated[list[str] | None, typer.Option(metavar="CHANGE", help='Compare also: "+200 nodes H200x8 at guizhou"; repeatable.')]


def add_to(app: typer.Typer) -> None:
    """Put the command without a group into an application."""
    app.command("simulate")(simulate)


def simulate(
    context: typer.Context,
    policy: Annotated[str, typer.Option(metavar="NAME[,NAME…]", help="What to compare: fifo, sjf, cpn, …; an unknown name lists all.")],
    trace: Annotated[Path | None, typer.Option(metavar="FILE", help="The recorded jobs, plain or gzipped.")] = None,
    form: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="How they are written: openb, philly, gavel or swf.")
    ] = None,
    cluster: Machines = None,
    network: NetworkFile = None,
    what_if: WhatIfs = None,
    from_store: Annotated[bool, typer.Option("--from-store", help="The jobs that the server ran, on its network or on --network.")] = False,
    last: Annotated[int, typer.Option(min=1, metavar="N", help="With --from-store: only so many of the newest jobs.")] = 10_000,
    backfill: Annotated[
        Literal["none", "easy", "conservative"], typer.Option(help="Whether jobs may pass a blocked one, for policies that order a queue.")
    ] = "none",
    jobs: Annotated[str | None, typer.Option(metavar="A:B", help="Only jobs A up to but without B, from 0 in order of submission.")] = None,
    throughputs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Speeds of a gavel trace; else throughputs.csv beside the trace.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw waits, slowdowns and use to a picture: .png, .svg or .pdf.")
    ] = None,
    progress: Annotated[bool, typer.Option("--progress", help="Show a bar on standard error.")] = False,
    output: Annotated[Literal["table", "json"], typer.Option("-o", "--output", help="A table for people, or JSON for programs.")] = "table",
) -> None:
    """Replay work under several policies, on machines or on a network, as it is and as it might be.

    Waits, slowdowns (bounded at ten seconds), completion, use and fairness of each; on a network also cost and FLOPS. A job that
    fits on no machine is counted as rejected. Nothing is random: two runs give the same figures.
    """
    names = _names(policy)
    _check_sources(trace, form, cluster, network, what_if or [], from_store=from_store)
    if plot is not None:
        _check_plot(plot)
    from scheduler.errors import TraceError

    drawn = _bar(names) if progress else _silent
    try:
        world, work = _sources(context, trace, form, network, throughputs, last, from_store=from_store)
        work = _part(work, jobs)
        if world is None:
            assert cluster is not None
            _simulate_on(cluster, work, names, backfill, plot, drawn, output)
        else:
            _compare_on(world, what_if or [], work, names, backfill, plot, drawn, output)
    except TraceError as error:
        raise usage(str(error)) from error


def _check_sources(
    trace: Path | None, form: str | None, cluster: str | None, network: Path | None, what_ifs: Sequence[str], *, from_store: bool
) -> None:
    """Say which options are missing, or do not go together."""
    if from_store and (trace or form or cluster):
        raise usage("--from-store takes jobs and network from the server", "leave out --trace, --format and --cluster; --network may stay")
    if not from_store and (trace is None or form is None):
        raise usage("name the work: --trace FILE --format FORMAT, or --from-store", f"formats: {', '.join(FORMATS)}")
    if form is not None and form not in FORMATS:
        raise usage(f"--format {form!r}: no such format", f"formats: {', '.join(FORMATS)}")
    if not from_store and (cluster is None) == (network is None):
        raise usage("name the machines: either --cluster SPEC or --network FILE")
    if what_ifs and cluster is not None:
        raise usage("--what-if changes a network; write one in YAML and give it as --network FILE")


def _sources(
    context: typer.Context, trace: Path | None, form: str | None, network: Path | None, throughputs: Path | None, last: int, *,
    from_store: bool,
) -> tuple[Network | None, Trace]:  # fmt: skip
    """The network, if one is asked for, and the work."""
    world = None
    if network is not None:
        from controlplane.network_file import read_network

        world = read_network(network)
    if from_store:
        from controlplane.cli.session import connect
        from controlplane.history import history_of, network_of

        with connect(context) as client:
            return world or network_of(client), history_of(client, last)
    from scheduler.simulator.simulate import read_trace

    assert trace is not None
    assert form is not None
    return world, read_trace(trace, form, throughputs)


def _simulate_on(
    cluster: str,
    work: Trace,
    names: Sequence[str],
    backfill: str,
    plot: Path | None,
    progress: Callable[[str, int, int], None],
    output: str,
) -> None:
    from scheduler.simulator.simulate import replay

    result = replay(work, cluster, names, backfill=backfill, progress=progress)
    if plot is not None:
        from scheduler.simulator.plot import draw

        draw({"": result}, plot)
    from controlplane.cli.simulated import show_replay

    show_replay(result, output, work)


def _compare_on(
    world: Network, what_ifs: Sequence[str], work: Trace, names: Sequence[str], backfill: str, plot: Path | None,
    progress: Callable[[str, int, int], None], output: str,
) -> None:  # fmt: skip
    from controlplane.cli.output import note
    from scheduler.simulator.comparison import compare

    for text in world.warnings():
        note(f"warning: {text}")
    if work.flexible and ("cpn-live" not in names or backfill == "none"):
        note(f"warning: {len(work.flexible):,} jobs are flexible; they wait under cpn-live with --backfill easy or conservative alone")
    result: Comparison = compare(work, world, what_ifs, names, backfill=backfill, progress=progress)
    if plot is not None:
        from scheduler.simulator.plot import draw

        draw({variant.what_if: variant.replay for variant in result.variants}, plot)
    from controlplane.cli.simulated import show_comparison

    show_comparison(result, output, work)


def _names(policy: str) -> Sequence[str]:
    """The policies asked for, each once."""
    from scheduler.simulator.names import POLICY_NAMES

    names = list(dict.fromkeys(name for part in policy.split(",") if (name := part.strip())))
    unknown = [name for name in names if name not in POLICY_NAMES]
    if unknown or not names:
        raise usage(f"--policy {policy!r}: no policy {', '.join(unknown) or 'named'}", f"policies: {', '.join(POLICY_NAMES)}")
    return names


def _part(trace: Trace, jobs: str | None) -> Trace:
    if jobs is None:
        return trace
    first, colon, last = jobs.partition(":")
    if not colon or not (first + last).isdecimal():
        raise usage(f"--jobs {jobs!r}: write two numbers like 0:1024, or leave one of them out like 1024:")
    begin, end = int(first or 0), int(last) if last else len(trace)
    if not begin < min(end, len(trace)):
        raise usage(f"--jobs {jobs}: no job is there; the trace has {len(trace)} jobs that ran")
    return trace.part(begin, end)


def _check_plot(plot: Path) -> None:
    """Say what is missing before the work is done, not after."""
    from importlib.util import find_spec

    if plot.suffix not in (".png", ".svg", ".pdf"):
        raise usage(f"--plot {plot}: the name must end in .png, .svg or .pdf")
    if not plot.absolute().parent.is_dir():
        raise usage(f"--plot {plot}: there is no folder {plot.parent}")
    if find_spec("matplotlib") is None:
        raise usage("--plot needs matplotlib", "install it with the extra: pip install 'cpn[plot]'")


def _silent(_name: str, _done: int, _all: int) -> None:
    """No bar."""


def _bar(names: Sequence[str]) -> Callable[[str, int, int], None]:
    """A bar on standard error, one line for each policy; a program's pipe gets a line at the end of each instead."""
    import sys

    width = max(len(name) for name in names)

    def draw(name: str, done: int, total: int) -> None:
        filled = 30 * done // max(total, 1)
        if sys.stderr.isatty() or done == total:
            end = "\n" if done == total else ""
            print(
                f"\r{name:{width}} [{'█' * filled}{'░' * (30 - filled)}] {done:,} of {total:,} jobs", end=end, file=sys.stderr, flush=True
            )

    return draw
