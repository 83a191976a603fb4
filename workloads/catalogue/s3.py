"""Objects on S3 and on what speaks like it: how this process reaches them, and what is wrong when it does not.

Endpoint and credentials are the settings of whoever operates the process: `CPN_S3_ENDPOINT`, and what botocore knows (its
variables, its files, the role of the machine). They are never part of a URI, so nothing that is stored, shown or logged has them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import IO, Any
from urllib.parse import urlsplit

from workloads.errors import DataError

PROTOCOLS = frozenset({"s3", "s3a"})
ENDPOINT_VARIABLE = "CPN_S3_ENDPOINT"
CHUNK_BYTES = 4 * 1024 * 1024
# What reaches an object store by. Processes of users never have them; those that read and write data for runs do.
SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
SETTINGS = (
    ENDPOINT_VARIABLE, *SECRETS, "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_REGION", "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
)  # fmt: skip
# s3fs tries again by itself; both together would make a store that does not answer look like a slow one.
_CONNECTION = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 1}}
_CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role"


def is_s3(uri: str) -> bool:
    """Whether a URI names a place on S3."""
    return urlsplit(uri).scheme in PROTOCOLS


def bucket_and_key(uri: str) -> tuple[str, str]:
    """What `s3://bucket/key` names; the key may be empty. Raises DataError for anything more than these."""
    parts = urlsplit(uri)
    if "@" in parts.netloc:
        raise DataError("an S3 URI holds no credentials; write s3://bucket/key, and give them to the process that reads it")
    if parts.query or parts.fragment:
        raise DataError("an S3 URI holds no query; write s3://bucket/key, and for another content another key")
    if not parts.netloc or ":" in parts.netloc:
        raise DataError(f"an S3 URI names a bucket and no host; write s3://bucket/key, and name the host in {ENDPOINT_VARIABLE}")
    return parts.netloc, parts.path.removeprefix("/")


def store_fault(url: str) -> str | None:
    """What is wrong with the URL of a store of results as it is written; None when nothing is."""
    if not is_s3(url):
        return "a store of results is s3://bucket or s3://bucket/prefix; leave it out for the server's own directory"
    try:
        bucket_and_key(url)
    except DataError as error:
        return str(error)
    return None


def signer(environ: Mapping[str, str] = os.environ) -> Any:
    """What signs for the S3 that these settings name: botocore's client, which says nothing over the network for it."""
    return _signer(tuple(environ.get(name, "") for name in SETTINGS))


def filesystem(environ: Mapping[str, str] = os.environ) -> Any:
    """The S3 that these settings name, as fsspec has it; one for the same settings. Raises ImportError."""
    return _filesystem(tuple(environ.get(name, "") for name in SETTINGS))


def endpoint(environ: Mapping[str, str] = os.environ) -> str:
    """Where that is, for messages."""
    named = next(filter(None, (environ.get(name) for name in (ENDPOINT_VARIABLE, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))), "")
    parts = urlsplit(named)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if named else "Amazon S3"


def open_object(uri: str) -> IO[bytes]:
    """An object's bytes, read in ranges that are all of one content. Raises what `words` knows."""
    bucket, key = bucket_and_key(uri)
    if not key or key.endswith("/"):
        raise DataError(f"{uri} names no object; write s3://bucket/key")
    stream: IO[bytes] = filesystem().open(f"{bucket}/{key}", "rb", cache_type="readahead", block_size=CHUNK_BYTES)
    if stream.details["type"] != "file":  # type: ignore[attr-defined]
        raise FileNotFoundError(uri)
    return stream


def words(uri: str, error: BaseException, action: str = "read") -> str:
    """What is wrong with a place on S3, and what to do about it. Says nothing of what a server said, which may tell of credentials."""
    bucket, _ = bucket_and_key(uri)
    if isinstance(error, FileNotFoundError):
        if _is_missing(bucket):
            return f"there is no bucket {bucket!r} at {endpoint()}; correct the URI or {ENDPOINT_VARIABLE}, or create the bucket"
        return f"there is no object at {uri}; correct the key, or put the object there"
    if isinstance(error, PermissionError):
        return f"the S3 credentials here may not {action} {uri}; give this process others ({_CREDENTIALS}), or allow it to them"
    kind = type(error).__name__
    if kind in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"):
        return f"there are no S3 credentials here that could {action} {uri}; give this process some: {_CREDENTIALS}"
    return f"{endpoint()} does not {action} {uri} ({_code(error) or kind}); see whether it runs, and whether {ENDPOINT_VARIABLE} names it"


def is_changed(error: BaseException) -> bool:
    """Whether an object was replaced while it was read."""
    return type(error).__name__ == "FileExpired"


@lru_cache(maxsize=4)
def _filesystem(settings: tuple[str, ...]) -> Any:
    import s3fs  # type: ignore[import-untyped]

    for name in ("botocore", "aiobotocore", "s3fs"):
        # What they log of requests holds keys and tokens.
        logging.getLogger(name).setLevel(logging.WARNING)
    found = s3fs.S3FileSystem(
        endpoint_url=settings[0] or None, config_kwargs=_CONNECTION, use_listings_cache=False, skip_instance_cache=True
    )
    # Whoever asks tries again as well, and later.
    found.retries = 3
    return found


@lru_cache(maxsize=4)
def _signer(settings: tuple[str, ...]) -> Any:
    import botocore.session  # type: ignore[import-untyped]
    from botocore.config import Config  # type: ignore[import-untyped]

    # Forms of the older way of signing have no end.
    return botocore.session.get_session().create_client("s3", endpoint_url=settings[0] or None, config=Config(signature_version="s3v4"))


def _is_missing(bucket: str) -> bool:
    try:
        filesystem().call_s3("head_bucket", Bucket=bucket)
    except FileNotFoundError:
        return True
    except Exception:  # whatever else is wrong with it, it is no missing bucket
        return False
    return False


def _code(error: BaseException) -> str:
    """The server's word for what is wrong, one of a list."""
    answer = getattr(error.__cause__, "response", None)
    code = answer.get("Error", {}).get("Code", "") if isinstance(answer, dict) else ""
    return code if isinstance(code, str) and code.isalnum() else ""
