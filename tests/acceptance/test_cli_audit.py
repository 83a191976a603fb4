"""`cpn audit` as people use it: look, verify, take along, prove; with right and with wrong input."""

from __future__ import annotations

import json
from pathlib import Path

from tests.acceptance.market import PRODUCT, Market, manifest
from tests.served import Cpn


def submitted(market: Market) -> str:
    """The id of an ended job that read the product."""
    said = market.acme("job", "submit", "-f", manifest(market.acme, "delays"), "--wait", "-o", "json")
    found: str = said.document["id"]
    return found


def test_acts_are_listed_by_what_they_were_done_to(market: Market) -> None:
    job = submitted(market)
    cpn = market.operator
    found = cpn("audit", "list", "--job", job).table()
    assert [row["ACT"] for row in found] == ["result.delivered", "run.ended", "run.placed", "job.admitted"]
    assert found[2]["BY"] == "scheduler"
    assert f"cpn audit list --job {job}" in cpn("job", "show", job).out
    assert "cluster=sh" in found[2]["WHAT"]
    granted = cpn("audit", "list", "--act", "licence.granted", "--product", PRODUCT, "-o", "json").document["items"]
    assert [row["document"]["licence"]["tenant"] for row in granted] == ["acme"]
    assert {row["TENANT"] for row in market.acme("audit", "list", "--limit", "500").table()} == {"acme"}
    assert "there are more" in cpn("audit", "list", "--limit", "1").err
    assert "no acts" in cpn("audit", "list", "--from", "2999-01-01").out
    assert "is not a time" in cpn("audit", "list", "--from", "yesterday", status=2).err
    assert "give one of them" in cpn("audit", "list", "--job", job, "--subject", "x", status=2).err
    assert "licence.revoked" in cpn("audit", "list", "--act", "licence.eaten", status=2).err
    assert "role" in market.acme("audit", "verify", status=4).err


def test_the_log_is_verified_there_and_where_it_was_taken_to(market: Market, tmp_path: Path) -> None:
    submitted(market)
    cpn, file = market.operator, tmp_path / "audit.jsonl"
    said = cpn("audit", "verify")
    assert "the chain is whole" in said.out
    head = cpn("audit", "verify", "-o", "json").document["head"]
    cpn("audit", "verify", "--head", head)
    assert "written to" in cpn("audit", "export", "-o", str(file)).out
    away = Cpn(tmp_path / "away", "http://127.0.0.1:9")
    assert "the chain is whole" in away("audit", "verify", "--file", str(file), "--head", head).out
    lines = file.read_text().splitlines(keepends=True)
    changed = json.loads(lines[4])
    changed["actor"] = "tok-other"
    file.write_text("".join([*lines[:4], json.dumps(changed) + "\n", *lines[5:7], *lines[8:]]))
    said = away("audit", "verify", "--file", str(file), status=1)
    assert [line.split()[:2] for line in said.out.splitlines()[2:4]] == [["5", "changed"], ["8", "missing"]]
    assert "2 faults" in said.out
    file.write_text("".join(lines[:-1]))
    away("audit", "verify", "--file", str(file))
    assert "truncated" in away("audit", "verify", "--file", str(file), "--head", json.loads(lines[-1])["hash"], status=1).out


def test_what_is_no_log_or_no_hash_is_refused(market: Market, tmp_path: Path) -> None:
    file = tmp_path / "no.jsonl"
    file.write_text("{}\n")
    assert "line 1" in market.operator("audit", "verify", "--file", str(file), status=2).err
    assert "cpn audit export" in market.operator("audit", "verify", "--file", str(tmp_path / "none"), status=2).err
    assert "64 digits" in market.operator("audit", "verify", "--head", "abc", status=2).err
    assert "cannot be written" in market.operator("audit", "export", "-o", str(tmp_path / "none" / "f"), status=2).err
    assert "no product" in market.operator("audit", "prove", "--product", "nyc/none", status=1).err
    assert "knows no product" in market.operator("audit", "prove", "--product", "nyc/none", "--file", str(_empty(tmp_path)), status=2).err


def _empty(folder: Path) -> Path:
    file = folder / "empty.jsonl"
    file.write_text("")
    return file


def test_a_proof_is_a_table_a_document_and_an_exit_status(market: Market, tmp_path: Path) -> None:
    job = submitted(market)
    cpn, file = market.operator, tmp_path / "audit.jsonl"
    said = cpn("audit", "prove", "--product", PRODUCT)
    assert f"{job}-1" in said.out
    assert "none outside its terms" in said.out
    found = cpn("audit", "prove", "--product", PRODUCT, "--from", "2026-01-01", "-o", "json").document
    mine = next(run for run in found["runs"] if run["job"] == job)
    assert (found["holds"], mine["cluster"], mine["against"]) == (True, "sh", [])
    assert mine["licence"].startswith("lic-")
    assert "no run has read it" in cpn("audit", "prove", "--product", PRODUCT, "--to", "2020-01-01").out
    cpn("audit", "export", "-o", str(file))
    away = Cpn(tmp_path / "away", "http://127.0.0.1:9")
    assert (
        away("audit", "prove", "--product", PRODUCT, "--file", str(file), "-o", "json").document
        == cpn("audit", "prove", "--product", PRODUCT, "-o", "json").document
    )
    lines = file.read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["act"] != "licence.granted"]
    file.write_text("".join(kept))
    said = away("audit", "prove", "--product", PRODUCT, "--file", str(file), status=1)
    assert "has no licence" in said.out
    assert "is missing" in said.err
