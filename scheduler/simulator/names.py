"""The names of policies, which the command line tells without importing what they need."""

from __future__ import annotations

POLICY_NAMES = ("fifo", "sjf", "saf", "wfp3", "unicep", "f1", "drf", "las", "srtf", "gavel-maxmin", "gavel-makespan", "cpn", "cpn-live")
