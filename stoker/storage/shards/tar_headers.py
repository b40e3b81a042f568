"""Incremental parser of tar headers: reads every common format, and reports where a tar is corrupt.

Source: POSIX.1-1988 "ustar" and POSIX.1-2001 "pax" interchange formats (IEEE Std 1003.1), and GNU tar's extensions.
"""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field

from stoker.storage.shards.tar import BLOCK

MAX_EXTENDED = 2**20  # bytes of an extended header
_REGULAR = b"0\0" + b"7"
_NO_PAYLOAD = b"123456"  # links, devices, folders, pipes: no payload follows, whatever their size field says
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL, _PAX_SUN, _SPARSE = b"LKxgXS"
_LINKS, _SYMLINK, _FOLDER = b"12", ord("2"), ord("5")
_SPARSE_WHY = "a sparse file, whose bytes do not lie as they are"
_EXTENDED = (_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL, _PAX_SUN)
_COMPRESSED = {
    b"\x1f\x8b": "gzip (gzip -d)",
    b"(\xb5/\xfd": "zstd (zstd -d)",
    b"BZh": "bzip2 (bzip2 -d)",
    b"\xfd7zXZ": "xz (xz -d)",
}


class BadTar(ValueError):
    """Bytes that are not a valid tar; the message names the byte."""


@dataclass
class Foreign:
    """What was found in an external tar besides files that are stored as they are."""

    left_out: list[tuple[int, str, str]] = field(default_factory=list)  # byte, name and why
    links: list[tuple[int, str, str]] = field(default_factory=list)  # byte, name and the name that it stands for
    notes: list[str] = field(default_factory=list)
    is_open: bool = False  # it has no end mark: a writer was stopped, or the tar was cut


class TarHeaderParser:
    """Finds the regular files of a tar of ``size`` bytes that is fed in chunks. Memory: one header, no payload.

    With ``foreign`` it is a tar of other writers: what cannot be read in place is added there, tars behind the first
    end mark are read too, and an end mark may be missing. Without, all of that is a BadTar.
    """

    def __init__(self, size: int, foreign: Foreign | None = None) -> None:
        self._size = size
        self._foreign = foreign
        self._has_end = False  # an end mark was passed
        self._sparse = False  # the next block continues the map of a sparse file
        self._sparse_size = 0
        self._unreadable = ""  # why the next member is left out
        self._long_link = ""
        self._offset = 0  # of the chunk's first byte
        self._next = 0  # offset of the next header
        self._partial = bytearray()  # beginning of a header that continues in the next chunk
        self._extended: tuple[int, int] | None = None  # kind and size of the extended header at ``_next``
        self._long_name, self._long_size = "", -1  # of the next member, from its extended header; "" and -1: none
        self._ended = False

    def feed(self, chunk: bytes | memoryview) -> Iterator[tuple[str, int, int]]:
        """Name, payload offset and size of every regular file whose header ends in this chunk. Raises BadTar."""
        while not self._ended:
            at = self._next
            if self._extended is None:
                block = self._take(chunk, BLOCK)
                if block is None:
                    break
                if self._sparse:
                    self._sparse = bool(block[504])
                    self._next += BLOCK
                    if not self._sparse:
                        self._next += self._sparse_size + -self._sparse_size % BLOCK
                    continue
                if self._foreign is not None and self._has_end and any(block) and not _is_header(block):
                    self._foreign.notes.append(f"at byte {at}: what follows the end mark is no tar, and was not read")
                    self._ended = True
                    break
                file = self._parse_header(block, at)
                if file is not None:
                    yield file
            else:
                kind, size = self._extended
                payload = self._take(chunk, size)
                if payload is None:
                    break
                self._next = at + size + -size % BLOCK
                self._extended = None
                self._parse_extended(kind, payload, at)
        self._offset += len(chunk)

    def end(self) -> None:
        """To be called after the last chunk. Raises BadTar if the tar has no end mark."""
        if self._foreign is not None and not self._ended and self._size > 0:
            if self._next > self._size or self._extended is not None or self._partial or self._sparse:
                raise BadTar(f"at byte {self._next}: the tar ends inside a member; it is cut short")
            if not self._has_end:
                self._foreign.is_open = True
                self._foreign.notes.append(f"at byte {self._next}: it ends without an end mark; is it whole?")
            return
        if not self._ended:
            raise BadTar(f"at byte {self._next}: the tar ends without its end mark; it is cut short")

    def _take(self, chunk: bytes | memoryview, size: int) -> bytes | None:
        """The bytes [next, next + size); None if they continue in the next chunk."""
        first = self._next + len(self._partial) - self._offset
        more = bytes(chunk[first : first + size - len(self._partial)]) if first < len(chunk) else b""
        if len(self._partial) + len(more) < size:
            self._partial += more
            return None
        whole = bytes(self._partial) + more if self._partial else more
        self._partial.clear()
        return whole

    def _parse_header(self, block: bytes, at: int) -> tuple[str, int, int] | None:
        if not any(block):
            self._has_end = True
            self._ended = self._foreign is None
            self._next += BLOCK
            self._long_name, self._long_size, self._long_link, self._unreadable = "", -1, "", ""
            return None
        size = _size(block, at)
        kind = block[156]
        extended = kind in _EXTENDED
        if not extended and self._long_size >= 0:
            size = self._long_size
        if kind in _NO_PAYLOAD:
            size = 0
        if kind == _SPARSE and self._foreign is not None:
            self._pass_sparse(block, at, size)
            return None
        if kind == _SPARSE:
            raise BadTar(f"at byte {at}: a sparse file, whose bytes do not lie as they are; write the tar without -S")
        start = at + BLOCK
        if start + size > self._size:
            raise BadTar(
                f"at byte {at}: a member of {size} bytes, but only {self._size - start} follow; it is cut short"
            )
        if extended:
            if size > MAX_EXTENDED and self._foreign is not None:
                self._unreadable = f"its extended header has {size:,} bytes, more than {MAX_EXTENDED:,}"
                self._next = start + size + -size % BLOCK
                return None
            if size > MAX_EXTENDED:
                raise BadTar(f"at byte {at}: an extended header of {size} bytes; expected at most {MAX_EXTENDED}")
            self._next, self._extended = start, (kind, size)
            return None
        name = self._long_name or _name(block)
        link = self._long_link or _text(block[157:257].split(b"\0", 1)[0])
        unreadable = self._unreadable
        self._long_name, self._long_size, self._long_link, self._unreadable = "", -1, "", ""
        self._next = start + size + -size % BLOCK
        if self._foreign is not None and not name.endswith("/"):
            if unreadable:
                self._foreign.left_out.append((at, name, unreadable))
                return None
            if kind in _LINKS:
                folder = name.rpartition("/")[0] if kind == _SYMLINK else ""
                self._foreign.links.append((at, name, posixpath.normpath(posixpath.join(folder, link))))
            elif kind in _NO_PAYLOAD and kind != _FOLDER:
                self._foreign.left_out.append((at, name, "a device or pipe"))
        # Before POSIX a folder was a file whose name ended with a slash.
        return (name, start, size) if kind in _REGULAR and not name.endswith("/") else None

    def _pass_sparse(self, block: bytes, at: int, size: int) -> None:
        assert self._foreign is not None
        self._foreign.left_out.append((at, self._long_name or _name(block), _SPARSE_WHY))
        self._long_name, self._long_size, self._long_link, self._unreadable = "", -1, "", ""
        self._sparse, self._sparse_size = bool(block[482]), size
        self._next = at + BLOCK + (0 if self._sparse else size + -size % BLOCK)

    def _parse_extended(self, kind: int, payload: bytes, at: int) -> None:
        if kind == _LONG_NAME:
            self._long_name = _text(payload.split(b"\0", 1)[0])
        elif kind == _LONG_LINK:
            self._long_link = _text(payload.split(b"\0", 1)[0])
        elif kind in (_PAX, _PAX_SUN):
            try:
                fields = _pax(payload, at)
            except BadTar as error:
                if self._foreign is None:
                    raise
                self._unreadable = str(error).partition(": ")[2]
                return
            sparse = any(name.startswith("GNU.sparse.") for name in fields)
            if sparse and self._foreign is not None:
                self._unreadable = _SPARSE_WHY
                fields["path"] = fields.get("GNU.sparse.name", fields.get("path", self._long_name))
            elif sparse:
                raise BadTar(
                    f"at byte {at}: a sparse file, whose bytes do not lie as they are; write the tar without -S"
                )
            self._long_name = fields.get("path", self._long_name)
            self._long_link = fields.get("linkpath", self._long_link)
            self._long_size = int(fields["size"]) if fields.get("size", "").isdigit() else -1


