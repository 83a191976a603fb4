"""`cpn up`: a network on this machine that runs until it is told to end, and the command line's way to it."""

from __future__ import annotations

from pathlib import Path

from cluster.model import ClusterSpec
from controlplane.cli.credentials import Credentials, credentials_path, write_credentials
from controlplane.errors import ClientError
from controlplane.machine import this_machine
from controlplane.network import LocalNetwork, Member, NetworkError, Say, ending_in_order
from workloads.catalogue.pricing import Prices
from workloads.resources import Money


def local_member(jurisdiction: str) -> Member:
    """This machine as the member `local`, free of charge."""
    machine, free = this_machine(), Money.parse("0.00 CNY")
    prices = Prices(cpu_hour=free, memory_gib_hour=free, transfer_gib=free)
    spec = ClusterSpec(name="local", backend="ray", jurisdiction=jurisdiction, prices=prices)
    return Member(spec, machine.cpus, machine.memory_bytes, machine.gpus, machine.accelerator_model, machine.labels)


def up(data_dir: Path, port: int, *, demo: bool, jurisdiction: str, say: Say) -> int:
    """Run a network until Ctrl-C or SIGTERM: this machine alone, or the demo's members with its products, tenant and queue.

    Stores server and token for the command line. Returns the exit status: 0 ended as asked, 1 it broke. Raises
    ValueError for a jurisdiction that is none.
    """
    members = _demo_members() if demo else (local_member(jurisdiction),)
    try:
        with ending_in_order(), LocalNetwork(data_dir, port, members, say=say) as network:
            _run(network, demo=demo, say=say)
    except KeyboardInterrupt:
        say("stopped")
    except (NetworkError, ClientError, OSError) as error:
        say(f"error: {error}")
        return 1
    return 0


def _demo_members() -> tuple[Member, ...]:
    from controlplane.demo.members import MEMBERS

    return MEMBERS


def _run(network: LocalNetwork, *, demo: bool, say: Say) -> None:
    if demo:
        from controlplane.demo.furnishing import furnish, prepare

        network.start(meanwhile=lambda: prepare(network.data_dir))
    else:
        network.start()
    for member in network.members:
        network.attach(member)
    network.wait_healthy()
    if demo:
        furnish(network)
    path = credentials_path()
    write_credentials(path, Credentials(network.url, network.operator_token))
    for line in announcement(network, path):
        say(line)
    network.supervise()


def announcement(network: LocalNetwork, credentials: Path) -> list[str]:
    """What a person wants to know of a network that is up."""
    names = ", ".join(f"{member.name} ({member.spec.jurisdiction})" for member in network.members)
    return [
        "", f"The network is up: {names}.", f"  URL      {network.url}  (API: {network.url}/docs)", f"  token    {network.operator_token}",
        f"  stored   {credentials}, so `cpn cluster list` works in another terminal", f"  data     {network.data_dir}",
        "Ctrl-C stops it; the data stays.", "",
    ]  # fmt: skip
