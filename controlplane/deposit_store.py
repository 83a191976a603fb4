"""A store of results into which runs put files themselves: what they are granted, and how their pieces become files.

Pieces lie in `RUN/.incoming/EPOCH/` below the store's prefix, which no name of a result file leads to; that is all that a grant opens.
Files are made out of them by the store itself, at `RUN/NAME`, and then read once, so what counts is what lies where it stays.
"""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from cluster.deposits import PACKAGE, PIECE_BYTES, Grant, piece_key, pieces
from cluster.protocol import ResultFile
from cluster.runs.depositor import DepositError, Depositor
from controlplane.result_store import ResultStore, ResultStoreError
from workloads.catalogue import s3
from workloads.catalogue.s3 import CHUNK_BYTES

INCOMING = ".incoming"
# The longest that stores sign for.
MOST_S = 7 * 86_400.0
_PROBE_S = 60.0


class NotAsToldError(ResultStoreError):
    """What lies in a store is not what the run told of."""


class DepositStore(ResultStore):
    """`url` as in ResultStore."""

    def grant(self, run_id: str, epoch: int, for_s: float, now: float) -> Grant:
        """Leave to put pieces there for so long. Says nothing over the network where credentials are at hand. Raises ResultStoreError."""
        prefix, lasts_s = self._incoming(run_id, epoch), min(for_s, MOST_S)
        told = {"success_action_status": "201"}
        with self._plain("sign for"):
            made = s3.signer().generate_presigned_post(
                Bucket=self._bucket, Key=prefix + "${filename}", Fields=dict(told),
                Conditions=[["content-length-range", 0, PIECE_BYTES], told], ExpiresIn=int(lasts_s),
            )  # fmt: skip
            package_url = s3.signer().generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": prefix + PACKAGE}, ExpiresIn=int(lasts_s)
            )
        fields = {name: value for name, value in made["fields"].items() if name != "key"}
        return Grant(
            url=made["url"], fields=fields, prefix=prefix, until=now + lasts_s, piece_bytes=PIECE_BYTES, package_url=package_url,
        )  # fmt: skip

    def try_grant(self, now: float) -> None:
        """Put a file there as the server does and as runs do, read it and remove it. Raises ResultStoreError."""
        self.probe()
        run_id = f".cpn-probe-{secrets.token_hex(8)}"
        depositor = Depositor(self.grant(run_id, 0, _PROBE_S, now), threading.Event(), waits_s=())
        with tempfile.TemporaryDirectory(prefix="cpn-probe-") as folder:
            Path(folder, "probe").touch()
            try:
                files = [ResultFile(**file) for file in depositor.put(Path(folder), [{"name": "probe", "size_bytes": 0}])]
            except DepositError as error:
                raise ResultStoreError(str(error)) from error
        try:
            self.gather(run_id, 0, depositor.token, files)
            self.prove(run_id, files, threading.Event())
        finally:
            self.remove(run_id)

    def gather(self, run_id: str, epoch: int, token: str, files: Sequence[ResultFile]) -> None:
        """Make files out of their pieces. Again it makes the same. Raises ResultStoreError, NotAsToldError when a piece is missing."""
        for number, file in enumerate(files):
            count = pieces(file.size_bytes, PIECE_BYTES)
            keys = [piece_key(self._incoming(run_id, epoch), token, number, piece) for piece in range(count)]
            with self._plain("write to"):
                try:
                    self._join(f"{self._folder(run_id)}{file.name}", keys)
                except FileNotFoundError as error:
                    raise NotAsToldError(f"a piece of {file.name} is not in the store; the job can be submitted again") from error

    def prove(self, run_id: str, files: Sequence[ResultFile], ending: threading.Event) -> None:
        """Read all files, whose bytes are to be those that were told. Raises NotAsToldError, ResultStoreError."""
        for file in files:
            digest, size = hashlib.sha256(), 0
            with self.open(run_id, file.name) as stream:
                while chunk := self.read(stream, CHUNK_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
                    if ending.is_set():
                        raise ResultStoreError("the server ends; the next one goes on with it")
            if (size, digest.hexdigest()) != (file.size_bytes, file.sha256):
                raise NotAsToldError(
                    f"{file.name} has {size} bytes or a checksum that its run has not told; the job can be submitted again"
                )

    def drop_pieces(self, run_id: str) -> None:
        """Remove what files were made of. Raises ResultStoreError."""
        self._remove_below(f"{self._folder(run_id)}{INCOMING}/")

    def _join(self, key: str, keys: Sequence[str]) -> None:
        call, bucket = s3.filesystem().call_s3, self._bucket
        if len(keys) == 1:
            call("copy_object", Bucket=bucket, Key=key, CopySource={"Bucket": bucket, "Key": keys[0]})
            return
        upload = call("create_multipart_upload", Bucket=bucket, Key=key)["UploadId"]
        whole = {"Bucket": bucket, "Key": key, "UploadId": upload}
        try:
            parts = []
            for number, piece in enumerate(keys, 1):
                copied = call("upload_part_copy", **whole, PartNumber=number, CopySource={"Bucket": bucket, "Key": piece})
                parts.append({"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]})
            call("complete_multipart_upload", **whole, MultipartUpload={"Parts": parts})
        except BaseException:
            call("abort_multipart_upload", **whole)
            raise

    def _incoming(self, run_id: str, epoch: int) -> str:
        return f"{self._folder(run_id)}{INCOMING}/{epoch}/"
