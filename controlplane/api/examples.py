"""An example of each request, of the main answers and of each problem; a test validates every one against its model.

They tell one story: the job of `JobSpec` is planned, runs at shanghai-lingang and is settled.
"""

from __future__ import annotations

from typing import Any

from controlplane.api import money_examples

REQUESTS: dict[str, dict[str, Any]] = {
    "JobSpec": {
        "name": "delay-by-carrier", "tenant": "acme", "queue": "analytics", "kind": "sql", "purpose": "research",
        "inputs": {"flights": "nyc-open-data/flights@1"},
        "sql": "SELECT carrier, avg(dep_delay) AS delay FROM flights GROUP BY carrier ORDER BY delay DESC",
        "resources": {"cpu": 1, "memory": "1GiB"}, "max_runtime": "10m", "budget": "5.00 CNY",
    },
    "JobBatch": {
        "items": [
            {
                "job": {
                    "name": "nightly", "tenant": "acme", "kind": "command", "purpose": "research", "command": ["python", "nightly.py"],
                },
                "idempotency_key": "nightly-2026-12-01",
            },
            {"job": {"name": "count", "tenant": "acme", "kind": "sql", "purpose": "marketing", "sql": "SELECT 1"}},
        ],
    },
    "ClusterSpec": {
        "name": "guizhou-guian", "backend": "ray", "mode": "push", "jurisdiction": "CN-GZ", "labels": {"tier": "standard"},
        "prices": {
            "cpu_hour": "0.20 CNY", "memory_gib_hour": "0.02 CNY", "accelerator_hour": {"H200": "18.00 CNY"}, "transfer_gib": "0.50 CNY",
        },
        "endpoint": {"address": "10.0.0.5:6379", "token_file": "/etc/cpn/guizhou.token"},
    },
    "LinkPatch": {"price_gib": "0.10 CNY", "bandwidth_mib_s": 250.0, "latency_ms": 30.0},
    "ClusterPatch": {"labels": {"tier": "gold"}, "inbound_bandwidth_mib_s": 250.0},
    "Product": {
        "name": "nyc-open-data/flights", "owner": "nyc-open-data", "description": "Flights from New York in 2013",
        "classification": "restricted", "purposes": ["research"], "jurisdictions": ["CN-SH"], "price": {"per_run": "0.50 CNY"},
    },
    "VersionRequest": {"format": "parquet", "replicas": [{"cluster": "guizhou-guian", "uri": "file:///data/flights.parquet"}]},
    "LicenceRequest": {"tenant": "acme", "purposes": ["research"], "jurisdictions": ["CN"], "expires_at": "2030-01-01T00:00:00Z"},
    "StandingRequest": {"reason": "delays are in seconds instead of minutes; use version 2"},
    "QueueRequest": {
        "name": "analytics", "parent": "research", "weight": 2.0, "max_running": 100,
        "quota": {"cpu": 64, "memory": "256GiB", "H200": 8}, "borrow_limit": {"cpu": 32}, "lend_limit": {"H200": 4},
        "order": "strict", "layout": "spread",
    },
    "QueuePatch": {"weight": 3.0, "quota": {"cpu": 96, "memory": "384GiB", "H200": 8}},
    "MaintenanceRequest": {
        "name": "new-switches", "cluster": "guizhou-guian", "nodes": ["node-1", "node-2"], "begins_at": "2026-12-01T20:00:00+08:00",
        "ends_at": "2026-12-02T02:00:00+08:00", "reason": "new switches",
    },
    "ReservationRequest": {
        "name": "quarter-end", "cluster": "guizhou-guian", "nodes": ["node-1"], "tenant": "acme",
        "begins_at": "2026-12-31T00:00:00+08:00", "ends_at": "2027-01-03T00:00:00+08:00",
    },
    "DepositTold": {
        "token": "0123456789abcdef", "files": [{"name": "model.bin", "size_bytes": 200000000, "sha256": "9f86d081" * 8}],
    },
    "TenantRequest": {"name": "acme", "result_store": "s3://results-of-acme/cpn", "keep_results_days": 90},
    "TenantPatch": {"keep_results_days": 30},
    "TokenRequest": {"role": "buyer", "tenant": "acme", "expires_in": "30d"},
    "JoinRequest": {"agent_token_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "cluster": "guizhou-guian"},
    "TargetRequest": {
        "name": "computing-power", "compute_class": "general", "precision": "fp32", "baseline": "4500PFLOPS",
        "baseline_date": "2020-12-31", "multiple": 4.0, "due": "2025-12-31", "scope": "data centres in the city", "source": "an example",
    },
    "SyncRequest": {
        "agent_id": "agent-5f0c1d2e3a4b5c6d", "reachable": True, "known_runs": ["job-7k2mznq4wv3x-1"], "acknowledged": 41, "wait_s": 20.0,
        "inventory": {"nodes": [{"name": "node-1", "cpu": 64.0, "memory_bytes": 549755813888}], "version": "ray 2.50.0"},
        "observations": [{"epoch": 1, "event": {"type": "started", "run_id": "job-7k2mznq4wv3x-1", "at": 1772352000.25}}],
    },
}  # fmt: skip

_LINES = [
    {
        "item": "cpu", "detail": "1 cores", "quantity": "0.166666666667", "unit": "core-hour", "unit_price": "0.60 CNY",
        "amount": "0.10 CNY",
    },
    {
        "item": "memory", "detail": "1GiB", "quantity": "0.166666666667", "unit": "GiB-hour", "unit_price": "0.06 CNY",
        "amount": "0.01 CNY",
    },
    {
        "item": "data-run", "detail": "nyc-open-data/flights@1", "quantity": "1", "unit": "run", "unit_price": "0.50 CNY",
        "amount": "0.50 CNY",
    },
]  # fmt: skip
_QUOTE = {"cluster": "shanghai-lingang", "currency": "CNY", "lines": _LINES, "total": "0.61 CNY"}
_CHOSEN = {
    "cluster": "shanghai-lingang", "verdict": "chosen", "obstacles": [], "start_s": 0.05, "transfer_s": 0.0, "transfer_bytes": 0,
    "quote": _QUOTE, "score": 0.0,
    "score_parts": [
        {"aspect": "price", "value": 0.61, "weight": 1.0, "points": 0.0},
        {"aspect": "transfer", "value": 0.0, "weight": 1.0, "points": 0.0},
        {"aspect": "start", "value": 0.05, "weight": 0.5, "points": 0.0},
    ],
}  # fmt: skip
_REFUSED = {
    "cluster": "guizhou-guian", "verdict": "refused", "start_s": None, "transfer_s": 0.08, "transfer_bytes": 8388608, "quote": None,
    "obstacles": [
        {
            "reason": "product_jurisdiction", "message": "nyc-open-data/flights may not be processed in CN-GZ (permits: CN-SH)",
            "remedy": "run at a cluster in CN-SH",
        }
    ],
}  # fmt: skip
_WAITING = {
    "as_of": "2026-03-01T08:00:01Z", "queue": "analytics", "queue_position": 2, "queue_length": 7, "position": 5, "position_known": True,
    "waiting": 40, "ahead": [{
        "job_id": None, "name": None, "tenant": None, "queue": "analytics", "why": "priority", "message": "its priority is higher",
    }],
    "waits_for": {
        "reason": "node_busy", "message": "there is room on the nodes, but it is in use now (of 4 nodes: 3 busy, 1 too small)",
        "remedy": "wait, or ask for less", "nodes": {"node_busy": 3, "node_too_small": 1},
    },
    "expected": {
        "p50_s": 300.0, "p90_s": 900.0, "p50_at": "2026-03-01T08:05:01Z", "p90_at": "2026-03-01T08:15:01Z",
        "basis": ["the expected ends of 4 runs"], "unknown": ["jobs that are submitted later and go first, members that come or go"],
    },
    "sooner": [{
        "changes": [{"path": "resources.memory", "old": "1GiB", "new": "512MiB"}], "cluster": "shanghai-lingang", "start_s": 0.05,
        "price": "0.56 CNY", "message": "would start now at shanghai-lingang, for 0.56 CNY at most",
    }],
}  # fmt: skip
_BUSY = {
    **_CHOSEN, "verdict": "busy", "start_s": None, "score": None, "score_parts": [], "obstacles": [
        {"reason": "node_busy", "message": "there is room on the nodes, but it is in use now", "remedy": "wait, or ask for less"},
    ],
}  # fmt: skip
_PREVIEW = {
    "columns": ["carrier", "delay"], "types": ["VARCHAR", "DOUBLE"], "rows": [["F9", 20.22], ["EV", 19.96]], "total_rows": 16,
}  # fmt: skip
_FLOPS = {"compute_class": "intelligent", "precision": "fp16", "rated": 7.912e15, "available": 7.912e15, "allocated": 9.89e14}
_AT = {"submitted_at": "2026-03-01T08:00:00Z", "placed_at": "2026-03-01T08:00:00.004Z", "started_at": "2026-03-01T08:00:00.011Z"}
_VERSION = {
    "product": "nyc-open-data/flights", "version": 1, "format": "parquet", "size_bytes": 8388608, "rows": 336776,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "columns": [{"name": "carrier", "type": "VARCHAR"}, {"name": "dep_delay", "type": "BIGINT"}],
    "replicas": [{"cluster": "shanghai-lingang", "uri": "file:///data/flights.parquet"}],
}  # fmt: skip
_TOKEN = {
    "id": "tok-3f9a1c5e7b2d", "role": "buyer", "tenant": "acme", "cluster": None, "created_at": "2026-03-01T08:00:00Z",
    "expires_at": "2026-03-31T08:00:00Z", "revoked_at": None,
}  # fmt: skip

ANSWERS: dict[str, dict[str, Any]] = {
    "AgentStanding": {
        "cluster": "guizhou-guian", "backend": "ray", "mode": "pull", "role": "agent", "expires_at": None, "version": "0.1.0",
        "at": "2026-02-01T08:00:00Z", "known_as": None,
    },
    "AuditVerdict": {
        "rows": 12, "head": "8f14e45fceea167a5a36dedd4bea2543c1e6a3f0b1d2a4c5e6f708192a3b4c5d",
        "faults": [{"kind": "changed", "sequence": 7, "message": "row 7 is not what was written: its hash is of something else"}],
        "faults_count": 1, "next_cursor": None,
    },
    "ProofView": {
        "product": "nyc-open-data/flights", "holds": True, "outside": 0, "rows": 12,
        "head": "8f14e45fceea167a5a36dedd4bea2543c1e6a3f0b1d2a4c5e6f708192a3b4c5d", "faults": [],
        "runs": [{
            "row": 9, "run": "job-7k2mznq4wv3x-1", "job": "job-7k2mznq4wv3x", "at": "2026-03-01T08:00:00Z", "tenant": "acme",
            "cluster": "shanghai-lingang", "jurisdiction": "CN-SH", "purpose": "research", "kind": "sql",
            "versions": ["nyc-open-data/flights@1"], "licence": "lic-8d2c4b6a1e3f", "against": [],
        }],
    },
    "ClusterRuns": {
        "cluster": "guizhou-guian", "remote_id": "1bbdd407a6b342528da8a790be9c8e6bd9d5b02b23575a7f1c8133aa",
        "here": ["job-7k2mznq4wv3x-1"], "elsewhere": [],
    },
    "Joined": {"cluster": "guizhou-guian", "token_id": "tok-3f9c2ab81d04-agent"},
    "PlanView": {"name": "delay-by-carrier", "chosen": "shanghai-lingang", "verdicts": [_CHOSEN, _REFUSED]},
    "JobView": {
        "id": "job-7k2mznq4wv3x", "version": 6, "name": "delay-by-carrier", "tenant": "acme", "queue": "analytics", "kind": "sql",
        "purpose": "research", "priority": "normal", "state": "succeeded", "cause": "finished", "message": "", "attempts": 1,
        "attempts_spared": 0,
        "cluster": "shanghai-lingang", "nodes": ["node-1"], "run_id": "job-7k2mznq4wv3x-1", "exit_code": None, **_AT,
        "finished_at": "2026-03-01T08:00:00.052Z", "quote": _QUOTE, "spec": REQUESTS["JobSpec"], "runs": [],
    },
    "ExplanationView": {
        "job_id": "job-7k2mznq4wv3x", "state": "queued", "ahead_in_queue": 1, "waiting": _WAITING, "verdicts": [_BUSY, _REFUSED],
        "summary": "the job waits; 1 job of its queue goes first; shanghai-lingang: there is room on the nodes, but it is in use now",
        "events": [
            {
                "at": "2026-03-01T08:00:00Z", "run_id": None, "start": "submitted", "finish": "queued", "cause": "admitted", "message": "",
            }
        ],
    },
    "SampleView": {"version": "nyc-open-data/flights@1", "preview": _PREVIEW},
    "ResultView": {
        "job_id": "job-7k2mznq4wv3x", "run_id": "job-7k2mznq4wv3x-1", "preview": _PREVIEW,
        "files": [{"name": "result.parquet", "size_bytes": 912, "sha256": _VERSION["sha256"]}],
        "place": {"state": "stored", "url": "s3://results-of-acme/cpn", "message": ""},
    },
    "Receipt": {
        "job_id": "job-7k2mznq4wv3x", "run_id": "job-7k2mznq4wv3x-1", "tenant": "acme", "purpose": "research",
        "cluster": "shanghai-lingang", "lines": _LINES[2:], "total": "0.50 CNY", "quote_total": "0.61 CNY", "wall_s": 0.041,
        "issued_at": "2026-03-01T08:00:00.052Z",
    },
    **money_examples.ANSWERS,
    "ClusterView": {
        **REQUESTS["ClusterSpec"], "inbound_bandwidth_mib_s": 200.0, "health": "healthy", "cordon": "open", "detail": "",
        "backend_version": "ray 2.50.0", "heard_at": "2026-03-01T08:00:00Z", "created_at": "2026-02-01T08:00:00Z", "nodes": 1,
        "nodes_ready": 1, "runs": 1, "cpu": 64.0, "cpu_used": 1.0, "memory_bytes": 549755813888, "memory_used_bytes": 1073741824,
        "accelerators": [{"model": "H200", "total": 8, "used": 1.0}], "flops": [_FLOPS], "unrated": [],
    },
    "ProductView": {"product": REQUESTS["Product"], "versions": [_VERSION], "created_at": "2026-02-01T08:00:00Z"},
    "ProductVersion": _VERSION,
    "Licence": {"id": "lic-8d2c4b6a1e3f", "product": "nyc-open-data/flights", **REQUESTS["LicenceRequest"]},
    "RevokedLicence": {
        "id": "lic-8d2c4b6a1e3f", "product": "nyc-open-data/flights", **REQUESTS["LicenceRequest"], "revoked": True,
        "waiting": 3, "running": 1, "stopping": 0,
    },
    "QueueView": {
        "name": "analytics", "parent": "research", "depth": 1, "children": [], "weight": 2.0, "max_running": 100,
        "order": "strict", "layout": "spread", "layout_inherited": False, "preemption": "reclaim-quota", "preemption_own": None,
        "quota": {"cpu": 64.0, "memory": 274877906944.0, "H200": 8.0},
        "borrow_limit": {"cpu": 32.0}, "lend_limit": {"H200": 4.0},
        "queued": 3, "running": 1, "entitled_share": 0.25, "dominant_share": 0.0156, "borrowed_share": 0.0, "recent_share": 0.0102,
        "resources": [{
            "resource": "H200", "total": 64.0, "entitled": 8.0, "quota": 8.0, "ceiling": None, "kept": 4.0, "held": 1.0, "borrowed": 0.0,
            "recent": 0.65,
        }],
        "warnings": [], "created_at": "2026-02-01T08:00:00Z",
    },
    "TenantView": {
        "name": "acme", "created_at": "2026-02-01T08:00:00Z", "result_store": "s3://results-of-acme/cpn", "keep_results_days": 90.0,
        "keep_results_bytes": None, "waiting_results": 0, "waiting_for": "",
    },
    "TokenView": _TOKEN,
    "WindowView": {
        "name": "quarter-end", "purpose": "reservation", "cluster": "guizhou-guian", "nodes": ["node-1"], "tenant": "acme", "queue": None,
        "reason": "", "begins_at": "2026-12-30T16:00:00Z", "ends_at": "2027-01-02T16:00:00Z", "standing": "planned",
        "created_at": "2026-03-01T08:00:00Z",
    },
    "TokenCreated": {**_TOKEN, "token": "cpn_buyer_EXAMPLE"},
    "CapacityView": {
        "at": "2026-03-01T08:00:00Z", "flops": [_FLOPS], "by_cluster": {"shanghai-lingang": [_FLOPS]}, "rated_share": 0.5,
        "unrated": [{"cluster": "guizhou-guian", "what": "Ascend-910B", "count": 8}], "targets": [],
    },
    "TargetView": {
        "name": "computing-power", "compute_class": "general", "precision": "fp32", "baseline_flops": 4.5e18,
        "baseline_date": "2020-12-31", "multiple": 4.0, "target_flops": 1.8e19, "due": "2025-12-31",
        "scope": "data centres in the city", "source": "an example", "rated_flops": 9e18, "ratio_to_baseline": 2.0,
        "missing_flops": 9e18, "met": False,
    },
    "BatchVerdict": {
        "accepted": 1, "refused": 1,
        "items": [
            {"index": 0, "verdict": "accepted", "id": "job-7k2mznq4wv3x", "new": True, "problem": None},
            {
                "index": 1, "verdict": "refused", "id": None, "new": False,
                "problem": {
                    "type": "urn:cpn:problem:invalid", "title": "The request is not acceptable", "status": 422,
                    "detail": "there is no tenant 'acme'",
                    "errors": [{"path": "items.1.job.tenant", "reason": "unknown", "message": "there is no tenant 'acme'"}],
                },
            },
        ],
    },
    "SyncReply": {
        "instructions": [{"sequence": 42, "action": "stop", "run_id": "job-7k2mznq4wv3x-1", "outcome": "cancelled"}], "lease_s": 45.0,
    },
}  # fmt: skip
ANSWERS["ClusterView"].pop("endpoint")


def _problem(status: int, kind: str, title: str, detail: str, *errors: tuple[str, str, str]) -> dict[str, Any]:
    fields = [{"path": path, "reason": reason, "message": message} for path, reason, message in errors]
    return {"type": f"urn:cpn:problem:{kind}", "title": title, "status": status, "detail": detail, "errors": fields}


_UNIT = '5 has no unit; write it as text, like "1GiB"'
_PURPOSE = (
    "licence for nyc-open-data/flights lacks purpose 'marketing' (has: research); ask owner nyc-open-data to grant purpose 'marketing'"
)
PROBLEM_EXAMPLES: dict[int, dict[str, Any]] = {
    400: _problem(400, "invalid", "The request is not acceptable", "the cursor is not one that this API gave; start without a cursor"),
    401: _problem(401, "unauthenticated", "A valid token is needed", "the token is unknown, expired or revoked"),
    403: _problem(403, "refused", "Policy forbids this", _PURPOSE, ("", "licence_purpose", _PURPOSE)),
    404: _problem(404, "not-found", "There is no such thing", "there is no job 'job-7k2mznq4wv3x'"),
    409: _problem(409, "conflict", "The present state forbids this", "cluster 'guizhou-guian' still has 2 runs; drain it first"),
    410: _problem(410, "gone", "It is not kept any more", "the result of job-7k2mznq4wv3x was removed on 2026-11-30 at 08:00:00 UTC"),
    413: _problem(413, "too-large", "Too large", "the body is larger than the 16,777,216 bytes that a batch may have here"),
    415: _problem(415, "media-type", "The body is not JSON", "send JSON with the header Content-Type: application/json"),
    422: _problem(
        422, "invalid", "The request is not acceptable", f"resources.memory: {_UNIT}", ("resources.memory", "value_error", _UNIT)
    ),
    500: _problem(500, "internal", "The server failed", "the server's log has the details"),
    503: _problem(503, "unavailable", "The store does not answer", "the database does not answer; try again"),
    507: _problem(507, "no-room", "The disk is full", "the server's disk has no room for the result file rows.parquet"),
}
