"""Computing power: how many FLOP/s the hardware of a node is rated at, by class and precision.

Accelerators are rated by their vendor's data sheet: vector units for FP64 and FP32, matrix units without
sparsity for TF32 and FP16. CPUs are rated at cores x base clock x FLOP per cycle, FP32 at twice FP64; that is
a ceiling, since wide vector code may clock lower. Every figure names its source in cluster/ratings.

A node says what it is by the model of its accelerators and by its labels. Hardware without a published figure
is counted as unrated and never guessed; the Ascend 910B is such a case, because its vendor publishes none and
others contradict each other. A name that several parts share (H100, V100, P100) is rated as the slowest of
them, so that a rating may be too low and never too high; H200 is what NVIDIA calls the SXM part itself.
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.model import Node


CPU_MODEL_LABEL = "cpn.dev/cpu-model"
CPU_CORES_LABEL = "cpn.dev/cpu-cores"
CLASS_LABEL = "cpn.dev/class"
GENERAL, INTELLIGENT, SUPER = "general", "intelligent", "super"
UNKNOWN_CPU = "cpu"

_VENDOR_WORDS = frozenset({"nvidia", "tesla", "amd", "instinct", "huawei"})


@dataclass(frozen=True)
class Rating:
    """One kind of hardware on a node at one precision: `flops` FLOP/s in all, from `count` devices or cores."""

    compute_class: str
    precision: str
    flops: float
    source: str
    what: str
    count: float


@dataclass(frozen=True)
class NodeRating:
    """The rated parts of a node, and the names of its hardware that has no rating."""

    parts: tuple[Rating, ...]
    unrated: tuple[str, ...]


@dataclass(frozen=True)
class _Figure:
    flops: float
    source: str


def rate_node(node: Node) -> NodeRating:
    """Rate a node by what it says of itself.

    Labels: `cpn.dev/cpu-model` names the CPU; `cpn.dev/cpu-cores` gives its physical cores where the node's
    `cpu` counts hardware threads; `cpn.dev/class: super` puts all of the node in the class super.
    """
    parts: list[Rating] = []
    unrated: list[str] = []
    figures = _cpu_figures(node.labels.get(CPU_MODEL_LABEL, ""))
    cores = _cores(node)
    if node.cpu and (figures is None or cores is None):
        unrated.append(node.labels.get(CPU_MODEL_LABEL) or UNKNOWN_CPU)
    elif node.cpu and figures is not None and cores is not None:
        parts += _parts(GENERAL, figures, node.labels[CPU_MODEL_LABEL], cores)
    for item in node.accelerators:
        known = _accelerators().get(canonical_model(item.model) or "")
        if item.count and known is None:
            unrated.append(item.model)
        elif item.count and known is not None:
            parts += _parts(INTELLIGENT, known, item.model, item.count)
    if node.labels.get(CLASS_LABEL) == SUPER:
        parts = [Rating(SUPER, part.precision, part.flops, part.source, part.what, part.count) for part in parts]
    return NodeRating(tuple(parts), tuple(unrated))


def accelerator_rating(model: str) -> dict[str, float] | None:
    """FLOP/s of one device by precision (fp64, fp32, tf32, fp16; as published), or None when it has no rating."""
    figures = _accelerators().get(canonical_model(model) or "")
    return None if figures is None else {precision: figure.flops for precision, figure in figures.items()}


def rated_models() -> frozenset[str]:
    """The accelerator models that have a rating."""
    return frozenset(_accelerators())


def canonical_model(name: str) -> str | None:
    """The model behind a name as drivers, labels and people write it: `NVIDIA-H100-80GB-HBM3` → `H100 SXM`."""
    return _aliases().get(_key(name))


def published_watts(model: str) -> float | None:
    """What one accelerator draws at most, by its vendor; None for names of several parts (H100, V100), which draw different powers."""
    return _watts().get(_key(model))


def _parts(compute_class: str, figures: dict[str, _Figure], what: str, count: float) -> list[Rating]:
    return [Rating(compute_class, precision, figure.flops * count, figure.source, what, count) for precision, figure in figures.items()]


def _cores(node: Node) -> float | None:
    """Physical cores: the label, or the node's `cpu` without one. None for a label that is no number."""
    text = node.labels.get(CPU_CORES_LABEL)
    if text is None:
        return node.cpu
    try:
        cores = float(text)
    except ValueError:
        return None
    return cores if math.isfinite(cores) and cores > 0 else None


def _cpu_figures(model: str) -> dict[str, _Figure] | None:
    """FLOP/s of one core by precision. The longest known model whose words stand in the name, in order, is meant."""
    words = f" {' '.join(_words(model))} "
    known = [key for key in _cpus() if f" {key} " in words]
    return _cpus()[max(known, key=len)] if known else None


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower().replace("(r)", " ").replace("(tm)", " "))


def _key(name: str) -> str:
    return "".join(word for word in _words(name) if word not in _VENDOR_WORDS)


def _table(name: str) -> list[dict[str, str]]:
    text = files("cluster.ratings").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@cache
def _accelerators() -> dict[str, dict[str, _Figure]]:
    known: dict[str, dict[str, _Figure]] = {}
    for row in _table("accelerators.csv"):
        known.setdefault(row["model"], {})[row["precision"]] = _Figure(float(row["tflops"]) * 1e12, row["source"])
    return known


@cache
def _aliases() -> dict[str, str]:
    return {_key(row["alias"]): row["model"] for row in _table("aliases.csv")}


@cache
def _watts() -> dict[str, float]:
    return {_key(row["name"]): float(row["watts"]) for row in _table("power.csv")}


@cache
def _cpus() -> dict[str, dict[str, _Figure]]:
    known: dict[str, dict[str, _Figure]] = {}
    for row in _table("cpus.csv"):
        fp64 = float(row["fp64_flop_per_cycle"]) * float(row["base_ghz"]) * 1e9
        source = f"{row['family']}, {row['base_ghz']} GHz: {row['source']}"
        known[" ".join(_words(row["model"]))] = {"fp64": _Figure(fp64, source), "fp32": _Figure(2 * fp64, source)}
    return known
