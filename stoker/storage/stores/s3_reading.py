"""A read from S3 that can be cut and goes on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stoker.storage.errors import StorageRefused

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Bytes read at a time: a cut connection costs at most so many again. Larger ones cost more: each is memory that the
# system has to hand over page by page.
_PIECE = 2**20


@dataclass
class Reading:
    """How far a read has come."""

    start: int
    stop: int | None
    got: int = 0
    etag: str | None = None
    failures: int = 0  # since the last piece

    @property
    def at(self) -> int:
        """The first byte that is still to come."""
        return self.start + self.got

    def open(self, client: "S3Client", place: dict[str, Any]) -> Any:  # Any: keywords, and the body, of boto3
        """The body from where it stands to the end; None if the object ends before."""
        from botocore.exceptions import ClientError

        asked = dict(place)
        if self.at or self.stop is not None:
            asked["Range"] = f"bytes={self.at}-" + ("" if self.stop is None else str(self.stop - 1))
        if self.etag is not None:
            asked["IfMatch"] = self.etag
        try:
            answer = client.get_object(**asked)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 416:  # it ends before the start
                return None
            raise
        if self.at and answer["ResponseMetadata"]["HTTPStatusCode"] == 200:
            answer["Body"].close()
            raise StorageRefused(f"s3://{place['Bucket']}/{place['Key']}: the server ignores byte ranges; not usable")
        self.etag = answer["ETag"]
        return answer["Body"]

    def piece(self, body: Any) -> bytes:  # Any: boto3
        """The next piece of the body; empty at its end. A body that ends too early is an error of botocore's."""
        piece: bytes = body.read(_PIECE)
        self.got += len(piece)
        if piece:
            self.failures = 0
        return piece
