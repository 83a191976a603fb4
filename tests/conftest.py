"""What holds for every test: nothing of the user's own settings and files, and examples that a second run repeats.

Hypothesis has no deadline, because other work may hold the processor for a while; where CI is set, its examples are
the same in every run.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from xdist.remote import Producer

    from tests.distribution import Distribution
    from tests.kube.kubelet import Kubelet
    from tests.ray import SmallRay
    from tests.s3 import S3Server

settings.register_profile("cpn", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("cpn"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "cpn")

OWN_FOLDER = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Forget CPN_* but for CPN_TEST_*, keep what commands remember in a folder that goes with the run, and heed Ctrl-C.

    What a shell starts in the background ignores Ctrl-C, and so would every program that these tests start and interrupt.
    The hundreds of processes that tests start keep what Python compiles, or each would compile Ray anew.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith("CPN_") and not name.startswith("CPN_TEST_")]:
        del os.environ[name]
    folder = tempfile.TemporaryDirectory(prefix="cpn-tests-", ignore_cleanup_errors=True)
    config.stash[OWN_FOLDER] = folder
    os.environ["CPN_CONFIG_DIR"] = str(Path(folder.name) / "config")
    os.environ["CPN_DATA_DIR"] = str(Path(folder.name) / "data")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool | None:
    """What pytest-timeout tells of a test that hangs (its output, and where all threads are) a worker process would tell nobody."""
    if settings.method != "thread" or not hasattr(item.config, "workerinput"):
        return None

    def tell_and_end() -> None:
        from pytest_timeout import timeout_timer

        item.config.get_terminal_writer()._file = sys.__stderr__
        timeout_timer(item, settings)

    def cancel() -> None:
        timer.cancel()
        timer.join()

    timer = threading.Timer(settings.timeout, tell_and_end)
    timer.name = f"timeout of {item.nodeid}"
    item.cancel_timeout = cancel  # type: ignore[attr-defined]
    timer.start()
    return True


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove that folder."""
    if OWN_FOLDER in config.stash:
        config.stash[OWN_FOLDER].cleanup()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse tests that use what is shared (see tests/distribution.py) in a file whose name does not say so."""
    from tests.distribution import need_of

    for item in items:
        for fixture, need in {"ray_head": "ray", "kubelet": "kube"}.items():
            if fixture in getattr(item, "fixturenames", ()) and need_of(item.nodeid.partition("::")[0]) != need:
                raise pytest.UsageError(f"{item.nodeid} uses {fixture}: let the name of its file begin with test_{need}_")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Distribution:
    """With several worker processes, those files go to one that share what is started for them."""
    from tests.distribution import Distribution as Ours

    return Ours(config, log)


@pytest.fixture(scope="session")
def s3_place() -> Iterator[S3Server]:
    """The address of an object store that does not answer yet."""
    from tests.s3 import S3Server as Server

    server = Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_place: S3Server) -> Iterator[S3Server]:
    """That object store, running, and this process with the settings that reach it."""
    from tests.s3 import only

    s3_place.start()
    with only(s3_place.variables()):
        yield s3_place


@pytest.fixture(scope="session")
def ray_head(tmp_path_factory: pytest.TempPathFactory, s3_place: S3Server) -> Iterator[SmallRay]:
    """One small, real Ray for all tests that leave it as they found it. Nothing of it may be left at the end.

    Its node has the settings that reach the object store.
    """
    from tests.ray import SmallRay as Head
    from tests.ray import running
    from tests.s3 import only

    folder = tmp_path_factory.mktemp("ray")
    with only(s3_place.variables_with_file(folder)), running(Head("tests", folder)) as head:
        yield head


@pytest.fixture(scope="session")
def kubelet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelet]:
    """A real Kubernetes control plane with two nodes of a stand-in; `servers` is its control plane. CI has to have its programs."""
    from tests.kube.control_plane import MISSING, binaries, running_kubernetes
    from tests.kube.kubelet import running_kubelet

    if binaries() is None:
        pytest.fail(MISSING) if os.environ.get("CI") else pytest.skip(MISSING)
    folder = tmp_path_factory.mktemp("kubernetes")
    with running_kubernetes(folder) as servers, running_kubelet(servers, folder / "pods") as nodes:
        yield nodes
