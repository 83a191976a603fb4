"""Ratings: every figure has a source, the slowest reading of a name counts, and what is unknown is never guessed."""

from __future__ import annotations

import csv
from collections import Counter
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.computing_power import (
    CLASS_LABEL,
    CPU_CORES_LABEL,
    CPU_MODEL_LABEL,
    NodeRating,
    accelerator_rating,
    canonical_model,
    rate_node,
)
from cluster.model import Node, NodeAccelerator

PRECISIONS = ("fp64", "fp32", "tf32", "fp16")
TERA, GIGA = 1e12, 1e9


def table(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(files("cluster.ratings").joinpath(name).read_text(encoding="utf-8").splitlines()))


ACCELERATORS, ALIASES, CPUS = table("accelerators.csv"), table("aliases.csv"), table("cpus.csv")
MODELS = sorted({row["model"] for row in ACCELERATORS})


def node(cpu: float = 0, accelerators: dict[str, int] | None = None, **labels: str) -> Node:
    """A node; labels are named without their prefix and with _ for -."""
    return Node(
        name="n", cpu=cpu, memory_bytes=0, labels={f"cpn.dev/{name.replace('_', '-')}": text for name, text in labels.items()},
        accelerators=tuple(NodeAccelerator(model=model, count=count) for model, count in (accelerators or {}).items()),
    )  # fmt: skip


def rated(rating: NodeRating) -> dict[tuple[str, str], float]:
    """FLOP/s by class and precision."""
    found: Counter[tuple[str, str]] = Counter()
    for part in rating.parts:
        found[part.compute_class, part.precision] += part.flops  # type: ignore[assignment]
    return dict(found)


# --- the data files ---


@pytest.mark.parametrize("row", ACCELERATORS, ids=lambda row: f"{row['model']} {row['precision']}")
def test_every_accelerator_figure_is_whole(row: dict[str, str]) -> None:
    assert set(row) == {"model", "vendor", "precision", "tflops", "source", "notes"}
    assert row["vendor"] in {"NVIDIA", "AMD", "Huawei"}
    assert row["precision"] in PRECISIONS
    assert 0 < float(row["tflops"]) < 10_000
    assert len(row["source"]) > 10


@pytest.mark.parametrize("row", CPUS, ids=lambda row: row["model"])
def test_every_processor_figure_is_whole(row: dict[str, str]) -> None:
    assert set(row) == {"family", "model", "fp64_flop_per_cycle", "base_ghz", "source"}
    assert float(row["fp64_flop_per_cycle"]) in (8, 16, 32)
    assert 1 < float(row["base_ghz"]) < 5
    assert len(row["source"]) > 10
    assert row["family"]


def test_no_figure_is_given_twice() -> None:
    figures = Counter((row["model"], row["precision"]) for row in ACCELERATORS)
    names = Counter(row["alias"].lower() for row in ALIASES)
    processors = Counter(row["model"].lower() for row in CPUS)
    assert not [name for counted in (figures, names, processors) for name, count in counted.items() if count > 1]


def test_every_alias_leads_to_a_figure_and_every_figure_can_be_found() -> None:
    assert {row["model"] for row in ALIASES} == set(MODELS)
    assert [canonical_model(row["alias"]) for row in ALIASES] == [row["model"] for row in ALIASES]
    assert [canonical_model(model) for model in MODELS] == MODELS


def test_a_lower_precision_is_never_slower() -> None:
    for model in MODELS:
        found = accelerator_rating(model)
        assert found is not None
        speeds = [found[precision] for precision in PRECISIONS if precision in found]
        assert speeds == sorted(speeds), model


# --- known hardware ---


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("A100", {"fp64": 9.7, "fp32": 19.5, "tf32": 156, "fp16": 312}),
        ("NVIDIA A100-SXM4-80GB", {"fp64": 9.7, "fp32": 19.5, "tf32": 156, "fp16": 312}),
        ("NVIDIA H100 80GB HBM3", {"fp64": 34, "fp32": 67, "tf32": 494.5, "fp16": 989.5}),
        ("NVIDIA-H100-80GB-HBM3", {"fp64": 34, "fp32": 67, "tf32": 494.5, "fp16": 989.5}),
        ("H200", {"fp64": 34, "fp32": 67, "tf32": 494.5, "fp16": 989.5}),
        ("NVIDIA H200 NVL", {"fp64": 30, "fp32": 60, "tf32": 417.5, "fp16": 835.5}),
        ("L40S", {"fp32": 91.6, "tf32": 183, "fp16": 362.05}),
        ("Tesla T4", {"fp32": 8.1, "fp16": 65}),
        ("Tesla V100-SXM2-32GB", {"fp64": 7.8, "fp32": 15.7, "fp16": 125}),
        ("AMD Instinct MI300X", {"fp64": 81.7, "fp32": 163.4, "tf32": 653.7, "fp16": 1307.4}),
        ("Ascend-910", {"fp16": 256}),
        # Names that several parts share mean the slowest of them.
        ("H100", {"fp64": 26, "fp32": 51, "tf32": 378, "fp16": 756.5}),
        ("V100", {"fp64": 7, "fp32": 14, "fp16": 112}),
        ("P100", {"fp64": 4.7, "fp32": 9.3, "fp16": 18.7}),
    ],
)
def test_known_accelerators(name: str, tflops: dict[str, float]) -> None:
    assert accelerator_rating(name) == pytest.approx({precision: value * TERA for precision, value in tflops.items()})


