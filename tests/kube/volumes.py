"""What a pod's containers find at their mount paths, as folders of this machine.

Without a mount namespace a path of the container cannot be had, so wherever a pod's command or environment begins with a mount path,
the folder's own path stands instead. A file of a claim's volume, which is a folder of this machine (hostPath), is a link at its mount
path, so a test mounts below a folder of its own; the link stays.
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
        self._mounts = [mount for container in pod["spec"]["containers"] for mount in container.get("volumeMounts", [])]
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
            if "persistentVolumeClaim" in volume and (missing := self._link(volume, fetch)):
                return missing
        return None

    def _link(self, volume: dict[str, Any], fetch: Fetch) -> str | None:
        """Show what is mounted of a claim at its mount paths; what is missing, or None."""
        name = volume["persistentVolumeClaim"]["claimName"]
        claim = fetch("persistentvolumeclaims", name)
        held = fetch("persistentvolumes", claim["spec"]["volumeName"]) if claim is not None else None
        if held is None:
            return f'persistentvolumeclaim "{name}" not found'
        for mount in (mount for mount in self._mounts if mount["name"] == volume["name"]):
            source, at = Path(held["spec"]["hostPath"]["path"], mount["subPath"]), Path(mount["mountPath"])
            if not source.exists():
                return f'failed to prepare subPath for volumeMount "{mount["name"]}"'
            at.parent.mkdir(parents=True, exist_ok=True)
            if not at.is_symlink():
                at.symlink_to(source)
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
