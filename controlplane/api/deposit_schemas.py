"""What agents tell of results that their runs have put into a store themselves."""

from __future__ import annotations

from pydantic import Field

from cluster.deposits import Token
from cluster.protocol import ResultFile
from controlplane.api.bases import Asked


class DepositTold(Asked):
    """What a run has put where its grant allowed it."""

    token: Token = Field(description="under which its pieces lie")
    files: list[ResultFile] = Field(description="in the order of the numbers of their pieces")
