"""Why a job does not go to a cluster or a node. Small integers inside arrays, names safe as metric labels."""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """Ordered from what only a right can change to what only time can change; 0 means nothing stands against it."""

    FITS = 0
    LICENCE_MISSING = 1
    LICENCE_EXPIRED = 2
    LICENCE_PURPOSE = 3
    LICENCE_KIND = 4
    LICENCE_CONSENT = 5
    LICENCE_JURISDICTION = 6
    PRODUCT_PURPOSE = 7
    PRODUCT_KIND = 8
    PRODUCT_PROGRAM = 9
    PRODUCT_JURISDICTION = 10
    PRODUCT_SECURITY = 11
    PRODUCT_COPY = 12
    JOB_JURISDICTION = 13
    JOB_CLUSTER = 14
    CURRENCY = 15
    OVER_BUDGET = 16
    CLUSTER_UNHEALTHY = 17
    CLUSTER_CORDONED = 18
    KIND_UNSUPPORTED = 19
    DATA_TOO_LARGE = 20
    NODE_NOT_READY = 21
    NODE_LABELS = 22
    NODE_ACCELERATOR_MODEL = 23
    NODE_TOO_SMALL = 24
    NODE_BUSY = 25
    GANG_DOES_NOT_FIT = 26
    GROUP_DOES_NOT_FIT = 27
    QUEUE_LIMIT = 28
    QUEUE_QUOTA = 29
    QUEUE_ORDER = 30
    RESERVED_FOR_ANOTHER = 31
    ARRAY_LIMIT = 32
    RESERVED_FOR_OTHERS = 33
    MAINTENANCE = 34
    CHEAPER_LATER = 35
    CLEANER_LATER = 36
    AFFORDABLE_LATER = 37
    SCALING_UP = 38

    @property
    def label(self) -> str:
        return self.name.lower()


# Whoever waits for one of these is promised a start at an hour that it chose.
LATER = frozenset({Reason.CHEAPER_LATER, Reason.CLEANER_LATER, Reason.AFFORDABLE_LATER})
POLICY = frozenset(reason for reason in Reason if Reason.LICENCE_MISSING <= reason <= Reason.OVER_BUDGET)
# What waiting changes nothing about. Room on nodes comes with other nodes; a cache grows only when its operator is asked for it.
FOR_GOOD = POLICY | {Reason.DATA_TOO_LARGE}
