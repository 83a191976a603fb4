"""What runs have left on a Ray cluster: found by our names alone, and removed when asked.

    python -m cluster.backends.ray.sweeping ADDRESS TOKEN_FILE

reads a JSON list of leftovers from standard input, removes those (of a run's directory the processes go with it), then lists
what there is and prints it as JSON (Survey). Like probing.py it is a process of its own for each question, and what it does on
a node is one task with its code sent along.

Ours are: actors in the namespace `cpn` named `cpn-run-RUN-RANK`, warm supervisors there (`cpn-warm-…`) that say that they serve a run, with
what they hold in Ray, placement groups named like the first, actors and groups that programs of kind ray made in the namespaces of their
runs (`cpn-script-RUN`), and below a node's directory of runs the directories `RUN-RANK` with the
processes that work in them. Warm supervisors that wait and warm SQL workers belong to no run and are left alone, as are the SQL workers'
directories: the next agent adopts them, and the next worker clears up after one that died. Nothing else is looked at.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from cluster.backends.ray.asking import ask_process, say_answer
from cluster.backends.ray.census import PREFIX as SCRIPT_PREFIX
from cluster.backends.ray.census import Books, run_of_namespace
from cluster.backends.ray.gang_workers import PREFIX, run_of
from cluster.backends.ray.pool import SQL_PREFIX
from cluster.backends.ray.seats import WARM_PREFIX
from cluster.errors import ClusterError, UnreachableError
from cluster.leftovers import Kind, Leftover, Survey

ACTORS_S, ANSWER_S, SURVEY_S = 15.0, 45.0, 120.0
_LEFTOVERS: TypeAdapter[list[Leftover]] = TypeAdapter(list[Leftover])


def survey(address: str, token_file: Path | None, remove: Sequence[Leftover] = ()) -> Survey:
    """Remove these, then list all. Raises UnreachableError when it takes too long, ClusterError when this machine cannot connect."""
    orders = _LEFTOVERS.dump_json(list(remove)).decode()
    return Survey.model_validate(ask_process("cluster.backends.ray.sweeping", address, token_file, SURVEY_S, orders))


def look_on_node(work_variable: str, remove: list[str]) -> list[tuple[str, str, str]]:
    """Remove directories of runs, by name, with the processes that work in them; then list (kind, name, directory's name).

    It and what it calls run in a worker of Ray, on the standard library alone: Ray sends the code of this program along.
    """
    root = os.environ.get(work_variable) or os.path.join(tempfile.gettempdir(), f"cpn-work-{os.getuid()}")
    runs = os.path.realpath(os.path.join(root, "runs"))
    names = [name for name in remove if name and os.path.basename(name) == name and not name.startswith(".")]
    _end_processes(runs, names)
    for name in names:
        if not os.path.islink(os.path.join(runs, name)):
            shutil.rmtree(os.path.join(runs, name), ignore_errors=True)
    directories = []
    with contextlib.suppress(FileNotFoundError):
        directories = [entry.name for entry in os.scandir(runs) if entry.is_dir(follow_symlinks=False)]
    listed = [("directory", os.path.join(runs, name), name) for name in directories]
    return listed + [("process", name, folder) for name, folder in _processes(runs).items()]


def _end_processes(runs: str, names: list[str]) -> None:
    for _ in range(100):  # a process may make another one while it is ended
        doomed = [process for process, folder in _processes(runs).items() if folder in names]
        for process in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.split("/")[0]), signal.SIGKILL)
        if not doomed:
            return
        time.sleep(0.02)


def _processes(runs: str) -> dict[str, str]:
    """This user's processes that work below a run's directory: number and start, and that directory's name."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, IndexError):
            if os.stat(f"/proc/{pid}").st_uid != os.getuid():
                continue
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            for place in map(os.path.realpath, _places(pid)):
                if place.startswith(runs + "/") and fields[0] != "Z":
                    found[f"{pid}/{fields[19]}"] = place[len(runs) + 1 :].split("/")[0]
    return found


def _places(pid: str) -> list[str]:
    """Where a process works, by its directory and by the environment that it was started with."""
    with open(f"/proc/{pid}/environ", "rb") as file:
        told = [text.partition(b"=")[2] for text in file.read().split(b"\0") if text.startswith(b"CPN_OUTPUT_DIR=")]
    return [os.readlink(f"/proc/{pid}/cwd").removesuffix(" (deleted)"), *(os.fsdecode(path) for path in told)]


def _on_nodes(remove: Sequence[Leftover]) -> tuple[list[Leftover], list[str]]:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from cluster.backends.ray.nodes import alive
    from cluster.runs.node_folders import WORK_DIR_VARIABLE

    task = ray.remote(num_cpus=0, max_retries=0)(look_on_node)
    nodes = sorted(node.node_id for node in alive(ray.nodes()).values())  # type: ignore[no-untyped-call]
    asked = {}
    for node in nodes:
        orders = sorted({item.folder for item in remove if item.node == node})
        where = NodeAffinitySchedulingStrategy(node, soft=False)
        asked[task.options(scheduling_strategy=where).remote(WORK_DIR_VARIABLE, orders)] = node
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S) if asked else ([], [])
    found, silent = [], [asked[answer] for answer in late]
    for answer in ready:
        try:
            listed = ray.get(answer)
        except ray.exceptions.RayError:
            silent.append(asked[answer])
            continue
        for kind, name, folder in listed:
            if (worker := run_of(PREFIX + folder)) and not folder.startswith(SQL_PREFIX):
                found.append(Leftover(kind=kind, name=name, run_id=worker.run_id, node=asked[answer], folder=folder))
    return found, sorted(silent)


