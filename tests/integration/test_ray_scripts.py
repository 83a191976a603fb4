"""Programs of users' own on a real Ray: they have what they were granted, are refused what is beyond it, and leave nothing."""

from __future__ import annotations

import json
import os
import signal
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cluster.backends.ray.sweeping import survey
from cluster.leftovers import Leftover, orphans
from cluster.protocol import RunFinished, RunRequest
from tests.network import until
from tests.ray import WAIT_S, Connection, RayAgent, SmallRay, is_alive, parent_of, processes_of
from tests.ray_runs import MIB, request
from workloads.ray_jobs import RayJobs, RuntimeEnv

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def program(node: str, text: str, *arguments: str, workers: int = 1, **fields: Any) -> RunRequest:
    files = {"main.py": text, **fields.pop("files", {})}
    usual: dict[str, Any] = {"ray_jobs": RayJobs(), "command": ("python", "main.py", *arguments), "files": files}
    return request((node,) * workers, kind="ray", **{**usual, **fields})


def outcome(end: RunFinished) -> tuple[str, str | None]:
    return end.outcome, end.category


INHERITS = """
import json, os, sys
import ray

ray.init(address="auto", namespace="mine")

@ray.remote
def inner():
    return ray.util.get_current_placement_group().id.hex()

@ray.remote
def outer():
    return ray.get(inner.options(num_cpus=0).remote()), ray.util.get_current_placement_group().id.hex()

@ray.remote(num_cpus=1)
class Counter:
    def ask(self):
        return ray.get(inner.options(num_cpus=0).remote())

counters = [Counter.remote() for _ in range(2)]
groups = {ray.util.get_current_placement_group().id.hex(), *ray.get([counter.ask.remote() for counter in counters])}
del counters
groups |= set(ray.get(outer.remote()))
found = {
    "groups": len(groups), "bundles": ray.util.get_current_placement_group().bundle_specs, "arguments": sys.argv[1:],
    "namespace": ray.get_runtime_context().namespace, "cpn": sorted(name for name in os.environ if name.startswith("CPN_")),
}
open(os.environ["CPN_OUTPUT_DIR"] + "/found.json", "w").write(json.dumps(found))
print("done")
"""


def test_tasks_and_actors_inherit_the_group(member: Connection, node: str) -> None:
    run = program(node, INHERITS, "--epochs", "3", workers=2)
    end = member.run(run)
    assert outcome(end) == ("succeeded", None), (end, member.log(run.run_id))
    found = json.loads(Path(end.directory, "found.json").read_text())
    assert (found["groups"], found["arguments"], found["namespace"]) == (1, ["--epochs", "3"], f"cpn-script-{run.run_id}")
    assert found["bundles"] == [{"CPU": 1.0, "memory": 64.0 * MIB}] * 2
    assert member.log(run.run_id).splitlines()[-1] == "done"


