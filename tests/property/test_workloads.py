"""Invariants of units, money, receipts, rights and progress."""

from __future__ import annotations

import json
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tests.unit.workloads.samples import licence, prices, product, spec, version
from workloads.catalogue.policy import PLACE_INDEPENDENT, covers, judge, place_independent
from workloads.catalogue.pricing import Receipt, quote_run, settle_run
from workloads.catalogue.rates import QuotedInput
from workloads.hours import DAYS
from workloads.resources import (
    DurationSeconds,
    FlopsRate,
    MemoryBytes,
    Money,
    MoneyAmount,
    Resources,
    format_memory,
    parse_duration,
    parse_flops,
    parse_memory,
    write_duration,
    write_flops,
)
from workloads.runners.progress import ProgressParser, ProgressRecord

numbers = st.decimals(min_value=0, max_value=10**6, places=6).map(lambda number: f"{number:f}")
cny = st.decimals(min_value=0, max_value=10**6, places=4).map(lambda number: f"{number:f} CNY")


def stays_the_same(adapter: TypeAdapter[object], text: str) -> None:
    value = adapter.validate_python(text)
    written = adapter.dump_python(value, mode="json")
    assert isinstance(written, str)
    assert adapter.validate_python(written) == value
    assert adapter.validate_json(json.dumps(written)) == value


@given(numbers, st.sampled_from(["B", "KiB", "MiB", "GiB", "TiB", "KB", "GB"]))
def test_memory_reads_back(number: str, unit: str) -> None:
    stays_the_same(TypeAdapter(MemoryBytes), number + unit)


@given(st.integers(min_value=0, max_value=2**60))
def test_every_number_of_bytes_reads_back(size: int) -> None:
    assert parse_memory(format_memory(size)) == size


@given(st.lists(st.tuples(numbers, st.sampled_from(["ms", "s", "m"])), min_size=1, max_size=4))
def test_durations_read_back(parts: list[tuple[str, str]]) -> None:
    stays_the_same(TypeAdapter(DurationSeconds), "".join(number + unit for number, unit in parts))


@given(st.floats(min_value=1e-9, max_value=3e9))
def test_every_number_of_seconds_reads_back(seconds: float) -> None:
    assert parse_duration(write_duration(seconds)) == seconds


@given(numbers, st.sampled_from(["GFLOPS", "TFLOPS", "PFLOPS", "EFLOPS"]))
def test_flops_read_back(number: str, unit: str) -> None:
    stays_the_same(TypeAdapter(FlopsRate), f"{number} {unit}")


@given(st.floats(min_value=1, max_value=1e27))
def test_every_flops_rate_reads_back(flops: float) -> None:
    assert parse_flops(write_flops(flops)) == flops


@given(cny)
def test_money_reads_back(text: str) -> None:
    stays_the_same(TypeAdapter(MoneyAmount), text)


@given(cny, cny, cny)
def test_money_adds_exactly_and_in_any_order(a: str, b: str, c: str) -> None:
    x, y, z = map(Money.parse, (a, b, c))
    assert (x + y) + z == x + (y + z) == z + y + x
    assert (x + y).amount == x.amount + y.amount


