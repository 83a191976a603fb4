"""A group of commands that is built when one of them is wanted.

Building a command means inspecting its function; for all of them that takes longer than everything else that
`cpn --help` does. So the first level knows the groups by name and words alone.
"""

from __future__ import annotations

import importlib
from collections.abc import MutableMapping
from typing import Any

import typer.main
from typer.core import TyperGroup


class LazyGroup(TyperGroup):
    """A group whose commands are those of a Typer application, named as `module:attribute`."""

    def __init__(self, name: str, application: str, words: str) -> None:
        self._application = application
        self._built: MutableMapping[str, Any] | None = None
        super().__init__(name=name, help=words, no_args_is_help=True, rich_markup_mode=None)

    @property
    def commands(self) -> MutableMapping[str, Any]:
        """The commands by name."""
        if self._built is None:
            module, _, attribute = self._application.partition(":")
            self._built = typer.main.get_group(getattr(importlib.import_module(module), attribute)).commands
        return self._built

    @commands.setter
    def commands(self, _none: MutableMapping[str, Any]) -> None:
        """What the base class begins with is not kept."""