MODULE = {"greet/__init__.py": "def hello(): return 'hello from a module'\n"}
BRINGS = """
import os, ray

@ray.remote
def told():
    import cpn_sample, greet
    return cpn_sample.WORD, greet.hello(), os.environ["COLOUR"]

print(*ray.get(told.remote()), sep="|")
"""


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with one small wheel."""
    folder, stem = tmp_path_factory.mktemp("wheels"), "cpn_sample-1.0"
    texts = {
        "cpn_sample.py": "WORD = 'from the wheelhouse'\n",
        f"{stem}.dist-info/METADATA": "Metadata-Version: 2.1\nName: cpn-sample\nVersion: 1.0\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    texts[f"{stem}.dist-info/RECORD"] = "".join(f"{name},,\n" for name in (*texts, f"{stem}.dist-info/RECORD"))
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        for name, text in texts.items():
            wheel.writestr(name, text)
    return folder


def test_a_runtime_env_brings_what_it_names_and_nothing_else(member: Connection, node: str) -> None:
    brings = RuntimeEnv(env_vars={"COLOUR": "green"}, py_modules=("greet",))
    text = BRINGS.replace("cpn_sample, ", "").replace("cpn_sample.WORD", "'nothing'")
    good = program(node, text, files=MODULE, runtime_env=brings)
    own = program(node, HEAD + "ray.get(A.options(runtime_env={'py_executable': 'python -B'}).remote().pid.remote())\ntime.sleep(600)\n")
    for run in (good, own):
        member.start(run)
    end = member.end_of(good.run_id)
    assert outcome(end) == ("succeeded", None), (end, member.log(good.run_id))
    assert "nothing|hello from a module|green" in member.log(good.run_id).splitlines()
    end = member.end_of(own.run_id)
    assert (outcome(end), "brings a runtime_env with py_executable" in end.message) == (("failed", "runtime_env"), True), end


# Ray copies the interpreter's whole environment before it installs anything into the copy.
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_packages_come_from_the_wheelhouse_alone(member: Connection, node: str, wheelhouse: Path) -> None:
    rules = RayJobs(runtime_env=("env_vars", "py_modules", "pip"), wheelhouse=str(wheelhouse))
    brings = RuntimeEnv(env_vars={"COLOUR": "green"}, py_modules=("greet",), pip=("cpn-sample==1.0",))
    good = program(node, BRINGS, files=MODULE, ray_jobs=rules, runtime_env=brings)
    missing = program(node, BRINGS, ray_jobs=rules, runtime_env=RuntimeEnv(pip=("cpn-sample==9.9",)))
    for run in (good, missing):
        member.start(run)
    end = member.end_of(good.run_id, 400.0)
    assert outcome(end) == ("succeeded", None), (end, member.log(good.run_id))
    assert "from the wheelhouse|hello from a module|green" in member.log(good.run_id).splitlines()
    end = member.end_of(missing.run_id, 400.0)
    assert outcome(end) == ("failed", "runtime_env"), end
    assert end.message.startswith("the runtime_env could not be built: ")
    assert "No matching distribution found for cpn-sample==9.9" in end.message


HEAD = "import os, time, ray\n@ray.remote\ndef f(): return 1\n@ray.remote(num_cpus=1)\nclass A:\n    def pid(self): return os.getpid()\n"
BEYOND = {
    "a task that no bundle holds": ("f.options(num_cpus=4).remote()", "it asks for more than one worker has: Cannot schedule"),
    "the same in a task": (
        "@ray.remote(num_cpus=0)\ndef outer(): return ray.get(f.options(num_cpus=4).remote())\nray.get(outer.remote())",
        "it asks for more than one worker has: Cannot schedule",
    ),
    "actors that do not fit together": (
        "kept = [A.remote() for _ in range(2)]\nray.get([one.pid.remote() for one in kept])",
        "its actors ask for 2 CPU together, and actor A waits for room that no other gives back",
    ),
    "a task beside the group": (
        'ray.get(f.options(num_cpus=100, scheduling_strategy="SPREAD").remote())',
        "task f asks for 100 CPU outside the run's resources",
    ),
    "a group of its own": (
        "ray.get(ray.util.placement_group([{'CPU': 50}, {'CPU': 1}]).ready())",
        "a placement group of its own asks for 51 CPU outside the run's resources",
    ),
}


def test_what_a_program_asks_beyond_its_grant_is_refused_in_words(member: Connection, node: str) -> None:
    runs = {what: program(node, HEAD + text) for what, (text, _) in BEYOND.items()}
    for run in runs.values():
        member.start(run)
    for what, (_, words) in BEYOND.items():
        end = member.end_of(runs[what].run_id)
        assert outcome(end) == ("failed", "beyond_grant"), (what, end)
        assert end.message.startswith(words), what
        assert "granted are 1 worker with 1 CPU and 0.0625 GiB memory" in end.message, what


DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
DETACHED = (
    HEAD
    + """
