"""Files and functions stay small enough to be read in one go."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.architecture.source import PACKAGES, Function, Module, modules

LARGEST_FILE = 400
LARGEST_FUNCTION = 50

# What is larger, and why. These only shrink: an entry that is no longer needed fails.
LARGE_FILES: dict[str, str] = {}
LARGE_FUNCTIONS: dict[str, str] = {
    "scheduler/store/migrations/versions/0001_first.py::upgrade": "a list of table definitions without a branch; migrations are not edited",
}


def _files(checked: tuple[Module, ...]) -> dict[str, int]:
    sizes = {module.path: len(module.text.splitlines()) for module in checked}
    return {path: size for path, size in sizes.items() if size > LARGEST_FILE}


def _functions(checked: tuple[Module, ...]) -> dict[str, int]:
    sizes = {
        f"{module.path}::{found.name}": (found.node.end_lineno or 0) - found.node.lineno + 1
        for module in checked
        for found in module.definitions()
        if isinstance(found.node, Function)
    }
    return {name: size for name, size in sizes.items() if size > LARGEST_FUNCTION}


@pytest.mark.parametrize(
    ("what", "found", "excepted"),
    [
        ("file", _files(modules(*PACKAGES, "tests")), LARGE_FILES),
        ("function", _functions(modules(*PACKAGES, "tests")), LARGE_FUNCTIONS),
    ],
    ids=["files", "functions"],
)
def test_sizes(what: str, found: Mapping[str, int], excepted: Mapping[str, str]) -> None:
    larger = {name: size for name, size in found.items() if name not in excepted}
    assert not larger, f"a {what} is too large: take a part of it out and name it"
    assert not [name for name in excepted if name not in found], f"this {what} is small enough now: remove its exception"
    assert all(reason.strip() for reason in excepted.values())
