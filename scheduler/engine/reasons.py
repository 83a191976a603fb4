"""Why a job does not go to a cluster or a node. Small integers inside arrays, names safe as metric labels."""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """Ordered from what only a right can change to what only time can change; 0 means nothing stands against it."""

    FITS = 0
    LICENCE_MISSING = 1
    LICENCE_EXPIRED = 2
    LICENCE_PURPOSE = 3
    LICENCE_JURISDICTION = 4
    PRODUCT_PURPOSE = 5
    PRODUCT_JURISDICTION = 6
    JOB_JURISDICTION = 7
    JOB_CLUSTER = 8
    CURRENCY = 9
    OVER_BUDGET = 10
    CLUSTER_UNHEALTHY = 11
    CLUSTER_CORDONED = 12
    KIND_UNSUPPORTED = 13
    DATA_TOO_LARGE = 14
    NODE_NOT_READY = 15
    NODE_LABELS = 16
    NODE_ACCELERATOR_MODEL = 17
    NODE_TOO_SMALL = 18
    NODE_BUSY = 19
    GANG_DOES_NOT_FIT = 20
    GROUP_DOES_NOT_FIT = 21
    QUEUE_LIMIT = 22
    QUEUE_QUOTA = 23
    QUEUE_ORDER = 24
    RESERVED_FOR_ANOTHER = 25
    ARRAY_LIMIT = 26
    RESERVED_FOR_OTHERS = 27
    MAINTENANCE = 28
    CHEAPER_LATER = 29
    CLEANER_LATER = 30
    AFFORDABLE_LATER = 31
    SCALING_UP = 32

    @property
    def label(self) -> str:
        return self.name.lower()


# Whoever waits for one of these is promised a start at an hour that it chose.
LATER = frozenset({Reason.CHEAPER_LATER, Reason.CLEANER_LATER, Reason.AFFORDABLE_LATER})
POLICY = frozenset(reason for reason in Reason if Reason.LICENCE_MISSING <= reason <= Reason.OVER_BUDGET)
# What waiting changes nothing about. Room on nodes comes with other nodes; a cache grows only when its operator is asked for it.
FOR_GOOD = POLICY | {Reason.DATA_TOO_LARGE}
