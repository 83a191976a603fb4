"""Who may import whom: the contracts of pyproject.toml hold, and each of them can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGES, ROOT, pyproject

CONTRACTS = pyproject()["tool"]["importlinter"]["contracts"]
LINT = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"

# One forbidden import for each contract: the file that would hold it, and the line.
BREACHES = {
    "packages": ("workloads/spec.py", "import scheduler.lifecycle"),
    "scheduler": ("scheduler/lifecycle.py", "import scheduler.store.jobs"),
    "engine": ("scheduler/engine/reasons.py", "import scheduler.engine.plan"),
    "pure": ("scheduler/engine/plan.py", "import time"),
    "backends": ("cluster/agent.py", "import cluster.backends.memory"),
    "backends-apart": ("cluster/backends/memory.py", "import cluster.backends.ray.backend"),
    "ray": ("controlplane/daemon.py", "import ray"),
    "kubernetes": ("controlplane/daemon.py", "import kubernetes"),
    "sqlalchemy": ("scheduler/cycle.py", "import sqlalchemy"),
}


def _lint(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LINT, "--no-cache", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def _copy_with(line: str, file: str, folder: Path) -> None:
    for package in PACKAGES:
        for source in (ROOT / package).rglob("*.py"):
            copy = folder / source.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
    (folder / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    with (folder / file).open("a", encoding="utf-8") as changed:
        changed.write(f"\n{line}\n")


def test_contracts_hold() -> None:
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(CONTRACTS)} kept, 0 broken" in done.stdout


def test_every_contract_has_a_breach_to_try() -> None:
    assert {contract["id"] for contract in CONTRACTS} == set(BREACHES)


@pytest.mark.parametrize("contract", sorted(BREACHES))
def test_contract_sees_a_breach(contract: str, tmp_path: Path) -> None:
    file, line = BREACHES[contract]
    _copy_with(line, file, tmp_path)
    done = _lint(tmp_path, "--contract", contract)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "0 kept, 1 broken" in done.stdout
    assert line.removeprefix("import ") in done.stdout


def test_type_checks_and_wheel_cover_the_same_packages() -> None:
    tools = pyproject()["tool"]
    assert tuple(tools["mypy"]["packages"]) == PACKAGES
    assert tuple(tools["importlinter"]["root_packages"]) == PACKAGES
    assert tuple(tools["hatch"]["build"]["targets"]["wheel"]["packages"]) == PACKAGES
