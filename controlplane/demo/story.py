"""`cpn demo`: tells the story step by step, and leaves nothing behind but what it was asked to keep."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from controlplane.cli.failures import FAILED, INTERRUPTED, USAGE
from controlplane.cli.output import note
from controlplane.demo.data import missing_packages
from controlplane.demo.kubernetes import KubeAccess, join
from controlplane.demo.members import MEMBERS
from controlplane.demo.scene import DemoError, Scene
from controlplane.demo.steps import SETTLE, STEPS, Step
from controlplane.errors import ClientError
from controlplane.network import LocalNetwork, NetworkError, ending_in_order

# What these say is enough; anything else is a fault of the demo's own, shown with where it happened.
EXPECTED = (DemoError, NetworkError, ClientError, OSError)


def run(data_dir: Path | None, port: int, kubernetes: KubeAccess | None = None) -> int:
    """The whole demo, with a Kubernetes cluster as a third member where one is named.

    Returns the exit status: 0 when every expectation was met, else 1 with what failed and where the logs are.
    """
    if missing := missing_packages():
        note(f"error: the demo needs packages that are not installed: {', '.join(missing)}")
        note("install them with `pip install 'cpn[demo]'`")
        return FAILED
    if data_dir is not None and data_dir.is_dir() and any(data_dir.iterdir()):
        note(f"error: {data_dir} is not empty; the demo begins with an empty folder")
        return USAGE
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Commands write to both streams; in a pipe or file they must still stand in order.
        sys.stdout.reconfigure(line_buffering=True)
    try:
        folder = Path(tempfile.mkdtemp(prefix="cpn-demo-")) if data_dir is None else data_dir.absolute()
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        note(f"error: the demo cannot keep anything in {data_dir or tempfile.gettempdir()} ({error.strerror}); name a folder by --data-dir")
        return FAILED
    with ending_in_order():
        status = _tell(folder, port, _steps(kubernetes))
    if status == 0 and data_dir is None:
        shutil.rmtree(folder, ignore_errors=True)
    return status


def _steps(kubernetes: KubeAccess | None) -> tuple[Step, ...]:
    if kubernetes is None:
        return STEPS
    titles = [title for title, _ in STEPS]
    at = titles.index(SETTLE)
    return (*STEPS[:at], ("Add a Kubernetes cluster and run the same jobs there", lambda scene: join(scene, kubernetes)), *STEPS[at:])


def _tell(folder: Path, port: int, steps: tuple[Step, ...]) -> int:
    began, step = time.monotonic(), "the beginning"
    # The demo is the same whatever settings, server and token this shell has.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CPN_")}
    try:
        with contextlib.chdir(folder), LocalNetwork(folder, port, MEMBERS, say=_say, environ=environ) as network:
            scene = Scene(network, folder, began)
            for number, (title, perform) in enumerate(steps, start=1):
                step = f"step {number} ({title})"
                scene.title(number, len(steps), title)
                perform(scene)
            scene.say(f"\nAll of it took {scene.elapsed():.1f} s. Stopping what was started …")
    except KeyboardInterrupt:
        note(f"\ninterrupted in {step}; everything that was started is stopped. The data is in {folder}")
        return INTERRUPTED
    except Exception as error:
        if not isinstance(error, EXPECTED):
            traceback.print_exc()
        note(f"\nThe demo failed in {step} after {time.monotonic() - began:.1f} s: {error}")
        note(f"Logs: {folder}/server.log, {folder}/agents/*/agent.log, {folder}/rays/*/ray.log, {folder}/logs/*")
        return FAILED
    _say(f"Done after {time.monotonic() - began:.1f} s; nothing that was started is left running.")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)