inside = A.options(name="kept", lifetime="detached", num_cpus=0).remote()
outside = A.options(lifetime="detached", num_cpus=0, scheduling_strategy="SPREAD").remote()
print(*ray.get([inside.pid.remote(), outside.pid.remote()]), flush=True)
time.sleep(3600 * (os.environ["STAY"] == "yes"))
"""
)


# In place of the program's last step: it ends when the test tells it to.
GOES_ON = "while not os.path.exists('go'):\n    time.sleep(0.1)\nprint('went on')\nbool(1"


def started_pids(member: Connection, run: RunRequest) -> list[int]:
    """The processes that a DETACHED program has named; Ray may write to its log as well."""

    def lines() -> list[list[str]]:
        return [line.split() for line in member.log(run.run_id).splitlines() if line.replace(" ", "").isdigit()]

    until(lambda: lines(), "the program says its processes", WAIT_S)
    return [int(word) for word in lines()[0]]


def supervisor_of(run: RunRequest) -> int:
    """The process of its supervisor, two above its own."""
    (driver,) = [pid for pid, line in processes_of(run.run_id).items() if "script_driver.py" in line and "leash.py" not in line]
    return parent_of(parent_of(driver))


def assert_gone(member: Connection, run: RunRequest, pids: list[int]) -> None:
    until(lambda: not member.left(run.run_id), "no actor and no group of the run is left", WAIT_S)
    until(lambda: not any(map(is_alive, pids)), "no process of an actor is left", WAIT_S)
    until(lambda: member.taken() == (0.0, 0), "Ray has all of the room again", WAIT_S)


@pytest.mark.parametrize(
    ("before", "stay", "ending"),
    [("", "no", ("succeeded", None)), ("", "yes", ("cancelled", "cancelled")), (DEAF, "yes", ("cancelled", "cancelled"))],
    ids=["ends by itself", "cancelled", "cancelled though it hears no signal"],
)
def test_nothing_of_a_run_that_ends_stays_in_ray(
    member: Connection, node: str, before: str, stay: str, ending: tuple[str, str | None]
) -> None:  # fmt: skip
    run = program(node, before + DETACHED, env={"STAY": stay})
    member.start(run)
    pids = started_pids(member, run)
    if stay == "yes":
        member.stop(run.run_id)
    assert outcome(member.end_of(run.run_id)) == ending
    assert_gone(member, run, pids)


@pytest.mark.slow
def test_a_time_limit_ends_a_program_and_all_that_it_started(member: Connection, node: str) -> None:
    run = program(node, DEAF + DETACHED, env={"STAY": "yes"}, max_runtime_s=60.0)
    member.start(run)
    pids = started_pids(member, run)
    assert outcome(member.end_of(run.run_id)) == ("failed", "max_runtime")
    assert_gone(member, run, pids)


def test_the_end_of_its_supervisor_ends_the_program_and_all_that_it_started(member: Connection, node: str) -> None:
    run = program(node, DETACHED, env={"STAY": "yes"})
    member.start(run)
    pids = started_pids(member, run)
    os.kill(supervisor_of(run), signal.SIGKILL)
    assert outcome(member.end_of(run.run_id)) == ("lost", "lost")
    assert_gone(member, run, pids)


def test_the_next_agent_adopts_a_program(ray_head: SmallRay, node: str, tmp_path: Path) -> None:
    run = program(node, DETACHED.replace("time.sleep(3600", GOES_ON), env={"STAY": "yes"})
    with RayAgent(tmp_path / "first.log") as first:
        before = first.connect(ray_head, tmp_path / "data")
        before.start(run)
        pids = started_pids(before, run)
        first.kill()
    with RayAgent(tmp_path / "second.log") as second:
        after = second.connect(ray_head, tmp_path / "data")
        assert [item.run_id for item in after.adopted] == [run.run_id]
        (ray_head.runs / f"{run.run_id}-0" / "work" / "go").touch()
        assert outcome(after.end_of(run.run_id)) == ("succeeded", None)
        assert after.log(run.run_id).splitlines()[-1] == "went on"
        assert_gone(after, run, pids)
        after.forget(run.run_id)


def test_what_a_program_left_behind_both_its_agent_and_its_supervisor_is_found_and_removed(
    ray_head: SmallRay, node: str, tmp_path: Path
) -> None:  # fmt: skip
    run = program(node, DETACHED, env={"STAY": "yes"})
    with RayAgent(tmp_path / "first.log") as first:
        before = first.connect(ray_head, tmp_path / "data")
        before.start(run)
        _, outside = started_pids(before, run)
        supervisor = supervisor_of(run)
        first.kill()
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: not is_alive(supervisor), "the supervisor is gone")

    def orphaned() -> list[Leftover]:
        found = survey(ray_head.address, ray_head.token_file).found
        return [item for item in orphans(found, set(), set()) if item.run_id == run.run_id and item.kind == "actor"]

    until(lambda: len(orphaned()) == 1, "the group's actors end with the group, the one beside it stays", WAIT_S)
    assert is_alive(outside)
    survey(ray_head.address, ray_head.token_file, orphaned())
    until(lambda: not is_alive(outside), "it is removed", WAIT_S)
    assert orphaned() == []
