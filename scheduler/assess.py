"""What stands against a job at a cluster, and what it would cost there: rights, residency, money.

One pure judgement serves submission, the freeze of every cycle, `job plan` and `job explain`, so that what a
buyer is told before the run is what the scheduler decides by.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from cluster.drivers import ACTORS, Driver, not_by
from cluster.model import ClusterSpec
from scheduler.engine.reasons import Reason
from scheduler.links import Inbound, Move
from workloads.catalogue.held import HeldPrices
from workloads.catalogue.licence import Licence
from workloads.catalogue.locations import local_path
from workloads.catalogue.policy import Refusal, judge
from workloads.catalogue.pricing import Quote, quote_run
from workloads.catalogue.product import Product, ProductVersion
from workloads.catalogue.rates import QuotedInput, charges_rows, most_rows
from workloads.errors import CurrencyMismatchError
from workloads.months import month_at
from workloads.ray_jobs import forbidden
from workloads.sizes import size
from workloads.spec import JobSpec

_MOST_NAMED = 3


@dataclass(frozen=True)
class InputData:
    """One input of a job with everything that a judgement of it needs."""

    alias: str
    product: Product
    version: ProductVersion
    licences: tuple[Licence, ...]
    months: frozenset[str] = frozenset()  # For which the tenant has paid the product's subscription, like 2026-12.


@dataclass(frozen=True)
class Against:
    """One thing that stands against a cluster: the rule, in words, and what would change it."""

    reason: Reason
    message: str
    remedy: str


@dataclass(frozen=True)
class Assessment:
    """A job at a cluster, capacity aside. `quote` is the ceiling at the job's max_runtime, for a start at `starts_at`, which counts
    where there are tariffs: its inputs are brought in first.

    An elastic job may be granted at most `workers` there, which its budget pays for; that many are in `quote`, and the fewest in
    `least_quote`, which is None for all other jobs.
    `expected_cost` is what to compare prices by where it is not the quote's total. `carbon_g` are the grams of CO2 that a run of
    max_runtime with the fewest workers is estimated to emit, None where a part of it is unknown. `held` are the checksums of the inputs
    whose copies are there, so that nothing has to be brought in; `moves` are the transfers of all others, one after the
    other. `sources` are the members that each input comes from.
    `paid` are those of `held` that cost nothing: what was brought ahead is paid for by who reads it first.
    """

    cluster: str
    against: tuple[Against, ...]
    quote: Quote | None
    transfer_bytes: int
    transfer_s: float
    workers: int = 1
    least_quote: Quote | None = None
    expected_cost: float | None = None
    starts_at: float = 0.0
    carbon_g: float | None = None
    held: frozenset[str] = frozenset()
    paid: frozenset[str] = frozenset()
    moves: tuple[Move, ...] = ()
    held_prices: HeldPrices | None = None
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def cost(self) -> float:
        """What clusters are compared by, in their currency: the expected price for the same number of workers everywhere."""
        quote = self.least_quote or self.quote
        return self.expected_cost if self.expected_cost is not None else float(quote.total.amount) if quote else 0.0

    @property
    def reason(self) -> Reason:
        """The first rule against it, FITS when there is none."""
        return self.against[0].reason if self.against else Reason.FITS


def assess(
    spec: JobSpec, inputs: Sequence[InputData], cluster: ClusterSpec, now: float, inbound: Inbound | None = None, driver: Driver = ACTORS,
    held_prices: HeldPrices | None = None,
) -> Assessment:  # fmt: skip
    """Judge one job at one cluster at one time. `inbound` is how data comes there, as declared where nothing else is known; `driver`
    is how its agent drives it, `held_prices` are those of its quote, if it has one."""
    inputs, cluster = _as_held(held_prices, inputs, cluster)
    rights = [(item.product, item.licences) for item in inputs]
    refusals = judge(
        spec, rights, cluster=cluster.name, jurisdiction=cluster.jurisdiction, now=now, security_level=cluster.security_level,
        versions=[item.version for item in inputs],
    )  # fmt: skip
    against = [from_refusal(refusal) for refusal in refusals]
    inbound = inbound or Inbound(cluster.inbound_bandwidth_mib_s, terms=cluster.links)
    against += _unsupported(spec, cluster, driver) + _uncounted(spec, inputs) + _too_large(inputs, cluster.name, inbound.most_bytes)
    held = frozenset(item.version.sha256 for item in inputs if item.version.sha256 in inbound.held)
    paid = held - inbound.ahead
    sources = {item.version.ref: inbound.sources_of(item.version, cluster.name)[0].cluster for item in inputs}
    quoted = _quoted(inputs, cluster, paid, now, sources)
    quote: Quote | None = None
    least: Quote | None = None
    missing = [item.version for item in quoted if not item.local and item.version.sha256 not in held]
    moves = tuple(inbound.move_of(version, cluster.name) for version in missing)
    transfer_s = sum(move.seconds for move in moves)
    workers, starts_at = spec.resources.most, now + transfer_s
    try:
        workers = _affordable(spec, quoted, cluster, starts_at)
        quote = _quote(spec, quoted, cluster, workers, starts_at)
        least = _quote(spec, quoted, cluster, spec.resources.fewest, starts_at) if spec.resources.is_elastic else None
    except CurrencyMismatchError as error:
        against.append(Against(Reason.CURRENCY, str(error), "use data priced in the cluster's currency"))
    expected_cost = None
    if quote is not None:
        whole, quote = quote, _within_budget(spec, quoted, cluster, starts_at, quote)
        # Clusters are compared by what the same work costs, not by how long a budget lasts there.
        expected_cost = None if quote is whole else float(whole.total.amount)
        against.extend(_over_budget(spec, quote))
    return Assessment(
        cluster=cluster.name, against=tuple(sorted(against, key=rank)), quote=quote,
        transfer_bytes=sum(move.size_bytes for move in moves), transfer_s=transfer_s, moves=moves,
        workers=workers, least_quote=least, expected_cost=expected_cost, starts_at=starts_at,
        carbon_g=_carbon_g(spec, cluster, starts_at), held=held,
        paid=paid, held_prices=held_prices, sources=sources,
    )  # fmt: skip


def rank(item: Against) -> tuple[bool, Reason]:
    """Rights first, then what the cluster does not run, then money: another hour may pay for a start, but changes no kind."""
    return item.reason in (Reason.CURRENCY, Reason.OVER_BUDGET), item.reason


def _unsupported(spec: JobSpec, cluster: ClusterSpec, driver: Driver) -> list[Against]:
    found = not_by(driver, spec, has_store=cluster.result_store is not None) or (
        forbidden(spec.runtime_env, cluster.ray_jobs) if spec.kind == "ray" else None
    )
    return [Against(Reason.KIND_UNSUPPORTED, *found)] if found else []


def _uncounted(spec: JobSpec, inputs: Sequence[InputData]) -> list[Against]:
    """A price for each row holds for what is counted: the rows of a statement."""
    found = sorted({item.product.name for item in inputs if charges_rows(item.product)}) if spec.kind != "sql" else []
    message = f"{', '.join(found)} has a price for each row that is returned, and of kind {spec.kind} no rows are counted"
    return [Against(Reason.KIND_UNSUPPORTED, message, "use kind sql, or ask the owner for another price")] if found else []


def _too_large(inputs: Sequence[InputData], cluster: str, most_bytes: int | None) -> list[Against]:
    """What is read is there all at once: inputs that have to be copied and do not fit into the cache together never will."""
    if most_bytes is None:
        return []
    copied = {item.version.sha256: item.version for item in inputs if is_copied(item.version, cluster)}
    whole = sum(version.size_bytes for version in copied.values())
    if whole <= most_bytes:
        return []
    largest = sorted(copied.values(), key=lambda version: (-version.size_bytes, version.ref))
    named = ", ".join(f"{version.ref} {size(version.size_bytes)}" for version in largest[:_MOST_NAMED])
    more = f" and {len(largest) - _MOST_NAMED} more" if len(largest) > _MOST_NAMED else ""
    homes = ", ".join(sorted(set.intersection(*({one.cluster for one in version.replicas} for version in largest)) - {cluster}))
    message = f"the inputs that have to be copied there take {size(whole)} ({named}{more}), and its cache holds {size(most_bytes)}"
    remedy = f"publish replicas on disks of {cluster}, or have its operator raise CPN_CACHE_GIB of its agent"
    return [Against(Reason.DATA_TOO_LARGE, message, remedy + (f", or run at {homes}" if homes else ""))]


def is_copied(version: ProductVersion, cluster: str) -> bool:
    """Whether a run at a cluster reads a copy: of what lies elsewhere, and of what lies there, but on none of its disks."""
    return all(replica.cluster != cluster or local_path(replica.uri) is None for replica in version.replicas)


def _carbon_g(spec: JobSpec, cluster: ClusterSpec, begin_s: float) -> float | None:
    if cluster.carbon is None:
        return None
    accelerator = spec.resources.accelerator
    return cluster.carbon.grams(spec.resources, accelerator.choices[0].model if accelerator else None, begin_s, spec.max_runtime)


def granted_quote(spec: JobSpec, inputs: Sequence[InputData], cluster: ClusterSpec, found: Assessment, workers: int) -> Quote | None:
    """The ceiling for the workers that a job was granted at a cluster, as it was assessed there; None where it had no quote."""
    if workers == found.workers or found.quote is None:
        return found.quote
    inputs, cluster = _as_held(found.held_prices, inputs, cluster)
    quoted = _quoted(inputs, cluster, found.paid, found.starts_at - found.transfer_s, found.sources)
    return _quote(spec, quoted, cluster, workers, found.starts_at)


def _as_held(
    held: HeldPrices | None, inputs: Sequence[InputData], cluster: ClusterSpec
) -> tuple[Sequence[InputData], ClusterSpec]:  # fmt: skip
    """The inputs and the cluster at the prices that a quote holds."""
    if held is None:
        return inputs, cluster
    prices = held.prices(cluster.name, cluster.prices)
    return [replace(item, product=held.product(item.product)) for item in inputs], cluster.model_copy(update={"prices": prices})


def _quoted(
    inputs: Sequence[InputData], cluster: ClusterSpec, paid: frozenset[str], now: float, sources: Mapping[str, str]
) -> list[QuotedInput]:  # fmt: skip
    """The inputs with whether they are there at no cost, as a replica or as a copy that was brought for somebody else, and whether
    this month's subscription is paid."""
    found = []
    for item in inputs:
        local = is_local(item.version, cluster.name) or item.version.sha256 in paid
        month = month_at(now) if item.product.price.per_month is not None else ""
        source = "" if local else sources.get(item.version.ref, "")
        found.append(QuotedInput(item.product, item.version, local, month, month in item.months, source))
    return found


