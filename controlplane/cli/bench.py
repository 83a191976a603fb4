"""`cpn bench`: measurements that anybody can repeat on their own machine. They print figures and judge nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from controlplane.cli.failures import CommandError, usage
from controlplane.cli.options import Output, group
from controlplane.cli.output import fields, grid, note, print_document, say
from controlplane.cli.text import span

app = group()

COLUMNS = "columns of nodes: cpu_milli, memory_mib, gpu, model; of pods: cpu_milli, memory_mib, num_gpu, gpu_milli, and maybe gpu_spec"
Progress = Annotated[bool, typer.Option("--progress", help="Say on standard error what is being measured.")]


@app.command("scale")
def scale(
    nodes: Annotated[int, typer.Option(min=1, max=10_000_000, help="Nodes of the largest network.")] = 100_000,
    jobs: Annotated[int, typer.Option(min=1, max=50_000_000, help="Jobs that wait in it.")] = 1_000_000,
    clusters: Annotated[int, typer.Option(min=1, max=10_000, help="Clusters of every size of network.")] = 100,
    cycles: Annotated[int, typer.Option(min=2, max=10_000, help="Decisions after a small change, for the quantiles.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="What the made-up network is drawn from.")] = 1,
    progress: Progress = False,
    output: Output = "table",
) -> None:
    """What a decision costs on a made-up network of this size, and how that grows.

    One decision on everything, then decisions after small changes: half a percent of the jobs arrive, as many runs end, and a
    hundredth of the nodes change. Done at three sizes, ten times apart.
    """
    _refuse_empty_clusters(nodes, clusters)
    from scheduler.simulator.scale import Size, run_scale

    document = run_scale(Size(nodes, jobs, clusters), cycles=cycles, seed=seed, say=note if progress else _say_nothing)
    if output == "table":
        _scale_table(document)
    else:
        print_document(document, output)


def _refuse_empty_clusters(nodes: int, clusters: int) -> None:
    if nodes < clusters:
        raise typer.BadParameter(f"{nodes} nodes cannot make {clusters} clusters; give --nodes {clusters} or more", param_hint="--nodes")


def _say_nothing(_line: str) -> None:
    pass


def _scale_table(document: dict[str, Any]) -> None:
    rows = [(f"{nodes:,}", f"{jobs:,}", span(seconds)) for nodes, jobs, seconds in document["growth"]]
    grid([">NODES", ">JOBS", ">DECISION AFTER A CHANGE"], rows, title="Median of the decisions after small changes")
    cycle = document["cycle_s"]
    say(
        f"\nLargest size: board built in {span(document['build_s'])}, all decided in {span(document['full_cycle_s'])} "
        f"({document['placements_per_s']:,.0f} placements/s); after a change p50 {span(cycle['p50'])}, p99 {span(cycle['p99'])}; "
        f"peak memory {document['peak_rss_mib']:,.0f} MiB."
    )


@app.command("explain")
def explain(
    nodes: Annotated[int, typer.Option(min=1, max=1_000_000, help="Nodes of the largest network.")] = 10_000,
    jobs: Annotated[int, typer.Option(min=10, max=5_000_000, help="Jobs that wait in it.")] = 100_000,
    clusters: Annotated[int, typer.Option(min=1, max=1000, help="Clusters of every size of network.")] = 20,
    questions: Annotated[int, typer.Option(min=1, max=100_000, help="Waiting jobs that are explained.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="What the made-up network is drawn from.")] = 1,
    progress: Progress = False,
    output: Output = "table",
) -> None:
    """What it costs to say where a waiting job stands and what would start it sooner.

    A made-up network, nearly full, in a database of its own: one cycle decides, then jobs that it left waiting are explained. Done at
    three sizes, ten times apart.
    """
    _refuse_empty_clusters(nodes, clusters)
    from scheduler.simulator.explaining import Crowd, run_explain

    document = run_explain(Crowd(nodes, jobs, clusters, 10), questions=questions, seed=seed, say=note if progress else _say_nothing)
    if output == "table":
        _explain_table(document)
    else:
        print_document(document, output)


def _explain_table(document: dict[str, Any]) -> None:
    rows = [(f"{nodes:,}", f"{jobs:,}", span(sooner), span(whole)) for nodes, jobs, sooner, whole in document["growth"]]
    grid([">NODES", ">JOBS", ">WHAT WOULD START IT SOONER", ">WHOLE EXPLANATION"], rows, title="Medians")
    sooner, whole = document["sooner_s"], document["explain_s"]
    say(
        f"\nLargest size: what would start it sooner p50 {span(sooner['p50'])}, p99 {span(sooner['p99'])}; whole explanation "
        f"p50 {span(whole['p50'])}, p99 {span(whole['p99'])}; the first one after a decision {span(document['first_s'])}; "
        f"{document['proposals']} proposals to {document['questions']} jobs."
    )


@app.command("latency")
def latency(
    n: Annotated[int, typer.Option("--n", min=1, max=100_000, help="Jobs of each kind.")] = 50,
    peer: Annotated[Literal["ray-job"], typer.Option(help="What is measured beside it, in the same run: Ray's Job API.")] = "ray-job",
    output: Output = "table",
) -> None:
    """How long a small job takes on an idle network, beside Ray's own Job API.

    Brings up a network with one real Ray on this machine, in a temporary folder, and stops it again. Takes a minute and a half for
    each 25 rounds; progress goes to standard error.
    """
    from controlplane.bench.latency import run_latency

    with _bench_folder() as folder:
        document = run_latency(folder, n, note)
    if output == "table":
        _latency_table(document, peer)
    else:
        print_document(document, output)


def _latency_table(document: dict[str, Any], peer: str) -> None:
    rows = []
    for name, key, ratio in (("SQL", "cpn_sql", "ratio_sql"), ("command", "cpn_command", "ratio_command"), (peer, "ray_job", "")):
        start, done = (document[key].get(f"submit_to_{step}_ms", {}) for step in ("start", "done"))
        times = [
            f"{value:,.1f}" if value is not None else None for found in (start, done) for value in (found.get("p50"), found.get("p95"))
        ]
        rows.append((name, *times, f"{document[ratio]:.1f} times" if ratio else None))
    headers = ["JOB", ">START P50 MS", ">P95", ">DONE P50 MS", ">P95", f">FASTER THAN {peer.upper()}"]
    grid(headers, rows, title=f"From submission to start and end, {document['n']} of each")


@app.command("throughput")
def throughput(
    jobs: Annotated[int, typer.Option(min=1, max=10_000_000, help="Jobs that do nothing.")] = 5000,
    backend: Annotated[
        Literal["memory", "ray"], typer.Option(help="A member that runs nothing, or a real Ray that answers SELECT 1.")
    ] = "memory",
    clients: Annotated[int, typer.Option(min=1, max=256, help="Connections that submit side by side.")] = 4,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Jobs in one request.")] = 1,
    output: Output = "table",
) -> None:
    """How many jobs a second go from submission to receipt, durably and over HTTP.

    Brings up a network in a temporary folder and stops it again; with CPN_DATABASE_URL its store is that database, which has to be
    empty. Afterwards the jobs are counted in the store. Progress goes to standard error.
    """
    from controlplane.bench.throughput import run_throughput

    with _bench_folder() as folder:
        document = run_throughput(folder, jobs=jobs, backend=backend, clients=clients, batch=batch, say=note)
    if output == "table":
        fields([(name.replace("_", " "), f"{value:,}" if not isinstance(value, str) else value) for name, value in document.items()])
    else:
        print_document(document, output)


@app.command("map")
def map_rows(
    rows: Annotated[int, typer.Option(min=1, max=10_000_000_000, help="Rows of the file that is worked on.")] = 5_000_000,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Runs of each side, after one that does not count.")] = 3,
    cores: Annotated[int, typer.Option(min=1, max=1024, help="Cores that each side has.")] = 2,
    output: Output = "table",
) -> None:
    """Rows a second of a job of kind map, beside a script on Ray Data by hand in the same run.

    Brings up a network with one real Ray on this machine, in a temporary folder, and stops it again. Progress goes to standard error.
    """
    from controlplane.bench.map_rows import run_map

    with _bench_folder() as folder:
        document = run_map(folder, rows=rows, rounds=rounds, cores=cores, say=note)
    if output == "table":
        _map_table(document)
    else:
        print_document(document, output)


def _map_table(document: dict[str, Any]) -> None:
    sides = [("cpn", document["cpn"]), ("Ray Data by hand", document["ray_data"])]
    table = [(name, f"{found['rows_per_s']:,.0f}", span(found["work_s"]), span(found["whole_s"])) for name, found in sides]
    title = f"{document['rows']:,} rows on {document['cores']} cores, medians of {document['rounds']} runs each"
    grid(["SIDE", ">ROWS/S", ">WORK", ">WHOLE"], table, title=title)
    say(f"\ncpn does {document['ratio']:.2f} times as many rows a second; from start to end {document['ratio_whole']:.2f} times as fast.")


@app.command("overhead")
def overhead(
    seconds: Annotated[float, typer.Option(min=0.1, max=86_400.0, help="How long the command works, about.")] = 60.0,
    peer: Annotated[Literal["direct"], typer.Option(help="What is measured beside it, in the same run: the command by hand.")] = "direct",
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Runs of each side, in turns.")] = 3,
    output: Output = "table",
) -> None:
    """What cpn adds to a long job: the same command by hand and as a job, and the processor time of server and agent meanwhile.

    Brings up a network with one real Ray on this machine, in a temporary folder, and stops it again. Progress goes to standard error.
    """
    from controlplane.bench.overhead import run_overhead

    with _bench_folder() as folder:
        document = run_overhead(folder, seconds=seconds, rounds=rounds, say=note)
    if output == "table":
        _overhead_table(document, peer)
    else:
        print_document(document, output)


def _overhead_table(document: dict[str, Any], peer: str) -> None:
    table = [
        (name, *(span(found[key]) for key in ("whole_s", "work_s", "beyond_work_s", "cpu_s")))
        for name, found in (("cpn", document["cpn"]), (peer, document["direct"]))
    ]
    title = f"A command of about {span(document['seconds'])}, medians of {document['rounds']} runs each"
    grid(["SIDE", ">WHOLE", ">WORK", ">BEYOND THE WORK", ">PROCESSOR TIME OF THE WORK"], table, title=title)
    running, idle = (document["control_cpu_s_per_s"][state] for state in ("running", "idle"))
    say(
        f"\nThrough cpn it took {document['ratio']:.4f} times as long; beyond the work {span(document['added_s'])} more, "
        f"{document['added_part']:.2%} of the whole by hand. For a second of the run the server used {running['server'] * 1000:.1f} ms of "
        f"processor time and the agent {running['agent'] * 1000:.1f} ms; where nothing runs {idle['server'] * 1000:.1f} ms and "
        f"{idle['agent'] * 1000:.1f} ms."
    )


@contextmanager
def _bench_folder() -> Iterator[Path]:
    """A folder for one benchmark; what keeps it from being carried out ends the command in words."""
    import httpx

    from controlplane.bench.errors import BenchError
    from controlplane.bench.figures import machine
    from controlplane.errors import ClientError
    from controlplane.network import NetworkError, ending_in_order

    with tempfile.TemporaryDirectory(prefix="cpn-bench-") as folder:
        note(machine(Path(folder)))
        try:
            with ending_in_order():
                yield Path(folder, "network")
        except (BenchError, ClientError, NetworkError, OSError, httpx.HTTPError) as error:
            raise CommandError(f"the benchmark could not be carried out: {error}") from error
        note(f"load {os.getloadavg()[0]:.1f} at the end")


@app.command("placement")
def placement(
    nodes: Annotated[Path, typer.Option(metavar="FILE", help="The nodes, in the format of OpenB, plain or gzipped.")],
    pods: Annotated[Path, typer.Option(metavar="FILE", help="The pods, in the format of OpenB, plain or gzipped.")],
    policies: Annotated[str, typer.Option(metavar="all|NAME[,NAME…]", help="What to compare: random, bestfit, fgd, cpn, ….")] = "all",
    seeds: Annotated[str, typer.Option(metavar="N[,N…]", help="One run for each.")] = "42,43,44",
    tune: Annotated[float, typer.Option(metavar="X", help="Copy pods until they ask for X times the cluster's GPUs.")] = 1.3,
    window: Annotated[int, typer.Option(min=1, max=4096, metavar="K", help="Queued pods that cpn sees at once; others see 1.")] = 1,
    progress: Progress = False,
    output: Output = "table",
) -> None:
    """How many of a cluster's GPUs each policy gives away before room runs out.

    The workload-inflation protocol of Weng et al., USENIX ATC 2023, on lists in the format of OpenB: pods are copied at random,
    shuffled, and placed one by one on empty nodes. Figures are means over the seeds.
    """
    if not 0.0 < tune <= 100.0:
        raise usage(f"--tune {tune}: write a number above 0, up to 100; 1.3 is the published one")
    numbers = _seeds(seeds)
    from scheduler.errors import TraceError
    from scheduler.simulator.inflation import run_inflation
    from scheduler.traces.openb_lists import read_nodes, read_pods

    names = _placement_policies(policies, window)
    try:
        machines = read_nodes(nodes)
        asked = read_pods(pods, int(machines.devices.max()))
    except TraceError as error:
        raise usage(str(error), COLUMNS) from error
    document = run_inflation(machines, asked, names, numbers, tune=tune, window=window, say=note if progress else _say_nothing)
    if output == "table":
        _placement_table(document)
    else:
        print_document(document, output)


def _seeds(text: str) -> list[int]:
    """The seeds, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) <= 18 for part in parts):
        raise usage(f"--seeds {text!r}: write whole numbers with commas between them, like 42,43,44")
    return list(dict.fromkeys(int(part) for part in parts))


