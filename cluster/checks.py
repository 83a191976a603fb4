"""What is looked at before a cluster becomes a member, and what was found: one Check for each thing that has to be so.

A check says what it found and, when it failed, what to do about it. `field` is the place in the registration that a
failed check is about, for those who registered a document; it is empty where no field is to blame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

CheckState = Literal["passed", "failed", "skipped"]
CheckName = Literal[
    "address", "head", "token", "ray-version", "python-version", "dashboard", "driver", "nodes", "node-package", "node-disk", "node-clock",
    "job-api", "identity", "server", "server-token", "server-version", "server-clock", "work-directory", "disk",
    "kubeconfig", "api-server", "credentials", "kube-version", "kube-clock", "namespace", "rights",
]  # fmt: skip
CLOCK_S = 2.0
FREE_BYTES = 1024**3


class Check(BaseModel):
    """One thing that was looked at. `remedy` is empty unless it failed; skipped: something before it failed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: CheckName
    state: CheckState
    found: str
    remedy: str = ""
    field: str = ""


@dataclass(frozen=True)
class Examination:
    """What was looked at of one cluster, in order, and the cluster's own id, empty when it did not tell it."""

    checks: tuple[Check, ...]
    cluster_id: str = ""


def passed(name: CheckName, found: str) -> Check:
    """It is as it should be."""
    return Check(name=name, state="passed", found=found)


def failed(name: CheckName, found: str, remedy: str, field: str = "") -> Check:
    """It is not, and this would change that."""
    return Check(name=name, state="failed", found=found, remedy=remedy, field=field)


def skipped(names: Iterable[CheckName], because: str) -> list[Check]:
    """These could not be looked at."""
    return [Check(name=name, state="skipped", found=because) for name in names]


def failures(checks: Sequence[Check]) -> list[Check]:
    """Those that failed, in order."""
    return [check for check in checks if check.state == "failed"]


def clock_off_s(at: float, asked_at: float, answered_at: float) -> float:
    """How far a clock that said `at` is surely off, positive when ahead: what the time between question and answer cannot explain.

    All in seconds since the epoch, the latter two by this machine's clock.
    """
    return max(at - answered_at, 0.0) + min(at - asked_at, 0.0)


def date_off_s(date: str, asked_at: float, answered_at: float) -> float | None:
    """The same for a clock that is told by the header of an answer, which names the second and not more; None where it tells none."""
    try:
        second = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return None
    early, late = (clock_off_s(at, asked_at, answered_at) for at in (second, second + 1))
    return 0.0 if early <= 0 <= late else min(early, late, key=abs)


def clock_found(name: CheckName, whose: str, off_s: float, limit_s: float) -> Check:
    """A clock that differs from this machine's by `off_s` seconds (positive: it is ahead) beside what is allowed."""
    way = "ahead of" if off_s > 0 else "behind"
    found = f"{whose} is {abs(off_s):.1f} s {way} this machine's clock" if off_s else f"{whose} agrees with this machine's clock"
    if abs(off_s) <= limit_s:
        return passed(name, found)
    return failed(name, f"{found}; {limit_s:g} s are allowed", "synchronise both clocks (chrony or systemd-timesyncd) and try again")
