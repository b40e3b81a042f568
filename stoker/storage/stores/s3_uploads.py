"""Objects that go up to S3 in parts: each part checked and tried again by itself, and what was left is found again.

AWS and SeaweedFS 4 alike compare ``Content-MD5`` of every part, refuse to put parts together that are missing or
other than was said, and give the whole an ETag made of its parts' MD5s. SeaweedFS lists unfinished uploads too, but
ignores ``MpuObjectSize`` and names no ``NextKeyMarker``.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from stoker.storage.errors import NotFound
from stoker.storage.stores.payload import read_piece, size_of
from stoker.storage.stores.store import Payload, Unfinished

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    Ask = Callable[[Callable[[S3Client], Any]], Any]  # makes a call, again where that may help; Any: boto3

_SENDERS = 4  # parts on their way at once: memory stays below five of them
_MOST_PARTS = 9_000  # S3 allows 10,000


@dataclass(frozen=True, slots=True)
class Sent:
    """The parts of an object, all there but not yet put together."""

    parts: list[dict[str, Any]]  # as boto3 names them
    size: int  # bytes
    etag: str | None  # what the whole will have; None where the server's ETags are no MD5s (encrypted buckets)

    def fault(self, size: int, etag: str) -> str:
        """What is wrong with the whole, by what the server says of it; "" if nothing."""
        if size != self.size:
            return f"has {size} bytes, but {self.size} were sent"
        if self.etag is not None and etag.strip('"') != self.etag:
            return f"has the ETag {etag}, but its {len(self.parts)} parts make {self.etag}"
        return ""


def send(ask: "Ask", upload: dict[str, Any], payload: Payload, part_size: int) -> Sent:  # Any: keywords of boto3
    """Send all parts of a begun upload, a few at once. Raises StorageError."""
    size = size_of(payload)
    step = max(part_size, -(-size // _MOST_PARTS))

    def part(number: int) -> tuple[dict[str, Any], int, bytes]:  # Any: boto3
        piece = read_piece(payload, (number - 1) * step, step)
        md5 = hashlib.md5(piece, usedforsecurity=False).digest()
        given = upload | {"PartNumber": number, "ContentMD5": base64.b64encode(md5).decode()}
        answer = ask(lambda client: client.upload_part(Body=piece, **given))
        return {"ETag": answer["ETag"], "PartNumber": number}, len(piece), md5

    senders = ThreadPoolExecutor(_SENDERS, thread_name_prefix="stoker-upload")
    try:
        done = list(senders.map(part, range(1, -(-size // step) + 1)))
    finally:
        senders.shutdown(cancel_futures=True)
    named = all(one["ETag"].strip('"') == md5.hex() for one, _, md5 in done)
    joined = hashlib.md5(b"".join(md5 for _, _, md5 in done), usedforsecurity=False).hexdigest()
    return Sent(
        [one for one, _, _ in done], sum(size for _, size, _ in done), f"{joined}-{len(done)}" if named else None
    )


def unfinished(ask: "Ask", bucket: str, base: str, prefix: str) -> Iterator[Unfinished]:
    """The uploads below ``base`` + ``prefix`` that were begun and not ended; their keys without ``base``."""
    asked: dict[str, Any] = {"Bucket": bucket, "Prefix": base + prefix}  # Any: keywords of boto3
    while True:
        page = ask(lambda client: client.list_multipart_uploads(**asked))
        for one in page.get("Uploads", ()):
            key, name = one["Key"], one["UploadId"]
            try:
                size = _size(ask, {"Bucket": bucket, "Key": key, "UploadId": name})
            except NotFound:
                continue  # ended since
            yield Unfinished(key[len(base) :], size, seconds(one["Initiated"]), name)
        then = {"KeyMarker": page.get("NextKeyMarker"), "UploadIdMarker": page.get("NextUploadIdMarker")}
        after = {name: value for name, value in then.items() if value}
        if not page.get("IsTruncated") or not page.get("Uploads") or not after:
            return
        asked.update(after)


def _size(ask: "Ask", upload: dict[str, Any]) -> int:  # Any: keywords of boto3
    from stoker.storage.stores.s3_faults import UploadGone

    size, asked = 0, dict(upload)
    while True:
        try:
            page = ask(lambda client: client.list_parts(**asked))
        except UploadGone as error:
            raise NotFound(str(error)) from error
        size += sum(int(one["Size"]) for one in page.get("Parts", ()))
        if not page.get("IsTruncated") or not page.get("Parts"):
            return size
        asked["PartNumberMarker"] = page["NextPartNumberMarker"]


def seconds(moment: datetime) -> float:
    """A time of boto3's, in seconds since 1970."""
    return moment.timestamp()
