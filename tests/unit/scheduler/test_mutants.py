"""The mutation check: which changes are made, how they are put in place, and what is told of them."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.benchmarks.mutations import code_of, mutants


def made(body: str) -> list[str]:
    """All changes of a function's body, as `before -> after`."""
    source = "def decide(a, b, rows):\n" + "".join(f"    {line}\n" for line in body.splitlines())
    return [f"{mutant.before} -> {mutant.after}" for mutant, _ in mutants(source, "decide.py")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x = a < b", ["a < b -> a <= b", "a < b -> a >= b"]),
        ("x = a == b", ["a == b -> a != b"]),
        ("x = a is not None", ["a is not None -> a is None"]),
        ("x = a in b", ["a in b -> a not in b"]),
        ("x = a + b", ["a + b -> a - b"]),
        ("x = a and b", ["a and b -> a or b"]),
        ("x = not a", ["not a -> a"]),
        ("x = a * 2", ["a * 2 -> a / 2", "2 -> 3"]),
        ("x = True", ["True -> False"]),
        ("x = min(a)", ["min -> max"]),
        ("x = a.all()", ["a.all -> a.any"]),
        ("x = rows('left')", ["'left' -> 'right'"]),
        ("return a", ["return a -> return None"]),
        ("a += b", ["a += b -> pass", "a += b -> a -= b"]),
        ("a[b] = rows", ["a[b] = rows -> pass"]),
        ("a(b)", ["a(b) -> pass"]),
        ("x = a if b else rows", ["a if b else rows -> a if not b else rows"]),
        ("x = [a for b in rows if a]", ["for b in rows if a -> for b in rows"]),
        ("if a:\n    x = b", ["if a: x = b -> if not a: x = b"]),
        ("for x in rows:\n    continue", ["continue -> break"]),
        ("while a:\n    break", ["while a: break -> while not a: break", "break -> continue"]),
    ],
)
def test_each_kind_of_change_is_made(body: str, expected: list[str]) -> None:
    assert made(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        "'''It says 1.'''",
        "assert a < b",
        "raise ValueError(f'{a + 1} is too much')",
        "x: list[1] = a",
        "return None",
        "for a, b in zip(rows, strict=True): pass",
    ],
)
def test_what_decides_nothing_is_left_alone(body: str) -> None:
    assert made(body) == []


def test_only_functions_are_changed_and_each_change_stands_alone() -> None:
    source = "LIMIT = 1\n\n\nclass Room:\n    size = 2\n\n    def free(self, used=3):\n        return self.size - used\n"
    found = dict(mutants(source, "room.py"))
    assert [(mutant.function, mutant.line, mutant.span) for mutant in found] == [("Room.free", 8, (8, 8))] * 2
    results = []
    for compiled in found.values():
        module = ModuleType("room")
        exec(compiled, vars(module))
        results.append((module.LIMIT, module.Room().free()))
    assert results == [(1, None), (1, 5)]


def test_a_change_in_the_head_of_a_statement_is_reached_by_its_head_alone() -> None:
    source = "def decide(a):\n    if (\n        a > 1\n    ):\n        return a\n    return 0\n"
    assert {mutant.span for mutant, _ in mutants(source, "decide.py") if mutant.before == "a > 1"} == {(2, 4)}


def test_code_is_found_by_its_function() -> None:
    compiled = compile("class Room:\n    def free(self):\n        return 1\n", "room.py", "exec")
    assert code_of(compiled, "Room.free").co_qualname == "Room.free"
    with pytest.raises(LookupError, match=r"no function Room\.used in room\.py"):
        code_of(compiled, "Room.used")


def test_names_tell_changes_apart_and_last_while_lines_move() -> None:
    source = "def decide(a, b):\n    return a < b, a < b\n"
    names = [mutant.name for mutant, _ in mutants(source, "decide.py")]
    assert len(names) == len(set(names)) == 5
    assert [name for name in names if "<=" in name] == ["decide.py decide: a < b -> a <= b", "decide.py decide: a < b -> a <= b #1"]
    assert [mutant.name for mutant, _ in mutants(f"LIMIT = 1\n\n\n{source}", "decide.py")] == names
