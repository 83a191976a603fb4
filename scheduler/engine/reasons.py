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
    LICENCE_SPENT = 6
    LICENCE_JURISDICTION = 7
    PRODUCT_WITHDRAWN = 8
    PRODUCT_PURPOSE = 9
    PRODUCT_KIND = 10
    PRODUCT_PROGRAM = 11
    PRODUCT_DISCLOSURE = 12
    PRODUCT_JURISDICTION = 13
    PRODUCT_SECURITY = 14
    PRODUCT_COPY = 15
    JOB_JURISDICTION = 16
    JOB_CLUSTER = 17
    CURRENCY = 18
    OVER_BUDGET = 19
    CLUSTER_UNHEALTHY = 20
    CLUSTER_CORDONED = 21
    KIND_UNSUPPORTED = 22
    DATA_TOO_LARGE = 23
    NODE_NOT_READY = 24
    NODE_LABELS = 25
    NODE_ACCELERATOR_MODEL = 26
    NODE_TOO_SMALL = 27
    NODE_BUSY = 28
    GANG_DOES_NOT_FIT = 29
    GROUP_DOES_NOT_FIT = 30
    QUEUE_LIMIT = 31
    QUEUE_QUOTA = 32
    QUEUE_ORDER = 33
    RESERVED_FOR_ANOTHER = 34
    ARRAY_LIMIT = 35
    RESERVED_FOR_OTHERS = 36
    MAINTENANCE = 37
    CHEAPER_LATER = 38
    CLEANER_LATER = 39
    AFFORDABLE_LATER = 40
    SCALING_UP = 41

    @property
    def label(self) -> str:
        return self.name.lower()


# Whoever waits for one of these is promised a start at an hour that it chose.
LATER = frozenset({Reason.CHEAPER_LATER, Reason.CLEANER_LATER, Reason.AFFORDABLE_LATER})
POLICY = frozenset(reason for reason in Reason if Reason.LICENCE_MISSING <= reason <= Reason.OVER_BUDGET)
# What waiting changes nothing about. Room on nodes comes with other nodes; a cache grows only when its operator is asked for it.
FOR_GOOD = POLICY | {Reason.DATA_TOO_LARGE}
