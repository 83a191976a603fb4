"""Errors of the scheduler package.

SchedulerError
├── IllegalTransitionError   a move the lifecycle table does not have; carries the subject's history
├── PlanRejectedError        the engine's plan breaks an invariant; a bug, never the user's fault
├── StaleStateError          a guarded write found another version or epoch
├── NotFoundError            no such object
├── ConflictError            the object exists already, or its state forbids this
│   └── NewerSchemaError     a newer version migrated the database; only that version, or a later one, can use it
├── RefusedError             policy forbids it (licence, residency, budget); carries every reason
├── InvalidError             the request is wrong; carries the field's path and a remedy
├── CaptureError             a file of captured decisions cannot be read; names file and line
└── TraceError               a recorded trace or a description of machines cannot be read; names file, line and column
"""

from __future__ import annotations

from dataclasses import dataclass


class SchedulerError(Exception):
    """The scheduler could not do what was asked."""


class IllegalTransitionError(SchedulerError):
    """A lifecycle move that the table does not have."""


class PlanRejectedError(SchedulerError):
    """A plan broke an invariant and was not committed."""


class StaleStateError(SchedulerError):
    """The row changed since it was read; read again and decide again."""


class NotFoundError(SchedulerError):
    """There is no such object."""


class ConflictError(SchedulerError):
    """The object exists already, or is in a state that forbids this."""


class NewerSchemaError(ConflictError):
    """A newer version of cpn has migrated the database."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a request: where it is, what it is, what to do about it."""

    path: str
    reason: str
    message: str


class _ProblemsError(SchedulerError):
    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


class RefusedError(_ProblemsError):
    """Policy forbids the request; every reason is listed."""


class InvalidError(_ProblemsError):
    """The request is wrong; every fault is listed with its path."""


class CaptureError(SchedulerError):
    """A file of captured decisions cannot be read, or not by this version; says where, and what to do."""


class TraceError(SchedulerError):
    """A row of a trace or of a list of machines is wrong; says where, and what was expected there."""

    def __init__(self, message: str, *, file: str, line: int = 0, column: str = "") -> None:
        place = file + (f", line {line}" if line else "") + (f", column {column}" if column else "")
        super().__init__(f"{place}: {message}")
        self.file, self.line, self.column = file, line, column
