"""What is wrong with a document, each fault with its path: all of them are told at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

Fault = tuple[tuple[str | int, ...], str]


def refuse(title: str, faults: Iterable[Fault]) -> None:
    """For validators: raise all faults at once as a ValidationError, each with its path below the validated value."""
    details: list[Any] = [
        InitErrorDetails(type=PydanticCustomError("job", "{reason}", {"reason": reason}), loc=path, input=None) for path, reason in faults
    ]
    if details:
        raise ValidationError.from_exception_data(title, details)
