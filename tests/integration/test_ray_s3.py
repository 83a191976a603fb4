"""Inputs on S3 on real Ray: a node reads them with its own credentials, of which a user's process sees nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.protocol import InputFile
from tests.ray import Connection, RayAgent, SmallRay
from tests.ray_left import leaving_nothing
from tests.ray_runs import delivered, script, statement
from tests.s3 import HIDDEN, S3Server
from workloads.catalogue.s3 import SETTINGS

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
ROWS = b"carrier,delay\nAA,1.5\nUA,2.5\nAA,3.5\n"


@pytest.fixture
def member(ray_head: SmallRay, tmp_path: Path) -> Iterator[Connection]:
    with RayAgent(tmp_path / "agent.log") as agent:
        connection = agent.connect(ray_head, tmp_path / "data")
        with leaving_nothing(connection, ray_head):
            yield connection


def lies_at(uri: str, data: bytes) -> InputFile:
    sha256 = hashlib.sha256(data).hexdigest()
    return InputFile(ref="nyc/flights@1", uri=uri, format="csv", size_bytes=len(data), sha256=sha256, local=True)


def test_runs_read_from_s3_and_users_see_no_credentials(member: Connection, s3: S3Server, tmp_path: Path) -> None:
    node, bucket = member.node(), s3.bucket("ray-inputs")
    found = lies_at(s3.put(bucket, "flights.csv", ROWS), ROWS)
    end = member.run(statement(node, "SELECT carrier, sum(delay) AS d FROM flights GROUP BY ALL ORDER BY ALL", {"flights": found}))
    assert end.preview is not None
    assert (end.outcome, end.preview.rows, end.usage.cache.misses) == ("succeeded", (("AA", 5.0), ("UA", 2.5)), 1)

    look = 'cat "$CPN_INPUT_FLIGHTS" > "$CPN_OUTPUT_DIR/all"; env >> "$CPN_OUTPUT_DIR/all"'
    seen = delivered(member.run(script(node, look, inputs={"flights": found}))).decode()
    assert seen.startswith(ROWS.decode())
    assert [name for name in (*SETTINGS, *HIDDEN) if name in seen] == []

    missing = lies_at(f"s3://{bucket}/gone.csv", b"other")
    end = member.run(statement(node, "SELECT 1 FROM flights", {"flights": missing}))
    assert (end.outcome, end.category) == ("failed", "data")
    assert f"there is no object at s3://{bucket}/gone.csv" in end.message
    said = end.model_dump_json() + json.dumps((tmp_path / "agent.log").read_text(errors="replace"))
    assert [secret for secret in HIDDEN if secret in said] == []
