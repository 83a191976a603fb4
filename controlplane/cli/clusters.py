"""`cpn cluster` and `cpn node`: the members of the network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from controlplane.cli import completion, kube_members, local_clusters
from controlplane.cli.cluster_details import accelerators_in_use, cluster_details, others_hold
from controlplane.cli.failures import usage
from controlplane.cli.kube_options import DataClaims, Image, Kubeconfig, KubeContext, LocalQueue, Namespace, Tolerate, kubernetes_part
from controlplane.cli.options import ClusterName, Output, group
from controlplane.cli.output import grid, note, show
from controlplane.cli.session import connect
from controlplane.cli.text import clock, joined, number, size

if TYPE_CHECKING:
    from cluster.model import ClusterSpec
    from controlplane.api.schemas import ClusterView, NodeView, Page, TokenCreated
    from controlplane.client import Client

app = group()
nodes = group()

Label = Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label; repeatable.")]
AcceleratorPrice = Annotated[
    list[str] | None,
    typer.Option("--accelerator-price", metavar="MODEL=PRICE", help='Per accelerator-hour, like H200="35.00 CNY"; repeatable.'),
]

ClusterFile = Annotated[
    Path | None, typer.Option("-f", "--file", metavar="FILE", help="The cluster as a document; options given here win.")
]
RayJobsSwitch = Annotated[
    bool | None, typer.Option("--ray-jobs/--no-ray-jobs", help="Whether it runs jobs of kind ray. [default: not]", show_default=False)
]
Wheelhouse = Annotated[
    str | None, typer.Option(metavar="DIR", help="Where jobs of kind ray get packages from: wheels in a directory of every node.")
]
NOWHERE = "none"
ResultStoreUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Kubernetes: where pods put results too large for their log, like s3://bucket/prefix; none: nowhere.",
    ),
]

Security = Annotated[
    int | None, typer.Option("--security-level", metavar="LEVEL", help="How far it is secured, 0 to 5. [default: 0]", show_default=False)
]
LeaseEnd = Annotated[
    Literal["stop", "continue"] | None,
    typer.Option(help="What its runs do when its agent cannot reach the server for the time of the lease. [default: stop]"),
]
DriverChoice = Annotated[
    Literal["auto", "actors", "job-api"] | None,
    typer.Option(help="Push mode: how it is driven; the Job API runs single commands only. [default: auto]", show_default=False),
]

ModeChoice = Annotated[
    Literal["push", "pull"] | None,
    typer.Option(help="push: the server reaches it; pull: its agent dials in. [default: pull; push with --kubeconfig]", show_default=False),
]
JoinTokenSwitch = Annotated[
    bool,
    typer.Option(
        "--join-token/--no-join-token", " /--no-agent-token", help="Pull mode: also make a join token, with which its agent joins once."
    ),
]


@app.command("register")
def register(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="CLUSTER", help="The name to give it.")] = None,
    file: ClusterFile = None,
    backend: Annotated[Literal["ray", "kubernetes", "memory"] | None, typer.Option(help="What runs there.")] = None,
    jurisdiction: Annotated[str | None, typer.Option(help="Where it lies, like CN-SH.")] = None,
    mode: ModeChoice = None,
    cpu_price: Annotated[str | None, typer.Option(metavar="PRICE", help='Per core-hour, like "0.40 CNY".')] = None,
    memory_price: Annotated[str | None, typer.Option(metavar="PRICE", help="Per GiB-hour.")] = None,
    accelerator_price: AcceleratorPrice = None,
    transfer_price: Annotated[str | None, typer.Option(metavar="PRICE", help="Per GiB brought in from another cluster.")] = None,
    label: Label = None,
    address: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Push mode: the head's address.")] = None,
    dashboard: Annotated[str | None, typer.Option(metavar="URL", help="Push mode: the dashboard, if it is to be used.")] = None,
    token_file: Annotated[str | None, typer.Option(metavar="FILE", help="Push mode: the cluster's token, on the server's machine.")] = None,
    driver: DriverChoice = None,
    kubeconfig: Kubeconfig = None,
    kube_context: KubeContext = None,
    namespace: Namespace = None,
    image: Image = None,
    tolerate: Tolerate = None,
    local_queue: LocalQueue = None,
    data_claim: DataClaims = None,
    inbound_bandwidth: Annotated[float | None, typer.Option(metavar="MIB_S", help="Speed of transfers to it, in MiB/s.")] = None,
    on_lease_lost: LeaseEnd = None,
    security_level: Security = None,
    ray_jobs: RayJobsSwitch = None,
    wheelhouse: Wheelhouse = None,
    result_store: ResultStoreUrl = None,
    join_token: JoinTokenSwitch = True,
    output: Output = "table",
) -> None:
    """Register a cluster; in pull mode, also print the command that starts its agent."""
    from cluster.model import ClusterSpec
    from controlplane.cli.documents import read_document, validated

    document = read_document(file) if file else {}
    given = {"name": name, "backend": backend, "jurisdiction": jurisdiction, "mode": mode, "inbound_bandwidth_mib_s": inbound_bandwidth}
    document |= _given(given | {"on_lease_lost": on_lease_lost, "security_level": security_level})
    prices = {"cpu_hour": cpu_price, "memory_gib_hour": memory_price, "transfer_gib": transfer_price}
    _merge(document, "prices", {**prices, "accelerator_hour": _pairs("--accelerator-price", accelerator_price)})
    _merge(document, "labels", _pairs("--label", label) or {})
    _merge(document, "endpoint", {"address": address, "dashboard": dashboard, "token_file": token_file, "driver": driver})
    _merge_kubernetes(document, kubernetes_part(kubeconfig, kube_context, namespace, image, tolerate, local_queue, data_claim))
    document |= _ray_jobs(ray_jobs, wheelhouse) | _store(result_store)
    spec = validated(ClusterSpec, document, str(file) if file else "the cluster")
    _register(context, spec, output, join_token=join_token)


def _register(context: typer.Context, spec: ClusterSpec, output: Output, *, join_token: bool) -> None:
    with connect(context) as client:
        view = client.register_cluster(spec)
        show(view, output, lambda found: print(f"registered {found.name} ({found.jurisdiction}, {found.mode} mode)"))
        if spec.mode == "pull" and join_token:
            _tell_agent(client, spec)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """What options say, without those that say nothing."""
    return {key: value for key, value in options.items() if value is not None}


def _ray_jobs(switch: bool | None, wheelhouse: str | None) -> dict[str, Any]:
    """The field ray_jobs as two options say it; empty where they say nothing."""
    if switch is False and wheelhouse is not None:
        raise usage("--no-ray-jobs, and --wheelhouse for such jobs", "leave one of them out")
    if wheelhouse is not None:
        return {"ray_jobs": {"runtime_env": ["env_vars", "py_modules", "pip"], "wheelhouse": wheelhouse}}
    return {} if switch is None else {"ray_jobs": {} if switch else None}


def _store(url: str | None) -> dict[str, Any]:
    """The field result_store as its option says it; empty where it says nothing."""
    return {} if url is None else {"result_store": None if url == NOWHERE else url}


def _merge(document: dict[str, Any], key: str, given: dict[str, Any]) -> None:
    kept = {name: value for name, value in given.items() if value is not None}
    if kept:
        present = document.get(key, {})
        document[key] = {**present, **kept} if isinstance(present, dict) else kept


def _merge_kubernetes(document: dict[str, Any], given: dict[str, Any]) -> None:
    if not given:
        return
    _merge(document, "endpoint", {"kubernetes": {}} if "kubernetes" not in document.get("endpoint", {}) else {})
    _merge(document["endpoint"], "kubernetes", given)
    if "kubeconfig" in given:
        # It is the server that reads the file; an agent within the cluster needs none.
        document.setdefault("mode", "push")


def _pairs(option: str, texts: list[str] | None) -> dict[str, str] | None:
    pairs = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise usage(f"{option} {text!r} is not KEY=VALUE")
        pairs[key] = value
    return pairs or None


def _tell_agent(client: Client, spec: ClusterSpec) -> None:
    from controlplane.api.schemas import TokenRequest

    made = client.create_token(TokenRequest(role="join", cluster=spec.name))
    until = clock(made.expires_at) if made.expires_at else "ever"
    note(f"Its agent joins with this token, once and until {until}. On a machine of the cluster (the token is shown this once):")
    note(_join_command(client.server, made.token, spec.backend))
    note(f"Another token: cpn cluster token {spec.name}")
    if spec.backend == "kubernetes":
        note(f"Or let it run in the cluster: cpn cluster manifest {spec.name} | kubectl apply -f -")


def _join_command(server: str, token: str, backend: str) -> str:
    way = "--backend kubernetes" if backend == "kubernetes" else "--address HOST:PORT --ray-token-file FILE"
    return f"  CPN_SERVER={server} cpn agent --join {token} {way}"


@app.command("token")
def token(
    context: typer.Context,
    name: ClusterName,
    expires_in: Annotated[str, typer.Option(metavar="DURATION", help="How long it can be used, like 30m or 2d.")] = "1h",
    output: Output = "table",
) -> None:
    """Make a join token: its agent joins with it, once, by `cpn agent --join TOKEN`. Its text is shown this once."""
    from controlplane.api.schemas import TokenRequest
    from controlplane.cli.documents import validated

    request = validated(TokenRequest, {"role": "join", "cluster": name, "expires_in": expires_in}, "the token")
    with connect(context) as client:
        made = client.create_token(request)
        show(made, output, lambda found: _tell_join(client, found))


def _tell_join(client: Client, made: TokenCreated) -> None:
    until = clock(made.expires_at) if made.expires_at else "ever"
    note(f"{made.id}: one agent of {made.cluster} can join with it until {until}. On a machine of the cluster:")
    note(_join_command(client.server, "TOKEN", client.cluster(made.cluster).backend if made.cluster else ""))
    print(made.token)


@app.command("list")
def list_clusters(context: typer.Context, output: Output = "table") -> None:
    """All clusters."""
    with connect(context) as client:
        show(client.clusters(), output, _table)


def _table(page: Page[ClusterView]) -> None:
    headers = [
        "NAME",
        "JURISDICTION",
        "BACKEND",
        "MODE",
        "HEALTH",
        "STATE",
        ">NODES",
        ">CPU",
        ">MEMORY",
        "ACCELERATORS",
        ">RUNS",
        ">CORE-HOUR",
    ]
    rows = [
        (item.name, item.jurisdiction, item.backend, item.mode, item.health, item.cordon, f"{item.nodes_ready}/{item.nodes}",
         f"{number(item.cpu_used)}/{number(item.cpu)}", f"{size(item.memory_used_bytes)}/{size(item.memory_bytes)}",
         accelerators_in_use(item.accelerators), item.runs, str(item.prices.cpu_hour))
        for item in page.items
    ]  # fmt: skip
    grid(headers, rows, none="no clusters yet; add one with `cpn cluster register`")


@app.command("show")
def show_cluster(context: typer.Context, name: ClusterName, output: Output = "table") -> None:
    """One cluster: health, prices, capacity, computing power."""
    with connect(context) as client:
        show(client.cluster(name), output, cluster_details)


@app.command("change")
def change(
    context: typer.Context,
    name: ClusterName,
    file: Annotated[
        Path | None, typer.Option("-f", "--file", metavar="FILE", help="A document with the fields to change, like carbon.")
    ] = None,
    no_carbon: Annotated[bool, typer.Option("--no-carbon", help="Take away what is declared of its electricity.")] = False,
    no_tariffs: Annotated[bool, typer.Option("--no-tariffs", help="Let every hour cost the price.")] = False,
    on_lease_lost: LeaseEnd = None,
    security_level: Security = None,
    ray_jobs: RayJobsSwitch = None,
    wheelhouse: Wheelhouse = None,
    result_store: ResultStoreUrl = None,
    output: Output = "table",
) -> None:
    """Change labels, prices, bandwidth, carbon, the lease's end, the level of security, the store of results or what jobs of kind ray may
    bring. Each field of the document replaces all that was there.

    Running jobs keep their quotes. `carbon: null` in the document is --no-carbon; prices without tariffs are --no-tariffs.
    """
    from controlplane.api.schemas import ClusterPatch
    from controlplane.cli.documents import read_document, validated

    document = read_document(file) if file else {}
    if no_carbon and document.get("carbon") is not None:
        raise usage("--no-carbon, and the document declares carbon", "leave one of them out")
    if no_tariffs and "prices" in document:
        raise usage("--no-tariffs, and the document has prices", "leave one of them out; prices without tariffs take these away")
    if no_carbon:
        document["carbon"] = None
    given = _given({"on_lease_lost": on_lease_lost, "security_level": security_level})
    document |= _ray_jobs(ray_jobs, wheelhouse) | _store(result_store) | given
    if not document and not no_tariffs:
        options = "--no-carbon, --no-tariffs, --on-lease-lost, --security-level, --ray-jobs, --wheelhouse or --result-store"
        remedy = f"give a document with -f FILE, {options}"
        raise usage("nothing to change", remedy)
    with connect(context) as client:
        if no_tariffs or no_carbon or ray_jobs is False:
            before = client.cluster(name)
            _tell_of_nothing(before, no_carbon=no_carbon, no_tariffs=no_tariffs, no_ray_jobs=ray_jobs is False)
        if no_tariffs:
            document["prices"] = before.prices.model_dump(mode="json", exclude={"tariffs"})
        patch = validated(ClusterPatch, document, str(file) if file else "the change")
        show(client.change_cluster(name, patch), output, cluster_details)


def _tell_of_nothing(before: ClusterView, *, no_carbon: bool, no_tariffs: bool, no_ray_jobs: bool) -> None:
    """Say what was to be taken away and is not there; the rest of the change is made all the same."""
    absent = (
        (no_carbon and before.carbon is None, "--no-carbon", "carbon is declared"),
        (no_tariffs and before.prices.tariffs is None, "--no-tariffs", "tariffs are declared"),
        (no_ray_jobs and before.ray_jobs is None, "--no-ray-jobs", "jobs of kind ray are allowed"),
    )
    for so, option, what in absent:
        if so:
            note(f"{option}: there was nothing to remove, for no {what} at {before.name}")


@app.command("cordon")
def cordon(context: typer.Context, name: ClusterName, output: Output = "table") -> None:
    """Place nothing new there; what runs goes on."""
    with connect(context) as client:
        show(client.cordon(name), output, _standing)


@app.command("uncordon")
def uncordon(context: typer.Context, name: ClusterName, output: Output = "table") -> None:
    """Use it again."""
    with connect(context) as client:
        show(client.uncordon(name), output, _standing)


@app.command("drain")
def drain(context: typer.Context, name: ClusterName, output: Output = "table") -> None:
    """Place nothing new there and move what runs: its jobs go back to their queues."""
    with connect(context) as client:
        show(client.drain(name), output, _standing)


def _standing(item: ClusterView) -> None:
    print(f"{item.name} is {item.cordon}; {item.runs} runs there")


@app.command("remove")
def remove(context: typer.Context, name: ClusterName) -> None:
    """Forget a cluster that runs nothing."""
    with connect(context) as client:
        client.remove_cluster(name)
    print(f"removed {name}")


local_clusters.add_to(app)
kube_members.add_to(app)


@nodes.command("list")
def list_nodes(
    context: typer.Context,
    cluster: Annotated[str | None, typer.Option(metavar="CLUSTER", help="Only this cluster's.", autocompletion=completion.clusters)] = None,
    output: Output = "table",
) -> None:
    """All nodes, with what runs hold of them."""
    with connect(context) as client:
        show(client.nodes(cluster), output, _node_table)
        if output == "table":
            _tell_of_more(client.clusters(), cluster)


def _tell_of_more(page: Page[ClusterView], only: str | None) -> None:
    """What is not there yet, under what is."""
    for item in page.items:
        more = [kind for kind in (item.scaling.types if item.scaling else []) if kind.most > kind.present]
        if more and only in (None, item.name):
            kinds = ", ".join(f"{kind.most - kind.present} of type {kind.name}" for kind in more)
            note(f"The autoscaler of {item.name} can bring more nodes: {kinds} (`cpn cluster show {item.name}`).")


def _state(item: NodeView) -> str:
    if item.ready:
        return "ready"
    return f"not ready: {item.trouble.removeprefix('not ready: ')}" if item.trouble else "not ready"


def _node_table(page: Page[NodeView]) -> None:
    rows = [
        (item.cluster, item.name, _state(item), f"{number(item.cpu_used)}/{number(item.cpu)}",
         f"{size(item.memory_used_bytes)}/{size(item.memory_bytes)}", accelerators_in_use(item.accelerators), others_hold(item.others),
         joined(item.labels))
        for item in page.items
    ]  # fmt: skip
    grid(
        ["CLUSTER", "NODE", "STATE", ">CPU", ">MEMORY", "ACCELERATORS", "OTHERS HOLD", "LABELS"],
        rows,
        none="no nodes; is a cluster registered and its agent running?",
    )