def _quote(
    spec: JobSpec, inputs: Sequence[QuotedInput], cluster: ClusterSpec, workers: int, starts_at: float, runtime_s: float | None = None
) -> Quote:  # fmt: skip
    """The ceiling at max_runtime, or at another time."""
    rows, resources = most_rows(spec, [item.product for item in inputs]), spec.resources.with_workers(workers)
    return quote_run(resources, inputs, cluster.prices, cluster.name, spec.max_runtime if runtime_s is None else runtime_s, starts_at, rows)


def _within_budget(spec: JobSpec, inputs: Sequence[QuotedInput], cluster: ClusterSpec, starts_at: float, whole: Quote) -> Quote:
    """The quote of a job that is to be stopped at its budget for as many whole seconds as that pays for; the whole one where it pays
    for all of max_runtime, or not for a second."""
    budget = spec.budget
    if not spec.stop_at_budget or budget is None or budget.currency != whole.currency or whole.total.amount <= budget.amount:
        return whole

    def quoted(seconds: int) -> Quote:
        return _quote(spec, inputs, cluster, spec.resources.most, starts_at, float(seconds))

    seconds = bisect_right(range(1, ceil(spec.max_runtime)), budget.amount, key=lambda one: quoted(one).total.amount)
    return quoted(seconds).model_copy(update={"runtime_s": float(seconds)}) if seconds else whole


