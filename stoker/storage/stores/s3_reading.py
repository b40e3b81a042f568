"""A read from S3 that resumes after a broken connection."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stoker.storage.errors import StorageRefused

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Bytes read at a time: after a broken connection at most this much is read again. Larger chunks are slower: the
# system has to map fresh memory for each, page by page.
_CHUNK = 2**20


@dataclass
class ResumableRead:
    """Progress of one read, so that a new request asks for the missing bytes of the same object."""

    start: int  # offset of the first byte to read
    stop: int | None  # offset behind the last one; None: the object's end
    received: int = 0  # bytes
    etag: str | None = None  # of the object that the first request found

    @property
    def offset(self) -> int:
        """The object's first byte that was not received."""
        return self.start + self.received

    def open(self, client: "S3Client", address: dict[str, Any]) -> Any:  # Any: keywords, and the body, of boto3
        """The body of the bytes that are missing; None if the object ends before them."""
        from botocore.exceptions import ClientError

        request = dict(address)
        if self.offset or self.stop is not None:
            request["Range"] = f"bytes={self.offset}-" + ("" if self.stop is None else str(self.stop - 1))
        if self.etag is not None:
            request["IfMatch"] = self.etag
        try:
            response = client.get_object(**request)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 416:  # the object ends before the start
                return None
            raise
        if self.offset and response["ResponseMetadata"]["HTTPStatusCode"] == 200:
            response["Body"].close()
            raise StorageRefused(
                f"s3://{address['Bucket']}/{address['Key']}: the server ignores byte ranges; not usable"
            )
        self.etag = response["ETag"]
        return response["Body"]

    def next_chunk(self, body: Any) -> bytes:  # Any: boto3
        """The next megabyte of the body; empty at its end. botocore raises an error for a body that ends too early."""
        chunk: bytes = body.read(_CHUNK)
        self.received += len(chunk)
        return chunk
