"""`cpn simulate --network … --what-if …`: what is compared, and the figures that a case worked out by hand has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scheduler.simulator.names import POLICY_NAMES
from tests.unit.controlplane.cli_documents import Command

COMMAND = Command("simulate")
# One cluster with one node of two devices; three jobs of two devices, an hour each, all at once.
NETWORK = """clusters:
  - name: gz
    jurisdiction: CN-GZ
    prices: {cpu_hour: 0.00 CNY, memory_gib_hour: 0.00 CNY, transfer_gib: 0.00 CNY, accelerator_hour: {H200: 30.00 CNY}}
    nodes: [{count: 1, shape: H200x2, cpu: 16, memory: 64GiB}]
  - name: sh
    prices: {cpu_hour: 1.00 CNY, memory_gib_hour: 0.00 CNY, transfer_gib: 0.00 CNY, accelerator_hour: {H200: 40.00 CNY}}
    nodes: [{count: 0, shape: H200x2, cpu: 16, memory: 64GiB}]
target: {precision: fp16, flops: 1PFLOPS}
"""
TRACE = "submit_s,duration_s,num_gpus,vc\n" + "".join(f"0,3600,2,team-{row}\n" for row in range(3))
H200_FP16 = 989.5e12


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Options that name the network and its work."""
    (tmp_path / "network.yaml").write_text(NETWORK)
    (tmp_path / "jobs.csv").write_text(TRACE)
    return ["--trace", str(tmp_path / "jobs.csv"), "--format", "philly", "--network", str(tmp_path / "network.yaml")]


@pytest.mark.parametrize("policy", ["fifo", "cpn-live"])
def test_twice_the_nodes_halve_the_waits_and_cost_the_same(files: list[str], policy: str) -> None:
    document = COMMAND.document(*files, "--policy", policy, "--what-if", "+1 nodes H200x2 at gz", "--what-if", "+2 nodes H200x2 at gz")
    base, (one, two) = document["policies"][policy], document["what_ifs"]
    assert (base["finished"], base["makespan_s"], base["utilisation"]) == (3, pytest.approx(10_800.0), pytest.approx(1.0))
    assert (base["mean_wait_s"], base["cost"]) == (pytest.approx(3600.0), pytest.approx(3 * 2 * 30.0))
    assert base["flops_delivered"] == pytest.approx(2 * H200_FP16, rel=1e-3)
    assert base["flops_delivered_share"] == pytest.approx(1.0)
    assert base["target_share"] == pytest.approx(2 * H200_FP16 / 1e15, rel=1e-3)
    assert (one["what_if"], one["network"]["nodes"], one["network"]["devices"]) == ("+1 nodes H200x2 at gz", 2, 4)
    assert one["policies"][policy]["mean_wait_s"] == pytest.approx(1200.0)
    assert one["difference"][policy]["mean_wait_s"] == pytest.approx(-2400.0)
    assert one["difference"][policy]["cost"] == pytest.approx(0.0)
    assert (two["policies"][policy]["mean_wait_s"], two["policies"][policy]["makespan_s"]) == (0.0, pytest.approx(3600.0))


def test_of_equal_nodes_the_cheaper_are_taken_first(files: list[str]) -> None:
    for policy in ("fifo", "cpn-live"):
        found = COMMAND.document(*files, "--policy", policy, "--what-if", "+1 nodes H200x2 at sh")["what_ifs"][0]["policies"][policy]
        # Two of the jobs run at gz, one at sh; the trace asks for no cores.
        assert found["cost"] == pytest.approx(2 * 2 * 30.0 + 2 * 40.0), policy


