"""What an install is made of: the wheel, the locks, the tasks of the Makefile and the CI script."""

from __future__ import annotations

import os
import re
import subprocess
import zipfile

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import PACKAGES, ROOT, modules, pyproject

LOCKS = ("requirements.lock", "requirements-uv.lock", "requirements-image.lock")
TASKS = ("bench", "clean", "contracts", "demo", "help", "lint", "lock", "openapi", "setup", "test", "test-all", "types", "up", "wheel")
DATA = ("cluster/ratings/accelerators.csv", "cluster/ratings/cpus.csv", "scheduler/store/migrations/script.py.mako")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    built = next(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"]))
    return zipfile.ZipFile(built)


def _locked(lock: str) -> list[str]:
    """The requirements of a lock, each with its continuation lines joined."""
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]


def _make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Make as a person calls it, also where make runs these tests."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_wheel_holds_the_packages_alone(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name}
    assert tops == set(PACKAGES)


def test_wheel_holds_every_module_and_data_file(wheel: zipfile.ZipFile) -> None:
    wanted = {module.path for module in modules(*PACKAGES)} | set(DATA)
    assert not sorted(wanted - set(wheel.namelist()))


def test_wheel_names_its_command_and_licence(wheel: zipfile.ZipFile) -> None:
    info = next(name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name)
    assert "cpn = controlplane.cli.main:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert b"Apache License" in wheel.read(f"{info}/licenses/LICENSE")


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_by_hash_and_names_no_address(lock: str) -> None:
    locked = _locked(lock)
    assert locked
    assert not [line for line in locked if "==" not in line or "--hash=sha256:" not in line]
    assert not re.search(r"://|^\s*-(?!-hash)", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE)


def test_lock_covers_every_dependency() -> None:
    project = pyproject()["project"]
    asked = [*project["dependencies"], *(item for extra in project["optional-dependencies"].values() for item in extra)]
    asked += pyproject()["build-system"]["requires"]
    pinned = {canonicalize_name(re.split(r"[=\[]", line)[0].strip()): line for line in _locked("requirements.lock")}
    for requirement in map(Requirement, asked):
        version = re.search(r"==([^\s;]+)", pinned[canonicalize_name(requirement.name)])
        assert version is not None
        assert requirement.specifier.contains(version[1], prereleases=True)


def test_make_lists_its_tasks() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    listed = re.findall(r"^  make (\S+) +\S", done.stdout, re.MULTILINE)
    assert set(TASKS) <= set(listed)


def test_make_tells_of_a_missing_python() -> None:
    done = _make("setup", "VENV=no-such-folder", "PYTHON=no-such-python")
    assert done.returncode == 2
    assert "no-such-python not found: install Python >= 3.11" in done.stderr


def test_ci_runs_every_check() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    text = script.read_text(encoding="utf-8")
    assert re.findall(r"^step \S+ make (\S+)", text, re.MULTILINE) == ["setup", "lint", "types", "contracts", "kube", "test", "demo"]


def test_hooks_fetch_nothing() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"^\s*-?\s*repo: (.*)$", text, re.MULTILINE) == ["local"]
    assert set(re.findall(r"language: (\S+)", text)) == {"system"}


def test_no_file_names_an_index() -> None:
    named = re.compile(r"(?:(?<!emit-)index-url|find-links|default-index|://\S*(?:pypi|simple))", re.IGNORECASE)
    files = ("Makefile", ".ci/run", "pyproject.toml", ".pre-commit-config.yaml", *LOCKS)
    assert not [name for name in files if named.search((ROOT / name).read_text(encoding="utf-8"))]
