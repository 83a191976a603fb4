"""`cpn` shows and sets the terms of products, licences and members."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.acceptance.market import Market, manifest, work

SECRETS = {
    "name": "nyc/people", "owner": "nyc", "classification": "personal", "security_level": 3, "delivery": "aggregates-only", "min_group": 7,
    "hidden_columns": ["email"], "masked_columns": {"born": "year"}, "kinds": ["sql"], "may_copy": False,
}  # fmt: skip
FULL = ("--runs", "3", "--gib", "0.5", "--kind", "sql", "--consent", "consent-17")


def test_terms_are_published_and_shown_in_words(market: Market) -> None:
    operator = market.operator
    operator("product", "publish", "-f", operator.write("people.yaml", SECRETS))
    shown = operator("product", "show", "nyc/people").out
    expected = (
        "clusters of level 3 and more", "aggregates over groups of 7 and more; no rows", "email", "born (only the year)",
        "none; jobs go to clusters that hold it",
    )  # fmt: skip
    assert [words for words in expected if words not in shown] == []
    wrong = operator("product", "publish", "-f", operator.write("people.yaml", {**SECRETS, "min_group": 1}), status=2)
    assert "min_group: it must be greater than or equal to 2" in wrong.err


def test_a_licence_is_granted_for_so_much(market: Market) -> None:
    operator = market.operator
    operator("product", "publish", "-f", operator.write("people.yaml", SECRETS))
    to = ("product", "grant", "nyc/people", "--tenant", "globex", "--purpose", "research")
    assert "give the reference of the people's consent" in operator(*to, status=2).err
    assert "write GiB like 250 or 0.5" in operator(*to, "--consent", "c", "--gib", "much", status=2).err
    assert "for 3 runs, for 0.5 GiB, by jobs of kind sql" in operator(*to, *FULL).out


def test_a_cluster_has_a_level_of_security(market: Market) -> None:
    operator = market.operator
    prices = ("--cpu-price", "0.30 CNY", "--memory-price", "0.03 CNY", "--transfer-price", "0.50 CNY")
    there = ("--backend", "memory", "--jurisdiction", "CN-GZ", "--no-join-token")
    operator("cluster", "register", "vault", *there, *prices, "--security-level", "4")
    assert operator("cluster", "show", "vault", "-o", "json").document["security_level"] == 4
    assert operator("cluster", "change", "vault", "--security-level", "0", "-o", "json").document["security_level"] == 0
    assert (
        "security_level: it must be less than or equal to 5"
        in operator("cluster", "change", "vault", "--security-level", "6", status=2).err
    )
    operator("cluster", "remove", "vault")


def test_the_hash_of_a_program_is_told_without_a_server_and_by_plan(market: Market) -> None:
    acme = market.acme
    said = acme("job", "hash", "-f", work(acme, "report")).out.strip()
    assert len(said) == 64
    assert said in acme("job", "plan", "-f", work(acme, "report")).out
    assert acme("job", "hash", "-f", work(acme, "talk")).out.strip() != said
    assert "a statement is no program" in acme("job", "hash", "-f", manifest(acme, "select"), status=2).err


def test_a_statement_that_tells_too_much_is_refused_and_one_about_groups_is_rewritten(market: Market, tmp_path: Path) -> None:
    operator, acme = market.operator, market.acme
    path = tmp_path / "staff.parquet"
    pq.write_table(pa.table({"city": ["Bern"] * 4, "salary": [1, 2, 3, 4]}), path)
    product = {"name": "nyc/staff", "owner": "nyc", "classification": "restricted", "delivery": "aggregates-only", "min_group": 3}
    version = {"format": "parquet", "replicas": [{"cluster": "sh", "uri": path.as_uri()}]}
    operator("product", "publish", "-f", operator.write("staff.yaml", {**product, **version}))
    operator("product", "grant", "nyc/staff", "--tenant", "acme", "--purpose", "research")
    single = manifest(acme, "single", "inputs: {staff: nyc/staff@1}\nsql: SELECT salary FROM staff")
    for command in ("submit", "plan"):
        refused = acme("job", command, "-f", single, status=4)
        assert "answers about groups of at least 3 rows only, and this gives single rows" in refused.out + refused.err
    groups = manifest(acme, "groups", "inputs: {staff: nyc/staff@1}\nsql: SELECT city, avg(salary) AS mean FROM staff GROUP BY city")
    why = "nyc/staff answers about groups of at least 3 rows only: smaller ones are left out"
    planned = acme("job", "plan", "-f", groups).out
    assert "Another statement runs in place of this one" in planned
    assert why in planned
    job_id = acme("job", "submit", "-f", groups, "--wait", "-o", "json").document["id"]
    assert why in acme("job", "show", job_id).out
    assert acme("job", "show", job_id, "-o", "json").document["rewritten"] == [why]


def test_the_catalogue_is_searched_by_words_owner_class_and_price(market: Market) -> None:
    operator = market.operator
    rows = operator("product", "list", "--search", "flights", "--owner", "nyc", "--class", "restricted", "--max-price", "0.50 CNY").table()
    assert [row["NAME"] for row in rows] == ["nyc/flights"]
    assert "nyc/flights" not in operator("product", "list", "--max-price", "0.10 CNY").out
    assert "write it like 5.00 CNY" in operator("product", "list", "--max-price", "cheap", status=2).err