def test_co2_is_told_where_a_cluster_declares_its_electricity(files: list[str], tmp_path: Path) -> None:
    assert "CO2" not in COMMAND.run(*files, "--policy", "fifo").stdout
    (tmp_path / "network.yaml").write_text(
        NETWORK.replace("    nodes:", "    carbon: {grams_per_kwh: 500, watts: {core: 5, H200: 700}}\n    nodes:", 1)
    )
    found = COMMAND.document(*files, "--policy", "fifo", "--what-if", "+1 nodes H200x2 at sh")
    # Three jobs of two devices of 700 W for an hour; the trace asks for no cores.
    assert found["policies"]["fifo"]["carbon_g"] == pytest.approx(3 * 2 * 0.7 * 500)
    # One of them goes to the other cluster, which declares nothing.
    more = found["what_ifs"][0]
    assert (more["policies"]["fifo"]["carbon_unrated"], more["difference"]["fifo"]["carbon_g"]) == (1, pytest.approx(-2 * 0.7 * 500))
    assert "about 2.1 kg" in COMMAND.run(*files, "--policy", "fifo").stdout


def test_a_gang_stays_within_one_cluster(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("submit_s,duration_s,num_gpus\n0,60,4\n")
    found = COMMAND.document(
        *files, "--policy", "fifo,cpn-live", "--what-if", "+1 nodes H200x2 at sh", "--what-if", "+1 nodes H200x2 at gz"
    )
    for policy in ("fifo", "cpn-live"):
        assert found["policies"][policy]["rejected"] == 1
        assert [variant["policies"][policy]["rejected"] for variant in found["what_ifs"]] == [1, 0]


def test_a_gang_without_devices_stays_within_one_cluster_too(files: list[str], tmp_path: Path) -> None:
    line = " ".join(str(value) for value in (1, 0, -1, 60, 24, -1, -1, 24, 60, *[-1] * 9))
    (tmp_path / "jobs.swf").write_text(line + "\n")
    options = ["--trace", str(tmp_path / "jobs.swf"), "--format", "swf", *files[4:]]
    found = COMMAND.document(
        *options, "--policy", "fifo,cpn-live", "--what-if", "+1 nodes H200x2 at sh", "--what-if", "+1 nodes H200x2 at gz"
    )
    for policy in ("fifo", "cpn-live"):
        assert [variant["policies"][policy]["rejected"] for variant in found["what_ifs"]] == [1, 0], policy


def test_queues_decide_who_goes_first_under_the_servers_own_decision(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text("submit_s,duration_s,num_gpus,vc\n" + "0,100,2,big\n" * 4 + "1,100,2,small\n" * 2)
    queues = "queues:\n  - {name: org}\n  - {name: big, parent: org}\n  - {name: small, parent: org, quota: {H200: 2}}\n"
    network = tmp_path / "network.yaml"
    network.write_text(NETWORK + queues)
    fifo, live = (COMMAND.document(*files, "--policy", policy)["policies"][policy]["jain_fairness"] for policy in ("fifo", "cpn-live"))
    assert live > fifo
    network.write_text(NETWORK + queues.replace("quota: {H200: 2}", "quota: {H200: 8}"))
    result = COMMAND.run(*files, "--policy", "cpn-live", "-o", "json")
    assert result.exit_code == 0
    assert "warning: queue small: " not in result.stdout
    assert "warning: queue org: quotas of the queues below it come to 8 H200" in result.stderr
    assert any("8 H200" in text for text in json.loads(result.stdout)["network"]["warnings"])


def test_a_queue_that_may_hold_nothing_leaves_its_jobs_waiting(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text(NETWORK + "queues: [{name: team-0, borrow_limit: {H200: 0}}]\n")
    found = COMMAND.document(*files, "--policy", "cpn-live")["policies"]["cpn-live"]
    assert (found["jobs"], found["finished"], found["rejected"]) == (3, 2, 0)


@pytest.mark.parametrize("backfill", ["none", "easy", "conservative"])
def test_every_policy_runs_on_a_network(files: list[str], backfill: str) -> None:
    found = COMMAND.document(*files, "--policy", ",".join(POLICY_NAMES), "--backfill", backfill)["policies"]
    assert {name: values["finished"] for name, values in found.items()} == dict.fromkeys(POLICY_NAMES, 3)


def test_a_promise_is_made_only_where_the_job_fits(files: list[str], tmp_path: Path) -> None:
    # In all there are four devices at gz, but no node of gz has four; sh has one that does.
    openb = "cpu_milli,memory_mib,num_gpu,gpu_milli,qos,creation_time,deletion_time\n0,0,4,1000,a,0,10\n"
    (tmp_path / "pods.csv").write_text(openb)
    options = ["--trace", str(tmp_path / "pods.csv"), "--format", "openb", *files[4:], "--policy", "fifo", "--backfill", "conservative"]
    what_if = "+1 nodes H200x2 at gz, +1 nodes H200x4 cpu=8 memory=64GiB at sh"
    found = COMMAND.document(*options, "--what-if", what_if)["what_ifs"][0]["policies"]["fifo"]
    assert (found["finished"], found["mean_wait_s"]) == (1, 0.0)


def test_a_table_has_a_row_for_each_network_and_policy(files: list[str]) -> None:
    result = COMMAND.run(*files, "--policy", "fifo,cpn-live", "--what-if", "+1 nodes H200x2 at gz", "--progress")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [" ".join(line.split()[:3]) for line in lines[2:]] == ["as it is", "as it is", "+1 nodes H200x2", "+1 nodes H200x2"]
    assert "COST CNY" in lines[0]
    assert "OF TARGET" in lines[0]
    assert "cpn-live +1 nodes H200x2 at gz" in result.stderr


def test_a_picture_is_drawn_of_all_of_them(files: list[str], tmp_path: Path) -> None:
    picture = tmp_path / "plot.svg"
    result = COMMAND.run(*files, "--policy", "fifo", "--what-if", "+1 nodes H200x2 at gz", "--plot", str(picture))
    assert result.exit_code == 0, result.output
    assert "<svg" in picture.read_text()


@pytest.mark.parametrize(
    ("options", "fault", "remedy"),
    [
        (
            ["--what-if", "+5 H200 at gz"],
            "--what-if '+5 H200 at gz', line 1, column 1: '+5 H200 at gz' is no change",
            "(+|-)COUNT nodes SHAPE",
        ),
        (["--what-if", "-5 nodes H200x2 at gz"], "gz has 1 nodes H200x2, and 5 were to go", ""),
        (["--what-if", "+5 nodes H200x2 at bj"], "there is no cluster 'bj'", "there are: gz, sh"),
        (["--cluster", "procs=4"], "either --cluster SPEC or --network FILE", ""),
        (["--from-store"], "--from-store takes jobs and network from the server", "leave out --trace"),
        (["--network", "nowhere.yaml"], "nowhere.yaml: there is no such file", ""),
    ],
)
def test_wrong_input_is_a_usage_error_that_says_what_to_do(files: list[str], options: list[str], fault: str, remedy: str) -> None:
    result = COMMAND.run(*files, "--policy", "fifo", *options)
    assert result.exit_code == 2
    assert fault in result.stderr
    assert remedy in result.stderr
    assert not result.stdout


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--policy", "fifo"], "name the work: --trace FILE --format FORMAT, or --from-store"),
        (["--policy", "fifo", "--trace", "t.csv", "--format", "philly"], "name the machines"),
        (
            ["--policy", "fifo", "--trace", "t.csv", "--format", "philly", "--cluster", "procs=1", "--what-if", "x"],
            "--what-if changes a network",
        ),
    ],
)
def test_missing_sources_are_named(options: list[str], fault: str) -> None:
    result = COMMAND.run(*options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert fault in result.stderr


def test_shares_of_devices_are_refused_by_the_servers_own_decision(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "pods.csv").write_text("cpu_milli,memory_mib,num_gpu,gpu_milli,creation_time,deletion_time,qos\n1,1,1,500,0,9,a\n")
    result = COMMAND.run("--trace", str(tmp_path / "pods.csv"), "--format", "openb", *files[4:], "--policy", "cpn-live")
    assert result.exit_code == 2
    assert "whole devices of equal speed" in result.stderr
