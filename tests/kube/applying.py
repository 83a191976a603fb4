"""Server-side apply as `kubectl apply --server-side` does it, and what came of it: an old API server drops fields that it does not know."""

from __future__ import annotations

import json
from typing import Any

import httpx

Object = dict[str, Any]
APPLY = {"Content-Type": "application/apply-patch+yaml"}


def where(api: httpx.Client, item: Object) -> str:
    """The path of an object, by what the API server says of its kind."""
    version = item["apiVersion"]
    base = f"/api/{version}" if version == "v1" else f"/apis/{version}"
    listed = api.get(base)
    assert listed.status_code == httpx.codes.OK, f"{version} is not served here"
    found = [kind for kind in listed.json()["resources"] if kind["kind"] == item["kind"] and "/" not in kind["name"]]
    assert found, f"{version} has no {item['kind']}"
    space = f"/namespaces/{item['metadata']['namespace']}" if found[0]["namespaced"] else ""
    return f"{base}{space}/{found[0]['name']}/{item['metadata']['name']}"


def applied(api: httpx.Client, item: Object, manager: str = "tests") -> Object:
    """The object as the API server has it after that."""
    answer = api.patch(where(api, item), content=json.dumps(item), headers=APPLY, params={"fieldManager": manager, "force": "true"})
    assert answer.is_success, answer.text
    found: Object = answer.json()
    return found


def dropped(wanted: Any, found: Any, at: str = "") -> list[str]:
    """The paths of what was asked for and is not there, or is there otherwise."""
    if isinstance(wanted, dict):
        # Write-only, and shorthands that the server writes out.
        keys = sorted(set(wanted) - {"stringData"})
        missing = [f"{at}.{key}" for key in keys if key not in (found or {}) and wanted[key] not in ({}, [], None)]
        return missing + [path for key in keys if key in (found or {}) for path in dropped(wanted[key], found[key], f"{at}.{key}")]
    if isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            return [at]
        return [path for number, item in enumerate(wanted) for path in dropped(item, found[number], f"{at}[{number}]")]
    return [] if wanted == found or str(wanted) == str(found) else [f"{at}: {wanted!r} is {found!r}"]
