"""Examples of statements, of the ledger, of links and of what was used, for the API's description."""

from __future__ import annotations

from typing import Any

_LINE = {
    "item": "data-run", "detail": "nyc-open-data/flights@1", "quantity": "1", "unit": "run", "unit_price": "0.50 CNY", "amount": "0.50 CNY",
}  # fmt: skip
_MONTH = {
    "month": "2026-03", "time_zone": "UTC", "begins_at": "2026-03-01T00:00:00Z", "ends_at": "2026-04-01T00:00:00Z", "closed": True,
}  # fmt: skip
_JOB = {
    "job_id": "job-7k2mznq4wv3x", "run_id": "job-7k2mznq4wv3x-1", "issued_at": "2026-03-01T08:00:00.052Z", "purpose": "research",
    "cluster": "shanghai-lingang",
}  # fmt: skip


def _part(name: str) -> dict[str, Any]:
    return {"name": name, "jobs": 1, "total": "0.50 CNY", "payable": "0.50 CNY"}


ANSWERS: dict[str, Any] = {
    "LinkView": {
        "source": "beijing", "cluster": "shanghai-lingang", "mib_s": 250.0, "origin": "declared", "declared_mib_s": 250.0,
        "transfers": 0, "capped": False, "last_at": None, "latency_ms": 30.0, "price_gib": "0.10 CNY",
    },
    "Statement": {
        **_MONTH, "tenant": "acme", "items_left_out": 0,
        "accounts": [{
            "currency": "CNY", "jobs": 1, "total": "0.50 CNY", "payable": "0.50 CNY", "by_kind": [_part("data")],
            "by_purpose": [_part("research")], "by_cost_centre": [_part("lab-7")], "by_research": [_part("research")],
        }],
        "items": [{**_JOB, "cost_centre": "lab-7", "research": True, "lines": [_LINE], "total": "0.50 CNY"}],
    },
    "OwnerStatement": {
        **_MONTH, "owner": "nyc-open-data", "uses_left_out": 0,
        "accounts": [{
            "currency": "CNY", "income": "0.50 CNY", "fee": "0.025 CNY", "net": "0.475 CNY", "payable": "0.48 CNY",
            "products": [{"product": "nyc-open-data/flights", "uses": 1, "income": "0.50 CNY"}],
        }],
        "uses": [{
            **_JOB, "product": "nyc-open-data/flights", "ref": "nyc-open-data/flights@1", "licence": "lic-5f0c1d2e3a4b",
            "tenant": "acme", "income": "0.50 CNY",
        }],
    },
    "BalanceView": {
        "sound": True, "entries": 1, "receipts_without_entry": 0, "faults": 0, "told": [],
        "accounts": [
            {"account": "buyer/acme", "currency": "CNY", "amount": "-0.5000"},
            {"account": "fee/market", "currency": "CNY", "amount": "0.0250"},
            {"account": "owner/nyc-open-data", "currency": "CNY", "amount": "0.4750"},
        ],
    },
    "UsageView": {
        "begins_at": "2026-03-01T00:00:00Z", "ends_at": "2026-03-02T00:00:00Z", "by": "tenant",
        "items": [{
            "name": "acme", "runs": 1, "cpu_hours": 0.5, "memory_gib_hours": 1.0, "accelerator_hours": {"H200": 4.0},
            "charged": ["0.50 CNY"],
        }],
    },
}  # fmt: skip
