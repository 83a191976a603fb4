"""Does a cluster's endpoint answer? Checked at its registration, so that a wrong address or token is an error now, not a silence later."""

from __future__ import annotations

import socket
from pathlib import Path

from cluster.errors import AuthenticationError, UnreachableError
from cluster.model import Endpoint
from scheduler.errors import InvalidError, Problem

CONNECT_S = 3.0


def check_endpoint(endpoint: Endpoint) -> None:
    """Raises InvalidError naming the field: no address, nothing listening, token file not readable, no Ray head, token refused."""
    problems = [*_address_problems(endpoint.address), *_token_problems(endpoint.token_file)] or _answer_problems(endpoint)
    if problems:
        raise InvalidError(tuple(problems))


def _address_problems(address: str) -> list[Problem]:
    path = "endpoint.address"
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return [
            Problem(
                path,
                "address",
                f"{address!r} is not HOST:PORT; push mode needs the address of the cluster's head (GCS), like 10.0.0.5:6379",
            )
        ]
    try:
        with socket.create_connection((host, int(port)), timeout=CONNECT_S):
            return []
    except OSError as error:
        remedy = "start the cluster, correct the address, or register it with mode pull and run `cpn agent` beside it"
        return [Problem(path, "unreachable", f"nothing answers at {address} ({error}); {remedy}")]


def _token_problems(token_file: str) -> list[Problem]:
    if not token_file:
        return []
    try:
        text = Path(token_file).read_text().strip()
    except OSError as error:
        return [Problem("endpoint.token_file", "unreadable", f"the server cannot read {token_file}: {error.strerror}")]
    return [] if text else [Problem("endpoint.token_file", "empty", f"{token_file} is empty; it must hold the cluster's token")]


def _answer_problems(endpoint: Endpoint) -> list[Problem]:
    from cluster.backends.ray.gcs import cluster_id

    token = Path(endpoint.token_file).read_text().strip() if endpoint.token_file else ""
    try:
        cluster_id(endpoint.address, token, CONNECT_S)
    except AuthenticationError as error:
        return [Problem("endpoint.token_file", "refused", f"{error}; name the file that holds this cluster's token")]
    except UnreachableError as error:
        return [Problem("endpoint.address", "unreachable", str(error))]
    return []
