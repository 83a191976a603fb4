"""`cpn` against a served control plane: what each command does and shows, as a table and as a document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.acceptance.market import PRODUCT, Market, manifest, work
from tests.network import until


@pytest.mark.parametrize(
    ("arguments", "heading", "name"),
    [
        (("cluster", "list"), "NAME", "sh"), (("node", "list"), "NODE", "n1"), (("product", "list"), "NAME", PRODUCT),
        (("queue", "list"), "NAME", "analytics"), (("tenant", "list"), "NAME", "acme"), (("job", "list"), "NAME", "first"),
        (("target", "list"), "NAME", "computing-power"), (("token", "list"), "ROLE", "operator"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_every_list_is_a_table_for_people_and_a_document_for_programs(
    market: Market, arguments: tuple[str, ...], heading: str, name: str
) -> None:
    rows = market.operator(*arguments).table()
    assert name in [row[heading] for row in rows]
    as_json, as_yaml = market.operator(*arguments, "-o", "json"), market.operator(*arguments, "-o", "yaml")
    assert len(as_json.document["items"]) == len(rows)
    assert _without_clocks(as_json.document) == _without_clocks(json.loads(json.dumps(yaml.safe_load(as_yaml.out))))
    assert [as_json.err, as_yaml.err] == ["", ""]


def test_capacity_is_shown_and_is_a_document(market: Market) -> None:
    shown = market.operator("capacity").out
    assert "intelligent" in shown
    assert "computing-power: " in shown
    documents = [market.operator("capacity", "-o", "json").document, yaml.safe_load(market.operator("capacity", "-o", "yaml").out)]
    assert [item["targets"][0]["name"] for item in documents] == ["computing-power"] * 2


def _without_clocks(document: object) -> object:
    """The document without what differs from one moment to the next."""
    moving = {"heard_at", "seen_at", "recent", "recent_share"}
    if isinstance(document, dict):
        return {key: _without_clocks(value) for key, value in document.items() if key not in moving}
    return [_without_clocks(item) for item in document] if isinstance(document, list) else document


def test_a_member_comes_and_goes(market: Market) -> None:
    operator = market.operator
    prices = ("--cpu-price", "0.30 CNY", "--memory-price", "0.03 CNY", "--transfer-price", "0.50 CNY")
    made = operator("cluster", "register", "gz", "--backend", "memory", "--jurisdiction", "CN-GZ", *prices)
    assert "registered gz (CN-GZ, pull mode)" in made.out
    assert "cpn agent --join cpn_join_" in made.err
    assert "0.30 CNY" in operator("cluster", "show", "gz").out
    for verb, standing in (("cordon", "cordoned"), ("uncordon", "open"), ("drain", "draining")):
        assert operator("cluster", verb, "gz", "-o", "json").document["cordon"] == standing
    assert operator("cluster", "remove", "gz").out == "removed gz\n"
    assert "there is no cluster 'gz'" in operator("cluster", "show", "gz", status=1).err


def test_a_product_is_published_licensed_and_taken_back(market: Market) -> None:
    operator = market.operator
    product = {"name": "nyc/planes", "owner": "nyc", "classification": "restricted"}
    assert "it has no version yet" in operator("product", "publish", "-f", operator.write("planes.yaml", product)).out
    licence = operator("product", "grant", "nyc/planes", "--tenant", "globex", "--purpose", "research", "-o", "json").document
    assert licence["id"] in operator("product", "show", "nyc/planes").out
    assert licence["id"] not in market.acme("product", "show", "nyc/planes").out
    assert operator("product", "revoke", "nyc/planes", licence["id"], "-o", "json").document["revoked"] is True


def test_a_token_opens_what_it_should_until_it_is_revoked(market: Market, tmp_path: Path) -> None:
    made = market.operator("token", "create", "--role", "viewer", "-o", "json").document
    viewer = market.network.cpn(tmp_path, made["token"])
    assert viewer("queue", "show", "analytics", "-o", "json").document["weight"] == 2.0
    assert "needs the role operator" in viewer("token", "list", status=4).err
    market.operator("token", "revoke", made["id"])
    assert "unknown, expired or revoked" in viewer("queue", "list", status=4).err


def test_a_job_is_planned_submitted_followed_and_settled(market: Market) -> None:
    acme, file = market.acme, manifest(market.acme, "delays")
    plan = acme("job", "plan", "-f", file)
    assert "would run on sh" in plan.out
    assert "nyc/flights@1" in plan.out
    done = acme("job", "submit", "-f", file, "--wait")
    assert [words for words in ("succeeded on sh", "F9", "20.22", "2 rows") if words not in done.out] == []
    seen = [line.split()[1] for line in done.err.splitlines()[1:]]
    assert seen[-1] == "succeeded"
    assert set(seen) <= {"queued", "placed", "starting", "running", "succeeded"}
    job_id = done.err.split()[1]
    assert acme("job", "show", job_id, "-o", "json").document["state"] == "succeeded"
    assert "queued → placed" in acme("job", "explain", job_id).out
    assert acme("job", "receipt", job_id, "-o", "yaml").out.count("item: ") == 3
    assert acme("job", "result", job_id, "-o", "json").document["preview"]["total_rows"] == 2
    assert "delays" in acme("job", "wait", job_id).out


def test_what_a_command_said_and_reported_is_kept(market: Market) -> None:
    submitted = market.acme("job", "submit", "-f", work(market.acme, "report"), "--wait", "-o", "json").document
    assert market.acme("job", "logs", submitted["id"]).out == "one\ntwo\n"
    assert market.acme("job", "logs", submitted["id"], "--offset", "4").out == "two\n"
    rows = market.acme("job", "metrics", submitted["id"]).table()
    assert [(row["STEP"], row["loss"]) for row in rows] == [("0", "0.5"), ("1", "0.25")]


def test_the_same_key_gives_the_same_job(market: Market) -> None:
    file = manifest(market.acme, "once")
    ids = {market.acme("job", "submit", "-f", file, "--idempotency-key", "monday", "-o", "json").document["id"] for _ in range(2)}
    assert len(ids) == 1


def test_a_buyer_sees_and_cancels_only_its_tenants_jobs(market: Market) -> None:
    mine = market.acme("job", "submit", "-f", work(market.acme, "sleep"), "-o", "json").document["id"]
    theirs = market.globex("job", "submit", "-f", work(market.globex, "sleep", tenant="globex"), "-o", "json").document["id"]
    listed = {item["id"]: item["tenant"] for item in market.acme("job", "list", "-o", "json").document["items"]}
    assert mine in listed
    assert set(listed.values()) == {"acme"}
    assert {item["tenant"] for item in market.acme("job", "list", "--tenant", "globex", "-o", "json").document["items"]} == {"acme"}
    for command in ("show", "cancel", "logs", "explain", "result", "receipt"):
        assert f"there is no job {theirs!r}" in market.acme("job", command, theirs, status=1).err
    assert "bound to the tenant 'acme'" in market.acme("job", "submit", "-f", work(market.acme, "sleep", tenant="globex"), status=2).err
    assert market.network.job(theirs)["state"] in {"queued", "placed", "starting", "running"}
    for cpn, job_id in ((market.acme, mine), (market.globex, theirs)):
        cpn("job", "cancel", job_id)
        assert market.network.wait(job_id)["state"] == "cancelled"


def test_waiting_jobs_say_why(market: Market) -> None:
    market.operator("cluster", "cordon", "sh")
    job_id = market.acme("job", "submit", "-f", manifest(market.acme, "patient"), "-o", "json").document["id"]
    until(lambda: market.network.job(job_id)["cause"] == "cluster_cordoned", "the reason is stored")
    [row] = [row for row in market.acme("job", "list", "--state", "queued").table() if row["ID"] == job_id]
    assert "cordoned" in row["MESSAGE"]
    assert "wait until it is uncordoned" in market.acme("job", "explain", job_id).out
    market.operator("cluster", "uncordon", "sh")
    market.acme("job", "wait", job_id)