@pytest.mark.parametrize(
    ("model", "ghz", "flop_per_cycle"),
    [
        ("Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz", 2.3, 32),
        ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", 2.4, 16),
        ("Intel Xeon Gold 6248", 2.5, 32),
        ("Intel(R) Xeon(R) Gold 6248R CPU @ 3.00GHz", 3.0, 32),
        ("AMD EPYC 7763 64-Core Processor", 2.45, 16),
        ("amd epyc 9654", 2.4, 16),
    ],
)
def test_a_processor_is_rated_at_cores_times_clock_times_operations(model: str, ghz: float, flop_per_cycle: float) -> None:
    fp64 = 16 * ghz * GIGA * flop_per_cycle
    found = rate_node(node(cpu=16, cpu_model=model))
    assert rated(found) == pytest.approx({("general", "fp64"): fp64, ("general", "fp32"): 2 * fp64})
    assert found.unrated == ()
    assert all(part.source and part.what == model and part.count == 16 for part in found.parts)


def test_cores_of_the_label_count_where_a_node_counts_threads() -> None:
    threads = rated(rate_node(node(cpu=32, cpu_model="AMD EPYC 7763", cpu_cores="16")))
    assert threads == rated(rate_node(node(cpu=16, cpu_model="AMD EPYC 7763")))


def test_accelerators_are_counted_by_device_and_beside_the_processor() -> None:
    found = rated(rate_node(node(cpu=8, accelerators={"H200": 8, "T4": 2}, cpu_model="AMD EPYC 7763")))
    assert found["intelligent", "fp16"] == pytest.approx((8 * 989.5 + 2 * 65) * TERA)
    assert found["intelligent", "fp64"] == pytest.approx(8 * 34 * TERA)
    assert found["general", "fp64"] == pytest.approx(8 * 2.45 * GIGA * 16)


def test_a_node_labelled_super_is_super_as_a_whole() -> None:
    plain, labelled = (node(cpu=8, accelerators={"A100": 4}, cpu_model="AMD EPYC 7763", **extra) for extra in ({}, {"class": "super"}))
    found = rate_node(labelled)
    assert {part.compute_class for part in found.parts} == {"super"}
    assert sum(part.flops for part in found.parts) == sum(part.flops for part in rate_node(plain).parts)
    assert rate_node(node(cpu=8, cpu_model="AMD EPYC 7763", **{"class": "other"})).parts[0].compute_class == "general"


# --- unknown hardware ---


@pytest.mark.parametrize(
    "name", ["", "H1000", "H", "100", "A100X", "H100 SXM 999GB", "Ascend 910B", "Ascend-910B3", "RTX 4090", "TPU v5e", "a cat", "第一"]
)
def test_an_unknown_accelerator_is_unrated_and_never_guessed(name: str) -> None:
    assert canonical_model(name) is None
    assert accelerator_rating(name) is None
    assert rate_node(node(accelerators={name: 8})) == NodeRating((), (name,))


@pytest.mark.parametrize(
    ("given", "unrated"),
    [
        (node(cpu=8), ("cpu",)),
        (node(cpu=8, cpu_model=""), ("cpu",)),
        (node(cpu=8, cpu_model="Intel Xeon Platinum 9999"), ("Intel Xeon Platinum 9999",)),
        (node(cpu=8, cpu_model="Xeon 83800"), ("Xeon 83800",)),
        (node(cpu=8, cpu_model="AMD EPYC 7763", cpu_cores="many"), ("AMD EPYC 7763",)),
        (node(cpu=8, cpu_model="AMD EPYC 7763", cpu_cores="-4"), ("AMD EPYC 7763",)),
        (node(cpu=8, cpu_model="AMD EPYC 7763", cpu_cores="nan"), ("AMD EPYC 7763",)),
        (node(cpu=8, cpu_model="AMD EPYC 7763", cpu_cores="inf"), ("AMD EPYC 7763",)),
        (node(cpu=8, cpu_model="AMD EPYC 7763", cpu_cores="0"), ("AMD EPYC 7763",)),
        (node(cpu=8, accelerators={"Ascend 910B": 8}, cpu_model="AMD EPYC 77"), ("AMD EPYC 77", "Ascend 910B")),
    ],
)
def test_what_cannot_be_rated_is_named(given: Node, unrated: tuple[str, ...]) -> None:
    assert rate_node(given) == NodeRating((), unrated)


@pytest.mark.parametrize("given", [node(), node(cpu_model="AMD EPYC 7763"), node(accelerators={"H200": 0, "a cat": 0})])
def test_what_is_not_there_is_neither_rated_nor_missing(given: Node) -> None:
    assert rate_node(given) == NodeRating((), ())


@given(cpu=st.floats(0, 1e6), model=st.text(max_size=40), cores=st.text(max_size=10), device=st.text(max_size=40), count=st.integers(0, 64))
def test_any_node_is_rated_with_finite_figures_or_named(cpu: float, model: str, cores: str, device: str, count: int) -> None:
    labels = {CPU_MODEL_LABEL: model, CPU_CORES_LABEL: cores, CLASS_LABEL: model}
    found = rate_node(Node(name="n", cpu=cpu, memory_bytes=0, labels=labels, accelerators=(NodeAccelerator(model=device, count=count),)))
    assert all(0 <= part.flops < float("inf") and part.source and part.precision in PRECISIONS for part in found.parts)
    assert bool(found.parts or found.unrated) == bool(cpu or count)


@given(words=st.permutations(["Intel(R)", "Xeon(R)", "CPU", "@", "2.30GHz"]), place=st.integers(0, 5))
def test_a_processor_is_known_by_its_model_whatever_stands_around_it(words: list[str], place: int) -> None:
    name = " ".join([*words[:place], "Platinum 8380", *words[place:]])
    assert rated(rate_node(node(cpu=1, cpu_model=name)))["general", "fp64"] == pytest.approx(2.3 * GIGA * 32)
