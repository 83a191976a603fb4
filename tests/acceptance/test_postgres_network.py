"""A whole network on a real PostgreSQL, as an operator runs it: `cpn serve` with CPN_DATABASE_URL, killed and started again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.market import Market, manifest, open_market, work
from tests.network import job, node, until
from tests.postgres import postgres
from tests.served import ServedNetwork

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(900)]
WITHIN_S = 120.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of an empty database, as an operator writes it."""
    with postgres() as found:
        yield found.replace("postgresql+psycopg://", "postgresql://")


@pytest.fixture(scope="module")
def shop(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """A market whose store is that database."""
    with open_market(tmp_path_factory.mktemp("postgres"), database_url=url) as opened:
        yield opened


def test_a_job_is_planned_run_and_settled(shop: Market) -> None:
    acme = shop.acme
    assert acme("job", "plan", "-f", manifest(acme, "delays"), "-o", "json").document["chosen"] == "sh"
    done = acme("job", "submit", "-f", manifest(acme, "delays"), "--wait", "-o", "json").document
    assert (done["state"], done["attempts"]) == ("succeeded", 1)
    assert [state for state, _ in shop.network.moves(done["id"])] == [
        "submitted", "queued", "placed", "starting", "running", "succeeded",
    ]  # fmt: skip
    assert acme("job", "receipt", done["id"], "-o", "json").document["quote_total"]
    assert acme("job", "submit", "-f", manifest(acme, "delays"), "--set", "purpose=marketing", status=4).err.startswith("error: ")
    assert not (shop.network.settings.data_dir / "cpn.sqlite").exists()


def test_every_list_and_report_is_answered(shop: Market) -> None:
    for arguments in ("cluster list", "node list", "product list", "queue list", "tenant list", "job list", "target list", "token list"):
        assert shop.operator(*arguments.split(), "-o", "json").document["items"], arguments
    assert shop.operator("capacity", "-o", "json").document["flops"]
    assert "cpn_jobs_submitted_total" in shop.network.operator.get(f"{shop.network.url}/metrics").text


def test_logs_metrics_and_failures_are_kept(shop: Market) -> None:
    job_id = shop.acme("job", "submit", "-f", work(shop.acme, "report"), "--wait", "-o", "json").document["id"]
    assert shop.acme("job", "logs", job_id).out == "one\ntwo\n"
    assert [row["loss"] for row in shop.acme("job", "metrics", job_id).table()] == ["0.5", "0.25"]
    assert "boom" in shop.acme("job", "submit", "-f", work(shop.acme, "fail"), "--wait", status=1).err


def test_the_same_key_gives_the_same_job_however_many_ask_at_once(shop: Market) -> None:
    ids = {shop.network.submit(job("once"), **{"Idempotency-Key": "monday"})["id"] for _ in range(3)}
    assert len(ids) == 1


def test_a_name_with_a_nul_byte_is_not_found_and_no_failure_of_the_server(shop: Market) -> None:
    for path in ("jobs/a%00b", "clusters/a%00b", "products/a%00b/c", "queues/a%00b"):
        answer = shop.network.operator.get(f"{shop.network.url}/v1/{path}")
        assert answer.status_code in {404, 422}, f"{path}: {answer.text}"


def test_a_job_whose_last_words_hold_a_nul_byte_ends_like_any_other(shop: Market) -> None:
    said = shop.acme("job", "submit", "-f", work(shop.acme, "garble"), "--wait", "-o", "json", status=1)
    assert said.document["message"] == "exit code 3; last log lines:\nbo\N{REPLACEMENT CHARACTER}om"
    assert shop.acme("job", "logs", said.document["id"]).out == "bo\0om\n"


def test_a_second_server_on_the_same_database_is_refused_wherever_its_data_lies(shop: Market, url: str, tmp_path: Path) -> None:
    said = shop.operator.run("serve", "--data-dir", str(tmp_path), "--port", "0", CPN_DATABASE_URL=url, status=1)
    assert "cannot start: another cpn server uses this database" in said.err


def test_a_killed_server_loses_nothing_and_repeats_nothing(shop: Market) -> None:
    network: ServedNetwork = shop.network
    network.add_cluster("gz", node(cpu=1), jurisdiction="CN-GZ")
    running = shop.acme("job", "submit", "-f", work(shop.acme, "sleep"), "-o", "json").document["id"]
    network.wait(running, "running", seconds=WITHIN_S)
    shop.operator("cluster", "cordon", "gz")
    waiting = [network.submit(job(f"waits-{number}", placement={"clusters": ["gz"]}))["id"] for number in range(3)]
    until(lambda: network.job(waiting[-1])["cause"] == "cluster_cordoned", "the last one waits with its reason", WITHIN_S)
    network.kill_server()
    network.start_server()
    shop.operator("cluster", "uncordon", "gz")
    assert [network.wait(job_id, seconds=WITHIN_S)["state"] for job_id in waiting] == ["succeeded"] * 3
    assert network.job(running)["state"] == "running"
    shop.acme("job", "cancel", running)
    assert network.wait(running, seconds=WITHIN_S)["attempts"] == 1
    assert network.clusters["sh"].started[f"{running}-1"] == 1
    assert all(network.clusters["gz"].started[f"{job_id}-1"] == 1 for job_id in waiting)
