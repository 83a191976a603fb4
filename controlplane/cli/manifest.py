"""Job manifests: a YAML file with the fields of JobSpec.

A file may hold several, with a line `---` between two of them. Beyond JobSpec, `files` may be a list of paths relative to the
manifest: each is read and travels with the job under its base name. `--set key=value` changes single fields, its key a path of
names joined by dots.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from controlplane.cli.documents import STANDARD_INPUT, name_of, parse, read_document, read_documents, validated
from controlplane.cli.failures import usage
from workloads.spec import JobSpec

_DOT = re.compile(r"(?<!\\)\.")


def read_job(path: Path, changes: Sequence[str] = ()) -> JobSpec:
    """The job in a manifest, with changes applied. Raises CommandError naming every fault's path."""
    return _job(path, read_document(path), name_of(path), changes)


def read_jobs(paths: Sequence[Path], changes: Sequence[str] = ()) -> list[JobSpec]:
    """The jobs in manifests, in order, each with the changes; a file may hold several. Raises CommandError."""
    return [_job(path, document, name, changes) for path in paths for name, document in read_documents(path)]


def _job(path: Path, document: dict[str, Any], name: str, changes: Sequence[str]) -> JobSpec:
    for change in changes:
        _apply(document, change)
    folder = Path() if str(path) == STANDARD_INPUT else path.parent
    if isinstance(document.get("files"), list):
        document["files"] = _inlined(document["files"], folder)
    return validated(JobSpec, document, name)


def _apply(document: dict[str, Any], change: str) -> None:
    """One `key=value`: the value is read as YAML, the key's parents are made when they are not there."""
    key, equals, value = change.partition("=")
    *parents, last = (part.replace("\\.", ".") for part in _DOT.split(key))
    if not equals or not all([*parents, last]):
        raise usage(f"--set {change!r} is not KEY=VALUE", "write it like --set resources.cpu=2")
    place = document
    for depth, name in enumerate(parents, start=1):
        inner = place.setdefault(name, {})
        if not isinstance(inner, dict):
            raise usage(f"--set {key}: {'.'.join(parents[:depth])} is not a mapping in the manifest")
        place = inner
    place[last] = parse(value, f"--set {key}")


def _inlined(paths: list[Any], folder: Path) -> dict[str, str]:
    """Base name → text of each file."""
    texts: dict[str, str] = {}
    for index, entry in enumerate(paths):
        if not isinstance(entry, str) or not entry:
            raise usage(f"files.{index}: {entry!r} is not a path")
        path = folder / entry
        if path.name in texts:
            raise usage(f"files.{index}: two files are called {path.name!r}; write files as a mapping of name to text instead")
        try:
            texts[path.name] = path.read_text(encoding="utf-8")
        except OSError as error:
            raise usage(f"files.{index}: {path} cannot be read ({error.strerror}); paths are relative to the manifest") from error
        except UnicodeDecodeError as error:
            raise usage(f"files.{index}: {path} is not UTF-8 text; publish data as a product instead") from error
    return texts
