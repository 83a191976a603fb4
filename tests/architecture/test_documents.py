"""README.md and docs/ name only what exists: commands and their options, make tasks, variables, metrics, files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.source import PACKAGES, ROOT, modules

DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def _text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def _shell_lines(document: str) -> Iterator[str]:
    """Lines of fenced shell blocks, continued ones joined, and inline code."""
    for block in re.findall(r"^```(?:bash|sh|console|shell)\n(.*?)^```", _text(document), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            yield line.strip().removeprefix("$ ")
    prose = re.sub(r"^```.*?^```", "", _text(document), flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", prose)


def _commands(document: str) -> Iterator[list[str]]:
    """The words of every `cpn …` line, up to a pipe, redirection or comment."""
    for line in _shell_lines(document):
        found = re.match(r"(?:[A-Z_]+=\S+ +)*(?:\.venv/bin/)?cpn(?: +(.*))?$", line)
        if found:
            words = shlex.split(re.split(r"\s[|>&#]|;|\s…", found[1] or "")[0], comments=True)
            yield [word for word in words if word != "…"]


@cache
def _cpn() -> Any:
    from typer.main import get_command

    from controlplane.cli.main import app

    return get_command(app)


def _faults(words: list[str]) -> list[str]:
    """What of a command line `cpn` would not know."""
    command, options = _cpn(), _options(_cpn())
    for word in words:
        if word.startswith("-") and word not in {"-", "--"}:
            name = word.split("=")[0]
            if name not in options:
                return [f"`cpn {' '.join(words)}`: no option {name}"]
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return [] if words[words.index(word) - 1] in options else [f"`cpn {' '.join(words)}`: no command {word}"]
            command = command.commands[word]
            options = _options(command)
    return []


def _options(command: Any) -> set[str]:
    names = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("-")}
    return names | {"--help", "-h"}


def _source() -> str:
    return "\n".join(module.text for module in modules(*PACKAGES, "tests"))


def test_there_are_documents() -> None:
    wanted = {"README.md", *(f"docs/{name}.md" for name in ("architecture", "glossary", "manifest", "operations"))}
    assert wanted <= set(DOCUMENTS)


@pytest.mark.parametrize("line", ["job wait --no-such-option", "job no-such-command", "no-such-group list", "capacity --no-such"])
def test_faults_are_seen(line: str) -> None:
    assert _faults(line.split())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_exist(document: str) -> None:
    assert not [fault for words in _commands(document) for fault in _faults(words)]


def test_readme_shows_commands() -> None:
    assert len(list(_commands("README.md"))) >= 10


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_tasks_exist(document: str) -> None:
    tasks = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {found[1] for line in _shell_lines(document) if (found := re.match(r"make ([a-z-]+)", line))}
    assert named <= tasks


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files(document: str) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", _text(document))
    folder = Path(document).parent
    assert not [target for target in targets if "://" not in target and not (ROOT / folder / target).exists()]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_variables_exist(document: str) -> None:
    known = set(re.findall(r"\bCPN_[A-Z_]+\b", _source())) | _settings()
    assert not sorted(set(re.findall(r"\bCPN_[A-Z]+(?:_[A-Z]+)*\b", _text(document))) - known)


def test_readme_explains_every_setting() -> None:
    assert not [name for name in sorted(_settings()) if f"`{name}`" not in _text("README.md")]


def _settings() -> set[str]:
    from controlplane.settings import Settings

    return {f"CPN_{field.name.upper()}" for field in fields(Settings)}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_metrics_exist(document: str) -> None:
    known = {name + suffix for name, suffixes in _metrics().items() for suffix in suffixes}
    assert not sorted(set(re.findall(r"\bcpn_[a-z]+(?:_[a-z]+)+\b", _text(document))) - known)


def test_operations_explains_every_metric() -> None:
    text = _text("docs/operations.md")
    assert not [name for name, suffixes in _metrics().items() if f"`{name}{suffixes[0]}`" not in text]


@cache
def _metrics() -> dict[str, tuple[str, ...]]:
    """The name of each family → what its samples' names add to it, the usual one first."""
    from monitoring.capacity import Capacity
    from monitoring.metrics import Metrics, NetworkState

    suffixes = {"counter": ("_total",), "histogram": ("", "_bucket", "_count", "_sum"), "gauge": ("",)}
    metrics = Metrics(lambda: NetworkState(0.0, (), (), Capacity((), {}, (), 0.0)))
    return {family.name: suffixes[family.type] for family in metrics.registry.collect()}


def test_manifest_explains_every_field() -> None:
    from pydantic import BaseModel

    from workloads.resources import Resources
    from workloads.spec import JobSpec, PlacementRules, RetryPolicy

    parts: dict[str, type[BaseModel]] = {"resources": Resources, "placement": PlacementRules, "retry": RetryPolicy}
    names = [name for name in JobSpec.model_fields if name not in parts]
    names += [f"{part}.{name}" for part, model in parts.items() for name in model.model_fields]
    text = _text("docs/manifest.md")
    assert not [name for name in names if f"| `{name}` |" not in text]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_manifests_are_accepted(document: str) -> None:
    import yaml

    from controlplane.api.schemas import VersionRequest
    from workloads.catalogue.product import Product
    from workloads.spec import JobSpec

    blocks = re.findall(r"(?:^```yaml|<<'YAML')\n(.*?)^(?:```|YAML$)", _text(document), re.MULTILINE | re.DOTALL)
    for block in blocks:
        found = yaml.safe_load(block)
        if "replicas" in found:
            version = {key: found.pop(key) for key in ("format", "replicas", "columns") if key in found}
            assert VersionRequest.model_validate(version).replicas
            assert Product.model_validate(found).name
        else:
            assert JobSpec.model_validate(found).kind in ("sql", "ray", "map")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_in_code_spans_exist(document: str) -> None:
    spans = re.findall(rf"`((?:{'|'.join((*PACKAGES, 'tests', 'docs'))})/[\w./-]+)`", _text(document))
    assert not [span for span in spans if not (ROOT / span).exists()]
