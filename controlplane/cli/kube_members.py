"""`cpn cluster manifest`: what puts the agent of a Kubernetes member into its cluster."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from controlplane.cli.failures import CommandError, usage
from controlplane.cli.kube_options import DataClaims, LocalQueue
from controlplane.cli.options import ClusterName
from controlplane.cli.output import note
from controlplane.cli.session import Asked, access, connect
from controlplane.cli.text import clock

if TYPE_CHECKING:
    from controlplane.api.schemas import ClusterView
    from controlplane.client import Client

LOOPBACK = ("localhost", "127.0.0.1", "::1", "0.0.0.0")
_NAMESPACE = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
_SIZE = re.compile(r"^[1-9][0-9]*[KMGT]i?$")
_IMAGE = re.compile(r"^[a-z0-9][A-Za-z0-9._:/@-]*[A-Za-z0-9]$")
# Plain words that no reader of YAML takes for anything but text; all else is quoted.
_PLAIN = re.compile(r"^[A-Za-z/][A-Za-z/._-]{2,}$")


def add_to(app: typer.Typer) -> None:
    """Put the command into the group `cluster`."""
    app.command("manifest")(manifest)


def manifest(
    context: typer.Context,
    name: ClusterName,
    image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="The agent's image. [default: cpn:VERSION]", show_default=False)
    ] = None,
    namespace: Annotated[str, typer.Option(metavar="NAME", help="The namespace of the agent and of the runs.")] = "cpn",
    server_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The server as the cluster's pods call it. [default: as this command does]")
    ] = None,
    expires_in: Annotated[str, typer.Option(metavar="DURATION", help="How long the join token can be used, like 30m or 2d.")] = "1h",
    join_token: Annotated[
        bool, typer.Option("--join-token/--no-join-token", help="Whether a join token is made; without, its Secret has to be there.")
    ] = True,
    storage: Annotated[str, typer.Option(metavar="SIZE", help="The agent's volume, like 1Gi; none: its disk goes with its pod.")] = "1Gi",
    local_queue: LocalQueue = None,
    data_claim: DataClaims = None,
    network_policy: Annotated[bool, typer.Option("--network-policy", help="Let nobody call the agent, and it only what it needs.")] = False,
) -> None:
    """Print what `kubectl apply -f -` takes to run a cluster's agent in it: namespace, rights, join token, Deployment.

    The cluster has to be registered with --backend kubernetes in pull mode. Each call makes another join token.
    """
    from cluster.backends.kubernetes.manifest import AgentManifest
    from cluster.backends.kubernetes.member import usual_image

    _check_names(namespace, image)
    _check_claims(data_claim or [])
    if storage != "none" and not _SIZE.match(storage):
        raise usage(f"--storage {storage!r} is no size", "write it like 1Gi, or none")
    server = _server(server_url, access(context.ensure_object(Asked)).server)
    with connect(context) as client:
        _insist_on_pull(client.cluster(name))
        token = _join_token(client, name, expires_in) if join_token else None
    wanted = AgentManifest(
        name, server, image or usual_image(), namespace, token, None if storage == "none" else storage, network_policy, local_queue or "",
        tuple(data_claim or ()),
    )  # fmt: skip
    print(_text(wanted.objects()), end="")


def _check_names(namespace: str, image: str | None) -> None:
    if not _NAMESPACE.match(namespace):
        raise usage(f"--namespace {namespace!r} is no name of a namespace", "use up to 63 lower-case letters, digits and dashes")
    if image is not None and not _IMAGE.match(image):
        raise usage(f"--image {image!r} is no name of an image", "write it like registry.example.org/cpn:0.1.0")


def _check_claims(claims: list[str]) -> None:
    from cluster.data_claims import CLAIM_PATTERN, claim_faults

    for text in claims:
        if not re.match(CLAIM_PATTERN, text):
            raise usage(f"--data-claim {text!r} is no claim with a path", "write it like lake=/data")
    for _, words in claim_faults(claims):
        raise usage(f"--data-claim: {words}")


def _insist_on_pull(cluster: ClusterView) -> None:
    if cluster.backend != "kubernetes":
        raise usage(f"{cluster.name} is a member of the backend {cluster.backend}", "manifests are for those with --backend kubernetes")
    if cluster.mode != "pull":
        raise CommandError(
            f"{cluster.name} is registered in push mode: the server runs its agent",
            hint=f"to run it in the cluster, remove it (`cpn cluster remove {cluster.name}`) and register it with --mode pull",
        )


def _server(given: str | None, used: str) -> str:
    """The server's URL for pods. One that was not given must not be this machine's own, which is another one in a pod."""
    url = (given or used).rstrip("/")
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise usage(f"--server-url {url!r} is no URL of a server", "write it like https://cpn.example.org")
    if given is None and parts.hostname in LOOPBACK:
        raise usage(f"pods cannot call this server as {url}", "give the URL by which they can with --server-url")
    return url


def _join_token(client: Client, cluster: str, expires_in: str) -> str:
    from controlplane.api.schemas import TokenRequest
    from controlplane.cli.documents import validated

    made = client.create_token(validated(TokenRequest, {"role": "join", "cluster": cluster, "expires_in": expires_in}, "the token"))
    until = clock(made.expires_at) if made.expires_at else "ever"
    note(f"{made.id}: the agent of {cluster} can join with the token in this manifest until {until}, once.")
    return made.token


def _text(objects: list[dict[str, Any]]) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes what another reader might not take for text, and repeats what is the same instead of pointing at it."""

        def ignore_aliases(self, _data: object) -> bool:
            return True

    def write(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if _PLAIN.match(text) else '"')

    Dumper.add_representer(str, write)
    return yaml.dump_all(objects, Dumper=Dumper, sort_keys=False, explicit_start=True, width=140)
