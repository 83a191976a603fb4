"""A cheap question to a Ray head: do you live, do you take my token, who are you?

Ray's own client answers these badly: `ray.init` tries for 20 s with a wrong token and for 80 s where nothing useful
listens, and its calls block while the head is away. So we ask the head's control store (GCS) over gRPC ourselves,
with a time limit, before any call of Ray's: two methods of `ray.rpc.NodeInfoGcsService` with empty requests.
Clusters that serve gRPC over TLS (`RAY_USE_TLS`) are not supported.
"""

from __future__ import annotations

from cluster.errors import AuthenticationError, UnreachableError

_CLUSTER_ID = "/ray.rpc.NodeInfoGcsService/GetClusterId"


def cluster_id(address: str, token: str, timeout_s: float) -> bytes:
    """The id of the Ray cluster at `address` (`host:port`), opaque; a head that was restarted has another one.

    Takes about 1 ms where a head answers. Blocks for at most `timeout_s`.
    Raises UnreachableError, AuthenticationError.
    """
    import grpc  # type: ignore[import-untyped, unused-ignore]

    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        ask = channel.unary_unary(_CLUSTER_ID, request_serializer=bytes, response_deserializer=bytes)
        try:
            return bytes(ask(b"", timeout=timeout_s, metadata=metadata))
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        raise AuthenticationError(f"the Ray head at {address} refuses the token: {details}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        raise UnreachableError(f"the Ray head at {address} does not answer within {timeout_s:g} s")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        raise UnreachableError(f"what answers at {address} is no Ray head: {details}")
    raise UnreachableError(f"no Ray head answers at {address}: {details.rpartition('last error: ')[2]}")
