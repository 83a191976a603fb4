"""Commands that need no server: how one runs them, and what they print for programs."""

from __future__ import annotations

import json
from typing import Any

from click.testing import Result
from typer.testing import CliRunner

from controlplane.cli.main import app


class Command:
    """A command of `cpn`, like `Command("bench", "placement")`."""

    def __init__(self, *path: str) -> None:
        self._path = path

    def run(self, *arguments: str) -> Result:
        """What it says and how it ends."""
        return CliRunner().invoke(app, [*self._path, *arguments], prog_name="cpn")

    def document(self, *arguments: str) -> dict[str, Any]:
        """What it prints as JSON, insisting on success."""
        result = self.run(*arguments, "-o", "json")
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found
