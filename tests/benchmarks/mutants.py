"""Whether the tests would notice if the engine decided otherwise: small changes, one at a time, each of which a test should refuse.

The tests are collected once and run twice, to learn which lines each reaches and how long it takes. Then, for each change, a forked
process puts the changed code in place and runs the tests that reach its line, those that found most before first, until one fails.
A change is `killed` (a test failed), `timed out` (it used many times the processor time that its tests need), `not reached` (no test
runs its line) or has `survived`; Ctrl-C ends early, with what was found. Property tests draw few examples, the same in every run.
`--budget` bounds, by their usual seconds, which tests a change is given: those of the file's own name and the short ones first.
Compiled kernels run as plain Python here.

Run: python -m tests.benchmarks.mutants --files order,tree --sample 200 --seed 1 -o json >found.json
     python -m tests.benchmarks.mutants --again found.json --budget 60
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import inspect
import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

# Both are read when NumPy and Numba are imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["NUMBA_DISABLE_JIT"] = "1"

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import Phase, settings

from tests.benchmarks.figures import aligned
from tests.benchmarks.mutations import Mutant, code_of, mutants

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "scheduler" / "engine"
TESTS = ("tests/unit/scheduler", "tests/property")
# Hypothesis is there before pytest could rewrite its assertions, which is of no use here; time is bounded for each change.
PYTEST = (
    "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning", "--timeout", "0",
    "-m", "not slow and not ray and not postgres",
)  # fmt: skip
EXAMPLES, LONGEST_S = 12, 15.0
KILLED, SURVIVED, TIMED_OUT, NOT_REACHED = OUTCOMES = ("killed", "survived", "timed out", "not reached")
# A change may take this many times the processor time that its tests usually take, and some seconds of grace.
PATIENCE, MEMORY_BYTES = 5, 4 << 30
# What a process ends with that could not try a change; 1 says that a test failed.
BROKEN = 2


@dataclass(slots=True)
class Known:
    """What two runs of a test showed: the lines that it reaches, by file, and the seconds that it takes."""

    item: pytest.Item
    lines: dict[str, set[int]] = field(default_factory=dict)
    seconds: float = 0.0

    def reaches(self, file: str, span: tuple[int, int]) -> bool:
        """Whether it runs any line from the first to the last of `span`."""
        return not self.lines.get(file, set()).isdisjoint(range(span[0], span[1] + 1))


class Run:
    """A pytest plugin that judges changes in place of running the tests once."""

    def __init__(self, chosen: Callable[[], list[tuple[Mutant, CodeType]]], budget_s: float, grace_s: int, folder: Path) -> None:
        self.chosen, self.budget_s, self.grace_s, self.folder = chosen, budget_s, grace_s, folder
        self.found: list[tuple[Mutant, str]] = []
        self.tests: list[Known] = []
        self.unfit: list[str] = []
        self.finders: Counter[str] = Counter()

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        """No stored examples and no shrinking; what differs from run to run finds nothing twice."""
        phases = (Phase.explicit, Phase.generate)
        few = {"derandomize": True, "database": None, "deadline": None, "max_examples": EXAMPLES, "phases": phases}
        settings.register_profile("mutants", settings.default, **few)
        settings.load_profile("mutants")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Learn what the tests do, then judge."""
        told(f"{len(session.items)} tests are looked at")
        for item in session.items:
            with_few_examples(item)
            known = learn(item, self.folder)
            if known is None:
                self.unfit.append(item.nodeid)
            elif known.lines:
                self.tests.append(known)
        told(f"{len(self.tests)} tests, {sum(test.seconds for test in self.tests):.0f} s; unfit: {', '.join(self.unfit) or 'none'}")
        gc.collect()
        gc.freeze()
        changed = self.chosen()
        for at, (mutant, compiled) in enumerate(changed):
            try:
                outcome = self.judge(mutant, compiled)
            except KeyboardInterrupt:
                told(f"stopped after {at} of {len(changed)}")
                break
            self.found.append((mutant, outcome))
            if outcome != KILLED:
                told(f"{at + 1}/{len(changed)} {outcome}: line {mutant.line} of {mutant.name}")
        return True

    def judge(self, mutant: Mutant, compiled: CodeType) -> str:
        """What becomes of one change."""
        path = str(self.folder / mutant.file)
        tests = self.given([test for test in self.tests if test.reaches(path, mutant.span)], mutant.file)
        if not tests:
            return NOT_REACHED
        outcome, finder = tried(mutant, code_of(compiled, mutant.function), tests, self.folder, self.grace_s)
        if finder:
            self.finders[finder] += 1
        return outcome

    def given(self, reaching: list[Known], file: str) -> list[Known]:
        """The tests that the budget allows, at least one: the file's own and the short ones are let in first, good finders run first."""
        own = f"test_{Path(file).stem}.py"
        allowed, used_s = [], 0.0
        for test in sorted(reaching, key=lambda test: (test.item.path.name != own, test.seconds, test.item.nodeid)):
            if not allowed or used_s + test.seconds <= self.budget_s:
                allowed.append(test)
                used_s += test.seconds
        return sorted(allowed, key=lambda test: (test.seconds / (1 + self.finders[test.item.nodeid]), test.item.nodeid))


