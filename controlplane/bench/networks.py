"""The networks that benchmarks start: a server with a durable store, and one member."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cluster.model import ClusterSpec
from controlplane.network import LocalNetwork, Member, Say
from workloads.catalogue.pricing import Prices
from workloads.resources import GIB, Money

CLUSTER, TENANT, ANY_PORT = "local", "acme", 0
CPUS, MEMORY_GIB = 4, 8


@contextmanager
def one_ray(
    folder: Path, say: Say, *, cpus: float = CPUS, dashboard: bool = False, environ: Mapping[str, str] | None = None
) -> Iterator[LocalNetwork]:  # fmt: skip
    """A network with one real Ray as its member, free of charge."""
    free = Money.parse("0.00 CNY")
    prices = Prices(cpu_hour=free, memory_gib_hour=free, transfer_gib=free)
    spec = ClusterSpec(name=CLUSTER, backend="ray", jurisdiction="CN-SH", prices=prices)
    member = Member(spec, cpus=cpus, memory_bytes=MEMORY_GIB * GIB)
    with LocalNetwork(folder, ANY_PORT, [member], say=say, environ=environ) as network:
        # The Job API, which the peer needs, lives in the dashboard's processes.
        network.rays[CLUSTER].include_dashboard = dashboard
        network.start()
        network.attach(member)
        network.wait_healthy()
        yield network
