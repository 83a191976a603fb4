"""Too much at once, on a real Ray and through the server: a log, and a result."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kills.field import Field
from tests.network import job
from tests.ray import WAIT_S, SmallRay
from tests.ray_left import files_of

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

MIB, GIB = 1024**2, 1024**3


@pytest.fixture(scope="module")
def field(ray_head: SmallRay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    with Field(tmp_path_factory.mktemp("field"), ray_head) as opened:
        yield opened


def test_of_100_mb_of_log_at_once_the_beginning_and_the_end_are_kept_and_nobody_waits_for_it(field: Field) -> None:
    network, text = field.network, "yes 'a line of it' | head -c 100000000; echo; echo the end of it"
    flood = network.submit(job("floods", kind="command", command=["sh", "-c", text], max_runtime="10m"))
    network.wait(flood["id"], "running", "succeeded", seconds=WAIT_S)
    assert network.wait(network.submit(job("asks"))["id"], seconds=WAIT_S)["state"] == "succeeded"
    done = network.wait(flood["id"], seconds=WAIT_S)
    assert (done["state"], done["attempts"]) == ("succeeded", 1)
    kept = network.operator.get(f"/jobs/{flood['id']}/logs").text
    assert kept.startswith("a line of it\na line of it\n")
    assert kept.endswith("\nthe end of it\n")
    assert "bytes were dropped here" in kept
    assert 32 * MIB < len(kept.encode()) < 65 * MIB, "most of what a log may have, and no more"


def test_a_result_of_10_gib_is_not_even_copied(field: Field) -> None:
    network, text = field.network, f'truncate -s {10 * GIB} "$CPN_OUTPUT_DIR/file"'
    done = network.wait(network.submit(job("swells", kind="command", command=["sh", "-c", text]))["id"], seconds=WAIT_S)
    assert (done["state"], done["cause"]) == ("failed", "result")
    assert f"the result of {10 * GIB} bytes is over the limit of {network.settings.max_result_bytes} bytes" in done["message"]
    assert "CPN_MAX_RESULT_BYTES" in done["message"]
    assert list((field.agents.folder / "agent" / "results").iterdir()) == []
    assert files_of(field.head.runs, [done["run_id"]]) == []