resources = st.builds(
    lambda cpu, memory, workers, accelerators: Resources.model_validate({
        "cpu": cpu, "memory": f"{memory}MiB", "workers": workers,
        "accelerator": {"model": "H200", "count": accelerators} if accelerators else None,
    }),
    st.floats(min_value=0.001, max_value=4096), st.integers(1, 10**6), st.integers(1, 4096), st.integers(0, 16),
)  # fmt: skip
inputs = st.lists(
    st.builds(
        lambda number, size, per_run, per_gib, local: QuotedInput(
            product(price={"per_run": per_run, "per_gib": per_gib}), version(number=number, size_bytes=size), local
        ),
        st.integers(1, 5), st.integers(0, 2**50), st.none() | cny, st.none() | cny, st.booleans(),
    ),
    max_size=4,
)  # fmt: skip
tariff_lists = st.builds(
    lambda zone, begin, end, days, factor: {
        "time_zone": zone, "hours": [{"from": f"{begin:02}:00", "to": f"{end:02}:30", "days": days, "factor": factor / 10000}],
    },
    st.sampled_from(["UTC", "Asia/Shanghai", "Europe/Berlin"]), st.integers(0, 23), st.integers(0, 23),
    st.lists(st.sampled_from(DAYS), min_size=1, unique=True), st.integers(1, 10**7),
)  # fmt: skip
price_lists = st.builds(
    lambda cpu, memory, accelerator, transfer, tariffs: prices(
        cpu_hour=cpu, memory_gib_hour=memory, transfer_gib=transfer, accelerator_hour={"H200": accelerator}, tariffs=tariffs
    ),
    cny, cny, cny, cny, st.none() | tariff_lists,
)  # fmt: skip
seconds = st.floats(min_value=0, max_value=10**8)
starts = st.floats(min_value=0, max_value=4 * 10**9)
brought = st.dictionaries(st.integers(1, 5).map(lambda number: version(number=number).ref), st.integers(0, 2**51))


@given(resources, inputs, price_lists, price_lists, seconds, seconds, st.booleans(), st.none() | brought, starts, starts)
def test_a_receipt_never_exceeds_its_quote(
    asked: Resources,
    used: list[QuotedInput],
    then: object,
    today: object,
    runtime_s: float,
    wall_s: float,
    delivered: bool,
    moved: dict[str, int] | None,
    planned: float,
    began: float,
) -> None:
    quote = quote_run(asked, used, then, "sh-1", runtime_s, planned)  # type: ignore[arg-type]
    given_over = {"delivered": delivered, "moved": moved}
    lines = settle_run(quote, asked, used, today, wall_s, started_at=began, **given_over)  # type: ignore[arg-type]
    ceiling = {(line.item, line.detail): line.amount.amount for line in quote.lines}
    assert len(ceiling) == len(quote.lines)
    assert all(line.amount.amount <= ceiling[line.item, line.detail] for line in lines)
    receipt = Receipt.of(quote, lines, job_id="j", run_id="r", tenant="acme", purpose="research", wall_s=wall_s, issued_at=0.0)
    assert receipt.total.amount == sum((line.amount.amount for line in lines), Decimal(0)) <= quote.total.amount
    assert Receipt.model_validate(receipt.model_dump(mode="json")) == receipt


@given(resources, inputs, price_lists, seconds, seconds, starts)
def test_more_time_never_costs_less(
    asked: Resources, used: list[QuotedInput], listed: object, one: float, other: float, begins: float
) -> None:
    less, more = sorted((one, other))
    quotes = [quote_run(asked, used, listed, "sh-1", runtime_s, begins) for runtime_s in (less, more)]  # type: ignore[arg-type]
    assert quotes[0].total.amount <= quotes[1].total.amount
    settled = [
        sum(line.amount.amount for line in settle_run(quotes[1], asked, used, listed, wall_s, started_at=begins))  # type: ignore[arg-type]
        for wall_s in (less, more)
    ]
    assert settled[0] <= settled[1] == quotes[1].total.amount


@given(resources, inputs, price_lists, seconds)
def test_every_line_is_its_quantity_times_its_price(asked: Resources, used: list[QuotedInput], listed: object, runtime_s: float) -> None:
    for line in quote_run(asked, used, listed, "sh-1", runtime_s).lines:  # type: ignore[arg-type]
        exact = line.quantity * line.unit_price.amount
        assert abs(line.amount.amount - exact) <= Decimal("0.00005")
        assert line.amount.amount == line.amount.amount.quantize(Decimal("0.0001"))


