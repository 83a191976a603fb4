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
    PRODUCT_DISCLOSURE = 10
    PRODUCT_JURISDICTION = 11
    PRODUCT_SECURITY = 12
    PRODUCT_COPY = 13
    JOB_JURISDICTION = 14
    JOB_CLUSTER = 15
    CURRENCY = 16
    OVER_BUDGET = 17
    CLUSTER_UNHEALTHY = 18
    CLUSTER_CORDONED = 19
    KIND_UNSUPPORTED = 20
    DATA_TOO_LARGE = 21
    NODE_NOT_READY = 22
    NODE_LABELS = 23
    NODE_ACCELERATOR_MODEL = 24
    NODE_TOO_SMALL = 25
    NODE_BUSY = 26
    GANG_DOES_NOT_FIT = 27
    GROUP_DOES_NOT_FIT = 28
    QUEUE_LIMIT = 29
    QUEUE_QUOTA = 30
    QUEUE_ORDER = 31
    RESERVED_FOR_ANOTHER = 32
    ARRAY_LIMIT = 33
    RESERVED_FOR_OTHERS = 34
    MAINTENANCE = 35
    CHEAPER_LATER = 36
    CLEANER_LATER = 37
    AFFORDABLE_LATER = 38
    SCALING_UP = 39

    @property
    def label(self) -> str:
        return self.name.lower()


# Whoever waits for one of these is promised a start at an hour that it chose.
LATER = frozenset({Reason.CHEAPER_LATER, Reason.CLEANER_LATER, Reason.AFFORDABLE_LATER})
POLICY = frozenset(reason for reason in Reason if Reason.LICENCE_MISSING <= reason <= Reason.OVER_BUDGET)
# What waiting changes nothing about. Room on nodes comes with other nodes; a cache grows only when its operator is asked for it.
FOR_GOOD = POLICY | {Reason.DATA_TOO_LARGE}
