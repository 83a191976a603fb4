"""`cpn bench throughput`, `latency` and `overhead` as a person runs them: one document, whole accounts, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.served import Cpn


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.slow), 10])
def test_throughput_counts_every_job_in_the_store(tmp_path: Path, batch: int) -> None:
    said = Cpn(tmp_path).run(
        "bench", "throughput", "--jobs", "25", "--batch", str(batch), "--clients", "2", "-o", "json", TMPDIR=str(tmp_path)
    )
    document = said.document
    assert list(document) == [
        "jobs", "backend", "batch", "submitted_per_s", "completed_per_s", "wall_s", "lost", "doubled", "peak_rss_mib", "store",
    ]  # fmt: skip
    assert [document[name] for name in ("jobs", "backend", "batch", "lost", "doubled", "store")] == [25, "memory", batch, 0, 0, "sqlite"]
    assert all(document[name] > 0 for name in ("submitted_per_s", "completed_per_s", "wall_s", "peak_rss_mib"))
    assert not list(tmp_path.glob("cpn-bench-*"))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_latency_is_measured_beside_rays_own_jobs(tmp_path: Path) -> None:
    document = Cpn(tmp_path).run("bench", "latency", "--n", "1", "--peer", "ray-job", "-o", "json").document
    assert list(document) == ["n", "cpn_sql", "cpn_command", "ray_job", "ratio_sql", "ratio_command"]
    for kind in ("cpn_sql", "cpn_command"):
        start, done = document[kind]["submit_to_start_ms"], document[kind]["submit_to_done_ms"]
        assert 0 < start["p50"] <= done["p50"] <= done["p95"]
    assert list(document["ray_job"]) == ["submit_to_done_ms"]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_throughput_on_a_real_ray(tmp_path: Path) -> None:
    document = Cpn(tmp_path).run("bench", "throughput", "--jobs", "20", "--backend", "ray", "--batch", "5", "-o", "json").document
    assert [document[name] for name in ("jobs", "backend", "lost", "doubled")] == [20, "ray", 0, 0]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_what_cpn_adds_to_a_long_job_is_measured_beside_the_command_by_hand(tmp_path: Path) -> None:
    said = Cpn(tmp_path).run("bench", "overhead", "--seconds", "1", "--rounds", "2", "--peer", "direct", "-o", "json", TMPDIR=str(tmp_path))
    document = said.document
    assert list(document) == [
        "seconds", "rounds", "cpn", "direct", "ratio", "ratio_work_cpu", "added_s", "added_part", "control_cpu_s_per_s",
    ]  # fmt: skip
    assert (document["seconds"], document["rounds"]) == (1.0, 2)
    for side in (document["cpn"], document["direct"]):
        assert 0 < side["cpu_s"] <= side["work_s"] * 1.01 < side["whole_s"] * 1.01
    assert document["control_cpu_s_per_s"]["running"]["server"] > 0
    assert not list(tmp_path.glob("cpn-bench-*"))
