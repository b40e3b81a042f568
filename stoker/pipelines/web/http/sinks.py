"""Where a response's body is written: memory, or a file that a later attempt or run can resume."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Protocol

from stoker.pipelines.web.http.codings import codings_of
from stoker.pipelines.web.http.faults import BodyTooLarge, IncompleteResponse, NotWritten, PartEnded, ProtocolError
from stoker.pipelines.web.http.response import Response
from stoker.storage.boot import boot_id

_LONGEST_NOTE = 2**16  # bytes
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_HASHED_AT_ONCE = 2**23  # bytes


class Ended(Enum):
    """How a fetch ended, as far as what was written is concerned."""

    WHOLE = 1
    REFUSED = 2  # the server, or a rule, wants no such download
    BROKEN_OFF = 3  # a later one may go on


class Sink(Protocol):
    """Takes the bodies of one URL's attempts."""

    size: int  # bytes written so far
    begun: int  # bodies that began with their first byte
    limit: int  # bytes of the whole body, at most
    resumes: bool  # whether a later attempt goes on where an earlier one ended
    seconds_per_byte: float  # deadline that each byte received adds; 0: the deadline holds for a body of any size

    def headers(self) -> Mapping[str, str]:
        """Request headers of the next attempt: the range to resume at, and the encodings accepted."""

    def begin(self, response: Response) -> None:
        """Prepare for the body of a 200 or 206.

        Raises ProtocolError if it does not continue what was written, NotWritten.
        """

    def write(self, piece: bytes) -> None:
        """Append the next bytes. Raises ProtocolError for more than the response is to have, NotWritten."""

    def finish(self) -> None:
        """The response came to its end. Raises IncompleteResponse if it should have more, PartEnded if the body has."""

    def restart(self) -> None:
        """Discard what was written."""

    def content(self) -> bytes:
        """The whole body; b"" if it is in a file."""

    def sha256(self) -> str:
        """Hex digest of the whole body."""

    def close(self, ended: Ended) -> None:
        """End writing; keep or delete what was written. Raises OSError if it could not be written after all."""


class MemorySink:
    """Keeps the body in memory. Each attempt starts from the first byte."""

    resumes = False
    seconds_per_byte = 0.0

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = self.begun = 0
        self._pieces: list[bytes] = []

    def headers(self) -> Mapping[str, str]:
        """See Sink."""
        return {"Accept-Encoding": "gzip"}

    def begin(self, response: Response) -> None:
        """See Sink."""
        if response.status == 206:
            raise ProtocolError("a part of the body (206), but all of it was asked for")
        self.restart()
        self.begun += 1

    def write(self, piece: bytes) -> None:
        """See Sink."""
        self._pieces.append(piece)
        self.size += len(piece)

    def finish(self) -> None:
        """See Sink."""

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

    def close(self, ended: Ended) -> None:
        """See Sink."""


class NoSink(MemorySink):
    """Takes no body: what the server would send is described, and the connection closed."""

    resumes = True  # on a connection of its own

    def __init__(self) -> None:
        super().__init__(0)
        self.response: Response | None = None  # that has a body

    def headers(self) -> Mapping[str, str]:
        """See Sink."""
        return {"Accept-Encoding": "identity"}  # as a download asks

    def begin(self, response: Response) -> None:
        """See Sink."""
        self.response = response
        raise BodyTooLarge("no body is wanted")


