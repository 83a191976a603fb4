"""Errors of the cluster package.

ClusterError                 anything between an agent and its cluster or the control plane
├── TransientError           may pass by itself; try again
│   ├── UnreachableError     the cluster or the control plane does not answer
│   ├── BusyError            the cluster asks to be asked later
│   ├── StoreAwayError       the control plane answers, and a store of results that it needs does not
│   ├── ConflictError        somebody else changed the object first
│   └── ExpiredError         what happened since then is not kept any more; read the whole anew
├── WorkerGoneError          a worker of a run is gone for good
└── PermanentError           will not pass; a person must change something
    ├── AuthenticationError  the token was refused
    ├── ForbiddenError       the credentials lack a right
    ├── NotThereError        there is no such object
    ├── AlreadyThereError    an object of this name exists
    ├── InvalidObjectError   the cluster can never accept this object as it is
    ├── RunRejectedError     the cluster can never start this run as asked
    ├── ReportRefusedError   the control plane can never accept this report as it is
    ├── StorageFullError     the control plane's disk has no room for this file
    ├── ClusterReplacedError another cluster answers at the address than the one that this process drives
    └── AgentSupersededError another agent process speaks for this cluster
"""


class ClusterError(Exception):
    """A call to a cluster or to the control plane failed."""


class TransientError(ClusterError):
    """The call failed in a way that may pass by itself."""


class UnreachableError(TransientError):
    """The other side does not answer."""


class BusyError(TransientError):
    """The cluster has too much to do and asks to be asked again after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreAwayError(TransientError):
    """The control plane answers, and a store of results that it needs for this does not."""


class ConflictError(TransientError):
    """Somebody else changed the object since it was read; read it again."""


class ExpiredError(TransientError):
    """The cluster does not keep what happened since then any more; read the whole anew."""


class WorkerGoneError(ClusterError):
    """The worker of a run, and what it knew, is gone for good."""


class PermanentError(ClusterError):
    """The call failed in a way that a person must repair."""


class AuthenticationError(PermanentError):
    """The token was refused by the other side."""


class ForbiddenError(PermanentError):
    """The credentials are known and lack a right; somebody must grant it."""


class NotThereError(PermanentError):
    """There is no such object, or no such kind of object."""


class AlreadyThereError(PermanentError):
    """An object of this name exists already."""


class InvalidObjectError(PermanentError):
    """The cluster can never accept this object or question as it is."""


class RunRejectedError(PermanentError):
    """The cluster can never start this run as asked."""


class ReportRefusedError(PermanentError):
    """The control plane can never accept this report, log or file as it is: malformed or too large."""


class StorageFullError(PermanentError):
    """The control plane's disk has no room for this file; somebody must free some."""


class ClusterReplacedError(PermanentError):
    """Another cluster answers at the address now; this agent must end, and the next one connects to it."""


class AgentSupersededError(PermanentError):
    """Another agent process speaks for this cluster now; this one must end and leave the runs to it."""
