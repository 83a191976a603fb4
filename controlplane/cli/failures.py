"""How a command ends when it does not succeed: one exit status for each kind of failure, and words on what to do next.

| status | meaning |
|---|---|
| 0 | success |
| 1 | the job or action failed |
| 2 | usage: the command or a document is wrong |
| 3 | the server is not reachable |
| 4 | refused by policy: a licence, residency, a budget, a role, a token |
| 130 | interrupted with Ctrl-C |
"""

from __future__ import annotations

import sys

from controlplane.errors import ClientError, NotReachableError, RequestFailedError, RequestInvalidError, RequestRefusedError

FAILED, USAGE, NOT_REACHABLE, REFUSED, INTERRUPTED = 1, 2, 3, 4, 130

_STATUS: dict[type[ClientError], int] = {
    NotReachableError: NOT_REACHABLE, RequestInvalidError: USAGE, RequestRefusedError: REFUSED, RequestFailedError: FAILED,
}  # fmt: skip


class CommandError(Exception):
    """A command ends here: what went wrong, what to do next, and its exit status."""

    def __init__(self, message: str, *, status: int = FAILED, hint: str = "") -> None:
        super().__init__(message)
        self.status, self.hint = status, hint


def usage(message: str, hint: str = "") -> CommandError:
    """The command or a document that it was given is wrong."""
    return CommandError(message, status=USAGE, hint=hint)


def as_command_error(error: ClientError) -> CommandError:
    """A failed request in a person's words."""
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), FAILED)
    if isinstance(error, NotReachableError):
        return CommandError(
            f"{error}: is the server running?", status=status, hint="start it with `cpn up`, or set CPN_SERVER to where it runs"
        )
    problem = error.problem
    if problem is None or not problem.errors:
        return CommandError(str(error), status=status)
    lines = [f"  {item.path}: {item.message}" if item.path else f"  {item.message}" for item in problem.errors]
    return CommandError("\n".join([f"{problem.title}:", *lines]), status=status)


def tell(error: CommandError) -> int:
    """Write the failure to standard error; the exit status to end with."""
    from controlplane.cli.text import printable

    print(f"error: {printable(str(error))}", file=sys.stderr)
    if error.hint:
        print(printable(error.hint), file=sys.stderr)
    return error.status
