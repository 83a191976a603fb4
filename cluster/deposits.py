"""Where a run may put the files of its result itself, and what it tells of them.

A grant is a form that the control plane has signed: whoever has it may put objects of a limited size under one prefix of one bucket,
until a time, and do nothing else there. The prefix is the run's and its epoch's. Files come in pieces of one size, each an object
`TOKEN/FILE-PIECE` with numbers from 0; the token is made up by who puts them, so that nobody replaces what another has told of. The
control plane makes the files out of the pieces, at a place for which there is no grant, and proves them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

PACKAGE = "package"
PIECE_BYTES = 64 * 1024 * 1024
# How long a run may take to put its files there, after its work.
PATIENCE_S = 3600.0
Token = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]


class Grant(BaseModel):
    """Leave to put objects somewhere. Not to be shown or logged: who has it may do so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(description="where the form is posted")
    fields: dict[str, str] = Field(description="of the form, all but the key and the file")
    prefix: str = Field(description="with which the key of each object begins")
    until: float = Field(description="in Unix seconds")
    piece_bytes: int = Field(gt=0, description="of every piece of a file but its last; no object may be larger")
    package_url: str = Field(default="", description="by which what lies at `package` below the prefix is read")


class Package(BaseModel):
    """The job's files as one object at `package` below the prefix of the run's grant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_bytes: int
    sha256: str


def piece_key(prefix: str, token: str, file: int, piece: int) -> str:
    """The key of one piece of one file."""
    return f"{prefix}{token}/{file}-{piece}"


def pieces(size_bytes: int, piece_bytes: int) -> int:
    """How many pieces a file has; an empty one has one."""
    return max(-(-size_bytes // piece_bytes), 1)
