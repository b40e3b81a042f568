"""Multipart uploads to S3: each part has a checksum and its own retries; incomplete uploads can be listed.

Both AWS and SeaweedFS 4 compare ``Content-MD5`` of every part, refuse to complete an upload whose parts are missing or
differ, and give the object an ETag made of its parts' MD5s. SeaweedFS lists incomplete uploads too, but ignores
``MpuObjectSize`` and names no ``NextKeyMarker``.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from stoker.storage.errors import NotFound
from stoker.storage.stores.payload import read_slice, size_of
from stoker.storage.stores.store import Payload, PendingUpload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    Call = Callable[[Callable[[S3Client], Any]], Any]  # makes a request with retries; Any: boto3

_SENDERS = 4  # parts uploaded at once: memory stays below five parts
_MAX_PARTS = 9_000  # S3 allows 10,000


@dataclass(frozen=True, slots=True)
class UploadedParts:
    """All parts of an object, uploaded; the upload is not completed yet."""

    parts: list[dict[str, Any]]  # as boto3 names them
    size: int  # bytes
    etag: str | None  # that the object will have; None where the server's ETags are no MD5s (encrypted buckets)

    def mismatch(self, size: int, etag: str) -> str:
        """How the object's size and ETag differ from those of the parts; "" if they do not."""
        if size != self.size:
            return f"has {size} bytes, but {self.size} were sent"
        if self.etag is not None and etag.strip('"') != self.etag:
            return f"has the ETag {etag}, but its {len(self.parts)} parts make {self.etag}"
        return ""


def upload_parts(
    call: "Call", upload: dict[str, Any], payload: Payload, part_size: int
) -> UploadedParts:  # Any: keywords of boto3
    """Upload all parts of an upload that was begun, a few at once. Raises StorageError."""
    size = size_of(payload)
    part_bytes = max(part_size, -(-size // _MAX_PARTS))

    def upload_part(number: int) -> tuple[dict[str, Any], int, bytes]:  # Any: boto3
        content = read_slice(payload, (number - 1) * part_bytes, part_bytes)
        md5 = hashlib.md5(content, usedforsecurity=False).digest()
        arguments = upload | {"PartNumber": number, "ContentMD5": base64.b64encode(md5).decode()}
        response = call(lambda client: client.upload_part(Body=content, **arguments))
        return {"ETag": response["ETag"], "PartNumber": number}, len(content), md5

    senders = ThreadPoolExecutor(_SENDERS, thread_name_prefix="stoker-upload")
    try:
        done = list(senders.map(upload_part, range(1, -(-size // part_bytes) + 1)))
    finally:
        senders.shutdown(cancel_futures=True)
    etags_are_md5s = all(part["ETag"].strip('"') == md5.hex() for part, _, md5 in done)
    joined = hashlib.md5(b"".join(md5 for _, _, md5 in done), usedforsecurity=False).hexdigest()
    etag = f"{joined}-{len(done)}" if etags_are_md5s else None
    return UploadedParts([part for part, _, _ in done], sum(size for _, size, _ in done), etag)


def pending_uploads(call: "Call", bucket: str, base: str, prefix: str) -> Iterator[PendingUpload]:
    """The incomplete uploads below ``base`` + ``prefix``; their keys without ``base``."""
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": base + prefix}  # Any: keywords of boto3
    while True:
        page = call(lambda client: client.list_multipart_uploads(**request))
        for upload in page.get("Uploads", ()):
            key, upload_id = upload["Key"], upload["UploadId"]
            try:
                size = _uploaded_size(call, {"Bucket": bucket, "Key": key, "UploadId": upload_id})
            except NotFound:
                continue  # ended since it was listed
            yield PendingUpload(key[len(base) :], size, timestamp(upload["Initiated"]), upload_id)
        markers = {"KeyMarker": page.get("NextKeyMarker"), "UploadIdMarker": page.get("NextUploadIdMarker")}
        markers = {name: value for name, value in markers.items() if value}
        if not page.get("IsTruncated") or not page.get("Uploads") or not markers:
            return
        request.update(markers)


def _uploaded_size(call: "Call", upload: dict[str, Any]) -> int:  # Any: keywords of boto3
    from stoker.storage.stores.s3_faults import UploadGone

    size, request = 0, dict(upload)
    while True:
        try:
            page = call(lambda client: client.list_parts(**request))
        except UploadGone as error:
            raise NotFound(str(error)) from error
        size += sum(int(part["Size"]) for part in page.get("Parts", ()))
        if not page.get("IsTruncated") or not page.get("Parts"):
            return size
        request["PartNumberMarker"] = page["NextPartNumberMarker"]


def timestamp(moment: datetime) -> float:
    """A time from boto3 as seconds since 1970."""
    return moment.timestamp()
