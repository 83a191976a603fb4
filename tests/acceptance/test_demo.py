"""`cpn demo` and `cpn up` as a person runs them, on real Rays: they tell their story, and nothing of them is left."""

from __future__ import annotations

import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from controlplane.demo.steps import STEPS
from tests.network import until
from tests.ray import processes_of
from tests.served import Cpn, command, environment

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]
WITHIN_S = 1200.0


def demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The demo to its end, everything of it in one folder."""
    return subprocess.run(
        command("demo", "--data-dir", str(folder), *options), env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=WITHIN_S, check=False,
    )  # fmt: skip


def test_the_demo_tells_its_story_and_leaves_nothing_running(tmp_path: Path) -> None:
    folder, began = tmp_path / "demo", time.monotonic()
    done = demo(folder)
    print(f"the demo took {time.monotonic() - began:.1f} s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^\[ *[\d.]+ s\] (\d+)/\d+ (.*)$", done.stdout, re.MULTILINE) == [
        (str(number), title) for number, (title, _) in enumerate(STEPS, start=1)
    ]
    ended = {row[0]: (row[2], row[3]) for line in done.stdout.splitlines() if len(row := re.split(" {2,}", line.strip())) == 8}
    assert ended == {
        "JOB": ("CLUSTER", "STATE"), "delay-by-visibility": (ended["delay-by-visibility"][0], "succeeded"),
        "carrier-report": (ended["carrier-report"][0], "succeeded"), "train-delay-model": (ended["train-delay-model"][0], "succeeded"),
        "aircraft-by-maker": ("shanghai-lingang", "succeeded"),
    }  # fmt: skip
    for words in (
        "lacks purpose 'marketing'",
        "may not be processed in CN-GZ",
        "wrote carriers.csv with 16 rows",
        "quoted at most",
        "computing-power: ",
    ):
        assert words in done.stdout + done.stderr, words
    assert "nothing that was started is left running" in done.stdout
    assert processes_of(str(folder)) == {}


def test_a_kubernetes_cluster_is_a_third_member(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    asked = [sys.executable, "-m", "tests.kube.demo", "--data-dir", str(folder)]
    done = subprocess.run(asked, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("succeeded on lab-kubernetes") >= 2
    assert "nothing that was started is left running" in done.stdout
    assert processes_of(str(folder)) == {}


def test_a_demo_that_cannot_have_its_port_says_so_and_leaves_nothing_running(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = demo(tmp_path / "demo", "--port", str(port))
    assert done.returncode == 1
    assert f"The demo failed in step 1 ({STEPS[0][0]})" in done.stderr
    assert f"127.0.0.1:{port} cannot be used" in done.stderr
    assert f"Logs: {tmp_path}/demo/server.log" in done.stderr
    assert processes_of(str(tmp_path / "demo")) == {}


def test_a_demo_begins_with_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = demo(tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path} is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_up_runs_a_job_on_this_machine_until_it_is_told_to_end(tmp_path: Path) -> None:
    folder, person = tmp_path / "data", Cpn(tmp_path / "person")
    running = person.start("up", "--data-dir", str(folder), "--port", "0", "--jurisdiction", "CN-SH")
    credentials = tmp_path / "person" / "config" / "credentials.json"
    try:
        until(lambda: credentials.exists() or running.poll() is not None, "the network is up", WITHIN_S)
        assert running.poll() is None, running.communicate()
        assert [stat.S_IMODE(path.stat().st_mode) for path in (credentials, folder / "operator.token")] == [0o600, 0o600]
        assert [row["HEALTH"] for row in person.run("cluster", "list").table()] == ["healthy"]
        person.run("tenant", "create", "me")
        manifest = {"name": "one", "tenant": "me", "kind": "sql", "purpose": "trial", "sql": "SELECT 42 AS answer"}
        assert "42" in person.run("job", "submit", "-f", person.write("job.json", manifest), "--wait").out
    finally:
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=WITHIN_S)
    assert running.returncode == 0, out + err
    assert "Ctrl-C stops it; the data stays." in out
    assert processes_of(str(folder)) == {}
    assert "is the server running?" in person.run("cluster", "list", status=3).err
