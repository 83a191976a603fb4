"""What `cpn cluster show` says of one cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controlplane.cli.output import fields, grid, heading, say
from controlplane.cli.text import MISSING, clock, joined, number, since, size

if TYPE_CHECKING:
    from cluster.carbon import Carbon
    from cluster.model import Others
    from controlplane.api.scaling_schemas import NodeTypeView, ScalingView
    from controlplane.api.schemas import AcceleratorUse, ClusterView


def accelerators_in_use(items: list[AcceleratorUse]) -> str:
    """Used of total, model by model."""
    return ", ".join(f"{number(item.used)}/{item.total} {item.model}" for item in items) or MISSING


def others_hold(others: Others | None) -> str:
    """What others than cpn hold of a shared cluster."""
    if others is None:
        return MISSING
    parts = [f"{number(others.cpu)} cores"] if others.cpu else []
    parts += [size(others.memory_bytes)] if others.memory_bytes else []
    parts += [f"{others.accelerators} accelerators"] if others.accelerators else []
    return ", ".join(parts) or MISSING


def _tariff(item: ClusterView) -> list[tuple[str, str]]:
    """What hours cost now and after the next change, and all tariffs."""
    if item.tariff is None or item.prices.tariffs is None:
        return []
    now = f"hours cost {number(item.tariff.factor)} of these prices"
    if item.tariff.changes_at is not None and item.tariff.next_factor is not None:
        now += f", from {clock(item.tariff.changes_at)} on {number(item.tariff.next_factor)}"
    listed = "; ".join(f"{hours} {number(float(hours.factor))}" for hours in item.prices.tariffs.hours)
    return [("tariff now", now), (f"tariffs in {item.prices.tariffs.time_zone}", f"{listed}; else 1")]


def _cache(item: ClusterView) -> str:
    if item.cache is None:
        return MISSING
    return f"{size(item.cache.used_bytes)} of {size(item.cache.capacity_bytes)} in use, {item.cache.copies} copies"


def cluster_details(item: ClusterView) -> None:
    """Everything of it, for people."""
    from workloads.resources import format_flops

    prices = item.prices
    fields([
        ("name", item.name), ("jurisdiction", item.jurisdiction), ("security level", item.security_level),
        ("backend", f"{item.backend} ({item.backend_version or 'version unknown'})"),
        ("own id", item.remote_id), *_driver(item),
        ("mode", item.mode), ("health", item.health), ("detail", item.detail), ("state", item.cordon), ("labels", joined(item.labels)),
        ("heard", f"{since(item.heard_at)} ago" if item.heard_at else "never"), ("registered", clock(item.created_at)),
        ("nodes", f"{item.nodes_ready} of {item.nodes} ready"), ("runs", item.runs),
        ("cpu", f"{number(item.cpu_used)} of {number(item.cpu)} cores in use"),
        ("memory", f"{size(item.memory_used_bytes)} of {size(item.memory_bytes)} in use"),
        ("accelerators", accelerators_in_use(item.accelerators)),
        *([("others hold", others_hold(item.others))] if item.others else []),
        *([("object store", size(item.object_store_bytes))] if item.object_store_bytes else []),
        *([("jobs of kind ray", _bring(item))] if item.backend in ("ray", "kubernetes") else []),
        *([("large results", f"pods put them into {item.result_store}")] if item.result_store else []),
        ("without a lease", "runs stop" if item.on_lease_lost == "stop" else "runs go on"),
        ("inbound", f"{number(item.inbound_bandwidth_mib_s)} MiB/s declared"), ("cache", _cache(item)),
    ])  # fmt: skip
    heading("Prices")
    fields([
        ("core-hour", str(prices.cpu_hour)), ("GiB-hour", str(prices.memory_gib_hour)), ("GiB transferred in", str(prices.transfer_gib)),
        *((f"{model}-hour", str(price)) for model, price in sorted(prices.accelerator_hour.items())),
        *_tariff(item),
    ])  # fmt: skip
    if item.carbon is not None:
        heading("Carbon")
        fields(_carbon(item.carbon))
    if item.windows:
        from controlplane.cli.windows import window_rows

        heading("Maintenance and reservations")
        window_rows(item.windows)
    if item.scaling is not None:
        heading("Nodes that its autoscaler can bring (no part of the capacity)")
        scalable_nodes(item.scaling)
    heading("Computing power")
    rows = [
        (power.compute_class, power.precision, format_flops(power.rated), format_flops(power.available), format_flops(power.allocated))
        for power in item.flops
    ]
    grid(["CLASS", "PRECISION", ">RATED", ">AVAILABLE", ">ALLOCATED"], rows, none="nothing rated")
    for missing in item.unrated:
        print(f"unrated: {missing.count} of {missing.what}")


def scalable_nodes(scaling: ScalingView) -> None:
    """What an autoscaler can bring, a type a line."""
    rows = [
        (kind.name, number(kind.cpu), size(kind.memory_bytes) if kind.memory_bytes is not None else MISSING,
         ", ".join(f"{count} {model}" for model, count in sorted(kind.accelerators.items())) or MISSING,
         kind.present, kind.least, kind.most, _asked(kind), joined(kind.labels))
        for kind in scaling.types
    ]  # fmt: skip
    grid(["TYPE", ">CPU", ">MEMORY", "ACCELERATORS", ">THERE", ">LEAST", ">MOST", "ASKED FOR", "LABELS"], rows)
    if scaling.trouble:
        say(f"its autoscaler says: {scaling.trouble}")


def _asked(kind: NodeTypeView) -> str:
    if kind.rests_until is not None:
        return f"in vain; again after {clock(kind.rests_until)}"
    return f"{kind.wanted} in all" if kind.wanted else MISSING


def _driver(item: ClusterView) -> list[tuple[str, str]]:
    """How it is driven, where that leaves something out."""
    if not item.runs_only:
        return []
    way = "Jobs of Kubernetes and their pods" if item.driver.way == "pods" else f"Ray's Job API: {item.driver.why}"
    queue = [("runs wait in", f"the LocalQueue {item.driver.queue}")] if item.driver.queue else []
    return [("driven by", way), ("runs only", item.runs_only), *queue, *(("lacks", words) for words in item.lacks)]


def _bring(item: ClusterView) -> str:
    """What jobs of kind ray may bring there."""
    if item.ray_jobs is None:
        return "off"
    source = f" from {item.ray_jobs.wheelhouse}" if item.ray_jobs.wheelhouse else ""
    return f"may bring {', '.join(item.ray_jobs.runtime_env) or 'nothing'}{source}"


def _carbon(found: Carbon) -> list[tuple[str, str]]:
    return [
        ("intensity", f"{number(found.grams_per_kwh)} g/kWh"),
        *((f"  {item}", f"{number(item.grams_per_kwh)} g/kWh") for item in found.hours), ("time zone", found.time_zone or MISSING),
        *((f"{name} draws", f"{number(watts)} W") for name, watts in sorted(found.watts.items())), ("overhead", number(found.overhead)),
        *([] if "core" in found.watts else [("runs there", "unrated, because nobody has said what a core draws (carbon.watts.core)")]),
    ]  # fmt: skip
