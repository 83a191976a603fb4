"""The network file of `cpn simulate --network`: YAML, read strictly; what is wrong is told with its line and column.

    clusters:
      - name: guizhou
        jurisdiction: CN-GZ
        prices: {cpu_hour: 0.30 CNY, memory_gib_hour: 0.03 CNY, transfer_gib: 0.50 CNY, accelerator_hour: {H200: 35.00 CNY}}
        nodes:
          - {count: 40, shape: H200x8, cpu: 192, memory: 2TiB}
          - {count: 10, cpu: 64, memory: 256GiB}
    queues:
      - {name: research, weight: 2, quota: {cpu: 64}}
      - {name: vision, parent: research}
    target: {precision: fp16, flops: 100PFLOPS}

Prices (with tariffs), `carbon` of a cluster and queues have the fields of the HTTP API. Models without a rating are refused as slips
of the pen, unless `unrated` names them.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cluster.carbon import Carbon
from cluster.computing_power import accelerator_rating, rated_models
from controlplane.api.queue_schemas import QueueRequest
from scheduler.errors import InvalidError, TraceError
from scheduler.quotas import refuse_faults
from scheduler.simulator.networks import Goal, Network, NodeGroup, Site
from scheduler.store.records import QueueRecord
from scheduler.traces.machines import MOST_DEVICES
from workloads.catalogue.pricing import Prices
from workloads.fault_words import words_of
from workloads.resources import FlopsRate, MemoryBytes
from workloads.spec import Jurisdiction, Name

MOST_BYTES = 4 * 1024**2
Path_ = tuple[str | int, ...]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NodesEntry(_Strict):
    """Equal nodes."""

    count: int = Field(ge=0, le=1_000_000)
    shape: Annotated[str, Field(pattern=r"^(cpu|\S.*x\d{1,2})$")] = "cpu"
    cpu: float = Field(gt=0, le=4096, allow_inf_nan=False)
    memory: MemoryBytes = Field(gt=0)

    def group(self) -> NodeGroup:
        """The same for the simulator."""
        model, _, devices = self.shape.rpartition("x")
        return NodeGroup(self.count, self.cpu, self.memory, model.strip(), int(devices) if model else 0)


class ClusterEntry(_Strict):
    """One member."""

    name: Name
    jurisdiction: Jurisdiction = "ZZ"
    prices: Prices
    carbon: Carbon | None = None
    nodes: list[NodesEntry] = Field(min_length=1)


class TargetEntry(_Strict):
    """What is aimed at."""

    precision: Literal["fp64", "fp32", "tf32", "fp16"] = "fp16"
    flops: FlopsRate = Field(gt=0)


class NetworkFile(_Strict):
    """The whole file."""

    clusters: list[ClusterEntry] = Field(min_length=1)
    queues: list[QueueRequest] = []
    target: TargetEntry | None = None
    unrated: list[str] = []


def read_network(path: Path) -> Network:
    """The network of a file. Raises TraceError with line and column."""
    tree, document = _load(path)
    try:
        found = NetworkFile.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        loc: Path_ = tuple(part for part in first["loc"] if part != "[key]")
        raise _fault(path, tree, loc, words_of(first)) from error
    _check_clusters(path, tree, found)
    _check_models(path, tree, found)
    queues = _queues(path, tree, found)
    sites = tuple(_site(item) for item in found.clusters)
    if not any(group.count for site in sites for group in site.groups):
        raise _fault(path, tree, ("clusters",), "no cluster has a node")
    return Network(sites, queues, Goal(found.target.precision, found.target.flops) if found.target else None)


def _site(item: ClusterEntry) -> Site:
    return Site(item.name, item.jurisdiction, item.prices, tuple(entry.group() for entry in item.nodes), item.carbon)


def _load(path: Path) -> tuple[yaml.Node, Any]:
    if not path.is_file():
        raise TraceError("there is no such file", file=str(path))
    if path.stat().st_size > MOST_BYTES:
        raise TraceError(f"is larger than {MOST_BYTES // 1024**2} MiB; write equal nodes as one entry with a count", file=str(path))
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"cannot be read: {error}", file=str(path)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, str(mark.column + 1)) if mark else (0, "")
        raise TraceError(f"is not YAML: {error.problem or error.context}", file=str(path), line=line, column=column) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise TraceError(f"is not YAML: {error}", file=str(path)) from error
    if tree is None or not isinstance(document, dict):
        raise TraceError("is empty" if tree is None else "is no mapping; it begins with `clusters:`", file=str(path))
    return tree, document


def _fault(path: Path, tree: yaml.Node, loc: Path_, message: str) -> TraceError:
    """A fault at a path of the document, with the line and column of the innermost part of it that is written."""
    node = tree
    for part in loc:
        below = _below(node, part)
        if below is None:
            break
        node = below
    words = re.sub(r"\.(\d+)", r"[\1]", ".".join(str(part) for part in loc))
    return TraceError(
        f"{words}: {message}" if words else message, file=str(path), line=node.start_mark.line + 1, column=str(node.start_mark.column + 1)
    )


def _below(node: yaml.Node, part: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        below: yaml.Node = node.value[part]
        return below
    return None


def _check_clusters(path: Path, tree: yaml.Node, found: NetworkFile) -> None:
    seen: set[str] = set()
    for row, item in enumerate(found.clusters):
        if item.name in seen:
            raise _fault(path, tree, ("clusters", row, "name"), f"there are two clusters {item.name!r}")
        seen.add(item.name)
        if item.prices.currency != found.clusters[0].prices.currency:
            message = f"is in {item.prices.currency}, and {found.clusters[0].name} in {found.clusters[0].prices.currency}; use one currency"
            raise _fault(path, tree, ("clusters", row, "prices", "cpu_hour"), message)


def _check_models(path: Path, tree: yaml.Node, found: NetworkFile) -> None:
    for row, item in enumerate(found.clusters):
        for place, entry in enumerate(item.nodes):
            group, loc = entry.group(), ("clusters", row, "nodes", place, "shape")
            if group.devices > MOST_DEVICES or (group.model and not group.devices):
                raise _fault(path, tree, loc, f"a node has 1 to {MOST_DEVICES} accelerators")
            refuse_unknown_model(group.model, found.unrated, lambda message, loc=loc: _fault(path, tree, loc, message))


def refuse_unknown_model(model: str, unrated: list[str], fault: Any) -> None:
    """Raise the fault that `fault` makes of a message, if nobody has rated a model and it is not among those that may be unrated."""
    if not model or model in unrated or accelerator_rating(model) is not None:
        return
    near = get_close_matches(model, sorted(rated_models()), n=3, cutoff=0.4)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    raise fault(f"nobody has rated an accelerator {model!r}{meant} List it under `unrated` if it counts no FLOPS")


def _queues(path: Path, tree: yaml.Node, found: NetworkFile) -> tuple[QueueRecord, ...]:
    terms: dict[str, Any] = {"weight": 1.0, "max_running": None, "created_at": 0.0}
    records = tuple(QueueRecord(**{**terms, **request.columns()}) for request in found.queues)
    models = {name for item in found.clusters for entry in item.nodes if (name := entry.group().model)}
    names: set[str] = set()
    for row, record in enumerate(records):
        if record.name in names:
            raise _fault(path, tree, ("queues", row, "name"), f"there are two queues {record.name!r}")
        names.add(record.name)
        try:
            refuse_faults(record, [other for other in records if other is not record], models)
        except InvalidError as error:
            first = error.problems[0]
            raise _fault(path, tree, ("queues", row, *first.path.split(".", 1)), first.message) from error
    return records
