"""A real S3 endpoint that tests start: moto's, which speaks HTTP as the services do. It can be told to look at credentials."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx

from workloads.catalogue.s3 import SECRETS, SETTINGS

ACCESS_KEY, SECRET_KEY, TOKEN = "AKIDOFTHESETESTS0001", "secret-of-these-tests/0123456789abcdefghi", "session-token-of-these-tests"
HIDDEN = (ACCESS_KEY, SECRET_KEY, TOKEN)
REGION = "us-east-1"


class S3Server:
    """An endpoint with whatever buckets tests make. Its address is known from the beginning; it answers from `start` on."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._server: Any = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Answer. To load it takes seconds. Twice does no harm."""
        if self._server is not None:
            return
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, app, threaded=True, fd=self._listener.fileno())
        threading.Thread(target=self._server.serve_forever, name="s3", daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._listener.close()

    @cached_property
    def client(self) -> Any:
        """boto3's."""
        import boto3

        return boto3.client("s3", endpoint_url=self.url, region_name=REGION, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY)

    def variables(self) -> dict[str, str]:
        """What a process needs to reach it."""
        return {
            "CPN_S3_ENDPOINT": self.url, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_SESSION_TOKEN": TOKEN,
            "AWS_DEFAULT_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

    def variables_with_file(self, folder: Path) -> dict[str, str]:
        """The same for a node, whose credentials are in a file, so that nothing that starts there finds them in its variables."""
        path = folder / "credentials"
        path.write_text(f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\naws_session_token = {TOKEN}\n")
        path.chmod(0o600)
        kept = {name: value for name, value in self.variables().items() if name not in SECRETS}
        return {**kept, "AWS_SHARED_CREDENTIALS_FILE": str(path)}

    def bucket(self, name: str) -> str:
        """An empty bucket: its name."""
        self.client.create_bucket(Bucket=name)
        return name

    def put(self, bucket: str, key: str, data: bytes) -> str:
        """An object: its URI."""
        self.client.put_object(Bucket=bucket, Key=key, Body=data)
        return f"s3://{bucket}/{key}"

    def objects(self, bucket: str) -> dict[str, int]:
        """Bytes of all objects in a bucket, by key."""
        found = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {item["Key"]: item["Size"] for item in found}

    def uploads(self, bucket: str) -> list[str]:
        """The keys of uploads that were begun and neither ended nor given up."""
        return [item["Key"] for item in self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse everybody, because it knows nobody's credentials."""
        self._looks_at_credentials("0")
        try:
            yield
        finally:
            self._looks_at_credentials("inf")

    def _looks_at_credentials(self, after: str) -> None:
        answer = httpx.post(f"{self.url}/moto-api/reset-auth", content=after.encode(), trust_env=False)
        assert json.loads(answer.text)["status"] == "ok"


def only(variables: dict[str, str]) -> Any:
    """While it lasts, this process has these settings of S3 and none of whoever runs the tests. A context manager."""
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return patch.dict(os.environ, {**kept, **variables}, clear=True)
