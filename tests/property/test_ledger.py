"""Money adds up: postings to nothing, statements to their jobs, cents to what is to be paid, whatever the prices and the fee."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.records import NOW
from workloads.catalogue.postings import FEE_ACCOUNT, postings, total_of
from workloads.catalogue.statement import CENT, Part, in_cents, owner_statement_of, statement_of, to_cents
from workloads.months import Month, month_at, month_of

amounts = st.decimals(min_value=0, max_value=10**9, places=4)
OWNERS = {"nyc/flights": "nyc", "nyc/planes": "nyc", "sh/metro": "shanghai"}
details = st.sampled_from(["nyc/flights@1", "nyc/flights@2", "nyc/planes@1", "sh/metro@7", "sh/metro 2026-12"])
lines = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["data-run", "data-gib", "data-rows"]), details, amounts),
        st.tuples(st.sampled_from(["cpu", "memory", "transfer"]), st.just("2 cores"), amounts),
    ),
    max_size=12,
)
fees = st.decimals(min_value=0, max_value=1, places=6)
MONTH = month_of("2026-12")


@given(lines, fees)
def test_the_postings_of_any_receipt_sum_to_nothing_and_no_owner_earns_more_than_its_lines(
    charged: list[tuple[str, str, Decimal]], fee: Decimal
) -> None:
    found = dict(postings("acme", "sh", charged, OWNERS, fee))
    assert total_of(found.values()) == 0
    assert found.get("buyer/acme", Decimal(0)) == -total_of(amount for _, _, amount in charged)
    assert all(amount > 0 for account, amount in found.items() if account != "buyer/acme")
    for owner in set(OWNERS.values()):
        of_lines = total_of(
            amount for item, detail, amount in charged if item.startswith("data-") and detail.startswith(tuple(
                name for name, whose in OWNERS.items() if whose == owner
            ))
        )  # fmt: skip
        earned = found.get(f"owner/{owner}", Decimal(0))
        assert abs(of_lines * (1 - fee) - earned) <= Decimal("0.0001")
    assert (FEE_ACCOUNT in found) <= (fee > 0)


@given(st.dictionaries(st.text(min_size=1, max_size=4), amounts, max_size=30))
def test_parts_in_cents_add_up_to_the_rounded_total_and_none_is_a_cent_or_more_off(parts: dict[str, Decimal]) -> None:
    cents = in_cents(parts)
    assert total_of(cents.values()) == to_cents(total_of(parts.values()))
    assert all(abs(cents[name] - parts[name]) < CENT and cents[name] == to_cents(cents[name]) for name in parts)


def test_the_largest_remainders_get_the_cents_that_are_left() -> None:
    assert in_cents({"a": Decimal("0.004"), "b": Decimal("0.009"), "c": Decimal("0.002")}) == {
        "a": Decimal("0.01"), "b": Decimal("0.01"), "c": Decimal("0.00"),
    }  # fmt: skip
    assert in_cents({"b": Decimal("0.005"), "a": Decimal("0.005")}) == {"a": Decimal("0.01"), "b": Decimal("0.00")}
    assert to_cents(Decimal("0.005")) == Decimal("0.01")
    assert to_cents(Decimal("0.0049")) == Decimal("0.00")


def receipt(number: int, currency: str, charged: list[tuple[str, str, Decimal]], purpose: str, centre: str | None, research: bool) -> Any:
    total = f"{total_of(amount for _, _, amount in charged):f} {currency}"
    return {
        "job_id": f"job-{number}", "run_id": f"job-{number}-1", "tenant": "acme", "purpose": purpose, "cluster": "sh", "total": total,
        "quote_total": total, "wall_s": 1.0, "issued_at": "2026-12-01T08:00:00Z",
        "lines": [
            {"item": item, "detail": detail, "quantity": "1", "unit": "run", "unit_price": f"{amount:f} {currency}",
             "amount": f"{amount:f} {currency}"}
            for item, detail, amount in charged
        ],
        **({"cost_centre": centre} if centre else {}), **({"research": True} if research else {}),
    }  # fmt: skip


old_lines = lines.map(lambda found: [one for one in found if one[0] != "data-rows" and "2026" not in one[1]])
receipts = st.lists(
    st.builds(
        receipt, st.integers(1, 10**6), st.sampled_from(["CNY", "EUR"]), old_lines, st.sampled_from(["research", "teaching"]),
        st.sampled_from([None, "lab-7", "lab-8"]), st.booleans(),
    ),
    max_size=8,
)  # fmt: skip


@given(receipts, st.integers(0, 8))
def test_every_total_of_a_statement_is_the_sum_of_its_jobs_however_few_are_listed(found: list[Any], most: int) -> None:
    statement = statement_of("acme", MONTH, found, NOW, most)
    assert len(statement.items) == min(most, len(found))
    assert statement.items_left_out == len(found) - len(statement.items)
    assert sum(account.jobs for account in statement.accounts) == len(found)
    for account in statement.accounts:
        exact = total_of(Decimal(one["total"].split()[0]) for one in found if one["total"].endswith(account.currency))
        assert account.total.amount == exact
        assert account.payable.amount == to_cents(exact)
        for parts in (account.by_purpose, account.by_cost_centre, account.by_research, account.by_kind):
            assert _sum(parts, "total") == exact
            assert _sum(parts, "payable") == account.payable.amount
        assert sum(part.jobs for part in account.by_cost_centre) == account.jobs


def _sum(parts: tuple[Part, ...], field: str) -> Decimal:
    return total_of(getattr(part, field).amount for part in parts)


@given(receipts, fees)
def test_an_owners_income_is_the_lines_of_its_products_and_splits_into_fee_and_net(found: list[Any], fee: Decimal) -> None:
    products = frozenset(name for name, owner in OWNERS.items() if owner == "nyc")
    net: dict[str, Decimal] = {}
    for one in found:
        charged = [(line["item"], line["detail"], Decimal(line["amount"].split()[0])) for line in one["lines"]]
        currency = one["total"].split()[1]
        earned = dict(postings("acme", "sh", charged, OWNERS, fee)).get("owner/nyc", Decimal(0))
        net[currency] = net.get(currency, Decimal(0)) + earned
    statement = owner_statement_of("nyc", MONTH, products, found, net, NOW)
    for account in statement.accounts:
        assert account.income.amount == account.fee.amount + account.net.amount
        assert account.income.amount == total_of(item.income.amount for item in account.products)
        assert account.income.amount == total_of(use.income.amount for use in statement.uses if use.income.currency == account.currency)


@given(st.floats(min_value=10**5, max_value=4e9), st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York", "Pacific/Apia"]))
def test_every_moment_belongs_to_one_month(at: float, zone: str) -> None:
    month: Month = month_of(month_at(at, zone), zone)
    assert month.begin_s <= at < month.end_s
    assert month_at(month.end_s, zone) > month.name
