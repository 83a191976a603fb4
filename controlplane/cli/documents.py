"""Documents that people write: YAML (or JSON, which is YAML) read so that it means what it looks like.

Plain YAML 1.1 reads `on` as true, `2026-12-01` as a date and `1:30` as 90; here only true, false, null and
numbers are more than text, as YAML 1.2 has it, and a key that stands twice is an error instead of a loss.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from controlplane.cli.failures import usage
from workloads.fault_words import words_of

M = TypeVar("M", bound=BaseModel)
STANDARD_INPUT = "-"

_SCALARS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
)


def read_document(path: Path) -> dict[str, Any]:
    """The mapping in a YAML or JSON file; `-` is standard input. Raises CommandError naming file and line."""
    name = name_of(path)
    return _mapping(parse(_text_of(path), name), name)


def read_documents(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """All mappings in a file, at least one, each with a name for it; between two of them stands a line `---`. Raises CommandError."""
    import yaml

    name = name_of(path)
    with _in_words(name):
        found = [document for document in yaml.load_all(_text_of(path), Loader=_loader()) if document is not None]
    if len(found) <= 1:
        return [(name, _mapping(found[0] if found else None, name))]
    names = [f"{name}, document {number}" for number in range(1, len(found) + 1)]
    return [(name, _mapping(document, name)) for name, document in zip(names, found, strict=True)]


def name_of(path: Path) -> str:
    """What a file is called in messages."""
    return "standard input" if str(path) == STANDARD_INPUT else str(path)


def _text_of(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == STANDARD_INPUT else path.read_text(encoding="utf-8")
    except OSError as error:
        raise usage(f"{name_of(path)} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise usage(f"{name_of(path)} is not UTF-8 text") from error


def _mapping(document: Any, name: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise usage(f"{name} holds {'nothing' if document is None else 'no mapping'}; write `key: value` lines")
    return document


def parse(text: str, name: str) -> Any:
    """The value of a YAML text. Raises CommandError."""
    import yaml

    with _in_words(name):
        return yaml.load(text, Loader=_loader())


@contextmanager
def _in_words(name: str) -> Iterator[None]:
    import yaml

    try:
        yield
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}, line {mark.line + 1}" if mark else name
        raise usage(f"{where}: {getattr(error, 'problem', None) or 'is not YAML'}") from error


def validated(model: type[M], document: dict[str, Any], name: str) -> M:
    """The document as a model. Raises CommandError with every fault's path."""
    try:
        return model.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise usage("\n".join([f"{name} is not acceptable:", *_faults(error)])) from error


def _faults(error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"])
        message = words_of(item)
        lines.append(f"  {path}: {message}" if path else f"  {message}")
    return lines


@cache
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """SafeLoader with YAML 1.2's scalars, no timestamps, and no key twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise yaml.constructor.ConstructorError(None, None, "a key must be a plain text", key.start_mark)
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    Loader.yaml_implicit_resolvers = {}
    for kind, pattern, first in _SCALARS:
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(rf"^(?:{pattern})$"), list(first))
    return Loader
