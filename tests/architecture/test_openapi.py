"""docs/openapi.json is what the code says, and tells enough to write a client by: roles, problems, an example of each document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

import cluster.model
import cluster.protocol
import controlplane.api.audit_schemas
import controlplane.api.batch_schemas
import controlplane.api.explanation_schemas
import controlplane.api.joining_schemas
import controlplane.api.link_schemas
import controlplane.api.money_schemas
import controlplane.api.queue_schemas
import controlplane.api.schemas
import controlplane.api.tenant_schemas
import controlplane.api.window_schemas
import workloads.catalogue.licence
import workloads.catalogue.pricing
import workloads.catalogue.statement
from controlplane.api.app import create_app, v1_routes
from controlplane.api.auth import declared_roles
from controlplane.api.examples import ANSWERS, PROBLEM_EXAMPLES, REQUESTS
from controlplane.api.openapi import render
from controlplane.api.problems import BY_STATUS, TITLES
from controlplane.api.schemas import ProblemView
from tests.architecture.source import ROOT

PATH = ROOT / "docs" / "openapi.json"
SOURCES = (
    controlplane.api.schemas,
    controlplane.api.queue_schemas,
    controlplane.api.audit_schemas,
    controlplane.api.batch_schemas,
    controlplane.api.window_schemas,
    controlplane.api.explanation_schemas,
    controlplane.api.joining_schemas,
    controlplane.api.tenant_schemas,
    controlplane.api.money_schemas,
    controlplane.api.link_schemas,
    cluster.model,
    cluster.protocol,
    workloads.catalogue.pricing,
    workloads.catalogue.licence,
    workloads.catalogue.statement,
)
DOCUMENT: dict[str, Any] = create_app(None).openapi()
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]


def _operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(METHOD, path, operation)."""
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path, operation


def _model(name: str) -> type[BaseModel]:
    found: type[BaseModel] = next(getattr(source, name) for source in SOURCES if hasattr(source, name))
    return found


def _named(content: dict[str, Any]) -> str:
    """The schema that a body or answer in JSON names; empty when it is another type or written out."""
    reference: str = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    return reference.rpartition("/")[2]


def test_the_committed_description_is_current() -> None:
    assert PATH.read_text(encoding="utf-8") == render(), "write it anew with `make openapi`"


def test_it_is_openapi_3_1_and_every_reference_leads_somewhere() -> None:
    assert re.fullmatch(r"3\.1\.\d+", DOCUMENT["openapi"])
    references = set(re.findall(r'"\$ref": "#/components/(\w+)/([^"]+)"', json.dumps(DOCUMENT)))
    assert not [(kind, name) for kind, name in sorted(references) if name not in DOCUMENT["components"][kind]]
    assert {name for kind, name in references if kind == "schemas"} == set(SCHEMAS)


def test_every_operation_has_a_name_of_its_own_and_words() -> None:
    names = [operation["operationId"] for _, _, operation in _operations()]
    assert len(names) == len(set(names)) > 40
    assert not [path for _, path, operation in _operations() if not operation["summary"].strip()]
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    assert {tag for _, _, operation in _operations() for tag in operation["tags"]} == tags


def test_every_operation_under_v1_names_the_roles_that_its_route_lets_pass() -> None:
    declared = {(method, path): list(declared_roles(route)) for path, route in v1_routes() for method in route.methods or ()}
    shown = {(method, path): operation["x-roles"] for method, path, operation in _operations() if path.startswith("/v1")}
    assert shown == declared
    assert all(shown.values())


def test_only_health_and_metrics_need_no_token() -> None:
    opened = {path for _, path, operation in _operations() if not operation["security"]}
    assert opened == {"/healthz", "/readyz", "/metrics"}


def test_every_operation_under_v1_documents_its_problems() -> None:
    for method, path, operation in _operations():
        if path.startswith("/v1"):
            wanted = {"400", "401", "403", "404", "409", "422", "500", "503"} | ({"415"} if "requestBody" in operation else set())
            wanted |= {"413"} if path == "/v1/jobs:batch" else set()
            wanted |= {"413", "507"} if path.endswith(("/files/{name}", "/room")) and "/agents/" in path else set()
            wanted |= {"413", "424"} if path.endswith("/deposit:take") else set()
            wanted |= {"410"} if path.startswith("/v1/jobs/{job_id}/") and ("/result" in path or path.endswith("/logs")) else set()
            assert wanted == {status for status in operation["responses"] if status >= "400"}, f"{method} {path}"


@pytest.mark.parametrize("status", sorted(PROBLEM_EXAMPLES))
def test_the_example_of_each_problem_is_one(status: int) -> None:
    problem = ProblemView.model_validate(PROBLEM_EXAMPLES[status])
    kind = problem.type.removeprefix("urn:cpn:problem:")
    assert (problem.status, problem.title) == (status, TITLES[kind])
    assert kind in {BY_STATUS.get(status, "internal"), "refused"}


@pytest.mark.parametrize("name", sorted({**REQUESTS, **ANSWERS}))
def test_each_example_is_accepted_by_its_model(name: str) -> None:
    example = {**REQUESTS, **ANSWERS}[name]
    assert SCHEMAS[name]["examples"] == [example]
    assert _model(name).model_validate_json(json.dumps(example))


def test_every_request_body_has_an_example() -> None:
    bodies = [(path, operation["requestBody"]["content"]) for _, path, operation in _operations() if "requestBody" in operation]
    assert len(bodies) > 10
    assert not [path for path, content in bodies if "application/json" in content and "examples" not in SCHEMAS[_named(content)]]


def test_every_answer_of_one_document_has_an_example() -> None:
    answers = {
        _named(answer.get("content", {}))
        for _, _, operation in _operations()
        for status, answer in operation["responses"].items()
        if status < "300"
    }
    names = {name for name in answers if name and not name.startswith("Page_")}
    assert {"JobView", "PlanView", "Receipt"} <= names
    assert not [name for name in sorted(names) if "examples" not in SCHEMAS[name]]
