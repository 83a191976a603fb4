"""Statements, the ledger and usage as tenants, owners and operators meet them: command line and HTTP, with right and wrong input."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.acceptance.market import SQL, Market, manifest

MONTH = datetime.now(UTC).strftime("%Y-%m")


@pytest.fixture(scope="module")
def job_id(market: Market) -> str:
    """A job that has read flights, for a cost centre, as research."""
    file = manifest(market.acme, "costly", f"{SQL}\ncost_centre: Lab 7/b\nresearch: true")
    submitted = market.acme("job", "submit", "-f", file, "--wait", "-o", "json").document
    return str(submitted["id"])


def test_a_statement_has_the_job_its_lines_and_every_total(market: Market, job_id: str) -> None:
    view = market.acme("statement", "acme", MONTH, "-o", "json").document
    [account] = view["accounts"]
    [item] = [item for item in view["items"] if item["job_id"] == job_id]
    receipt = market.acme("job", "receipt", job_id, "-o", "json").document
    assert (item["lines"], item["total"], item["cost_centre"], item["research"]) == (receipt["lines"], receipt["total"], "Lab 7/b", True)
    exact = sum(Decimal(one["total"].split()[0]) for one in view["items"])
    assert Decimal(account["total"].split()[0]) == exact
    for parts in (account["by_purpose"], account["by_cost_centre"], account["by_research"], account["by_kind"]):
        assert sum(Decimal(part["total"].split()[0]) for part in parts) == exact
    assert {part["name"] for part in account["by_cost_centre"]} >= {"Lab 7/b"}
    assert view["closed"] is False
    shown = market.acme("statement", "acme").out
    assert [words for words in ("Lab 7/b", job_id, account["payable"], "not over yet") if words not in shown] == []


def test_the_csv_has_a_row_for_each_line_that_adds_up_to_the_same(market: Market, job_id: str) -> None:
    rows = list(csv.DictReader(io.StringIO(market.acme("statement", "acme", MONTH, "-o", "csv").out)))
    own = [row for row in rows if row["job_id"] == job_id]
    receipt = market.acme("job", "receipt", job_id, "-o", "json").document
    assert [row["item"] for row in own] == [line["item"] for line in receipt["lines"]]
    assert sum(Decimal(row["amount"]) for row in own) == Decimal(receipt["total"].split()[0])
    assert {(row["cost_centre"], row["research"], row["purpose"], row["month"]) for row in own} == {("Lab 7/b", "yes", "research", MONTH)}


def test_the_page_prints_and_runs_nothing(market: Market, job_id: str) -> None:
    answer = market.network.operator.get(f"/statements/acme/{MONTH}", headers={"Accept": "text/html"})
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert [words for words in ("@media print", "Lab 7/b", job_id, "Statement of acme") if words not in answer.text] == []
    assert "<script" not in answer.text
    assert market.acme("statement", "acme", MONTH, "-o", "html").out == answer.text


def test_an_owner_sees_each_use_with_its_licence(market: Market, job_id: str) -> None:
    [licence] = market.operator("product", "show", "nyc/flights", "-o", "json").document.get("licences", []) or [None]
    view = market.operator("statement", "--owner", "nyc", MONTH, "-o", "json").document
    [use] = [use for use in view["uses"] if use["job_id"] == job_id]
    assert (use["ref"], use["tenant"], use["income"], use["purpose"]) == ("nyc/flights@1", "acme", "0.50 CNY", "research")
    granted = market.network.ok(market.network.operator.get("/products/nyc/flights/licences"))["items"]
    assert use["licence"] in {one["id"] for one in granted if one["tenant"] == "acme"}
    assert licence is None or licence["id"] == use["licence"]
    [account] = view["accounts"]
    [flights] = [item for item in account["products"] if item["product"] == "nyc/flights"]
    assert flights["uses"] == sum(use["product"] == "nyc/flights" for use in view["uses"])
    assert Decimal(flights["income"].split()[0]) == Decimal("0.5") * flights["uses"]
    assert job_id in market.operator("statement", "--owner", "nyc").out
    rows = list(csv.DictReader(io.StringIO(market.operator("statement", "--owner", "nyc", "-o", "csv").out)))
    assert [row["licence"] for row in rows if row["job_id"] == job_id] == [use["licence"]]
    assert "Income of nyc" in market.operator("statement", "--owner", "nyc", "-o", "html").out


def test_the_ledger_lists_who_earns_and_is_sound(market: Market, job_id: str) -> None:
    [entry] = market.operator("ledger", "list", "--run", f"{job_id}-1", "-o", "json").document["items"]
    assert sum(Decimal(one["amount"]) for one in entry["postings"]) == 0
    amounts = {one["account"]: one["amount"] for one in entry["postings"]}
    assert amounts["owner/nyc"] == "0.5000"
    assert set(amounts) - {"cluster/sh"} == {"buyer/acme", "owner/nyc"}
    assert "owner/nyc" in market.operator("ledger", "list", "--account", "owner/nyc", "--from", f"{MONTH}-01").out
    assert "no such entries" in market.operator("ledger", "list", "--to", "2001-01-01").out
    assert "the ledger is sound" in market.operator("ledger", "verify").out
    assert market.operator("ledger", "verify", "-o", "json").document["sound"] is True


@pytest.mark.usefixtures("job_id")
def test_usage_has_hours_and_money(market: Market) -> None:
    view = market.operator("usage", "--by", "queue", "--from", f"{MONTH}-01", "-o", "json").document
    [analytics] = [item for item in view["items"] if item["name"] == "analytics"]
    assert analytics["runs"] >= 1
    assert analytics["charged"][0].endswith("CNY")
    assert [item["name"] for item in market.acme("usage", "-o", "json").document["items"]] == ["acme"]
    assert "CPU HOURS" in market.acme("usage").out


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("statement",), 2, "give a TENANT, or --owner OWNER"),
        (("statement", "acme", "2026-12", "--owner", "nyc"), 2, "give a TENANT, or --owner OWNER"),
        (("statement", "acme", "2026-13"), 2, "month"),
        (("statement", "acme", "december"), 2, "month"),
        (("statement", "nobody"), 1, "nobody"),
        (("statement", "--owner", "nobody"), 1, "no product is of the owner 'nobody'"),
        (("usage", "--from", "tomorrow"), 2, "write a day like 2026-12-01"),
        (("usage", "--from", "2026-12-02", "--to", "2026-12-01"), 2, "is not after from"),
        (("usage", "--from", "2020-01-01"), 2, "ask for a part of it"),
        (("ledger", "list", "--account", "acme"), 2, "account"),
    ],
)
def test_what_is_asked_wrongly_is_refused_with_what_to_do(market: Market, arguments: tuple[str, ...], status: int, words: str) -> None:
    assert words in market.operator(*arguments, status=status).err


def test_a_buyer_sees_its_own_statement_alone(market: Market) -> None:
    assert "bound to the tenant 'acme'" in market.acme("statement", "globex", status=4).err
    assert "bound to the tenant 'acme'" in market.acme("usage", "--tenant", "globex", status=2).err
    for arguments in (("statement", "--owner", "nyc"), ("ledger", "list"), ("ledger", "verify")):
        assert "needs the role operator" in market.acme(*arguments, status=4).err
    assert "nothing was charged" in market.globex("statement", "globex", "2001-01").out


def test_a_form_that_there_is_not_is_refused(market: Market) -> None:
    answer: Any = market.network.operator.get(f"/statements/acme/{MONTH}", headers={"Accept": "application/pdf"})
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (422, "Accept")
    assert market.network.operator.get(f"/statements/acme/{MONTH}?format=xml").status_code == 422


def test_a_bad_cost_centre_is_refused_with_its_field(market: Market) -> None:
    file = manifest(market.acme, "formula", f'{SQL}\ncost_centre: "=1+1"')
    assert "cost_centre" in market.acme("job", "submit", "-f", file, status=2).err