places = st.sampled_from(["CN", "CN-SH", "CN-BJ", "US", "US-CA"])
purposes = st.sampled_from(["research", "marketing", "training"])
licences = st.lists(
    st.builds(
        lambda tenant, granted, where, until, revoked, kinds, consent: licence(
            tenant=tenant, purposes=granted, jurisdictions=where, expires_at=until, revoked=revoked, kinds=kinds, consent=consent
        ),
        st.sampled_from(["acme", "other"]), st.lists(purposes, min_size=1, max_size=2), st.lists(places, max_size=2),
        st.sampled_from([None, "2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z"]), st.booleans(),
        st.sampled_from([[], ["sql"], ["command"]]), st.sampled_from(["", "consent-17"]),
    ),
    max_size=4,
)  # fmt: skip
products = st.builds(
    lambda allowed, where, secret, kinds, level: product(
        purposes=allowed, jurisdictions=where, classification=secret, kinds=kinds, security_level=level
    ),
    st.lists(purposes, max_size=2), st.lists(places, max_size=2), st.sampled_from(["public", "restricted", "personal"]),
    st.sampled_from([[], ["sql"], ["command"]]), st.sampled_from([0, 0, 2]),
)  # fmt: skip
NOW = 1.7e9


@given(products, licences, purposes, places)
def test_nothing_runs_without_every_right(item: object, held: list[object], purpose: str, place: str) -> None:
    refused = judge(spec(purpose=purpose), [(item, held)], cluster="c", jurisdiction=place, now=NOW)  # type: ignore[list-item]
    good = [
        one for one in held
        if one.tenant == "acme" and not one.revoked and purpose in one.purposes and covers(one.jurisdictions, place)  # type: ignore[attr-defined]
        and (one.expires_at is None or one.expires_at.timestamp() > NOW)  # type: ignore[attr-defined]
        and "sql" in (*one.kinds, *([] if one.kinds else ["sql"]))  # type: ignore[attr-defined]
        and (one.consent or item.classification != "personal")  # type: ignore[attr-defined]
    ]  # fmt: skip
    terms = (not item.purposes or purpose in item.purposes) and covers(item.jurisdictions, place)  # type: ignore[attr-defined]
    terms = terms and item.kinds != ("command",) and item.security_level == 0  # type: ignore[attr-defined]
    assert (refused == ()) == (terms and (bool(good) or item.classification == "public"))  # type: ignore[attr-defined]
    assert len({refusal.rule for refusal in refused}) == len(refused)


@given(products, licences, purposes)
def test_what_is_refused_everywhere_is_what_each_place_refuses(item: object, held: list[object], purpose: str) -> None:
    everywhere = place_independent(spec(purpose=purpose), [(item, held)], now=NOW)  # type: ignore[list-item]
    for place in ("CN", "CN-SH", "US-CA"):
        here = judge(spec(purpose=purpose), [(item, held)], cluster="c", jurisdiction=place, now=NOW)  # type: ignore[list-item]
        assert tuple(refusal for refusal in here if refusal.rule in PLACE_INDEPENDENT) == everywhere


@given(products, licences, purposes, places, st.data())
def test_another_licence_never_takes_a_right_away(item: object, held: list[object], purpose: str, place: str, data: st.DataObject) -> None:
    more = [*held, *data.draw(licences)]
    before, after = (
        judge(spec(purpose=purpose), [(item, rights)], cluster="c", jurisdiction=place, now=NOW)
        for rights in (held, more)  # type: ignore[list-item]
    )
    assert len(after) <= len(before)


@given(st.lists(st.tuples(st.integers(0, 2**40), st.floats(allow_nan=False, allow_infinity=False)), max_size=20), st.data())
def test_progress_is_the_same_however_it_is_cut(reports: list[tuple[int, float]], data: st.DataObject) -> None:
    text = b"".join(json.dumps({"step": step, "metrics": {"m": value}}).encode() + b"\n" for step, value in reports)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parser, records = ProgressParser(), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        records.extend(parser.feed(text[start:end]).records)
    assert records == [ProgressRecord(place, step, {"m": value}) for place, (step, value) in enumerate(reports, start=1)]