def _placement_policies(text: str, window: int) -> list[str]:
    """The policies, each once."""
    from scheduler.simulator.inflation import POLICIES

    if text.strip() == "all":
        return list(POLICIES)
    names = list(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))
    unknown = [name for name in names if name not in POLICIES]
    if unknown or not names:
        raise usage(f"--policies {text!r}: no policy {', '.join(unknown) or 'named'}", f"policies: all, or of {', '.join(POLICIES)}")
    if window > 1 and "cpn" not in names:
        raise usage(f"--window {window}: only cpn sees more than one pod at once", "add cpn to --policies, or leave --window out")
    return names


def _placement_table(document: dict[str, Any]) -> None:
    rows = [
        (name, f"{found['allocation_at_100']:.2f} %", f"± {found['allocation_at_100_sd']:.2f}", f"{found['allocation_at_130']:.2f} %",
         f"{found['placements_per_s']:,.0f}", f"{found['p99_decision_us']:,.0f}")
        for name, found in document["policies"].items()
    ]  # fmt: skip
    title = f"GPUs given away, of {document['gpus']:,} on {document['nodes']:,} nodes"
    grid(["POLICY", ">ALL ASKED FOR", ">DEVIATION", ">1.3 TIMES", ">PLACEMENTS/S", ">P99 US"], rows, title=title)


