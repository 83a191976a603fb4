"""Names say what a thing is: no word that fits everything."""

from __future__ import annotations

import re

from tests.architecture.source import PACKAGES, modules

EMPTY_WORDS = {"util", "utils", "utility", "utilities", "manager", "managers", "helper", "helpers", "misc"}


def words(name: str) -> set[str]:
    """The words of a snake_case, CamelCase, dotted or path-like name, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def test_words_are_found_in_every_spelling() -> None:
    assert words("tests/run_utils.py") == {"tests", "run", "utils", "py"}
    assert words("HTTPJobManager") == {"http", "job", "manager"}


def test_no_name_is_empty() -> None:
    checked = modules(*PACKAGES, "tests")
    names = [module.path for module in checked]
    names += [f"{module.path}::{found.name}" for module in checked for found in module.definitions()]
    assert len(names) > 100
    assert not [name for name in names if words(name) & EMPTY_WORDS]