def with_few_examples(item: pytest.Item) -> None:
    """Where a property test asks for many examples itself, let it have few."""
    test = getattr(item, "obj", None)
    own = getattr(test, "_hypothesis_internal_use_settings", None)
    if own is not None:
        test._hypothesis_internal_use_settings = settings(own, max_examples=min(own.max_examples, EXAMPLES))


class TooLong(BaseException):
    """A test used more processor time than one change is worth."""


def learn(item: pytest.Item, folder: Path) -> Known | None:
    """What a test does; None where it fails as it is, or takes too long in plain Python."""
    known, within = Known(item), f"{folder}{os.sep}"

    def called(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:  # noqa: ARG001
        file = frame.f_code.co_filename
        if not file.startswith(within):
            return None
        seen = known.lines.setdefault(file, set())

        def stepped(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:  # noqa: ARG001
            seen.add(frame.f_lineno)
            return stepped

        return stepped

    forget(folder)
    signal.signal(signal.SIGVTALRM, too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_S)
    sys.settrace(called)
    try:
        passed = passes(item)
        sys.settrace(None)
        begun = time.process_time()
        passed = passed and (not known.lines or passes(item))
    except TooLong:
        return None
    finally:
        sys.settrace(None)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    known.seconds = time.process_time() - begun
    return known if passed else None


def too_long(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """End the test that runs."""
    raise TooLong


def passes(item: pytest.Item) -> bool:
    """Run a test with its fixtures and say whether all of it went well."""
    return not any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))


def tried(mutant: Mutant, code: CodeType, tests: Sequence[Known], folder: Path, grace_s: int) -> tuple[str, str]:
    """Run tests over a change in a process of its own. Returns the outcome and the test that found it, if one did.

    Raises RuntimeError where the change could not be put in place.
    """
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        os.close(told)
        try:
            put_in_place(mutant, code, folder)
            bound(int(PATIENCE * sum(test.seconds for test in tests)) + grace_s)
            found = next((test.item.nodeid for test in tests if not passes(test.item)), "")
            os.write(tell, found.encode())
            os._exit(bool(found))
        finally:
            os._exit(BROKEN)
    os.close(tell)
    try:
        with os.fdopen(told) as pipe:
            finder = pipe.read()
    except KeyboardInterrupt:
        os.kill(child, signal.SIGKILL)
        raise
    _, status = os.waitpid(child, 0)
    ended = os.waitstatus_to_exitcode(status)
    if ended == BROKEN:
        raise RuntimeError(f"{mutant.name} could not be tried")
    return (TIMED_OUT if ended < 0 else KILLED if ended else SURVIVED), finder


def bound(most_s: int) -> None:
    """Let this process be ended when it uses more processor time than that; one that waits for ever ends by the clock."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + most_s, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, resource.RLIM_INFINITY))
    signal.alarm(20 * most_s)


def put_in_place(mutant: Mutant, code: CodeType, folder: Path) -> None:
    """Let the living function, whoever holds it, run other code. What was computed before by the old code is forgotten."""
    module = next(module for module in modules_of(folder) if module.__file__ == str(folder / mutant.file))
    living(module, mutant.function).__code__ = code
    forget(folder)


def forget(folder: Path) -> None:
    """Empty what the folder's functions remember of former calls."""
    for module in modules_of(folder):
        for kept in vars(module).values():
            if isinstance(kept, functools._lru_cache_wrapper):
                kept.cache_clear()


def modules_of(folder: Path) -> list[ModuleType]:
    """What of a folder is imported."""
    return [module for module in list(sys.modules.values()) if Path(getattr(module, "__file__", None) or "/").parent == folder]


def living(module: object, function: str) -> FunctionType:
    """The function of that qualified name, whatever it is wrapped in. Raises LookupError where there is none."""
    found: Any = module
    for part in function.split("."):
        found = vars(found)[part]
    for name in ("fget", "func", "__func__"):
        found = getattr(found, name, found)
    found = inspect.unwrap(found)
    if not isinstance(found, FunctionType):
        raise LookupError(f"{function} is no function")
    return found


def changes_of(files: Sequence[str], folder: Path) -> Iterator[tuple[Mutant, CodeType]]:
    """All changes of the modules of those names, or of every one of the folder."""
    for name in files or sorted(path.stem for path in folder.glob("*.py")):
        path = folder / f"{name}.py"
        yield from mutants(path.read_text(encoding="utf-8"), path.name)


def drawn(changed: Sequence[tuple[Mutant, CodeType]], sample: int | None, seed: int) -> list[tuple[Mutant, CodeType]]:
    """As many as wanted, by chance, in their order."""
    if sample is None or sample >= len(changed):
        return list(changed)
    return [changed[at] for at in sorted(random.Random(seed).sample(range(len(changed)), sample))]


def report(run: Run, seconds: float) -> dict[str, Any]:
    """What was found, in all and by file, with every change that no test refused."""
    files: dict[str, dict[str, Any]] = {}
    for mutant, outcome in run.found:
        row = files.setdefault(mutant.file, {**dict.fromkeys(OUTCOMES, 0), "left": []})
        row[outcome] += 1
        if outcome in (SURVIVED, NOT_REACHED):
            row["left"].append({"name": mutant.name, "line": mutant.line, "outcome": outcome})
    total = {outcome: sum(row[outcome] for row in files.values()) for outcome in OUTCOMES}
    tests = {"tests": len(run.tests), "unfit_tests": run.unfit}
    return {"mutants": len(run.found), **total, **tests, "seconds": round(seconds), "files": files}


def as_text(found: dict[str, Any]) -> str:
    """The same for people."""
    rows = [["file", "changes", *OUTCOMES]]
    for name, row in [*found["files"].items(), ("all", found)]:
        rows.append([name, str(sum(row[outcome] for outcome in OUTCOMES)), *(str(row[outcome]) for outcome in OUTCOMES)])
    left = [f"{one['outcome']}: line {one['line']} of {one['name']}" for row in found["files"].values() for one in row["left"]]
    return "\n".join([aligned(rows), "", *left])


def told(line: str) -> None:
    """Say how far it is, where results do not go."""
    print(line, file=sys.__stderr__, flush=True)


def main() -> None:
    """Print how many changes the tests refused, and those that they did not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", default="", help="names of its modules, with commas; all of them by default")
    parser.add_argument("--folder", type=Path, default=ENGINE, help="whose functions are changed (default: the engine)")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="what pytest collects (default: %(default)s)")
    parser.add_argument("--sample", type=int, help="how many changes to draw by chance (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--budget", type=float, default=5.0, help="usual seconds of tests per change (default: %(default)s)")
    parser.add_argument("--grace", type=int, default=10, help="seconds beyond five times the usual ones (default: %(default)s)")
    parser.add_argument("--again", type=Path, help="judge only what is left in this report of a former run")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    chosen = parser.parse_args()
    folder = chosen.folder.resolve()

    before = json.loads(chosen.again.read_text(encoding="utf-8")) if chosen.again else None
    if missing := [name for name in chosen.files.split(",") if chosen.files and not (folder / f"{name}.py").is_file()]:
        parser.error(f"--files: {folder.name} has no {', '.join(missing)}; name modules without .py, like order,tree")
    names = chosen.files.split(",") if chosen.files else [Path(name).stem for name in before["files"]] if before else []
    wanted = {one["name"] for row in before["files"].values() for one in row["left"]} if before else None

    def changed() -> list[tuple[Mutant, CodeType]]:
        every = [one for one in changes_of(names, folder) if wanted is None or one[0].name in wanted]
        return drawn(every, chosen.sample, chosen.seed)

    begun, run = time.monotonic(), Run(changed, chosen.budget, chosen.grace, folder)
    with contextlib.redirect_stdout(sys.stderr):
        ended = pytest.main([*PYTEST, *chosen.tests], plugins=[run])
    if ended not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) or not run.tests:
        sys.exit(f"the tests could not be collected: {ended}")
    found = report(run, time.monotonic() - begun)
    print(json.dumps(found, indent=1) if chosen.output == "json" else as_text(found))


if __name__ == "__main__":
    main()