def _affordable(spec: JobSpec, inputs: Sequence[QuotedInput], cluster: ClusterSpec, starts_at: float) -> int:
    """The most workers that the budget pays for, and the fewest where it does not pay for these."""
    fewest, most, budget = spec.resources.fewest, spec.resources.most, spec.budget
    if not spec.resources.is_elastic or budget is None or budget.currency != cluster.prices.currency:
        return most
    counts = range(fewest, most + 1)
    paid = bisect_right(counts, budget.amount, key=lambda count: _quote(spec, inputs, cluster, count, starts_at).total.amount)
    return max(fewest + paid - 1, fewest)


def from_refusal(refusal: Refusal) -> Against:
    """A catalogue refusal with the engine's reason; the names are the same by design."""
    return Against(Reason[refusal.rule.name.upper()], refusal.message, refusal.remedy)


def is_local(version: ProductVersion, cluster: str) -> bool:
    """Whether a cluster holds a replica."""
    return any(replica.cluster == cluster for replica in version.replicas)


def _over_budget(spec: JobSpec, quote: Quote) -> list[Against]:
    if spec.budget is None:
        return []
    if spec.budget.currency != quote.currency:
        message = f"the budget is in {spec.budget.currency}, cluster {quote.cluster} charges {quote.currency}"
        return [Against(Reason.CURRENCY, message, f"give the budget in {quote.currency}")]
    if quote.total.amount <= spec.budget.amount:
        return []
    fewest = f" for {spec.resources.fewest} workers" if spec.resources.is_elastic else ""
    message = f"the quote of {quote.total}{fewest} at {quote.cluster} is over the budget of {spec.budget}"
    if spec.stop_at_budget:
        remedy = "it does not pay for a second there; raise it, or ask for fewer resources"
    else:
        remedy = f"raise the budget to {quote.total}, or lower max_runtime or resources"
        remedy += "" if spec.flexible or spec.resources.is_elastic else ", or give stop_at_budget: true to be stopped before it is exceeded"
    return [Against(Reason.OVER_BUDGET, message, remedy)]