def _in_ray(remove: Sequence[Leftover]) -> tuple[list[Leftover], list[str]]:
    """Actors and placement groups, after these were removed; and the warm supervisors that do not say whom they serve."""
    import ray
    from ray.util import list_named_actors, placement_group_table, remove_placement_group
    from ray.util.placement_group import get_placement_group

    from cluster.backends.ray.session import NAMESPACE

    of_programs = _of_programs(remove)
    served, _ = _serving([item.name for item in remove if item.name.startswith(WARM_PREFIX)])
    for item in remove:
        with contextlib.suppress(ValueError, ray.exceptions.RayError):
            # A warm supervisor may serve another run by now. What it holds in Ray goes with it.
            if item.kind == "actor" and served.get(item.name, item.run_id) == item.run_id:
                ray.kill(ray.get_actor(item.name, namespace=NAMESPACE), no_restart=True)
            elif item.kind == "placement-group":
                remove_placement_group(get_placement_group(item.name))
    actors = [name for name in list_named_actors() if isinstance(name, str)]
    groups: dict[str, dict[str, Any]] = placement_group_table()
    names: list[tuple[Kind, str]] = [("actor", name) for name in actors]
    names += [("placement-group", group["name"]) for group in groups.values() if group["state"] != "REMOVED"]
    found = [Leftover(kind=kind, name=name, run_id=worker.run_id) for kind, name in names if (worker := run_of(name))] + of_programs
    served, silent = _serving([name for name in actors if name.startswith(WARM_PREFIX)])
    return found + [Leftover(kind="actor", name=name, run_id=run_id) for name, run_id in sorted(served.items())], silent


def _of_programs(remove: Sequence[Leftover]) -> list[Leftover]:
    """What programs of kind ray have in the namespaces of their runs, after these were removed. Raises ClusterError."""
    import grpc  # type: ignore[import-untyped, unused-ignore]
    import ray

    books = Books(ray.get_runtime_context().gcs_address)
    try:
        books.remove([(item.kind, bytes.fromhex(item.name.rpartition("/")[2])) for item in remove if item.name.startswith(SCRIPT_PREFIX)])
        return [
            Leftover(kind="actor" if kind == "actor" else "placement-group", name=f"{space}/{identity.hex()}", run_id=run_id)
            for space in books.namespaces() if (run_id := run_of_namespace(space)) is not None
            for kind, identity in books.left(space)
        ]  # fmt: skip
    except grpc.RpcError as error:
        raise UnreachableError(f"the Ray head does not tell what programs have there: {error.code().name}") from error
    finally:
        books.close()


def _serving(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """The run that each of these warm supervisors serves, of those that serve one; and those that live and do not answer."""
    import ray

    from cluster.backends.ray.session import NAMESPACE

    asked: dict[Any, str] = {}
    for name in names:
        with contextlib.suppress(ValueError):
            asked[ray.get_actor(name, namespace=NAMESPACE).worker.remote()] = name
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=ACTORS_S) if asked else ([], [])
    served = {}
    for answer in ready:
        with contextlib.suppress(ray.exceptions.RayError):
            if worker := run_of(ray.get(answer)):
                served[asked[answer]] = worker.run_id
    return served, sorted(asked[answer] for answer in late)


def main(address: str, token_file: str, orders: str) -> dict[str, Any]:
    """Connect, remove what is ordered, and list. Actors go first, so that they cannot make anew what is removed after."""
    from cluster.backends.ray.gcs import cluster_id
    from cluster.backends.ray.session import connect_process

    remove = _LEFTOVERS.validate_json(orders)
    path = Path(token_file) if token_file else None
    try:
        identity = cluster_id(address, path.read_text(encoding="utf-8").strip() if path else "", 5.0).hex()
        connect_process(address, path)
        in_ray, mute = _in_ray(remove)
        on_nodes, silent = _on_nodes(remove)
    except (ClusterError, OSError) as error:
        return {"error": str(error)}
    return Survey(cluster_id=identity, found=(*in_ray, *on_nodes), silent=(*mute, *silent)).model_dump(mode="json")


if __name__ == "__main__":
    say_answer(main(sys.argv[1], sys.argv[2], sys.stdin.read()))
