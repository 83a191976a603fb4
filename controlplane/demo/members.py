"""The demo's two clusters. They are real, independent Rays; only their sizes are pretended, by resources and labels.

The prices are made up. Shanghai is the dearer one; Guizhou has accelerators for which no rating is published, so
that the account of computing power shows how such hardware is counted.
"""

from __future__ import annotations

from cluster.model import ClusterSpec
from controlplane.network import Member
from workloads.catalogue.pricing import Prices
from workloads.resources import GIB, Money

SHANGHAI, GUIZHOU = "shanghai-lingang", "guizhou-guian"


def _prices(cpu: str, memory: str, transfer: str, **accelerators: str) -> Prices:
    devices = {model: Money.parse(price) for model, price in accelerators.items()}
    return Prices(
        cpu_hour=Money.parse(cpu), memory_gib_hour=Money.parse(memory), transfer_gib=Money.parse(transfer), accelerator_hour=devices
    )


MEMBERS = (
    Member(
        ClusterSpec(
            name=SHANGHAI, backend="ray", jurisdiction="CN-SH", labels={"tier": "gold"}, inbound_bandwidth_mib_s=400.0,
            prices=_prices("0.60 CNY", "0.06 CNY", "0.80 CNY", H200="36.00 CNY"),
        ),
        cpus=64, memory_bytes=512 * GIB, gpus=8, accelerator_model="H200", labels={"cpn.dev/cpu-model": "Platinum-8480", "tier": "gold"},
    ),
    Member(
        ClusterSpec(
            name=GUIZHOU, backend="ray", jurisdiction="CN-GZ", labels={"tier": "standard"}, inbound_bandwidth_mib_s=200.0,
            prices=_prices("0.20 CNY", "0.02 CNY", "0.40 CNY", **{"Ascend-910B": "9.00 CNY"}),
        ),
        cpus=96, memory_bytes=768 * GIB, gpus=8, accelerator_model="Ascend-910B",
        labels={"cpn.dev/cpu-model": "EPYC-9654", "tier": "standard"},
    ),
)  # fmt: skip


def size_in_words(member: Member) -> str:
    """The pretended size."""
    return f"{member.cpus:g} cores, {member.memory_bytes // GIB} GiB, {member.gpus} {member.accelerator_model}"
