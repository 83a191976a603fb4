"""Errors of the cluster package.

ClusterError                 anything between an agent and its cluster or the control plane
├── TransientError           may pass by itself; try again
│   └── UnreachableError     the cluster or the control plane does not answer
├── WorkerGoneError          a worker of a run is gone for good
└── PermanentError           will not pass; a person must change something
    ├── AuthenticationError  the token was refused
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


class WorkerGoneError(ClusterError):
    """The worker of a run, and what it knew, is gone for good."""


class PermanentError(ClusterError):
    """The call failed in a way that a person must repair."""


class AuthenticationError(PermanentError):
    """The token was refused by the other side."""


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
