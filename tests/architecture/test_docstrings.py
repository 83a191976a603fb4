"""Every public module, class and function of the packages says what it is.

Free of it are private names, functions inside functions, functions of a single statement (name and types say it),
files without a statement, and methods whose base class or protocol already says it.
"""

from __future__ import annotations

import ast
import importlib
import inspect

from tests.architecture.source import PACKAGES, Definition, Module, modules

# Classes that others implement by shape, without naming them as a base.
PROTOCOLS = ("cluster.protocol.ClusterBackend", "cluster.link.ControlLink", "cluster.timing.Clock", "scheduler.clock.Clock")


def _is_public(found: Definition) -> bool:
    parts = found.name.split(".")
    return not any(part.startswith("_") for part in parts) and not isinstance(found.around, ast.FunctionDef | ast.AsyncFunctionDef)


def _is_single(node: ast.AST) -> bool:
    """Whether it is a function of one plain statement."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or len(node.body) > 1:
        return False
    return not isinstance(node.body[0], ast.With | ast.AsyncWith | ast.Try | ast.For | ast.While)


def _undocumented(module: Module) -> list[Definition]:
    found = [found for found in module.definitions() if _is_public(found) and not _is_single(found.node)]
    return [one for one in found if not ast.get_docstring(one.node)]


def _named(dotted: str) -> type:
    module, _, name = dotted.rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found


def _is_said_elsewhere(module: Module, found: Definition) -> bool:
    """Whether the method is one of a base class, or of a protocol that its class fulfils whole."""
    if not isinstance(found.around, ast.ClassDef):
        return False
    outer, _, method = found.name.rpartition(".")
    kind: object = importlib.import_module(module.dotted)
    for part in outer.split("."):
        kind = getattr(kind, part)
    assert isinstance(kind, type)
    bases = [*kind.__mro__[1:-1], *(protocol for protocol in map(_named, PROTOCOLS) if _fulfils(kind, protocol))]
    return any(hasattr(base, method) for base in bases)


def _fulfils(kind: type, protocol: type) -> bool:
    return all(hasattr(kind, name) for name, _ in inspect.getmembers(protocol, inspect.isfunction) if not name.startswith("_"))


def test_modules_tell_their_story() -> None:
    checked = modules(*PACKAGES)
    assert len(checked) > 50
    assert not [module.path for module in checked if module.tree.body and not ast.get_docstring(module.tree)]


def test_public_names_have_docstrings() -> None:
    missing = [
        f"{module.path}:{found.node.lineno} {found.name}"
        for module in modules(*PACKAGES)
        for found in _undocumented(module)
        if not _is_said_elsewhere(module, found)
    ]
    assert not missing, "\n".join(["without a docstring:", *missing])