@app.command("distributed-sql")
def distributed_sql(
    scale: Annotated[float, typer.Option(min=0.001, max=1000.0, help="TPC-H's scale factor; 1 is about 1 GB of text.")] = 1.0,
    workers: Annotated[int, typer.Option(min=2, max=1000, help="Workers that Daft gets, of one core each.")] = 2,
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Memory of one worker, by which `auto` goes too.")] = "4GiB",
    queries: Annotated[str, typer.Option(metavar="all|NAME[,NAME…]", help="Which of q1 to q22.")] = "all",
    by_hand: Annotated[bool, typer.Option("--by-hand", help="Beside them a script written by hand for Daft on the same Ray.")] = False,
    progress: Progress = False,
    output: Output = "table",
) -> None:
    """TPC-H by DuckDB on one worker, by Daft on several, and as `engine: auto` chooses, on a network of its own with a real Ray.

    Needs tpchgen-cli, which makes the data. Seconds are from the submission of a job to its end.
    """
    from controlplane.tpch.bench import Course, run_distributed_sql
    from workloads.errors import DataError, UnitError
    from workloads.resources import parse_memory

    try:
        course = Course(scale, workers, parse_memory(memory), _query_names(queries, scale), by_hand)
    except UnitError as error:
        raise usage(f"--memory {memory}: {error}") from error
    try:
        with _bench_folder() as folder:
            document = run_distributed_sql(course, folder, say=note if progress else _say_nothing)
    except DataError as error:
        raise CommandError(f"the benchmark could not be carried out: {error}") from error
    if output == "table":
        _sql_table(document)
    else:
        print_document(document, output)


