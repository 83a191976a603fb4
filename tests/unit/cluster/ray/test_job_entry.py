"""The program that the Job API starts: run as Ray runs it, by a shell, and read by its log."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.ray import job_entry
from cluster.backends.ray.job_entry import BoundedLog
from cluster.backends.ray.job_words import JobLog, files_of, kept_of, mark_of, read_log, run_of
from cluster.protocol import RunRequest
from tests.network import until
from tests.ray import is_alive, parent_of, processes_of

LATER_S = 600.0


def request(*command: str, **changes: Any) -> RunRequest:
    run = RunRequest(
        run_id="a-1", job_id="a", attempt=1, epoch=3, kind="command", command=command, cpu=1.0, memory_bytes=256 * 2**20, nodes=("n1",),
        max_runtime_s=60.0,
    )  # fmt: skip
    return run.model_copy(update=changes)


class Started:
    """The entry program of a run at work in a folder."""

    def __init__(self, folder: Path, run: RunRequest, start_by: float | None = None) -> None:
        for name, text in files_of(run, time.time() + LATER_S if start_by is None else start_by).items():
            (folder / name).write_text(text, encoding="utf-8")
        self._run, self._log = run, folder / "log"
        temporary = folder / "tmp"
        temporary.mkdir()
        self.temporary = temporary
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                f"{shlex.quote(sys.executable)} cpn_entry.py", shell=True, cwd=folder, stdout=log, stderr=log, start_new_session=True,
                env={"PATH": os.environ["PATH"], "TMPDIR": str(temporary), "RAY_AUTH_TOKEN": "raysecret", "LANG": "C.UTF-8"},
            )  # fmt: skip

    def read(self) -> JobLog:
        return read_log(self._log.read_text(encoding="utf-8"), mark_of(self._run))

    def finish(self) -> tuple[int, JobLog]:
        code = self.process.wait(30)
        # The shell that Ray starts it by may end before it.
        until(lambda: self.read().ended, "it tells the end")
        until(lambda: not processes_of(str(self.temporary)), "nothing of it lives")
        assert list(self.temporary.iterdir()) == [], "it left something behind"
        return code, self.read()

    def says(self, words: str) -> None:
        until(lambda: words in self.read().text, f"it says {words!r}")


def ran(folder: Path, run: RunRequest, **more: Any) -> tuple[int, JobLog]:
    return Started(folder, run, **more).finish()


def test_a_command_has_its_files_and_variables_and_no_secret_of_ray(tmp_path: Path) -> None:
    script = "cat sub/x.txt; env; cat $CPN_INPUTS; touch $CPN_OUTPUT_DIR/o $TMPDIR/t; ulimit -a >/dev/null; exit 5"
    run = request("sh", "-c", script, files={"sub/x.txt": "from the file\n"}, env={"MINE": "1", "CPN_RUN_ID": "forged"})
    code, log = ran(tmp_path, run)
    assert (code, log.ended and (log.ended["ended"], log.ended["code"])) == (5, ("exit", 5))
    assert log.text.startswith("from the file\n")
    lines = log.text.splitlines()
    for line in ("MINE=1", "CPN_RUN_ID=a-1", "CPN_JOB_ID=a", "CPN_RANK=0", "CPN_WORLD_SIZE=1", "LANG=C.UTF-8", "{}"):
        assert line in lines
    assert "raysecret" not in log.text
    assert log.began is not None
    assert log.ended is not None
    assert log.began <= log.ended["at"]
    assert log.ended["peak_memory_bytes"] > 0


def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    code, log = ran(tmp_path, request("no-such-command"))
    assert (code, log.ended and log.ended["ended"]) == (127, "start_failed")
    assert "no-such-command" in (log.ended or {})["message"]


def test_a_start_that_comes_too_late_does_not_happen(tmp_path: Path) -> None:
    code, log = ran(tmp_path, request("touch", str(tmp_path / "made")), start_by=time.time() - 1.0)
    assert (code, log.began, log.ended and log.ended["ended"]) == (0, None, "late")
    assert not (tmp_path / "made").exists()


def test_the_time_is_limited_where_the_command_runs_and_an_end_by_a_signal_is_a_number(tmp_path: Path) -> None:
    code, log = ran(tmp_path, request("sh", "-c", "trap 'echo leaving; exit 7' TERM; sleep 60 & wait", max_runtime_s=0.2))
    assert (code, log.ended and log.ended["ended"], log.text) == (7, "max_runtime", "leaving\n")


def test_a_stop_ends_all_that_the_command_started_even_what_detached(tmp_path: Path) -> None:
    script = "setsid -f sh -c 'echo $$; exec sleep 600'; trap '' TERM; echo ready; while :; do sleep 0.1; done"
    started = Started(tmp_path, request("sh", "-c", script))
    started.says("ready")
    os.killpg(started.process.pid, signal.SIGTERM)
    _, log = started.finish()
    assert log.ended is not None
    assert (log.ended["ended"], log.ended["code"]) == ("stopped", 128 + signal.SIGKILL)
    (detached,) = (word for word in log.text.split() if word.isdigit())
    assert not is_alive(int(detached))


def test_a_killed_entry_takes_its_command_along(tmp_path: Path) -> None:
    started = Started(tmp_path, request("sh", "-c", "echo $$; exec sleep 600"))
    until(lambda: started.read().text.endswith("\n"), "it says its number")
    command = int(started.read().text)
    os.kill(parent_of(command), signal.SIGKILL)
    until(lambda: not is_alive(command), "the command has ended")
    started.process.wait(30)


def test_the_log_is_text_with_its_beginning_and_its_end(tmp_path: Path) -> None:
    script = (
        "import sys; w = sys.stdout.buffer.write; w(b'first\\n'); w('界'.encode() * 500000); w(b'\\xff'); w(b'x' * 600000 + b'last\\n')"
    )
    code, log = ran(tmp_path, request(sys.executable, "-c", script))
    assert (code, log.text[:7], log.text[-5:]) == (0, "first\n界", "last\n")
    assert len(log.text) < 1024**2 + 200
    assert "[cpn: 51436 characters are left out here" in log.text
    assert "\x1e" not in log.text


@pytest.mark.parametrize("pieces", [["abcdefgh"], list("abcdefgh"), ["ab", "", "cdefgh"], ["abcdefg", "h"]])
def test_a_bounded_log_keeps_the_same_however_it_comes(pieces: list[str]) -> None:
    said: list[str] = []
    log = BoundedLog(4, said.append)
    for piece in pieces:
        log.write(piece.encode())
    assert "".join(said) == "abc"
    log.close()
    assert "".join(said) == "abc\n[cpn: 4 characters are left out here, because the log is larger than what is kept]\nh"


def test_a_small_log_is_whole_and_broken_characters_are_told() -> None:
    said: list[str] = []
    log = BoundedLog(100, said.append)
    log.write("é".encode()[:1])
    log.write("é".encode()[1:])
    log.write(b"\xe7")
    log.close()
    assert "".join(said) == "é\ufffd"


def test_a_log_is_read_as_far_as_it_has_come() -> None:
    mark = "ab" * 8
    began, ended = (f"{job_entry.SEPARATOR}{mark} {json.dumps(fields)}\n" for fields in ({"began": 5.0}, {"ended": "exit", "code": 0}))
    whole = f"INFO Ray says this\n{began}user{job_entry.SEPARATOR}text\n{ended}"
    read = [read_log(whole[:length], mark) for length in range(len(whole) + 1)]
    assert (read[0], read[whole.index(began) + 5]) == (JobLog(None, "", None), JobLog(None, "", None))
    assert read[-1] == JobLog(5.0, f"user{job_entry.SEPARATOR}text\n", {"ended": "exit", "code": 0})
    # It only grows, whatever a reader saw before.
    assert all(later.text.startswith(earlier.text) for earlier, later in pairwise(read))
    assert read_log(f"{job_entry.SEPARATOR}another {{}}\n", mark) == JobLog(None, "", None)
    late = f'{job_entry.SEPARATOR}{mark} {{"ended": "late", "code": 0}}\n'
    assert read_log(late, mark) == JobLog(None, "", {"ended": "late", "code": 0})


def test_metadata_name_the_run_without_what_is_secret_or_long() -> None:
    run = request("true", env={"TOKEN": "usersecret"}, files={"x": "y"})
    kept = kept_of(run)
    assert "usersecret" not in str(kept)
    assert run_of(kept) == run.model_copy(update={"env": {}, "files": {}})
    assert [run_of(metadata) for metadata in (None, {}, {"cpn_run": "{}"}, {"cpn_run": "no"})] == [None] * 4


@pytest.mark.parametrize(
    ("script", "why", "least"),
    [
        ("exec python3 -c 'held = [b\"x\" * 2**20 for _ in range(2000)]'", "memory", 64 * 2**20),
        ("for n in $(seq 1 300); do sleep 30 & done; wait", "tasks", 200),
    ],
)
def test_who_holds_more_than_it_may_is_ended_and_says_how_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str, least: int
) -> None:
    monkeypatch.setenv("CPN_RUN_TASKS", "200")
    memory_bytes = 64 * 2**20 if why == "memory" else 2**30
    code, log = ran(tmp_path, request("sh", "-c", script, memory_bytes=memory_bytes))
    assert (code, log.ended and log.ended["ended"]) == (128 + signal.SIGKILL, why)
    assert log.ended is not None
    assert log.ended["took"] > least


def test_files_and_threads_have_limits_too(tmp_path: Path) -> None:
    code, log = ran(
        tmp_path, request("sh", "-c", "echo $OMP_NUM_THREADS $GOMAXPROCS; ulimit -n; ulimit -f", cpu=2.5, env={"GOMAXPROCS": "1"})
    )
    threads, mine, open_files, blocks = log.text.split()
    assert (code, threads, mine, open_files) == (0, "3", "1", "16384")
    disk = os.statvfs(tmp_path)
    assert 0 < int(blocks) * 512 <= disk.f_blocks * disk.f_frsize
