"""What a pod's containers find at their mount paths, as folders of this machine.

Without a mount namespace a path of the container cannot be had, so wherever a pod's command or environment begins with a mount path,
the folder's own path stands instead.
"""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Fetch = Callable[[str, str], dict[str, Any] | None]  # (kind in plural, name) → the object, None when there is none
SOURCES = {"secret": ("secrets", "secretName"), "configMap": ("configmaps", "name")}


class Volumes:
    """The folders of one pod."""

    def __init__(self, pod: dict[str, Any], folder: Path) -> None:
        self._volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        self._folder = folder

    def fill(self, fetch: Fetch) -> str | None:
        """Make the folders; called again it brings what changed. What is missing, or None."""
        for name, volume in self._volumes.items():
            at = self._folder / name
            at.mkdir(parents=True, exist_ok=True)
            for kind, (plural, key) in SOURCES.items():
                if kind in volume:
                    found = fetch(plural, volume[kind][key])
                    if found is None:
                        return f'{kind.lower()} "{volume[kind][key]}" not found'
                    _write(at, found)
        return None

    def names(self, plural: str) -> set[str]:
        """The objects of a kind that lie in these folders."""
        kind, key = next((kind, key) for kind, (many, key) in SOURCES.items() if many == plural)
        return {volume[kind][key] for volume in self._volumes.values() if kind in volume}

    def placed(self, container: Mapping[str, Any], text: str) -> str:
        """A word of the container's command or environment, with the folder where a mount path stood."""
        for mount in sorted(container.get("volumeMounts", []), key=lambda mount: -len(mount["mountPath"])):
            path, folder = mount["mountPath"], str(self._folder / mount["name"])
            if text == path or text.startswith(f"{path}/"):
                return folder + text[len(path) :]
        return text

    def remove(self) -> None:
        """Delete the folders."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _write(folder: Path, source: Mapping[str, Any]) -> None:
    texts = {name: text.encode() for name, text in source.get("data", {}).items()}
    if source["kind"] == "Secret":
        texts = {name: base64.b64decode(text) for name, text in texts.items()}
    for name, data in texts.items():
        fresh = folder / f".{name}.new"
        fresh.write_bytes(data)
        fresh.replace(folder / name)
