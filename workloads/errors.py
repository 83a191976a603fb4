"""Errors of the workloads package.

WorkloadError                     anything wrong with what a user asked to run
├── UnitError                     a quantity that does not parse (memory, duration, money, FLOPS)
├── CurrencyMismatchError         amounts of different currencies would have to be added
├── StatementError                a SQL statement that may not run, or failed while running
│   └── StatementInterruptedError the caller interrupted it
└── DataError                     an input cannot be used as it lies there
    ├── DataChangedError          its bytes are not those that were published
    ├── DataUnavailableError      it cannot be read now: missing, unreachable, refused
    └── CacheError                there is no room for a copy of it: the cache is too small or in use, the disk is full
"""


class WorkloadError(ValueError):
    """What was asked to run is not acceptable; the message says what to change."""


class UnitError(WorkloadError):
    """A quantity does not parse; the message names the accepted forms."""


class CurrencyMismatchError(WorkloadError):
    """Prices of different currencies meet in one quote; the message names both sides."""


class StatementError(WorkloadError):
    """A SQL statement may not run (does not parse, no query, unknown input or column), or failed while running."""


class TooManyRowsError(StatementError):
    """The result has more rows than the job may return."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"the result has more than {most:,} rows, which is the most that the job may return; return fewer, or raise max_rows, "
            "which raises the quote where rows have a price"
        )


class StatementInterruptedError(StatementError):
    """The caller interrupted the statement while it ran."""


class DataError(WorkloadError):
    """An input cannot be used: its format or place is not supported, or it is broken."""


class DataChangedError(DataError):
    """The bytes of an input differ from those that were published."""


class DataUnavailableError(DataError):
    """An input cannot be read now: it is missing, unreachable or refused."""


class CacheError(DataError):
    """There is no room for a copy of an input where it is to be read; the message says what would make some."""


def shown(value: object) -> str:
    """A value that is refused, as a message shows it: in quotes, and no longer than 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
