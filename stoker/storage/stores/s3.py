"""A store in a bucket of S3, or of any server that speaks it."""

import base64
import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stoker.storage.errors import AlreadyExists, NotFound, StorageError, StorageRefused, StorageUnavailable
from stoker.storage.stores import s3_uploads
from stoker.storage.stores.key import check_key, check_prefix, is_key
from stoker.storage.stores.payload import read_piece, read_whole, size_of
from stoker.storage.stores.probe import prove_create_only
from stoker.storage.stores.s3_client import Access, wait_s
from stoker.storage.stores.s3_reading import Reading
from stoker.storage.stores.store import Payload, Stored, Unfinished

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
ATTEMPTS = 6
PART = 16 * 2**20  # bytes of one part of a multipart upload
_NONCE = "stoker-write"  # metadata by which a writer knows its own object again


@dataclass(frozen=True)
class S3Store:
    """Objects below a prefix of a bucket. The client is opened by the first call and shared by threads.

    Every call is tried ``attempts`` times, with jittered waits of 6 s in all, before StorageUnavailable is raised.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    region: str | None = None
    attempts: int = ATTEMPTS
    part_size: int = PART  # bytes; a payload of more than four of them goes up in parts

    @property
    def url(self) -> str:
        """``s3://bucket/prefix``."""
        return f"s3://{self.bucket}/{self.prefix}" if self.prefix else f"s3://{self.bucket}"

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        """The object's bytes from ``start``, at most ``size`` of them; a cut stream goes on where it was cut."""
        if start < 0 or (size is not None and size < 0):
            raise ValueError(f"read from {start}, size {size}: expected none below 0")
        if size == 0:
            self.size(key)
            return b""
        stop = None if size is None else start + size
        for _ in range(self.attempts):
            try:
                return b"".join(self._pieces(key, Reading(start, stop)))
            except AlreadyExists:  # 412: it was replaced while it was read; once more, from its start
                continue
        raise StorageUnavailable(f"{self.url}/{key}: it changes while it is read; try again")

    def pieces(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """The object's bytes from ``start`` on, piece by piece; a cut stream goes on where it was cut."""
        try:
            yield from self._pieces(key, Reading(start, None))
        except AlreadyExists:
            raise StorageUnavailable(f"{self.url}/{key}: it changes while it is read; try again") from None

    def _pieces(self, key: str, reading: Reading) -> Iterator[bytes]:
        """Raises AlreadyExists when the object was replaced by another."""
        place = self._place(key)
        while True:
            try:
                body = self._try(key, partial(reading.open, place=place), attempts=1)
                if body is None:
                    return
                with closing(body):  # its own `with` gives the raw stream, which does not tell of a cut
                    while piece := self._try(key, lambda client: reading.piece(body), attempts=1):  # noqa: B023  # at once
                        yield piece
                return
            except StorageUnavailable:
                # Tries are counted from the last progress, so that a long object survives many cuts.
                reading.failures += 1
                if reading.failures >= self.attempts:
                    raise
                time.sleep(wait_s(reading.failures))

    def path(self, key: str) -> Path | None:
        """None: no object is a file here."""
        return None

    def size(self, key: str) -> int:
        """The object's size in bytes. Raises NotFound."""
        return int(self._head(key)["ContentLength"])

    def write(self, key: str, payload: Payload) -> None:
        """Put the object there whole or not at all, in place of any other."""
        self._put(key, payload, {})

    def create(self, key: str, payload: Payload) -> None:
        """Put the object there whole, if there is none. Raises AlreadyExists."""
        self._put(key, payload, {"IfNoneMatch": "*"})

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """The objects whose keys begin with the prefix, in order of their keys."""
        # AWS lists in order of the bytes; SeaweedFS folder by folder ("a/b" before "a-b"), so it is held and sorted.
        found = self._listed(prefix)
        yield from found if self._access.is_aws else sorted(found, key=lambda stored: stored.key.encode())

    def folders(self, prefix: str = "") -> Iterator[str]:
        """The folders right under a prefix."""
        found = self._common(prefix)
        if self._access.is_aws:
            yield from found
            return
        for name in sorted(found, key=lambda name: f"{name}/".encode()):
            # SeaweedFS goes on naming a folder whose last object was deleted.
            if next(self._listed(f"{prefix}{name}/", {"MaxKeys": 1}), None) is not None:
                yield name

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens if there is none."""
        place = self._place(key)
        with suppress(NotFound):
            self._try(key, lambda client: client.delete_object(**place))

    def unfinished(self, prefix: str = "") -> Iterator[Unfinished]:
        """The multipart uploads under a prefix that have not ended, each with the bytes that are there."""
        found = s3_uploads.unfinished(partial(self._try, prefix), self.bucket, self._base, check_prefix(prefix))
        return (one for one in found if is_key(one.key))

    def abandon(self, unfinished: Unfinished) -> None:
        """Abort an upload; nothing happens if it has ended."""
        from stoker.storage.stores.s3_faults import UploadGone

        upload = self._place(unfinished.key) | {"UploadId": unfinished.name}
        with suppress(NotFound, UploadGone):
            self._try(unfinished.key, lambda client: client.abort_multipart_upload(**upload))

    def probe(self) -> None:
        """Check that the bucket can be reached and written, and that the server honours ``If-None-Match: *``."""
        prove_create_only(self)

    @property
    def _base(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""

    def _place(self, key: str) -> dict[str, Any]:  # Any: keywords of boto3
        return {"Bucket": self.bucket, "Key": self._base + check_key(key)}

    def _listed(self, prefix: str, options: "dict[str, Any] | None" = None) -> Iterator[Stored]:  # Any: boto3
        for page in self._pages(prefix, options or {}):
            for one in page.get("Contents", ()):
                key = one["Key"][len(self._base) :]
                if is_key(key):
                    yield Stored(
                        key, one["Size"], str(one.get("ETag", "")).strip('"'), s3_uploads.seconds(one["LastModified"])
                    )

    def _common(self, prefix: str) -> Iterator[str]:
        for page in self._pages(prefix, {"Delimiter": "/"}):
            for one in page.get("CommonPrefixes", ()):
                name = one["Prefix"][len(self._base) + len(prefix) :].rstrip("/")
                if is_key(name):
                    yield name

    def _pages(self, prefix: str, options: dict[str, Any]) -> Iterator[dict[str, Any]]:  # Any: boto3
        asked = {"Bucket": self.bucket, "Prefix": self._base + check_prefix(prefix), **options}
        while True:
            page: Any = self._try(prefix, lambda client: client.list_objects_v2(**asked))
            yield page
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def _head(self, key: str) -> dict[str, Any]:  # Any: boto3
        place = self._place(key)
        try:
            found: Any = self._try(key, lambda client: client.head_object(**place))
        except NotFound:
            # The answer to HEAD has no body, so it does not tell a missing object from a missing bucket.
            try:
                self._try(key, lambda client: client.head_bucket(Bucket=self.bucket))
            except NotFound:
                raise StorageRefused(
                    f"{self.url}: {self._access.server} has no such bucket; create it or correct the name"
                ) from None
            raise
        return dict(found)

    def _put(self, key: str, payload: Payload, condition: dict[str, Any]) -> None:  # Any: keywords of boto3
        place = self._place(key) | {"Metadata": {_NONCE: uuid.uuid4().hex}}
        if size_of(payload) <= 4 * self.part_size:
            whole = read_whole(payload)
            given = place | condition | _checked(whole)
            self._settle(key, place, payload, lambda client: client.put_object(Body=whole, **given))
            return
        if condition:
            with suppress(NotFound):
                self._head(key)
                raise AlreadyExists(f"{self.url}/{key}: it is there already and is never overwritten")
        self._put_parts(key, place, payload, condition)

    def _put_parts(
        self,
        key: str,
        place: dict[str, Any],
        payload: Payload,
        condition: dict[str, Any],  # Any: boto3
    ) -> None:
        begun: Any = self._try(key, lambda client: client.create_multipart_upload(**place))
        upload = {"Bucket": place["Bucket"], "Key": place["Key"], "UploadId": begun["UploadId"]}
        try:
            sent = s3_uploads.send(partial(self._try, key), upload, payload, self.part_size)
            whole: Any = upload | {"MultipartUpload": {"Parts": sent.parts}} | condition
            self._settle(key, place, payload, lambda client: client.complete_multipart_upload(**whole))
        except BaseException:
            with suppress(StorageError):  # what is left of it costs money until it is aborted
                self._try(key, lambda client: client.abort_multipart_upload(**upload))
            raise
        self._prove(key, place, sent)

    def _prove(self, key: str, place: dict[str, Any], sent: "s3_uploads.Sent") -> None:  # Any: keywords of boto3
        """The parts were put together as they were sent; otherwise the object goes. Raises StorageUnavailable."""
        with suppress(NotFound):  # deleted by somebody since
            found = self._head(key)
            if found.get("Metadata", {}).get(_NONCE) not in (None, place["Metadata"][_NONCE]):
                return  # replaced by another writer since
            fault = sent.fault(found["ContentLength"], found["ETag"])
            if fault:
                self.delete(key)
                raise StorageUnavailable(f"{self.url}/{key}: {fault}; it was deleted, try again")

    def _settle(
        self,
        key: str,
        place: dict[str, Any],
        payload: Payload,
        ask: "Callable[[S3Client], object]",  # Any: boto3
    ) -> None:
        """Make the call that puts the object there. One whose answer was lost may find its own object when retried."""
        from stoker.storage.stores.s3_faults import UploadGone

        for attempt in range(1, self.attempts + 1):
            try:
                self._try(key, ask, attempts=1)
                return
            except StorageUnavailable:
                if attempt == self.attempts:
                    raise
                time.sleep(wait_s(attempt))
            except (AlreadyExists, UploadGone):
                if attempt > 1 and self._is_ours(key, place["Metadata"][_NONCE], payload):
                    return
                raise

    def _is_ours(self, key: str, nonce: str, payload: Payload) -> bool:
        """Whether the object is what this call put there: by its mark, or by its bytes where the server drops marks."""
        try:
            found = self._head(key)
            marked = found.get("Metadata", {}).get(_NONCE)
            if marked is not None:
                return bool(marked == nonce)
            if found["ContentLength"] != size_of(payload):
                return False
            for start in range(0, size_of(payload), self.part_size):
                if self.read(key, start=start, size=self.part_size) != read_piece(payload, start, self.part_size):
                    return False
        except NotFound:
            return False
        return True

    def _try(self, key: str, ask: "Callable[[S3Client], T]", *, attempts: int | None = None) -> T:
        return self._access.ask(f"{self.url}/{key}" if key else self.url, ask, attempts=attempts or self.attempts)

    @cached_property
    def _access(self) -> Access:
        return Access(self.endpoint, self.access_key, self.secret_key, self.region)


def _checked(payload: bytes) -> dict[str, Any]:  # Any: keywords of boto3
    """The checksum that every S3 server compares: newer ones are unknown to some."""
    return {"ContentMD5": base64.b64encode(hashlib.md5(payload, usedforsecurity=False).digest()).decode()}


def create_bucket(
    name: str, *, endpoint: str | None, access_key: str | None, secret_key: str | None, region: str | None = None
) -> None:
    """Make a bucket; nothing happens if it is ours already. Raises StorageError."""
    access = Access(endpoint, access_key, secret_key, region)
    where = f"s3://{name}"
    try:
        access.ask(where, lambda client: client.head_bucket(Bucket=name))
    except NotFound:
        elsewhere: Any = {}  # Any: keywords of boto3
        if region not in (None, "us-east-1"):
            elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        access.ask(where, lambda client: client.create_bucket(Bucket=name, **elsewhere))
