"""Rows a second of a function over partitions, through cpn and by a script on Ray Data by hand, interleaved on one real Ray.

Both run the same function over the same Parquet file and write a Parquet dataset, within as many cores. The script is what its author
would write: `read_parquet` in as many blocks as the file has row groups, `map_batches` with that function, `write_parquet`. What is
measured is the work itself, from where each side begins with Ray Data to where all is written, as each counts it, and beside it the
whole time: from the submission to the end seen by the client, and from the start of the script's process to its end.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from controlplane.api.schemas import JobView, VersionRequest
from controlplane.api.tenant_schemas import TenantRequest
from controlplane.bench.errors import BenchError
from controlplane.bench.networks import CLUSTER, TENANT, one_ray
from controlplane.client import Client
from controlplane.network import Say
from scheduler.lifecycle import FINAL, State
from workloads.catalogue.product import Product, Replica
from workloads.spec import JobSpec

PRODUCT, GROUP_ROWS = "bench/trips", 250_000
FUNCTION = """\
import pyarrow as pa, pyarrow.compute as pc
def fn(table):
    words = pc.utf8_upper(pc.replace_substring_regex(table["note"], pattern="[aeiou]+", replacement="-"))
    speed = pc.divide(table["distance"], pc.add(table["seconds"], 1))
    kept = pa.table({"id": table["id"], "note": words, "speed": speed, "root": pc.sqrt(pc.exp(pc.sin(speed)))})
    return kept.filter(pc.greater(kept["speed"], 0.001))
"""
# By hand: one argument each for the address, the file, the folder of the result, the cores and the rows of a batch.
SCRIPT = """\
import json, sys, time
import pyarrow as pa, ray, ray.data
from step import fn
pa.set_cpu_count(1)
address, source, target, cores, rows = sys.argv[1:]
ray.init(address=address, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
began = time.time()
ray.data.read_parquet(source, override_num_blocks=int(rows)).map_batches(
    fn, batch_format="pyarrow", batch_size=None, concurrency=int(cores), num_cpus=1
).write_parquet(target)
print(json.dumps({"work_s": time.time() - began}))
"""


def run_map(folder: Path, *, rows: int, rounds: int, cores: int, say: Say) -> dict[str, Any]:
    """Both sides `rounds` times each, after a first round that does not count. Raises BenchError, NetworkError, ClientError."""
    with one_ray(folder, say, cpus=cores) as network, network.operator() as client:
        head = network.rays[CLUSTER]
        source = _furnish(client, folder, rows)
        ours: list[dict[str, float]] = []
        peer: list[dict[str, float]] = []
        for number in range(-1, rounds):
            one = _through_cpn(client, source[1], cores)
            other = _by_hand(folder / f"by-hand-{number + 1}", head.address, head.token_file, source[0], cores, -(-rows // GROUP_ROWS))
            say(f"round {number + 1}: cpn {rows / one['work_s']:,.0f} rows/s, by hand {rows / other['work_s']:,.0f} rows/s")
            if number >= 0:
                ours.append(one)
                peer.append(other)
    return document_of(rows, cores, ours, peer)


def document_of(rows: int, cores: int, ours: list[dict[str, float]], peer: list[dict[str, float]]) -> dict[str, Any]:
    """The figures: medians of each side, and the ratio of the medians of rows a second."""

    def side(found: list[dict[str, float]]) -> dict[str, float]:
        work, whole = (statistics.median(one[name] for one in found) for name in ("work_s", "whole_s"))
        return {"rows_per_s": round(rows / work, 1), "work_s": round(work, 3), "whole_s": round(whole, 3)}

    cpn, by_hand = side(ours), side(peer)
    return {
        "rows": rows, "cores": cores, "rounds": len(ours), "cpn": cpn, "ray_data": by_hand,
        "ratio": round(cpn["rows_per_s"] / by_hand["rows_per_s"], 3), "ratio_whole": round(by_hand["whole_s"] / cpn["whole_s"], 3),
    }  # fmt: skip


def _furnish(client: Client, folder: Path, rows: int) -> tuple[Path, str]:
    """A file of made-up rows, published at the cluster; its path and its reference."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    path = folder / "trips.parquet"
    schema = pa.schema([("id", pa.int64()), ("distance", pa.float64()), ("seconds", pa.int64()), ("note", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, GROUP_ROWS):
            numbers = range(start, min(start + GROUP_ROWS, rows))
            columns = (
                pa.array(numbers), pa.array([(number * 7919) % 10_007 / 10 for number in numbers]),
                pa.array([(number * 104_729) % 3600 for number in numbers]),
                pa.array([f"trip {number} by a quiet road" for number in numbers]),
            )  # fmt: skip
            writer.write_table(pa.table(list(columns), schema=schema), row_group_size=GROUP_ROWS)
    client.create_tenant(TenantRequest(name=TENANT))
    client.create_product(Product(name=PRODUCT, owner="bench", classification="public"))
    version = client.publish_version(PRODUCT, VersionRequest(format="parquet", replicas=(Replica(cluster=CLUSTER, uri=path.as_uri()),)))
    return path, version.ref


def _through_cpn(client: Client, ref: str, cores: int) -> dict[str, float]:
    """A job of kind map to its end."""
    began = time.monotonic()
    job: JobView = client.submit(JobSpec.model_validate({
        "name": "trips", "tenant": TENANT, "kind": "map", "purpose": "research", "inputs": {"trips": ref}, "files": {"step.py": FUNCTION},
        "map": {"function": "step.py", "rows": GROUP_ROWS, "compression": "snappy"}, "resources": {"cpu": cores, "memory": "2GiB"},
    }))  # fmt: skip
    while State(job.state) not in FINAL:
        job = client.job(job.id, wait_s=30.0, after_version=job.version)
    whole = time.monotonic() - began
    if job.state != State.SUCCEEDED or job.progress is None or not job.progress.rows_per_s:
        raise BenchError(f"{job.id} is {job.state}: {job.message}")
    return {"work_s": job.progress.rows / job.progress.rows_per_s, "whole_s": whole}


def _by_hand(folder: Path, address: str, token_file: Path, source: Path, cores: int, groups: int) -> dict[str, float]:
    """The script, in a process of its own on the same machine."""
    folder.mkdir()
    (folder / "step.py").write_text(FUNCTION, encoding="utf-8")
    (folder / "script.py").write_text(SCRIPT, encoding="utf-8")
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_file), "PYTHONWARNINGS": "ignore"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "script.py", address, str(source), str(folder / "result"), str(cores), str(groups)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    whole = time.monotonic() - began
    if done.returncode != 0:
        raise BenchError(f"the script by hand failed: {done.stderr[-2000:]}")
    return {"work_s": float(json.loads(done.stdout.strip().splitlines()[-1])["work_s"]), "whole_s": whole}
