"""Cheap questions to a Ray head: do you live, do you take my token, who are you, and what are you made of?

Ray's own client answers these badly: `ray.init` tries for 20 s with a wrong token and for 80 s where nothing useful
listens, and its calls block while the head is away. So we ask the head's control store (GCS) over gRPC ourselves,
with a time limit, before any call of Ray's: `GetClusterId` of `ray.rpc.NodeInfoGcsService`, and two entries of the
store that every head of Ray 2 writes at its start. The few fields of their messages are written and read here, because
Ray's own classes for them come only with all of Ray. Clusters that serve gRPC over TLS (`RAY_USE_TLS`) are not supported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.errors import AuthenticationError, UnreachableError

_CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId"
_NODES = "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"
_STORED = "/ray.rpc.InternalKVGcsService/InternalKVGet"
# Of both answers the first field is the status, the second what was asked for; of the question, key and namespace.
_ANSWER_FIELD, _KEY_FIELD, _NAMESPACE_FIELD = 2, 1, 2
_BYTES_WIRE = 2
# Of a node: the socket of its raylet.
_SOCKET_FIELD = 3


@dataclass(frozen=True)
class HeadFacts:
    """What a head says of itself. Empty texts: it has not said it. `session` names one start of the head."""

    cluster_id: str
    ray_version: str
    python_version: str
    session: str


def cluster_id(address: str, token: str, timeout_s: float) -> bytes:
    """The id of the Ray cluster at `address` (`host:port`), opaque; a head that was restarted has another one.

    Takes about 1 ms where a head answers. Blocks for at most `timeout_s`.
    Raises UnreachableError, AuthenticationError.
    """
    return _answer(_ask(address, token, timeout_s, _CLUSTER_ID, b""))


def has_nodes(address: str, token: str, timeout_s: float) -> bool:
    """Whether a node has registered at the head at `address`; a head answers before its own one has.

    Blocks for at most `timeout_s`. Raises UnreachableError, AuthenticationError.
    """
    return bool(_answer(_ask(address, token, timeout_s, _NODES, b"")))


def sockets(address: str, token: str, timeout_s: float) -> tuple[str, ...]:
    """Where the nodes of the head at `address` listen on their own machines: the paths of their raylets' sockets.

    Blocks for at most `timeout_s`. Raises UnreachableError, AuthenticationError.
    """
    message = _ask(address, token, timeout_s, _NODES, b"")
    nodes = [value for field, value in _fields(message) if field == _ANSWER_FIELD]
    found = (value for node in nodes for field, value in _fields(node) if field == _SOCKET_FIELD)
    return tuple(path.decode(errors="replace") for path in found)


def head_facts(address: str, token: str, timeout_s: float) -> HeadFacts:
    """What the head at `address` says of itself. Each of three questions blocks for at most `timeout_s`.

    Raises UnreachableError, AuthenticationError.
    """
    identity = cluster_id(address, token, timeout_s)

    def stored(key: bytes, namespace: bytes) -> bytes:
        question = _field(_KEY_FIELD, key) + _field(_NAMESPACE_FIELD, namespace)
        return _answer(_ask(address, token, timeout_s, _STORED, question))

    versions = _object(stored(b"CLUSTER_METADATA", b"cluster"))
    return HeadFacts(
        cluster_id=identity.hex(), ray_version=str(versions.get("ray_version", "")), python_version=str(versions.get("python_version", "")),
        session=stored(b"session_name", b"session").decode(errors="replace"),
    )  # fmt: skip


def _ask(address: str, token: str, timeout_s: float, method: str, question: bytes) -> bytes:
    import grpc  # type: ignore[import-untyped, unused-ignore]

    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        ask = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
        try:
            return bytes(ask(question, timeout=timeout_s, metadata=metadata))
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        raise AuthenticationError(f"the Ray head at {address} refuses the token: {details}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        raise UnreachableError(f"the Ray head at {address} does not answer within {timeout_s:g} s")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        raise UnreachableError(f"what answers at {address} is no Ray head: {details}")
    raise UnreachableError(f"no Ray head answers at {address}: {details.rpartition('last error: ')[2]}")


def _object(text: bytes) -> dict[str, object]:
    """A stored JSON object; none where nothing fitting is stored."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


# --- protocol buffers, as far as these messages need them: fields of bytes, and numbers to pass over ---


def _answer(message: bytes) -> bytes:
    return next((value for field, value in _fields(message) if field == _ANSWER_FIELD), b"")


def _field(number: int, value: bytes) -> bytes:
    assert len(value) < 128, "longer ones need a length of several bytes"
    return bytes((number << 3 | _BYTES_WIRE, len(value))) + value


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each field of bytes; a message that is none ends the walk."""
    at = 0
    while at < len(message):
        tag, at = _number(message, at)
        if tag & 7 == _BYTES_WIRE:
            length, at = _number(message, at)
            yield tag >> 3, message[at : at + length]
            at += length
        elif tag & 7 == 0:
            _, at = _number(message, at)
        else:
            return


def _number(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a place, seven bits a byte, and the place after it."""
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            break
    return value, at
