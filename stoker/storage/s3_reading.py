"""A read from S3 that can be cut and goes on."""

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stoker.storage.errors import StorageRefused

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PIECE = 4 * 2**20  # bytes read at a time: a cut connection costs at most so many again


@dataclass
class Reading:
    """How far a read has come."""

    start: int
    stop: int | None
    pieces: list[bytes] = field(default_factory=list)
    got: int = 0
    etag: str | None = None
    failures: int = 0

    @property
    def at(self) -> int:
        """The first byte that is still to come."""
        return self.start + self.got

    def go_on(self, client: "S3Client", place: dict[str, Any]) -> None:  # Any: keywords of boto3
        """Read from where it stands to the end."""
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
                return
            raise
        if self.at and answer["ResponseMetadata"]["HTTPStatusCode"] == 200:
            raise StorageRefused(f"s3://{place['Bucket']}/{place['Key']}: the server ignores byte ranges; not usable")
        self.etag = answer["ETag"]
        with closing(answer["Body"]) as body:  # its own `with` gives the raw stream, which does not tell of a cut
            while piece := body.read(_PIECE):
                self.pieces.append(piece)
                self.got += len(piece)
