"""The project's source as the architecture tests see it: files, parsed modules, and the definitions in them."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("workloads", "cluster", "scheduler", "monitoring", "controlplane")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Definition:
    """A class or function: its dotted name inside the module, the node, and the class or function around it."""

    name: str
    node: ast.ClassDef | Function
    around: ast.ClassDef | Function | None


@dataclass(frozen=True)
class Module:
    """One parsed file. `path` is relative to the project's root."""

    path: str
    text: str
    tree: ast.Module

    @property
    def dotted(self) -> str:
        """The name that imports it."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def definitions(self) -> Iterator[Definition]:
        """Every class and function, the outer before the inner."""
        yield from _definitions(self.tree, "", None)


def _definitions(tree: ast.AST, prefix: str, around: ast.ClassDef | Function | None) -> Iterator[Definition]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield Definition(prefix + node.name, node, around)
            yield from _definitions(node, f"{prefix}{node.name}.", node)
        else:
            yield from _definitions(node, prefix, around)


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    """The Python files below some folders of the project, in order of their paths."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return tuple(_parse(path) for path in paths)


def _parse(path: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    return Module(path.relative_to(ROOT).as_posix(), text, ast.parse(text))


@cache
def pyproject() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
