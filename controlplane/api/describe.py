"""What the API says of itself: OpenAPI 3.1 with the roles of every route, problem details, and an example of each document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from controlplane.api.auth import declared_roles
from controlplane.api.examples import ANSWERS, PROBLEM_EXAMPLES, REQUESTS
from controlplane.api.problems import MEDIA_TYPE
from controlplane.api.schemas import ProblemView

SUMMARY = "A computing-power network scheduler"
DESCRIPTION = """One queue over many clusters: data products with their terms, jobs over them, and where those may run.

**Tokens.** Send `Authorization: Bearer TOKEN`. Each operation names the roles that may call it (`x-roles`); everything else is
denied. A buyer's token is bound to a tenant and sees that tenant's jobs alone, an agent's to a cluster.

**Errors** are problem details (RFC 9457): `type` tells them apart, `detail` says what to do, and `errors` names every fault with
the path of its field. Unknown fields are refused.

**Units.** Memory (`1GiB`), durations (`10m`), money (`5.00 CNY`) and computing power (`18000PFLOPS`) are text with their unit
in requests; answers name them in bytes (`_bytes`), seconds (`_s`) and FLOP/s (`_flops`). Times are RFC 3339.

**Lists** are pages: pass `next_cursor` as `cursor` until it is null.

**Waiting.** `GET /v1/jobs/{job_id}?wait_s=30&after_version=N` answers as soon as the job has changed or ended; with a
large `N` it waits for the end alone. With `after_cause=C`, the `cause` last seen, it answers also when a job that still waits
does so for another reason.

**Repeating.** A submission with an `Idempotency-Key` may be sent again: it gives the first job. In a batch (`POST /v1/jobs:batch`)
each item has a key of its own.
"""
TAGS = (
    ("jobs", "Plan, submit, follow, explain, settle."), ("clusters", "The members of the network and their nodes."),
    ("products", "Data products, their versions, and who may use them."), ("queues", "Where jobs wait, and the tenants they belong to."),
    ("money", "Statements, the ledger, and what was used."),
    ("capacity", "Computing power, and how far it is to the targets."), ("tokens", "Who may call, as what, until when."),
    ("windows", "Maintenance and reservations: times at which nodes are not for everybody."),
    ("audit", "Who did what, and that no run lay outside the terms of its data."),
    ("captures", "What cycles decided on, and what they decided."),
    ("agents", "What the agents of clusters call."), ("health", "For supervisors and Prometheus; no token."),
)  # fmt: skip
_WORDS = {
    400: ("NotReadable", "The body or a cursor is not readable"), 401: ("NoToken", "No valid token"),
    403: ("Forbidden", "The role or a policy forbids it"), 404: ("NotFound", "There is no such thing"),
    409: ("Conflict", "The present state forbids it"), 413: ("TooLarge", "More than one request may carry"),
    415: ("NotJson", "The body is not JSON"), 422: ("Invalid", "Fields are wrong"),
    500: ("Failed", "The server failed"), 503: ("Unavailable", "The store does not answer"),
    410: ("Gone", "It is not kept any more"), 507: ("NoRoom", "The server's disk is full"),
}  # fmt: skip
# Those that an operation names where it answers so.
_SPECIAL = frozenset({410, 413, 507})
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": words} for status, (_, words) in _WORDS.items() if status not in _SPECIAL
}  # fmt: skip


def describe(app: FastAPI, routes: Iterable[tuple[str, APIRoute]]) -> dict[str, Any]:
    """The document; `routes` are those that need a token, with their whole paths. Made once for an application."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, summary=SUMMARY, description=DESCRIPTION, routes=app.routes,
        tags=[{"name": name, "description": words} for name, words in TAGS],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"}, separate_input_output_schemas=False,
    )  # fmt: skip
    components = document["components"]
    components["schemas"]["ProblemView"] = ProblemView.model_json_schema(ref_template="#/components/schemas/{model}")
    components["schemas"] |= components["schemas"]["ProblemView"].pop("$defs")
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    components["responses"] = {name: _problem(status, words) for status, (name, words) in _WORDS.items()}
    for name, example in {**REQUESTS, **ANSWERS}.items():
        components["schemas"][name]["examples"] = [example]
    roles = {(path, method.lower()): declared_roles(route) for path, route in routes for method in route.methods or ()}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(operation, roles.get((path, method)))
    _prune(document)
    app.openapi_schema = document
    return document


def _prune(document: dict[str, Any]) -> None:
    """Leave out schemas that nothing refers to, such as those of values that are written as text."""
    schemas = document["components"]["schemas"]
    named = set(re.findall(r"#/components/schemas/([^\"]+)", json.dumps(document)))
    for name in set(schemas) - named:
        del schemas[name]


def _problem(status: int, words: str) -> dict[str, Any]:
    content = {"schema": {"$ref": "#/components/schemas/ProblemView"}, "example": PROBLEM_EXAMPLES[status]}
    return {"description": words, "content": {MEDIA_TYPE: content}}


def _complete(operation: dict[str, Any], roles: tuple[str, ...] | None) -> None:
    """What FastAPI cannot know of an operation. `roles` is None where no token is needed."""
    operation["operationId"] = operation["summary"].lower().replace(" ", "_")
    operation["summary"], _, rest = operation["description"].partition("\n\n")
    operation["description"] = rest.strip()
    if roles is None:
        operation["security"] = []
    else:
        operation["security"] = [{"token": []}]
        operation["x-roles"] = list(roles)
        operation["description"] = f"{operation['description']}\n\nRoles: {', '.join(roles)}.".strip()
    responses = operation["responses"]
    if "requestBody" not in operation:
        responses.pop("415", None)
    for status, (name, _) in _WORDS.items():
        if str(status) in responses:
            responses[str(status)] = {"$ref": f"#/components/responses/{name}"}
