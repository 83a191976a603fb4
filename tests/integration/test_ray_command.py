"""User code on a real Ray: a process of its own that is told what it needs and nothing else, and of which nothing stays."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path

import pytest

from cluster.protocol import RunFinished, RunLog, RunProgress, RunRequest
from tests.network import until
from tests.ray import WAIT_S, Connection, SmallRay, processes_of
from tests.ray_runs import command, input_file, script

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

RUN_VARIABLES = {
    "CPN_JOB_ID", "CPN_RUN_ID", "CPN_ATTEMPT", "CPN_RANK", "CPN_WORLD_SIZE", "CPN_INPUTS", "CPN_INPUT_CARRIERS", "CPN_OUTPUT_DIR",
    "CPN_PROGRESS_FILE",
}  # fmt: skip
# Every worker says that it lives in a file of its own, and goes on when the test tells it to.
WAIT_FOR_GO = "touch here; while [ ! -e go ]; do sleep 0.05; done\n"


def outcome(end: RunFinished) -> tuple[str, str | None, int | None]:
    return end.outcome, end.category, end.exit_code


def result(end: RunFinished, name: str) -> bytes:
    """A result file, after it was compared with what was said of it."""
    (file,) = (file for file in end.files if file.name == name)
    data = Path(end.directory, name).read_bytes()
    assert (file.size_bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    return data


def test_a_command_sees_its_own_facts_and_no_secret(member: Connection, node: str, ray_head: SmallRay, tmp_path: Path) -> None:
    carriers = tmp_path / "carriers.csv"
    carriers.write_text("carrier,name\n0,United\n")
    text = """
        env -0 > "$CPN_OUTPUT_DIR/environment"; ls /proc/self/fd > "$CPN_OUTPUT_DIR/descriptors"; cat "$CPN_INPUT_CARRIERS"; pwd; ls
        cat; cat part/a.txt; umask; grep NoNewPrivs /proc/self/status
    """
    env = {"MODEL": "x", "CPN_RANK": "5", "PATH": "/usr/bin:/bin"}
    run = script(node, text, env=env, inputs={"carriers": input_file(carriers)}, files={"part/a.txt": "of the job\n"})
    end = member.run(run)
    assert outcome(end) == ("succeeded", None, 0)
    found = dict(entry.split("=", 1) for entry in result(end, "environment").decode().split("\0") if entry)
    assert {name for name in found if name.startswith("CPN_")} == RUN_VARIABLES
    assert {name for name in found if name.startswith(("RAY_", "PYTHONPATH"))} == set()
    assert (found["MODEL"], found["CPN_RANK"], found["CPN_RUN_ID"], found["CPN_ATTEMPT"]) == ("x", "0", run.run_id, "1")
    told = "\n".join(found.values())
    assert not [secret for secret in (ray_head.token, str(ray_head.token_file), ray_head.address) if secret in told]
    assert result(end, "descriptors").decode().split() == ["0", "1", "2", "3"], "3 is that of ls itself, on the folder"
    work = ray_head.runs / f"{run.run_id}-0" / "work"
    assert (found["HOME"], found["TMPDIR"]) == (str(work), str(work / "tmp"))
    assert member.log(run.run_id).split() == [
        "carrier,name", "0,United", str(work), "main.sh", "part", "tmp", "of", "the", "job", "0077", "NoNewPrivs:", "1",
    ]  # fmt: skip


def test_every_run_has_a_process_of_its_own(member: Connection, node: str) -> None:
    text = "import os, sys\nprint(os.getpid(), os.getsid(0), sys.executable, 'ray' in sys.modules)\n"
    runs = [command(node, "python", "main.py", files={"main.py": text}, kind="training") for _ in range(2)]
    for run in runs:
        assert outcome(member.run(run)) == ("succeeded", None, 0)
    told = [member.log(run.run_id).split() for run in runs]
    assert told[0][0] != told[1][0]
    assert [(pid == session, rest) for pid, session, *rest in told] == [(True, [sys.executable, "False"])] * 2


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("seq 1 15; exit 3", 3, "exit code 3; last log lines: " + "\n".join(map(str, range(6, 16)))),
        ("echo before; kill -SEGV $$", -11, "ended by SIGSEGV; last log lines: before"),
        ("exit 1", 1, "exit code 1; the log is empty"),
    ],
)
def test_a_failing_command_says_how_it_ended_with_its_last_words(member: Connection, node: str, text: str, code: int, message: str) -> None:
    run = script(node, f'echo partial > "$CPN_OUTPUT_DIR/part"\n{text}')
    end = member.run(run)
    assert (outcome(end), end.message) == (("failed", "exit", code), message)
    assert end.files == (), "what a failed run left is no result"


def test_shares_of_one_device_run_beside_a_whole_one(member: Connection, node: str, ray_head: SmallRay) -> None:
    def holding(amount: float, device: int) -> RunRequest:
        text = f'env | grep -E "^(CPN_ACCEL|CUDA_VIS)" | sort\n{WAIT_FOR_GO}'
        return script(node, text, accelerator_model="H200", accelerator_count=amount, accelerator_devices=((device,),))

    # Ray is told of two devices, so all three run at once only when the shares are counted as parts of one.
    runs = {"half": holding(0.5, 0), "quarter": holding(0.25, 0), "whole": holding(1, 1)}
    for run in runs.values():
        member.start(run)
        member.started(run.run_id)
    for run in runs.values():
        (ray_head.runs / f"{run.run_id}-0" / "work" / "go").touch()
    assert {name: outcome(member.end_of(run.run_id)) for name, run in runs.items()} == dict.fromkeys(runs, ("succeeded", None, 0))
    told = {name: dict(line.split("=") for line in member.log(run.run_id).splitlines()) for name, run in runs.items()}
    assert told == {
        "half": {"CPN_ACCELERATOR_DEVICES": "0", "CPN_ACCELERATOR_SHARE": "0.5", "CUDA_VISIBLE_DEVICES": "0"},
        "quarter": {"CPN_ACCELERATOR_DEVICES": "0", "CPN_ACCELERATOR_SHARE": "0.25", "CUDA_VISIBLE_DEVICES": "0"},
        "whole": {"CPN_ACCELERATOR_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "1"},
    }


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("no-such-program", "x"), "cannot start 'no-such-program': No such file or directory"),
        (("./main.txt",), "cannot start './main.txt': Permission denied"),
    ],
)
def test_a_program_that_cannot_be_started_is_named(member: Connection, node: str, argv: tuple[str, ...], message: str) -> None:
    run = command(node, *argv, files={"main.txt": "not a program"})
    end = member.run(run)
    assert (outcome(end), end.message) == (("failed", "exit", 127), message)


def test_log_and_progress_come_while_the_command_runs(member: Connection, node: str, ray_head: SmallRay) -> None:
    text = f"""
        echo first
        echo '{{"step": 1, "metrics": {{"loss": 0.5}}}}' >> "$CPN_PROGRESS_FILE"
        {WAIT_FOR_GO}
        echo 'no progress' >> "$CPN_PROGRESS_FILE"
        while [ ! -e end ]; do sleep 0.05; done
        printf '\\377 last, without an end'
        printf '{{"step": 2, "metrics": {{"loss": 0.25, "accuracy": 1}}}}' >> "$CPN_PROGRESS_FILE"
    """
    run = script(node, text, kind="training")
    member.start(run)
    assert member.first(run.run_id, RunLog).text == "first\n"
    assert member.first(run.run_id, RunProgress).metrics == {"loss": 0.5}
    (ray_head.runs / f"{run.run_id}-0" / "work" / "go").touch()
    until(lambda: "[cpn]" in member.log(run.run_id), "the warning about the line that is none")
    (ray_head.runs / f"{run.run_id}-0" / "work" / "end").touch()
    assert outcome(member.end_of(run.run_id)) == ("succeeded", None, 0)
    assert member.metrics(run.run_id) == [(1, {"loss": 0.5}), (2, {"loss": 0.25, "accuracy": 1.0})]
    assert member.log(run.run_id) == "first\n[cpn] progress file, line 2: is not JSON\n\ufffd last, without an end"


def test_a_long_log_arrives_whole(member: Connection, node: str) -> None:
    run = script(node, "seq 1 200000")
    assert outcome(member.run(run)) == ("succeeded", None, 0)
    assert member.log(run.run_id) == "".join(f"{number}\n" for number in range(1, 200_001))


def test_output_files_arrive_with_their_checksums_and_links_do_not(member: Connection, node: str) -> None:
    text = """
        cd "$CPN_OUTPUT_DIR"; mkdir -p model/weights; echo 0.97 > model/accuracy.txt; head -c 5000000 /dev/zero > model/weights/zeros
        ln -s /etc/passwd stolen; ln -s /etc folder; mkfifo pipe; : > empty
    """
    end = member.run(script(node, text))
    assert outcome(end) == ("succeeded", None, 0)
    assert [file.name for file in end.files] == ["empty", "model/accuracy.txt", "model/weights/zeros"]
    assert [len(result(end, file.name)) for file in end.files] == [0, 5, 5_000_000]


def test_a_stopped_command_gets_its_grace(member: Connection, node: str) -> None:
    run = script(node, "trap 'echo saving; exit 5' TERM; echo ready; while true; do sleep 0.05; done")
    member.start(run)
    member.first(run.run_id, RunLog)
    member.stop(run.run_id, "preempted", grace_s=30.0)
    end = member.end_of(run.run_id)
    assert (outcome(end), end.message) == (("preempted", "preempted", 5), "stopped: preempted")
    assert member.log(run.run_id).endswith("saving\n")


def test_a_command_that_ignores_the_signal_is_killed_after_its_grace(member: Connection, node: str) -> None:
    run = script(node, "trap '' TERM; echo ready; while true; do sleep 0.05; done")
    member.start(run)
    member.first(run.run_id, RunLog)
    began = time.monotonic()
    member.stop(run.run_id, "cancelled", grace_s=0.5)
    assert outcome(member.end_of(run.run_id)) == ("cancelled", "cancelled", -9)
    assert time.monotonic() - began >= 0.5
    assert processes_of(run.run_id) == {}


def test_the_time_limit_ends_a_command(member: Connection, node: str) -> None:
    run = script(node, "echo ready; sleep 600", max_runtime_s=0.5)
    end = member.run(run)
    assert (outcome(end), end.message) == (("failed", "max_runtime", -15), "ended after max_runtime (0.5 s)")
    assert 0.4 < end.usage.wall_s < 30
    assert processes_of(run.run_id) == {}


def test_what_a_command_leaves_running_ends_with_it(member: Connection, node: str) -> None:
    long = f"600.{os.getpid()}"  # as nobody else sleeps here
    text = f"""
        sleep {long} &
        setsid sleep {long} &
        (env -i setsid sleep {long} &) &
        nohup setsid sh -c 'trap "" TERM HUP; sleep {long}; sleep {long}' &
        until [ $(ps ax | grep -c '[0-9] sleep {long}') = 4 ]; do sleep 0.02; done
    """
    assert outcome(member.run(script(node, text))) == ("succeeded", None, 0)
    assert processes_of(long) == {}


def test_data_that_changed_ends_a_run_before_its_command(member: Connection, node: str, tmp_path: Path) -> None:
    carriers = tmp_path / "carriers.csv"
    carriers.write_text("carrier,name\n0,United\n")
    run = script(node, "echo began", inputs={"carriers": input_file(carriers, sha256="0" * 64)})
    end = member.run(run)
    assert outcome(end) == ("failed", "data_changed", None)
    assert "the data changed since its publication" in end.message
    assert (member.log(run.run_id), [event.type for event in member.events(run.run_id)]) == ("", ["starting", "finished"])


def test_a_gang_knows_its_ranks_and_where_to_meet(member: Connection, node: str) -> None:
    text = """
        echo "$RANK/$WORLD_SIZE $CPN_RANK/$CPN_WORLD_SIZE $MASTER_ADDR:$MASTER_PORT"; echo $RANK > "$CPN_OUTPUT_DIR/rank"
    """
    run = script(node, text, workers=3)
    end = member.run(run)
    assert outcome(end) == ("succeeded", None, 0)
    assert [event.type for event in member.events(run.run_id) if event.type != "log"] == ["starting", "started", "finished"]
    lines = sorted(member.log(run.run_id).splitlines())
    places = {line.split()[-1] for line in lines}
    assert len(places) == 1
    assert not places & {":"}
    place = places.pop()
    assert lines == ["0/3 0/3 " + place, f"[rank 1] 1/3 1/3 {place}", f"[rank 2] 2/3 2/3 {place}"]
    assert ([file.name for file in end.files], result(end, "rank")) == (["rank"], b"0\n"), "the result is rank 0's"


def test_a_gang_starts_whole_or_not_at_all(member: Connection, node: str, ray_head: SmallRay) -> None:
    run = script(node, "touch here; sleep 600", workers=3, cpu=4.0)
    member.start(run)
    until(lambda: len(_supervisors(ray_head)) >= 3, "all workers have a supervisor; there is room for two", WAIT_S)
    member.stop(run.run_id, "cancelled")
    end = member.end_of(run.run_id)
    assert (outcome(end), end.message) == (("cancelled", "cancelled", None), "stopped before it was started: cancelled")
    assert list(ray_head.runs.glob(f"{run.run_id}-*")) == []
    assert [event.type for event in member.events(run.run_id)] == ["starting", "finished"]
    assert outcome(member.run(script(node, "true", cpu=8.0))) == ("succeeded", None, 0), "all that was held is free again"


def test_a_gang_of_which_one_fails_ends_as_that_one_did(member: Connection, node: str, ray_head: SmallRay) -> None:
    text = WAIT_FOR_GO + "[ $RANK = 1 ] && { echo broken; exit 3; }; trap 'echo told to end; exit 0' TERM; while true; do sleep 0.05; done"
    run = script(node, text, workers=3)
    member.start(run)
    member.started(run.run_id)
    for rank in range(3):
        (ray_head.runs / f"{run.run_id}-{rank}" / "work" / "go").touch()
    end = member.end_of(run.run_id)
    assert (outcome(end), end.message) == (("failed", "exit", 3), "exit code 3; last log lines: broken")
    assert processes_of(run.run_id) == {}


def _supervisors(head: SmallRay) -> list[int]:
    return [pid for pid, line in head.processes().items() if line.startswith("ray::WarmSupervisor")]
