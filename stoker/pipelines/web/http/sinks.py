"""Where a body goes: memory, or a file that can be continued after a cut."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from stoker.pipelines.web.http.wire import Answer, Garbled


class Sink(Protocol):
    """Takes the bodies of one URL's attempts; ``size`` is what of it is there so far."""

    size: int
    limit: int  # bytes, of the whole

    def headers(self) -> Mapping[str, str]:
        """What to ask with: from where to go on, and which packing is welcome."""

    def begin(self, answer: Answer) -> None:
        """An answer of status 200 or 206 comes. Raises Garbled when it does not continue what is there."""

    def write(self, piece: bytes) -> None:
        """Take the next bytes."""

    def restart(self) -> None:
        """Forget what is there."""

    def content(self) -> bytes:
        """The whole, b"" if it is in a file."""

    def sha256(self) -> str:
        """Of the whole."""

    def close(self, *, keep: bool) -> None:
        """Nothing more comes; keep what is there, or not."""


class Memory:
    """A sink of bytes. Each attempt begins anew."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._pieces: list[bytes] = []

    def headers(self) -> Mapping[str, str]:
        """See Sink."""
        return {"Accept-Encoding": "gzip"}

    def begin(self, answer: Answer) -> None:
        """See Sink."""
        if answer.status == 206:
            raise Garbled("a part, but the whole was asked for")
        self.restart()

    def write(self, piece: bytes) -> None:
        """See Sink."""
        self._pieces.append(piece)
        self.size += len(piece)

    def restart(self) -> None:
        """See Sink."""
        self._pieces.clear()
        self.size = 0

    def content(self) -> bytes:
        """See Sink."""
        if len(self._pieces) > 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0] if self._pieces else b""

    def sha256(self) -> str:
        """See Sink."""
        return hashlib.sha256(self.content()).hexdigest()

    def close(self, *, keep: bool) -> None:
        """See Sink."""


class File:
    """A sink on disk. After a cut it goes on where it ended, if the server promises that nothing changed."""

    def __init__(self, path: Path, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._path = path
        self._file: BinaryIO = path.open("wb")
        self._hash = hashlib.sha256()
        self._validator = ""  # a strong ETag, or a date; "": cannot be resumed

    def headers(self) -> Mapping[str, str]:
        """See Sink."""
        headers = {"Accept-Encoding": "identity"}  # ranges of packed bytes would not fit together
        if self.size and self._validator:
            headers |= {"Range": f"bytes={self.size}-", "If-Range": self._validator}
        else:
            self.restart()
        return headers

    def begin(self, answer: Answer) -> None:
        """See Sink."""
        if answer.status == 206:
            start = answer.headers.get("content-range", "").strip().lower().partition("-")[0]
            if not self.size or start != f"bytes {self.size}" or _validator(answer) not in ("", self._validator):
                raise Garbled("another part than was asked for")
            return
        self.restart()
        packed = answer.headers.get("content-encoding", "identity").strip().lower() != "identity"
        self._validator = "" if packed else _validator(answer)

    def write(self, piece: bytes) -> None:
        """See Sink."""
        self._file.write(piece)
        self._hash.update(piece)
        self.size += len(piece)

    def restart(self) -> None:
        """See Sink."""
        if self.size:
            self._file.seek(0)
            self._file.truncate()
            self._hash = hashlib.sha256()
            self.size = 0
        self._validator = ""

    def content(self) -> bytes:
        """See Sink."""
        return b""

    def sha256(self) -> str:
        """See Sink."""
        return self._hash.hexdigest()

    def close(self, *, keep: bool) -> None:
        """See Sink."""
        self._file.close()
        if not keep:
            self._path.unlink(missing_ok=True)


def _validator(answer: Answer) -> str:
    """What names these very bytes in an If-Range: weak ETags may not."""
    etag = answer.headers.get("etag", "").strip()
    if etag.startswith('"'):
        return etag
    return answer.headers.get("last-modified", "").strip()
