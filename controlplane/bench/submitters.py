"""The clients of the throughput benchmark, in a process of their own: each has a connection and submits one request after the other.

Run as `python -m controlplane.bench.submitters HOST PORT JOBS CLIENTS BATCH` with the job's JSON in the first line of standard input and
the token in the second. Says `ready`, waits for a third line, submits, and writes one line of JSON.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any


def submit_all(host: str, port: int, token: str, body: str, jobs: int, clients: int, batch: int) -> list[str]:
    """Submit the job `jobs` times, `batch` at once; the ids. Raises RuntimeError for what is not accepted."""
    left, ids = _shares(jobs, batch), []
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def one_client(_number: int) -> None:
        with closing(http.client.HTTPConnection(host, port, timeout=300)) as connection:
            while share := next(left, 0):
                path, text = ("/v1/jobs", body) if batch == 1 else ("/v1/jobs:batch", _batch(body, share))
                connection.request("POST", path, body=text.encode(), headers=headers)
                answer = connection.getresponse()
                document = answer.read()
                if not 200 <= answer.status < 300:
                    raise RuntimeError(f"HTTP {answer.status}: {document.decode(errors='replace')}")
                ids.extend(_ids(json.loads(document), share))

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one_client, range(clients)))
    return ids


def _shares(jobs: int, batch: int) -> Iterator[int]:
    return iter([min(batch, jobs - begin) for begin in range(0, jobs, batch)])


def _batch(body: str, size: int) -> str:
    return '{"items":[' + ",".join([f'{{"job":{body}}}'] * size) + "]}"


def _ids(document: dict[str, Any], share: int) -> list[str]:
    if "items" not in document:
        return [document["id"]]
    ids = [item["id"] for item in document["items"] if item["verdict"] == "accepted"]
    if len(ids) != share:
        raise RuntimeError(f"{share - len(ids)} of {share} were refused: {document['items']}")
    return ids


def main(host: str, port: str, jobs: str, clients: str, batch: str) -> None:
    """Read what to submit, submit it when told to, report."""
    body, token = sys.stdin.readline().strip(), sys.stdin.readline().strip()
    print("ready", flush=True)
    sys.stdin.readline()
    began, used_s = time.time(), time.process_time()
    ids = submit_all(host, int(port), token, body, int(jobs), int(clients), int(batch))
    print(json.dumps({"began": began, "ended": time.time(), "used_s": time.process_time() - used_s, "ids": ids}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
