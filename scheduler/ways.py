"""Ways to run a job: one for each accelerator model that it may use, each judged and quoted on its own.

How fast its work is on each model a buyer says, or it is learned from runs of like jobs, and from ratings before there are any. A run on
a slower model is expected to take that much longer, and to cost its hours for as much longer; the limit, and with it the quote, are
the same on every model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.computing_power import accelerator_rating
from scheduler.assess import Assessment, InputData, assess
from scheduler.engine.speeds import Prior, Rate, Speed, slowdowns, speeds_on
from scheduler.store.records import ClusterRecord
from scheduler.store.rows import dumps
from workloads.catalogue.held import HeldPrices
from workloads.resources import Resources
from workloads.spec import JobSpec

# What most work on accelerators is done in, and what models are compared by where one has no rating for the precision asked for.
USUAL_PRECISION, OTHER_PRECISIONS = "fp16", ("fp32", "fp64")

# Less than this every member takes.
HEAVY_LETTERS = 100_000


@dataclass(frozen=True)
class Way:
    """What each worker holds in this way, how many times longer it takes than the fastest way, and its standing at each cluster.

    `speed` says by what, where there is a choice.
    """

    resources: Resources
    slowdown: float
    assessments: tuple[Assessment, ...]
    speed: Speed | None = None

    @property
    def model(self) -> str | None:
        """The accelerator model, where there is one."""
        return self.resources.accelerator.model if self.resources.accelerator else None


def on_model(ways: Sequence[Way], choice: int) -> str:
    """In words the accelerator model of one of a job's ways, where it has several: ` on A100`."""
    return f" on {ways[choice].model}" if len(ways) > 1 else ""


def class_of(document: Mapping[str, Any], spec: JobSpec, program: str | None = None, held: Sequence[str] = ()) -> str:
    """Jobs of which this is the same are judged alike; `document` is the spec as stored. Like jobs share what is learned of them.

    `program` tells programs apart where an input's owner permits some of them alone, `held` what was reserved of licences.
    """
    learns = spec.resources.accelerator is not None and spec.resources.accelerator.learns
    fields = ("tenant", "purpose", "inputs", "resources", "placement", "max_runtime", "budget", "kind", *(("name",) if learns else ()))
    # A member may run some kinds and engines only, of programs for Ray those that bring no more than it allows, and take only so much.
    more = [document.get(field) for field in ("runtime_env", "max_rows", "stop_at_budget", "quote")]
    return dumps([*(document[field] for field in fields), *more, spec.is_for_daft, _weight(spec), program, held])


def _weight(spec: JobSpec) -> int:
    """How many letters a job brings, where that may be too many for some members."""
    letters = sum(map(len, (*spec.files.values(), *spec.env.values(), *spec.command, spec.sql or "")))
    return letters if letters >= HEAVY_LETTERS else 0


def resources_of(spec: JobSpec) -> Iterator[Resources]:
    """What each worker may hold, in the order of the manifest."""
    accelerator = spec.resources.accelerator
    if accelerator is None:
        yield spec.resources
        return
    for choice in accelerator.choices:
        yield spec.resources.on(choice.model)


def speeds_of(spec: JobSpec, rates: Iterable[Rate], known: Mapping[str, float] | None = None) -> tuple[Speed, ...]:
    """How fast a job is on each model of its `any_of`, in their order; empty where it has none.

    `rates` are those of like jobs; `known` are speeds on models that go before ratings, where all of the job's are among them.
    """
    accelerator = spec.resources.accelerator
    if accelerator is None or not accelerator.any_of:
        return ()
    declared = {choice.model: choice.speed for choice in accelerator.any_of}
    prior = Prior(known) if known and declared.keys() <= known.keys() else prior_of(declared, accelerator.precision)
    return tuple(speeds_on(declared, rates, prior).values())


def prior_of(models: Iterable[str], precision: str | None = None) -> Prior:
    """How fast some models are by their ratings, all at one precision: that asked for, else the first at which all have one.

    Where there is none they are taken to be equal.
    """
    ratings = {model: accelerator_rating(model) or {} for model in models}
    for one in (precision or USUAL_PRECISION, *OTHER_PRECISIONS):
        if all(one in rating for rating in ratings.values()):
            return Prior({model: rating[one] for model, rating in ratings.items()}, one)
    return Prior(dict.fromkeys(ratings, 1.0))


def judged(
    spec: JobSpec,
    inputs: Sequence[InputData],
    clusters: Iterable[ClusterRecord],
    now: float,
    rates: Iterable[Rate] = (),
    held: HeldPrices | None = None,
) -> tuple[Way, ...]:
    """Every way to run a job, judged at some clusters; `rates` are those of like jobs, `held` the prices of its quote, if it has one."""
    places, speeds = tuple((cluster.spec, cluster.inbound, cluster.driver) for cluster in clusters), speeds_of(spec, rates)
    longer = slowdowns(speeds) if speeds else [1.0]
    return tuple(
        Way(
            resources,
            slowdown,
            tuple(
                _longer(assess(_on(spec, resources), inputs, place, now, inbound, driver, held), slowdown)
                for place, inbound, driver in places
            ),
            speed,
        )
        for resources, slowdown, speed in zip(resources_of(spec), longer, speeds or (None,), strict=True)
    )


def _on(spec: JobSpec, resources: Resources) -> JobSpec:
    return spec if resources == spec.resources else spec.model_copy(update={"resources": resources})


def _longer(assessment: Assessment, slowdown: float) -> Assessment:
    """The same standing with the price and the carbon that are expected of a slower model: its hours count for as much longer."""
    if assessment.carbon_g is not None:
        assessment = replace(assessment, carbon_g=assessment.carbon_g * slowdown)
    if assessment.quote is None or slowdown == 1.0:
        return assessment
    hours = sum(float(line.amount.amount) for line in assessment.quote.lines if line.unit.endswith("-hour"))
    return replace(assessment, expected_cost=float(assessment.quote.total.amount) + hours * (slowdown - 1.0))