class FileSink:
    """Writes the body to a file. The next attempt resumes where the last one ended, if the resource is unchanged.

    Unchanged means: the server answers ``If-Range`` with a 206 for the same validator (RFC 9110, 13.1.5).
    A file may have any size, so the time allowed grows with the bytes received, at ``bytes_per_second``.

    ``outlasts``: what a run left unfinished is kept, with a note beside it that says of which state of the resource it
    is, and the next sink of the same path goes on there. Even of a whole file, the last byte is asked for once more: so
    the server says whether it is still the same.
    """

    resumes = True

    def __init__(self, path: Path, limit: int, *, bytes_per_second: float, outlasts: bool = False) -> None:
        self.limit = limit
        self.seconds_per_byte = 1 / bytes_per_second
        self.size = self.begun = 0
        self._path = path
        self._note = note_of(path) if outlasts else None
        # A link that somebody put there is not written through.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        self._file: BinaryIO = os.fdopen(os.open(path, flags, 0o600), "r+b")
        self._hash = hashlib.sha256()
        self._stop: int | None = None  # where the part ends that a 206 has
        self._whole: int | None = None  # bytes of the whole body, as far as the server said
        self._validator = self._noted()  # a strong ETag or a date; "": cannot be resumed
        self._take_up(os.fstat(self._file.fileno()).st_size - 1 if self._validator else 0)

    def headers(self) -> Mapping[str, str]:
        """See Sink."""
        headers = {"Accept-Encoding": "identity"}  # ranges of compressed bytes would not fit together
        if self.size and self._validator:
            headers |= {"Range": f"bytes={self.size}-", "If-Range": self._validator}
        else:
            self.restart()
        return headers

    def begin(self, response: Response) -> None:
        """See Sink."""
        if response.status == 206:
            part = _CONTENT_RANGE.fullmatch(response.headers.single("content-range").strip().lower())
            changed = len(set(response.headers.lines("etag"))) > 1 or _validator(response) not in ("", self._validator)
            if part is None or not self.size or changed:
                raise ProtocolError("another part of the body than was asked for")
            start, stop = int(part[1]), int(part[2]) + 1
            length = response.headers.single("content-length").strip() or str(stop - start)
            whole = self._whole if part[3] == "*" else int(part[3])
            others = self._whole not in (None, whole) or (whole is not None and whole < stop)
            if not start == self.size < stop or length != str(stop - start) or others:
                raise ProtocolError("another part of the body than was asked for")
            self._stop, self._whole = stop, whole
            return
        self.restart()
        self.begun += 1
        length = response.headers.single("content-length").strip()
        compressed = bool(codings_of(response.headers.get("content-encoding", "")))
        self._whole = int(length) if length.isdecimal() and not compressed else None
        self._validator = "" if compressed else _validator(response)
        if self._note is not None and self._validator:
            with _writing(self._note):
                write_note(self._note, {"validator": self._validator, "boot": boot_id()})

    def write(self, piece: bytes) -> None:
        """See Sink."""
        if self._stop is not None and self.size + len(piece) > self._stop:
            raise ProtocolError("more than the part of the body that it named")
        with _writing(self._path):
            self._file.write(piece)
        self._hash.update(piece)
        self.size += len(piece)

    def finish(self) -> None:
        """See Sink. A server may send less of a range than was asked for (RFC 9110, 15.3.7).

        Where it never says how long the body is, the end of a part passes for that of the body.
        """
        stop, self._stop = self._stop, None
        if stop is not None and self.size < stop:
            raise IncompleteResponse(f"cut after {self.size} of {stop} bytes")
        if self._whole is not None and self.size < self._whole:
            raise PartEnded(f"{self.size} of {self._whole} bytes were sent")

    def restart(self) -> None:
        """See Sink."""
        with _writing(self._path):
            if self.size:
                self._file.seek(0)
                self._file.truncate()
                self._hash = hashlib.sha256()
                self.size = 0
            self._validator = ""
            self._stop = self._whole = None
            if self._note is not None:
                self._note.unlink(missing_ok=True)

    def content(self) -> bytes:
        """See Sink."""
        return b""

    def sha256(self) -> str:
        """See Sink."""
        return self._hash.hexdigest()

    def close(self, ended: Ended) -> None:
        """See Sink."""
        goes_on = self._note is not None and self._validator and self.size
        try:
            with _writing(self._path):
                self._file.close()
        except NotWritten as error:
            ended = Ended.BROKEN_OFF
            raise error.error from error
        finally:
            if ended is not Ended.WHOLE and not (ended is Ended.BROKEN_OFF and goes_on):
                self._path.unlink(missing_ok=True)
                if self._note is not None:
                    self._note.unlink(missing_ok=True)

    def _noted(self) -> str:
        """The validator of what an earlier run left, "" if it left nothing to go on from."""
        if self._note is None:
            return ""
        with suppress(OSError, ValueError), self._note.open("rb") as file:
            note = json.loads(file.read(_LONGEST_NOTE))
            # A machine that went down may have lost bytes in the middle of the file, and one may not be able to tell.
            if isinstance(note, dict) and boot_id() and note.get("boot") == boot_id():
                return str(note.get("validator", ""))
        return ""

    def _take_up(self, size: int) -> None:
        """Go on behind the file's first bytes."""
        while self.size < size:
            piece = self._file.read(min(_HASHED_AT_ONCE, size - self.size))
            if not piece:
                break
            self._hash.update(piece)
            self.size += len(piece)
        self._file.seek(self.size)
        self._file.truncate()


def note_of(path: Path) -> Path:
    """Where it stands what state of its resource a download is of."""
    return path.with_name(f"{path.name}.json")


def write_note(path: Path, note: Mapping[str, object]) -> None:
    """Write a note beside a download as a whole. Raises OSError where it cannot, and leaves nothing of it then."""
    written = path.with_name(f"{path.name}.new")
    try:
        written.write_text(json.dumps(note), encoding="utf-8")
        written.replace(path)
    except OSError:
        written.unlink(missing_ok=True)
        raise


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Raise NotWritten, with the path, for what the file system says: it would pass for an error of the connection."""
    try:
        yield
    except OSError as error:
        raise NotWritten(type(error)(error.errno, error.strerror, str(path))) from error


def _validator(response: Response) -> str:
    """The value for If-Range that identifies these exact bytes: a strong ETag (weak ones may not), else the date."""
    etag = response.headers.single("etag").strip()
    if etag.startswith('"'):
        return etag
    return response.headers.single("last-modified").strip()
