"""The mutation check as a developer runs it, on a small package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
from functools import lru_cache

def fits(size, room):
    return size <= room

@lru_cache
def doubled(size):
    return size * 2

def awaited(there):
    while not there:
        pass
    return there

def unused(size):
    return size - 1
"""
TESTS = """
from rooms.program import awaited, doubled, fits

def test_less_fits_and_more_does_not():
    assert fits(1, 2)
    assert not fits(3, 2)

def test_two_are_four():
    assert doubled(2) == 4

def test_what_is_there_is_not_waited_for():
    assert awaited(3) == 3

def test_broken_as_it_is():
    assert fits(3, 2)
"""


def test_what_tests_refuse_is_told_from_what_they_do_not(tmp_path: Path) -> None:
    (tmp_path / "rooms").mkdir()
    (tmp_path / "rooms" / "__init__.py").touch()
    (tmp_path / "rooms" / "program.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "test_program.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\nmarkers = slow\n ray\n postgres\n", encoding="utf-8")
    command = [sys.executable, "-m", "tests.benchmarks.mutants", "--folder", str(tmp_path / "rooms"), "--grace", "1", "-o", "json"]
    ran = subprocess.run([*command, "--tests", str(tmp_path / "test_program.py")], capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout)
    assert found["unfit_tests"] == ["test_program.py::test_broken_as_it_is"]
    assert (found["mutants"], found["killed"], found["survived"], found["timed out"], found["not reached"]) == (11, 6, 1, 1, 3)
    left = {(one["outcome"], one["name"].split(":")[0]) for one in found["files"]["program.py"]["left"]}
    assert left == {("survived", "program.py fits"), ("not reached", "program.py unused")}
    assert "line 5 of program.py fits: size <= room -> size < room" in ran.stderr
