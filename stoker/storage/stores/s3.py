"""A store in a bucket of AWS S3 or of any server with its API."""

import base64
import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stoker.storage.errors import AlreadyExists, NotFound, StorageError, StorageRefused, StorageUnavailable
from stoker.storage.stores import s3_uploads
from stoker.storage.stores.deprecated import DeprecatedNames
from stoker.storage.stores.key import check_key, check_prefix, is_key
from stoker.storage.stores.payload import read_payload, read_slice, size_of
from stoker.storage.stores.probe import check_create_only
from stoker.storage.stores.s3_client import ATTEMPTS, PATIENCE_S, TIMEOUT_S, Retries, S3Connection
from stoker.storage.stores.s3_get import ENTRIES, GetsObjects
from stoker.storage.stores.s3_reading import ResumableRead
from stoker.storage.stores.store import Payload, PendingUpload, StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
PART = 16 * 2**20  # bytes of one part of a multipart upload
_LOOK_S = 5.0  # that a server which failed all the time is given to say whether the object is there
_SMALL = 2**20  # bytes that a server has written in seconds
_NONCE = "stoker-write"  # metadata by which a writer recognises its own object


@dataclass(frozen=True)
class S3Store(DeprecatedNames):
    """Objects below a prefix of a bucket. The first call opens the client, which all threads share.

    Every request is tried ``attempts`` times, with backoff of about 6 s in all, before StorageUnavailable is raised;
    and longer where ``patience_s`` seconds have not passed since it failed first.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None  # the server's URL; None: AWS
    access_key: str | None = field(default=None, repr=False)  # without keys, boto3 looks in its usual places
    secret_key: str | None = field(default=None, repr=False)
    region: str | None = None
    attempts: int = ATTEMPTS
    patience_s: float | None = None  # None: as who uses the store has it; streams and trainings wait for minutes
    part_size: int = PART  # bytes; a payload of more than four times as many is uploaded in parts

    @property
    def url(self) -> str:
        """``s3://bucket/prefix``."""
        return f"s3://{self.bucket}/{self.prefix}" if self.prefix else f"s3://{self.bucket}"

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        """The object's bytes from ``start``, at most ``size`` of them. Raises NotFound."""
        if start < 0 or (size is not None and size < 0):
            raise ValueError(f"read from {start}, size {size}: expected none below 0")
        if size == 0:
            self.size(key)
            return b""
        stop = None if size is None else start + size
        for _ in range(self.attempts):
            try:
                return b"".join(self._iter_bytes(key, ResumableRead(start, stop)))
            except AlreadyExists:  # 412: it was replaced while it was read; start again
                continue
        raise StorageUnavailable(f"{self.url}/{key}: it changes while it is read; try again")

    def iter_bytes(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """The object's bytes from ``start`` to its end, a megabyte at a time; resumed after a broken connection."""
        try:
            yield from self._iter_bytes(key, ResumableRead(start, None))
        except AlreadyExists:
            raise StorageUnavailable(f"{self.url}/{key}: it changes while it is read; try again") from None

    def _iter_bytes(self, key: str, progress: ResumableRead) -> Iterator[bytes]:
        """Raises AlreadyExists when the object was replaced by another."""
        address = self._bucket_and_key(key)
        # Counted since the last chunk, so that a long object survives many broken connections.
        retries = Retries(self._connection, self.attempts, self.patience_s or 0.0)
        while True:
            try:
                body = self._try_read(key, partial(self._open, progress, address, retries.timeout_s))
                if body is not None:
                    # Its own `with` gives the raw stream, which does not report a broken connection.
                    with closing(body):
                        while chunk := self._try_read(key, partial(progress.next_chunk, body)):
                            retries.succeeded()
                            yield chunk
                retries.succeeded()
                return
            except StorageUnavailable as error:
                retries.wait(error)

    def _open(self, progress: ResumableRead, address: dict[str, Any], timeout_s: float) -> Any:  # Any: boto3
        return progress.open(self._connection.getter(self.bucket, timeout_s), address)

    def _try_read(self, key: str, request: "Callable[[], T]") -> T:
        return self._connection.once(f"{self.url}/{key}", request)

    def with_patience(self, seconds: float = PATIENCE_S) -> "S3Store":
        """The same store, waiting for its server that long; as it is if its patience or its attempts were set."""
        unset = self.patience_s is None and self.attempts == ATTEMPTS
        return replace(self, patience_s=seconds) if unset else self

    def path(self, key: str) -> Path | None:
        """None: no object is a local file."""
        return None

    def size(self, key: str) -> int:
        """The object's size in bytes. Raises NotFound."""
        return int(self._head(key)["ContentLength"])

    def write(self, key: str, payload: Payload) -> None:
        """Put the whole object there or nothing, in place of any other."""
        self._put(key, payload, {})

    def create(self, key: str, payload: Payload) -> None:
        """Put the whole object there if the key is free. Raises AlreadyExists."""
        self._put(key, payload, {"IfNoneMatch": "*"})

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """The objects whose keys begin with the prefix, in order of their keys."""
        # AWS lists in order of the bytes, SeaweedFS folder by folder ("a/b" before "a-b").
        listed = self._listed(prefix)
        yield from listed if self._connection.is_aws else sorted(listed, key=lambda stored: stored.key.encode())

    def folders(self, prefix: str = "") -> Iterator[str]:
        """The folders right under a prefix."""
        names = self._common_prefixes(prefix)
        if self._connection.is_aws:
            yield from names
            return
        for name in sorted(names, key=lambda name: f"{name}/".encode()):
            # SeaweedFS still lists a folder whose last object was deleted.
            if next(self._listed(f"{prefix}{name}/", {"MaxKeys": 1}), None) is not None:
                yield name

    def delete(self, key: str) -> None:
        """Remove the object; does nothing if there is none."""
        address = self._bucket_and_key(key)
        with suppress(NotFound):
            self._try(key, lambda client: client.delete_object(**address))

    def presigned(self, key: str, *, valid_s: int) -> str:
        """A URL by which anybody can read an object for so many seconds. Nothing is asked of the server."""
        address = self._bucket_and_key(key)
        return self._try(
            key, lambda client: str(client.generate_presigned_url("get_object", Params=address, ExpiresIn=valid_s))
        )

    def keeps_versions(self) -> bool:
        """Whether the bucket keeps old versions of objects, or did: what is deleted stays there then."""
        status = self._try("", lambda client: dict(client.get_bucket_versioning(Bucket=self.bucket)))
        return "Status" in status

    def delete_old_versions(self, prefix: str) -> None:
        """Remove the old versions of all objects under a prefix, and all of objects that were deleted."""
        request: dict[str, Any] = {"Bucket": self.bucket, "Prefix": self._base + check_prefix(prefix)}
        markers: list[dict[str, Any]] = []  # a marker that is gone makes the version before it the latest
        while True:
            page = self._try(prefix, partial(_page_of_versions, request))
            for old in page.get("Versions", ()):
                if not old["IsLatest"]:
                    self._delete_version(prefix, old)
            markers += page.get("DeleteMarkers", ())
            if not page.get("IsTruncated"):
                break
            request |= {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
        for marker in markers:
            self._delete_version(prefix, marker)

    def _delete_version(self, prefix: str, version: Mapping[str, Any]) -> None:  # Any: boto3
        address = {"Bucket": self.bucket, "Key": version["Key"], "VersionId": version["VersionId"]}
        self._try(prefix, partial(_delete_version, address))

    def pending_uploads(self, prefix: str = "") -> Iterator[PendingUpload]:
        """The incomplete multipart uploads under a prefix."""
        call = partial(self._try, prefix)
        uploads = s3_uploads.pending_uploads(call, self.bucket, self._base, check_prefix(prefix))
        return (upload for upload in uploads if is_key(upload.key))

    def abort(self, upload: PendingUpload) -> None:
        """Abort an incomplete upload; does nothing if it has ended."""
        from stoker.storage.stores.s3_faults import UploadGone

        address = self._bucket_and_key(upload.key) | {"UploadId": upload.upload_id}
        with suppress(NotFound, UploadGone):
            self._try(upload.key, lambda client: client.abort_multipart_upload(**address))

    def reopen(self) -> "S3Store":
        """The same store with a client of its own."""
        return replace(self)

    def probe(self) -> None:
        """Check that the bucket can be reached and written, and that the server honours ``If-None-Match: *``."""
        check_create_only(self)

    @property
    def _base(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""

    def _bucket_and_key(self, key: str) -> dict[str, Any]:  # Any: keywords of boto3
        return {"Bucket": self.bucket, "Key": self._base + check_key(key)}

    def _listed(self, prefix: str, options: "dict[str, Any] | None" = None) -> Iterator[StoredObject]:  # Any: boto3
        for page in self._pages(prefix, options or {}):
            for entry in page.get("Contents", ()):
                key = entry["Key"][len(self._base) :]
                if is_key(key):
                    etag = str(entry.get("ETag", "")).strip('"')
                    yield StoredObject(key, entry["Size"], etag, s3_uploads.timestamp(entry["LastModified"]))

    def _common_prefixes(self, prefix: str) -> Iterator[str]:
        for page in self._pages(prefix, {"Delimiter": "/"}):
            for entry in page.get("CommonPrefixes", ()):
                name = entry["Prefix"][len(self._base) + len(prefix) :].rstrip("/")
                if is_key(name):
                    yield name

    def _pages(self, prefix: str, options: dict[str, Any]) -> Iterator[dict[str, Any]]:  # Any: boto3
        request = {"Bucket": self.bucket, "Prefix": self._base + check_prefix(prefix), **options}
        while True:
            page = self._try(prefix, partial(_page, request), by_url=True)
            yield page
            if not page["IsTruncated"]:
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def _head(self, key: str) -> dict[str, Any]:  # Any: boto3
        address = self._bucket_and_key(key)
        try:
            head: Any = self._try(key, lambda client: client.head_object(**address))
        except NotFound:
            # The response to HEAD has no body, so it does not tell a missing object from a missing bucket.
            try:
                self._try(key, lambda client: client.head_bucket(Bucket=self.bucket))
            except NotFound:
                raise StorageRefused(
                    f"{self.url}: {self._connection.server} has no such bucket; create it or correct the name"
                ) from None
            raise
        return dict(head)

    def _put(self, key: str, payload: Payload, condition: dict[str, Any]) -> None:  # Any: keywords of boto3
        address = self._bucket_and_key(key) | {"Metadata": {_NONCE: uuid.uuid4().hex}}
        if size_of(payload) <= 4 * self.part_size:
            content = read_payload(payload)
            arguments = address | condition | _checksum(content)
            self._commit(key, address, payload, lambda client: client.put_object(Body=content, **arguments))
            return
        if condition:
            with suppress(NotFound):
                self._head(key)
                raise AlreadyExists(f"{self.url}/{key}: it is there already and is never overwritten")
        self._put_parts(key, address, payload, condition)

    def _put_parts(
        self,
        key: str,
        address: dict[str, Any],
        payload: Payload,
        condition: dict[str, Any],  # Any: boto3
    ) -> None:
        created: Any = self._try(key, lambda client: client.create_multipart_upload(**address))
        upload = {"Bucket": address["Bucket"], "Key": address["Key"], "UploadId": created["UploadId"]}
        try:
            call = partial(self._try, key, timeout_s=TIMEOUT_S)
            uploaded = s3_uploads.upload_parts(call, upload, payload, self.part_size)
            arguments: Any = upload | {"MultipartUpload": {"Parts": uploaded.parts}} | condition
            self._commit(key, address, payload, lambda client: client.complete_multipart_upload(**arguments))
        except BaseException:
            with suppress(StorageError):  # an incomplete upload costs money until it is aborted
                self._try(key, lambda client: client.abort_multipart_upload(**upload), attempts=self.attempts)
            raise
        self._check_multipart(key, address["Metadata"][_NONCE], uploaded)

    def _check_multipart(self, key: str, nonce: str, uploaded: "s3_uploads.UploadedParts") -> None:
        """Compare the object with its parts; delete it and raise StorageUnavailable if it differs."""
        with suppress(NotFound):  # deleted by another process since
            head = self._head(key)
            if head.get("Metadata", {}).get(_NONCE) not in (None, nonce):
                return  # replaced by another writer since
            mismatch = uploaded.mismatch(head["ContentLength"], head["ETag"])
            if mismatch:
                self.delete(key)
                raise StorageUnavailable(f"{self.url}/{key}: {mismatch}; it was deleted, try again")

    def _commit(
        self,
        key: str,
        address: dict[str, Any],
        payload: Payload,
        request: "Callable[[S3Client], object]",  # Any: boto3
    ) -> None:
        """Make the request after which the object exists.

        When a response was lost, a retry of a create-only request finds the object that the first attempt made: that
        is success. So it is when all responses were lost, and the object is there.
        """
        from botocore.exceptions import ClientError

        from stoker.storage.stores.s3_faults import UploadGone

        lost = False  # whether an attempt got no answer
        retries = Retries(self._connection, self.attempts, self.patience_s or 0.0)
        while True:
            try:
                timeout_s = retries.timeout_s if size_of(payload) <= _SMALL else TIMEOUT_S
                self._try(key, request, attempts=1, timeout_s=timeout_s)
                retries.succeeded()
                return
            except StorageUnavailable as error:
                lost = lost or not isinstance(error.__cause__, ClientError)
                try:
                    retries.wait(error, error.__cause__)
                except StorageUnavailable:
                    if lost and self._is_made(key, address):
                        return
                    raise
            except (AlreadyExists, UploadGone):
                if retries.failures and self._is_ours(key, address["Metadata"][_NONCE], payload):
                    return
                raise

    def _is_made(self, key: str, address: dict[str, Any]) -> bool:  # Any: keywords of boto3
        """Whether this call made the object, though no attempt was answered. False also where this is not answered."""
        place = {"Bucket": address["Bucket"], "Key": address["Key"]}
        try:
            head: Any = self._try(key, lambda client: client.head_object(**place), attempts=1, timeout_s=_LOOK_S)
        except StorageError:
            return False
        return bool(head.get("Metadata", {}).get(_NONCE) == address["Metadata"][_NONCE])

    def _is_ours(self, key: str, nonce: str, payload: Payload) -> bool:
        """Whether this call made the object: by its nonce, or by its bytes where the server drops metadata."""
        try:
            head = self._head(key)
            stored_nonce = head.get("Metadata", {}).get(_NONCE)
            if stored_nonce is not None:
                return bool(stored_nonce == nonce)
            if head["ContentLength"] != size_of(payload):
                return False
            for start in range(0, size_of(payload), self.part_size):
                if self.read(key, start=start, size=self.part_size) != read_slice(payload, start, self.part_size):
                    return False
        except NotFound:
            return False
        return True

    def _try(
        self,
        key: str,
        request: "Callable[[Any], T]",  # Any: boto3's client, or what lists by URL
        *,
        attempts: int | None = None,
        timeout_s: float | None = None,
        by_url: bool = False,
    ) -> T:
        """The result of a request; with ``attempts`` without patience; ``by_url``: see ``S3Connection.getter``."""
        where = f"{self.url}/{key}" if key else self.url
        patience_s = (self.patience_s or 0.0) if attempts is None else 0.0
        most = attempts or self.attempts
        bucket = self.bucket if by_url else None
        limits: dict[str, Any] = {"attempts": most, "patience_s": patience_s, "timeout_s": timeout_s}  # Any: numbers
        return self._connection.call(where, request, **limits, bucket=bucket)

    @cached_property
    def _connection(self) -> S3Connection:
        return S3Connection(self.endpoint, self.access_key, self.secret_key, self.region)


def _page_of_versions(request: dict[str, Any], client: "S3Client") -> dict[str, Any]:  # Any: boto3
    return dict(client.list_object_versions(**request))


def _delete_version(address: dict[str, Any], client: "S3Client") -> None:  # Any: keywords of boto3
    client.delete_object(**address)


def _page(request: dict[str, Any], client: GetsObjects) -> dict[str, Any]:  # Any: boto3
    """A page of a listing. Raises BadAnswer for what is none: it must not be taken for an empty one, or for the last.

    AWS, SeaweedFS, MinIO, Ceph and R2 send ``IsTruncated`` with each page, and ``NextContinuationToken`` with each but
    the last. botocore looks neither at the answer's root element nor for what is missing: of a web page that comes with
    status 200, or of an empty body, it makes a page without objects.
    """
    from stoker.storage.stores.s3_faults import BadAnswer

    page: Any = client.list_objects_v2(**request)
    if "IsTruncated" not in page:
        raise BadAnswer("no listing: without IsTruncated")
    if page["IsTruncated"] != bool(page.get("NextContinuationToken")):
        raise BadAnswer("a listing that says both that there is more and that there is not")
    for kind, names in ENTRIES.items():
        for entry in page.get(kind, ()):
            for name in names:
                if name not in entry:
                    raise BadAnswer(f"a listing of {kind} without {name}")
    return dict(page)


def _checksum(payload: bytes) -> dict[str, Any]:  # Any: keywords of boto3
    """The MD5 that every S3 server compares; newer checksums are unknown to some servers."""
    return {"ContentMD5": base64.b64encode(hashlib.md5(payload, usedforsecurity=False).digest()).decode()}


def create_bucket(
    name: str, *, endpoint: str | None, access_key: str | None, secret_key: str | None, region: str | None = None
) -> None:
    """Make a bucket; does nothing if it exists and can be reached. Raises StorageError."""
    connection = S3Connection(endpoint, access_key, secret_key, region)
    where = f"s3://{name}"
    try:
        connection.call(where, lambda client: client.head_bucket(Bucket=name))
    except NotFound:
        location: Any = {}  # Any: keywords of boto3
        if region not in (None, "us-east-1"):
            location = {"CreateBucketConfiguration": {"LocationConstraint": region}}
        connection.call(where, lambda client: client.create_bucket(Bucket=name, **location))
