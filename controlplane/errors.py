"""Errors of those who call a control plane: the client and everything built on it.

ClientError              a request to the control plane did not do what was asked
├── NotReachableError    nothing answers there, or the answer broke off
├── RequestInvalidError  the request is wrong; `problem` names the fields
├── RequestRefusedError  forbidden: by licence, residency or budget, by role, or for want of a valid token
└── RequestFailedError   not found, against the present state, or the server's own failure
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controlplane.api.schemas import ProblemView


class ClientError(Exception):
    """A request failed. `problem` is the server's own account of it, when it gave one."""

    def __init__(self, message: str, problem: ProblemView | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class NotReachableError(ClientError):
    """Nothing answers at the server's address, or the answer broke off."""


class RequestInvalidError(ClientError):
    """The request is wrong; sending it again changes nothing."""


class RequestRefusedError(ClientError):
    """The request is understood and forbidden."""


class RequestFailedError(ClientError):
    """The request is acceptable and could not be carried out."""
