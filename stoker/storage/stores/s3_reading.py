"""A read from S3 that resumes after a connection that broke, stalled or is far too slow."""

import time
from dataclasses import dataclass
from typing import Any

from stoker.storage.errors import StorageRefused, StorageUnavailable
from stoker.storage.stores.s3_get import GetsObjects

# Bytes read at a time: after a broken connection at most this much is read again. Larger chunks are slower: the
# system has to map fresh memory for each, page by page.
_CHUNK = 2**20
# A connection that gives less is given up for another one. One that gives a byte a second never runs into the timeout,
# and would hold a read for days. The slowest that anybody may use give several times as much.
_SLOWEST, _WINDOW_S = 1024, 30.0  # bytes a second; seconds


class _Arriving:
    """A raw stream whose ``read`` gives what has arrived: its own waits until all that was asked for is there."""

    def __init__(self, raw: Any) -> None:  # Any: urllib3's response
        self._raw = raw

    def read(self, amt: int | None = None) -> bytes:
        """At least one byte, but at the end."""
        payload: bytes = self._raw.read1(amt)
        return payload

    def close(self) -> None:
        """End the connection."""
        self._raw.close()


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

    def open(self, client: GetsObjects, address: dict[str, Any]) -> Any:  # Any: keywords, and the body, of boto3
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
        self.etag = response.get("ETag") or None  # a server may have none: what is resumed is compared by its checksum
        body = response["Body"]
        if hasattr(body._raw_stream, "read1"):  # the body converts its errors and compares its length
            body._raw_stream = _Arriving(body._raw_stream)
        return body

    def next_chunk(self, body: Any) -> bytes:  # Any: boto3
        """The next megabyte of the body; empty at its end. botocore raises an error for a body that ends too early.

        Raises StorageUnavailable for a connection that is far too slow; what came of this megabyte is read again.
        """
        pieces: list[bytes] = []
        size, counted, since = 0, 0, time.monotonic()
        while size < _CHUNK and (piece := body.read(_CHUNK - size)):
            pieces.append(piece)
            size += len(piece)
            now = time.monotonic()
            if now - since >= _WINDOW_S:
                rate = (size - counted) / (now - since)
                if rate < _SLOWEST:
                    raise StorageUnavailable(f"the connection gives {rate:,.0f} bytes a second; given up for another")
                counted, since = size, now
        self.received += size
        return b"".join(pieces)