def iter_files(payload: memoryview) -> Iterator[tuple[str, int, int]]:
    """Name, payload offset and size of every regular file in a tar. Raises BadTar, also without an end mark."""
    parser = TarHeaderParser(len(payload))
    yield from parser.feed(payload)
    parser.end()


def _size(block: bytes, at: int) -> int:
    # The checksum counts its own field as blanks; very old tars summed signed bytes.
    total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    checksum = _octal(block[148:156], at, "checksum")
    if checksum != total:
        field = sum(1 for byte in block[148:156] if byte > 127)
        signed = total - 256 * (sum(1 for byte in block if byte > 127) - field)
        if checksum != signed:
            raise BadTar(f"at byte {at}: no tar header, or an altered one (checksum){_hint(block, at)}")
    size = block[124:136]
    if size[0] == 0x80:  # GNU's base-256 for 8 GiB and more
        return int.from_bytes(size[1:], "big")
    return _octal(size, at, "size")


def _is_header(block: bytes) -> bool:
    try:
        _size(block, 0)
    except BadTar:
        return False
    return True


def _hint(block: bytes, at: int) -> str:
    names = [name for magic, name in _COMPRESSED.items() if at == 0 and block.startswith(magic)]
    return f": it is compressed with {names[0]}; decompress it" if names else ""


def _octal(field: bytes, at: int, what: str) -> int:
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if digits.isdigit() or not digits:
        try:
            return int(digits or b"0", 8)
        except ValueError:
            pass  # an 8 or a 9
    raise BadTar(f"at byte {at}: no tar header: its {what} is {field!r}")


def _name(block: bytes) -> str:
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")  # names in Latin-1 are accepted too; a key must be text


def _pax(payload: bytes, at: int) -> dict[str, str]:
    fields: dict[str, str] = {}
    while payload and payload[0]:
        length, _, _ = payload.partition(b" ")
        if len(length) > 7 or not length.isdigit() or not len(length) + 1 < int(length) <= len(payload):
            raise BadTar(f"at byte {at}: an extended header that cannot be read")
        name, _, value = payload[len(length) + 1 : int(length) - 1].partition(b"=")
        fields[name.decode("utf-8", "replace")] = _text(value)
        payload = payload[int(length) :]
    return fields
