"""What breaks around a real Ray: agents, workers and heads that are killed or hang, tokens and addresses that are wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.errors import AuthenticationError, ClusterReplacedError, UnreachableError
from cluster.protocol import RunFinished, RunLog, RunRequest
from tests.network import until
from tests.ray import WAIT_S, Connection, RayAgent, SmallRay, is_alive, parent_of, processes_of, running
from tests.ray_left import leaving_nothing
from tests.ray_runs import script, statement

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b"
# It says its own process and that of its leash, and goes on when the test tells it to.
TALK = "echo $$ $PPID; while [ ! -e go ]; do sleep 0.1; done; echo on; echo result > $CPN_OUTPUT_DIR/file\n"


def outcome(end: RunFinished) -> tuple[str, str | None]:
    return end.outcome, end.category


def let_go(head: SmallRay, run: RunRequest) -> None:
    """Let a run of TALK go on."""
    for folder in head.runs.glob(f"{run.run_id}-*"):
        (folder / "work" / "go").touch()


def told_processes(member: Connection, run: RunRequest) -> tuple[int, int]:
    """The command and the leash of a run of TALK on one worker."""
    command, leash = member.first(run.run_id, RunLog).text.split()
    return int(command), int(leash)


# --- agents ---


def test_runs_outlive_their_agents_whether_or_not_the_next_one_has_their_directory(ray_head: SmallRay, tmp_path: Path) -> None:
    with RayAgent(tmp_path / "first.log") as killed:
        member = killed.connect(ray_head, tmp_path / "directory")
        node = member.node()
        one, two, three = (script(node, TALK, epoch=epoch) for epoch in (3, 4, 5))
        asked, answered = statement(node, ENDLESS, epoch=6), statement(node, "SELECT 1 AS one", epoch=7)
        for run in (one, two, three, asked, answered):
            member.start(run)
        commands = {run.run_id: told_processes(member, run)[0] for run in (one, two, three)}
        member.started(asked.run_id)
        assert outcome(member.end_of(answered.run_id)) == ("succeeded", None)
        killed.kill()
    end_unseen(ray_head, one, commands[one.run_id])
    with RayAgent(tmp_path / "second.log") as killed:
        member = killed.connect(ray_head, tmp_path / "directory")
        check_adopted(member, one, two, three, asked, answered)
        check_ended(member, one)
        member.forget(one.run_id)
        killed.kill()
    end_unseen(ray_head, two, commands[two.run_id])
    with RayAgent(tmp_path / "third.log") as agent:
        member = agent.connect(ray_head, tmp_path / "empty directory")
        check_adopted(member, two, three, asked, answered)
        with leaving_nothing(member, ray_head):
            check_ended(member, two)
            for run in (three, asked):
                member.stop(run.run_id, "cancelled")
                end = member.end_of(run.run_id)
                assert (outcome(end), end.message) == (("cancelled", "cancelled"), "stopped: cancelled")


def end_unseen(head: SmallRay, run: RunRequest, command: int) -> None:
    let_go(head, run)
    until(lambda: not is_alive(command), "a command ends while no agent is there")


def check_adopted(member: Connection, *runs: RunRequest) -> None:
    """The agent knows these runs, tells of each from its beginning, and of the last, a statement, how it ended."""
    member.unforgotten = {run.run_id for run in runs}
    adopted = [(run.run_id, run.epoch) for run in member.adopted if run.run_id in member.unforgotten]
    assert adopted == sorted((run.run_id, run.epoch) for run in runs)
    for run in runs:
        member.started(run.run_id)
        assert [event.type for event in member.events(run.run_id)][:2] == ["starting", "started"]
    end = member.end_of(runs[-1].run_id)
    assert (outcome(end), end.preview and end.preview.rows) == (("succeeded", None), ((1,),))
    assert [file.name for file in end.files] == ["result.parquet"]


def check_ended(member: Connection, run: RunRequest) -> None:
    """A run of TALK succeeded and has arrived whole."""
    end = member.end_of(run.run_id)
    assert (outcome(end), [file.name for file in end.files]) == (("succeeded", None), ["file"])
    assert Path(end.directory, "file").read_text() == "result\n"
    assert member.log(run.run_id).splitlines()[1:] == ["on"]


def test_a_stop_in_the_first_moment_of_an_adoption_waits_for_the_end(ray_head: SmallRay, tmp_path: Path) -> None:
    with RayAgent(tmp_path / "agent.log") as agent:
        member = agent.connect(ray_head, tmp_path / "data")
        run = script(member.node(), "trap 'sleep 0.5; echo saved; exit 0' TERM\n" + TALK)
        member.start(run)
        member.first(run.run_id, RunLog)
        member.close()
        member = agent.connect(ray_head, tmp_path / "data")
        member.stop(run.run_id, "preempted", grace_s=30.0)
        member.unforgotten = {run.run_id}
        with leaving_nothing(member, ray_head):
            end = member.end_of(run.run_id)
            assert (outcome(end), end.exit_code, end.message) == (("preempted", "preempted"), 0, "stopped: preempted")
            assert member.log(run.run_id).endswith("saved\n")


@pytest.mark.slow
def test_an_adopted_gang_without_one_of_its_workers_is_lost_when_the_others_have_ended(ray_head: SmallRay, tmp_path: Path) -> None:
    text = "trap 'sleep 1; exit 0' TERM\n" + TALK
    with RayAgent(tmp_path / "first.log") as killed:
        member = killed.connect(ray_head, tmp_path / "data")
        run = script(member.node(), text, workers=2)
        member.start(run)
        until(lambda: len(member.log(run.run_id).splitlines()) == 2, "both workers run", WAIT_S)
        (line,) = (line for line in member.log(run.run_id).splitlines() if line.startswith("[rank 1]"))
        supervisor = parent_of(int(line.split()[-1]))
        killed.kill()
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: not is_alive(supervisor), "the supervisor is gone")
    with RayAgent(tmp_path / "second.log") as next_agent:
        member = next_agent.connect(ray_head, tmp_path / "data")
        member.unforgotten = {run.run_id}
        with leaving_nothing(member, ray_head):
            end = member.end_of(run.run_id)
            assert outcome(end) == ("lost", "lost")
            assert "worker 1" in end.message
            assert processes_of(run.run_id) == {}


# --- workers ---


def test_a_gang_with_a_killed_supervisor_is_lost_and_ends_whole(member: Connection, node: str) -> None:
    run = script(node, TALK, workers=2)
    member.start(run)
    until(lambda: len(member.log(run.run_id).splitlines()) == 2, "both workers run", WAIT_S)
    line = member.log(run.run_id).splitlines()[-1]
    os.kill(parent_of(int(line.split()[-1])), signal.SIGKILL)
    end = member.end_of(run.run_id)
    assert outcome(end) == ("lost", "lost")
    until(lambda: not processes_of(run.run_id), "the killed worker's command ends on its leash")


def test_a_command_whose_watching_process_is_killed_fails_and_ends(member: Connection, node: str) -> None:
    run = script(node, TALK)
    member.start(run)
    _, leash = told_processes(member, run)
    os.kill(leash, signal.SIGKILL)
    end = member.end_of(run.run_id)
    assert (outcome(end), end.message) == (("failed", "infrastructure"), "the process that watches the command was killed")
    until(lambda: not processes_of(run.run_id), "the command is gone")


def test_a_statement_whose_worker_is_killed_is_lost_and_the_next_one_works(member: Connection, node: str, ray_head: SmallRay) -> None:
    run = statement(node, ENDLESS)
    member.start(run)
    member.started(run.run_id)
    os.kill(ray_head.sql_process(run.run_id), signal.SIGKILL)
    assert outcome(member.end_of(run.run_id)) == ("lost", "lost")
    assert outcome(member.run(statement(node, "SELECT 1"))) == ("succeeded", None)


def test_a_worker_that_died_while_it_was_idle_costs_no_run(member: Connection, node: str, ray_head: SmallRay) -> None:
    run = statement(node, "SELECT 1")
    assert outcome(member.run(run)) == ("succeeded", None)
    process = ray_head.sql_process(run.run_id)
    os.kill(process, signal.SIGKILL)
    until(lambda: not is_alive(process), "the worker is gone")
    assert outcome(member.run(statement(node, "SELECT 1"))) == ("succeeded", None)


@pytest.mark.slow
def test_workers_that_hang_are_ended_by_a_stop(member: Connection, node: str, ray_head: SmallRay) -> None:
    asked, command = statement(node, ENDLESS), script(node, TALK)
    for run in (asked, command):
        member.start(run)
    for run in (asked, command):
        member.started(run.run_id)
    _, leash = told_processes(member, command)
    hanging = {ray_head.sql_process(asked.run_id), parent_of(leash)}
    for process in hanging:
        os.kill(process, signal.SIGSTOP)
    for run in (asked, command):
        member.stop(run.run_id, "cancelled", grace_s=0.2)
    ends = [member.end_of(run.run_id) for run in (asked, command)]
    assert [outcome(end) for end in ends] == [("cancelled", "cancelled")] * 2
    assert all("did not answer and was ended" in end.message for end in ends)
    until(lambda: not any(map(is_alive, hanging)) and not processes_of(command.run_id), "the processes are gone")


# --- heads ---


def test_a_head_that_hangs_is_unreachable_until_it_answers_again(member: Connection, node: str, ray_head: SmallRay) -> None:
    run = script(node, TALK)
    member.start(run)
    member.first(run.run_id, RunLog)
    (store,) = (pid for pid, line in ray_head.processes().items() if "gcs_server" in line.split()[0])
    os.kill(store, signal.SIGSTOP)
    try:
        with pytest.raises(UnreachableError, match="does not answer within"):
            member.inventory()
    finally:
        os.kill(store, signal.SIGCONT)
    assert member.node() == node
    let_go(ray_head, run)
    check_ended(member, run)


@pytest.mark.slow
def test_a_killed_head_is_noticed_and_its_runs_are_lost_when_it_is_back_without_them(tmp_path: Path) -> None:
    with running(SmallRay("mortal", tmp_path / "head")) as head, RayAgent(tmp_path / "agent.log") as agent:
        member = agent.connect(head, tmp_path / "data")
        node = member.node()
        runs = script(node, TALK), script(node, TALK, workers=2), statement(node, ENDLESS)
        for run in runs:
            member.start(run)
        for run in runs:
            member.started(run.run_id)
        address = head.address
        head.kill()
        assert head.processes() == {}, "nothing outlives the head, no user's process either"
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="no Ray head answers"):
            member.inventory()
        assert time.monotonic() - began < 30
        # Ray's own client would end the process of an agent that had asked this before the head came back.
        with pytest.raises(UnreachableError, match="does not tell what it has"):
            member.free_strays()
        assert [kind for run in runs for kind in _ends(member, run)] == [], "nobody knows yet how they are"
        head.start()
        head.wait_ready(WAIT_S)
        assert head.address == address
        with pytest.raises(ClusterReplacedError, match="was restarted"):
            member.inventory()
        assert [outcome(member.end_of(run.run_id)) for run in runs] == [("lost", "lost")] * 3
        member.close()
        head.kill()


OWNER = """
import json, sys, time
from pathlib import Path
from cluster.backends.ray.local import LocalRay
head = LocalRay("orphan", Path(sys.argv[1]), cpus=1, memory_bytes=1 << 30)
head.start()
print(json.dumps([head.pid, str(head._temporary)]), flush=True)
time.sleep(600)
"""


def test_a_head_whose_owner_was_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        head, directory = json.loads(owner.stdout.readline())
        assert Path(directory).is_dir()
        owner.kill()
    until(lambda: not is_alive(head) and not processes_of(directory), "the head is gone", WAIT_S)
    until(lambda: not Path(directory).exists(), "its directory is gone", WAIT_S)


def _ends(member: Connection, run: RunRequest) -> list[RunFinished]:
    return [event for event in member.events(run.run_id) if isinstance(event, RunFinished)]


# --- what was configured wrongly ---


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayAgent]:
    """An agent's process that never gets in."""
    with RayAgent(tmp_path_factory.mktemp("stranger") / "agent.log") as agent:
        yield agent


@pytest.mark.parametrize("text", ["not-the-token\n", "", None])
def test_a_wrong_token_is_refused(stranger: RayAgent, ray_head: SmallRay, tmp_path: Path, text: str | None) -> None:
    token_file = tmp_path / "token"
    if text is not None:
        token_file.write_text(text)
    with pytest.raises(AuthenticationError, match="refuses the token" if text is not None else "cannot be read"):
        stranger.connection(ray_head, tmp_path / "data", token_file=str(token_file)).open()


def test_an_address_without_a_ray_head_is_unreachable_soon(stranger: RayAgent, ray_head: SmallRay, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(UnreachableError, match="does not answer within"):
            stranger.connection(ray_head, tmp_path / "data", address=f"127.0.0.1:{port}").open()
    with pytest.raises(UnreachableError, match="no Ray head answers"):
        stranger.connection(ray_head, tmp_path / "data", address=f"127.0.0.1:{port}").open()
    assert time.monotonic() - began < 30