def _query_names(text: str, scale: float) -> tuple[str, ...]:
    """The queries, each once; empty for all."""
    from controlplane.tpch import queries

    if text.strip() == "all":
        return ()
    names = tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))
    unknown = [name for name in names if name not in queries(scale)]
    if unknown or not names:
        raise usage(f"--queries {text!r}: no query {', '.join(unknown) or 'named'}", "queries: all, or of q1 to q22")
    return names


def _sql_table(document: dict[str, Any]) -> None:
    def seconds(value: float | None) -> str | None:
        return None if value is None else f"{value:.2f}"

    rows = [
        (name, seconds(one["duckdb_s"]), seconds(one["daft_s"]), seconds(one["auto_s"]), one["auto_engine"],
         "yes" if one["equal"] else "NO", seconds(one.get("by_hand_s")), one.get("daft_cannot") or one.get("by_hand_cannot"))
        for name, one in document["queries"].items()
    ]  # fmt: skip
    title = f"TPC-H at scale {document['scale']:g}, {document['workers']} workers of {document['memory']}; seconds from submission to end"
    grid(["QUERY", ">DUCKDB", ">DAFT", ">AUTO", "AUTO TOOK", "EQUAL", ">BY HAND", "CANNOT"], rows, title=title)
    say(f"\n`auto` took {document['auto_vs_best']:.2f} times as long as the better engine of each query.")
    if "daft_vs_by_hand" in document:
        say(f"On Daft {document['daft_vs_by_hand']:.2f} times as many rows in a second as the script written by hand.")
