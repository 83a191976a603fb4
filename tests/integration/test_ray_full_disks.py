"""Full disks, for real, of a node and of its agent: what becomes of runs, and that nothing half stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ray import Connection, RayAgent, SmallRay
from tests.ray_left import leaving_nothing
from tests.ray_runs import MIB, input_file, script
from tests.small_disk import small_disk

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]


def test_copies_that_find_no_room_end_the_run_and_leave_none(member: Connection, node: str, ray_head: SmallRay, tmp_path: Path) -> None:
    wanted = tmp_path / "wanted.csv"
    wanted.write_bytes(b"n\n" + b"1\n" * MIB)
    inputs = {"wanted": input_file(wanted, local=False)}
    with small_disk(ray_head.runs.parent / "inputs", 1) as copies:
        end = member.run(script(node, "echo began", inputs=inputs))
        assert (end.outcome, end.category) == ("failed", "cache")
        assert end.message.startswith(f"the disk is full: 2.0 MiB are to be copied to {copies}, and without all other copies")
        assert end.message.endswith("make room on it, or name a folder on a larger disk by CPN_CACHE_DIR")
        assert [path for path in copies.rglob("*") if path.is_file() and path.stat().st_size > MIB // 2] == []
    assert member.run(script(node, "wc -l < $CPN_INPUT_WANTED", inputs=inputs)).outcome == "succeeded"


def test_a_log_that_finds_no_room_says_so_and_holds_up_no_command(member: Connection, node: str, ray_head: SmallRay) -> None:
    run = script(node, "echo first; seq 1 1000000; echo last >&2")
    with small_disk(ray_head.runs, 2):
        end = member.run(run)
        text = member.log(run.run_id)
        member.forget(run.run_id)
    assert (end.outcome, end.exit_code) == ("succeeded", 0)
    assert text.startswith("first\n1\n2\n")
    assert text.endswith("999999\n1000000\nlast\n")
    assert len(text) < 2 * MIB + 20_000, "what the disk took, and the end from memory"
    assert "the log cannot be stored (No space left on device)" in text


def test_a_result_that_finds_no_room_at_its_node_is_the_commands_failure(member: Connection, node: str, ray_head: SmallRay) -> None:
    run = script(node, 'head -c 5000000 /dev/zero > "$CPN_OUTPUT_DIR/file"')
    with small_disk(ray_head.runs, 2):
        end = member.run(run)
        member.forget(run.run_id)
    assert (end.outcome, end.category, end.files) == ("failed", "exit", ())
    assert "No space left on device" in end.message


def test_a_result_that_finds_no_room_at_the_agent_ends_the_run_and_leaves_nothing(ray_head: SmallRay, tmp_path: Path) -> None:
    with small_disk(tmp_path / "data" / "results", 1) as results, RayAgent(tmp_path / "agent.log") as agent:
        member = agent.connect(ray_head, tmp_path / "data")
        with leaving_nothing(member, ray_head):
            run = script(member.node(), 'head -c 5000000 /dev/zero > "$CPN_OUTPUT_DIR/file"; echo said')
            end = member.run(run)
            assert (end.outcome, end.category, end.files) == ("failed", "storage", ())
            assert "No space left on device" in end.message
            assert member.log(run.run_id) == "said\n"
            assert list(results.iterdir()) == []
