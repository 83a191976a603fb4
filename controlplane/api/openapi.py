"""Write the API's description: `python -m controlplane.api.openapi docs/openapi.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from controlplane.api.app import create_app


def render() -> str:
    """OpenAPI 3.1 as JSON text, keys sorted, so that a change is a readable difference."""
    return json.dumps(create_app(None).openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
