"""The process of a run of kind ray: connect to Ray within the run's placement group, then become the user's program.

It runs as `python script_driver.py CONFIG PROGRAM…` on the standard library and Ray alone, so that nothing of ours is in the way of
the user's modules. PROGRAM is a script or `-m MODULE` with its arguments. CONFIG is the path of a JSON file: `address`,
`namespace`, `group` (its id), `run_id`, `runtime_env` (as Ray takes it), `granted` (in words) and `outcome` (a file to write what a
program's end was due to, where we know more than its exit code).

Ray lets the tasks of a task inherit its placement group, but a driver, which is no task, has none to inherit from. What Ray reads
to know the group that it is in are two properties of its `Worker`; here they name the run's group. From there on everything is
Ray's own doing, on every node: children are captured, and what no bundle can hold is refused when it is asked for. Ray's public
call says whether that worked, and a Ray in which it does not is refused. `ray.init` of the program finds the connection made.
"""

from __future__ import annotations

import json
import logging
import os
import runpy
import sys
import traceback
from types import TracebackType
from typing import Any

# What Ray says when a request fits into no bundle of the group, in `ray.util.placement_group`.
_NO_BUNDLE = "fit into any bundles for the placement group"
_LAST_LINES = 10


class Setup:
    """The connection of this process."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.said = False

    def connect(self) -> Any:
        """Connect within the group. Raises what Ray raises."""
        import ray
        from ray.job_config import JobConfig

        connected = self.real_init(
            address=self.config["address"], namespace=self.config["namespace"], runtime_env=self.config["runtime_env"] or None,
            job_config=JobConfig(metadata={"cpn_run": self.config["run_id"]}), logging_level=logging.WARNING, log_to_driver=True,
        )  # fmt: skip
        group = ray.util.get_current_placement_group()
        if group is None or group.id.hex() != self.config["group"]:
            raise RuntimeError(f"Ray {ray.__version__} cannot hold a program within its placement group; a tested one is 2.60")
        return connected

    def init(self, *arguments: Any, **options: Any) -> Any:
        """`ray.init` as the program calls it: the connection is there, and again after `ray.shutdown`."""
        import ray

        if options.get("runtime_env"):
            raise ValueError(
                "ray.init(runtime_env=…): give runtime_env in the manifest of the job instead, where the cluster's operator allows it"
            )
        if not ray.is_initialized():
            return self.connect()
        if (arguments or options) and not self.said:
            self.said = True
            print("[cpn] the program is connected already, in a namespace of its own; the arguments of ray.init are not used", flush=True)
        return self.real_init(ignore_reinit_error=True, logging_level=logging.ERROR)

    def take_over(self) -> None:
        """Let every way to connect lead here, and name the group. Raises RuntimeError for a Ray that is laid out otherwise."""
        import ray
        from ray._private.worker import Worker
        from ray._raylet import PlacementGroupID

        names = ("placement_group_id", "should_capture_child_tasks_in_placement_group")
        missing = [name for name in names if not isinstance(vars(Worker).get(name), property)]
        if missing:
            raise RuntimeError(f"Ray {ray.__version__} is laid out otherwise than 2.60 (no {', '.join(missing)})")
        group = PlacementGroupID(bytes.fromhex(self.config["group"]))
        worker: Any = Worker
        worker.placement_group_id = property(lambda _: group)
        worker.should_capture_child_tasks_in_placement_group = property(lambda _: True)
        self.real_init = ray.init
        ray.init = self.init

    def build(self) -> None:
        """Have the runtime environment made on one node, so that it fails before the program begins, and not in the middle of it."""
        import ray

        if self.config["runtime_env"]:
            ray.get(ray.remote(num_cpus=0, max_retries=0)(_nothing).remote())


def _nothing() -> None:
    return None


def main(arguments: list[str]) -> int:
    """Connect and run. Returns the exit status."""
    with open(arguments[0], encoding="utf-8") as file:
        config = json.load(file)
    program = arguments[1:]
    # As Python would have it: a script's folder, or where a module is looked for, comes first.
    module = program[1] if program[0] == "-m" else None
    script = "" if module else os.path.abspath(program[0])
    sys.path[0] = os.getcwd() if module else os.path.dirname(os.path.realpath(script))
    sys.argv = program[1:] if module else program
    setup = Setup(config)
    try:
        setup.take_over()
        setup.connect()
        setup.build()
    except Exception as error:  # whatever breaks here, the run must end
        return _end(config, *_of_setup(config, error))
    try:
        if module:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(script, run_name="__main__")
    except Exception as error:  # the program's own end, told as Python tells it
        traceback.print_exception(type(error), error, _of_program(error.__traceback__))
        category, message = _of_program_error(config, error)
        return _end(config, category, message) if category else 1
    return 0


def _of_setup(config: dict[str, Any], error: Exception) -> tuple[str, str]:
    import ray

    if isinstance(error, ray.exceptions.RuntimeEnvSetupError) or (config["runtime_env"] and "runtime" in str(error).lower()):
        return "runtime_env", f"the runtime_env could not be built: {_last_lines(error)}"
    return "infrastructure", f"the program could not be connected to Ray: {type(error).__name__}: {_last_lines(error)}"


def _of_program_error(config: dict[str, Any], error: BaseException) -> tuple[str, str]:
    """What a program's error was due to: category and message, empty where it is its own affair."""
    import ray

    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ray.exceptions.RuntimeEnvSetupError):
            return "runtime_env", f"the runtime_env could not be built: {_last_lines(found)}"
        if isinstance(found, ValueError) and _NO_BUNDLE in str(found):
            asked = next(line for line in str(found).splitlines() if _NO_BUNDLE in line)
            message = f"it asks for more than one worker has: {asked.strip().removeprefix('ValueError: ')} {config['granted']}"
            return (
                "beyond_grant",
                f"{message}; ask for more resources.cpu, memory or accelerator for each worker, or for less in the program",
            )
        found = getattr(found, "cause", None) or found.__cause__
    return "", ""


def _last_lines(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return "\n".join(lines[-_LAST_LINES:]) or type(error).__name__


def _of_program(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that is the program's: without ours and that of the module that runs it."""
    ours = {__file__, runpy.__file__, "<frozen runpy>"}
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename in ours:
        trace = trace.tb_next
    return trace


def _end(config: dict[str, Any], category: str, message: str) -> int:
    """Write down what the end was due to, whole or not at all."""
    print(f"[cpn] {message}", flush=True)
    partial = config["outcome"] + ".part"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump({"category": category, "message": message}, file)
    os.replace(partial, config["outcome"])
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
