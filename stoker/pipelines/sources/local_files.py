"""Images and texts that lie in a folder."""

import glob
import hashlib
import json
import os
import stat
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from stoker.pipelines.errors import RecipeError, SourceBroken
from stoker.pipelines.images.formats import extension_of
from stoker.pipelines.partition import Partition, cut, digest
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.source import Candidate, Context, Source
from stoker.storage.shards.sample import Sample

_IMAGES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2")
)
_TEXTS = frozenset((".txt", ".text", ".md", ".rst"))
_MOST_SIDECAR = 1 << 20  # bytes
# What a .json beside an image may say of it, as text.
_SAID = ("author", "attribution", "caption", "group", "label", "language", "licence", "page_url", "title")


@dataclass(frozen=True)
class LocalFiles(Source):
    """The images (jpg, png, webp, gif, bmp, tif) and texts (txt, md, rst) of a folder and the folders in it.

    ``files`` is a folder, a file or a glob such as ``"photos/**/*.jpg"``. Files and folders whose names begin with a
    dot are passed over; any other file is a candidate, and rejected if it is neither image nor text, cannot be read,
    is larger than ``max_megabytes``, or is a link that leads out of the folder. With ``label = "folder"`` the name of
    a file's folder is its label. With ``sidecars`` a .txt beside an image of the same name is its caption, and a
    .json may give caption, label, title, licence, author, attribution, page_url, language and group. About
    ``files_per_partition`` are read together.

    Example::

        [source]
        name = "local_files"
        files = "photos"
        label = "folder"
    """

    planning: ClassVar[frozenset[str]] = frozenset({"files", "files_per_partition"})
    reasons: ClassVar[Mapping[str, str]] = {
        "outside": "a link that leads out of the folder",
        "unreadable": "a file that cannot be read, or is no ordinary file",
    }

    files: str
    label: Literal["", "folder"] = ""
    sidecars: bool = True
    files_per_partition: Annotated[int, Field(ge=1)] = 256
    max_megabytes: Annotated[int, Field(ge=1)] = 64

    def partitions(self, context: Context) -> Iterator[Partition]:
        """See Source."""
        base, paths = self._found(context)
        beside = {other for path in paths for other in self._near(base, path)}
        own = [path for path in paths if path not in beside]
        if not own:
            raise RecipeError(f"source 'local_files': files {self.files!r}: no files there; expected images or texts")
        for run in cut(own, str, target=self.files_per_partition):
            listed = [[path, self._state(base, path)] for path in run]
            said = [[_shown(other), self._state(base, other)] for path in run for other in self._near(base, path)]
            yield Partition(_shown(run[0]), {"files": listed}, digest(said))

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        """See Source."""
        base, _ = self._base(context)
        for path, state in partition.payload["files"]:
            yield self._candidate(base, path, state)

    def _base(self, context: Context) -> tuple[Path, str]:
        """The folder that all are in, and the glob in it; no glob: all of the folder. Of a file, its name."""
        given = context.root / self.files
        if given.is_dir():
            return given, ""
        if given.is_file():
            return given.parent, glob.escape(given.name)
        parts = Path(self.files).parts
        fixed = next((place for place, part in enumerate(parts) if any(sign in part for sign in "*?[")), len(parts))
        base = context.root.joinpath(*parts[:fixed])
        if fixed == len(parts) or not base.is_dir():
            raise RecipeError(
                f"source 'local_files': files {self.files!r}: {base} does not exist; expected a folder, file or glob"
            )
        return base, str(Path(*parts[fixed:]))

    def _found(self, context: Context) -> tuple[Path, list[str]]:
        """The folder, and the paths in it, sorted."""
        base, pattern = self._base(context)
        if not pattern:
            return base, sorted(_walk(base))
        wanted = {_relative(base, path) for path in base.glob(pattern)}
        return base, sorted(path for path in _walk(base) if path in wanted)

    def _near(self, base: Path, path: str) -> list[str]:
        """The files that only say something of this one."""
        if not self.sidecars or PurePosixPath(path).suffix.lower() not in _IMAGES:
            return []
        stem = PurePosixPath(path).with_suffix("")
        return [other for other in (f"{stem}.json", f"{stem}.txt") if (base / other).is_file()]

    def _state(self, base: Path, path: str) -> str:
        """The file's SHA-256, or why it will be rejected: either way it changes when the outcome may."""
        content = self._content(base, path)
        return f"{content.reason}:{content.detail}" if isinstance(content, Rejected) else _sha256(content)

    def _content(self, base: Path, path: str) -> bytes | Rejected:
        full = base / path
        try:
            if full.is_symlink():
                target = full.resolve(strict=True)
                if not target.is_relative_to(base.resolve()):
                    return Rejected("outside", "a link out of the folder")
            found = full.stat()
            if not stat.S_ISREG(found.st_mode):
                return Rejected(
                    "unreadable", "a link to a folder" if stat.S_ISDIR(found.st_mode) else "no ordinary file"
                )
            if found.st_size > self.max_megabytes << 20:
                return Rejected("too_large", f"{found.st_size} bytes, more than {self.max_megabytes} MiB")
            with full.open("rb") as file:
                return file.read((self.max_megabytes << 20) + 1)
        except (OSError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "a link to itself"
            return Rejected("unreadable", reason or type(error).__name__)

    def _candidate(self, base: Path, path: str, state: str) -> Candidate:
        shown = _shown(path)
        key = hashlib.sha256(os.fsencode(path)).hexdigest()[:24]
        record: dict[str, Any] = {
            "url": f"file:{urllib.parse.quote(os.fsencode(path))}",
            "title": _shown(Path(path).stem),
        }
        folder = PurePosixPath(path).parent.name
        if self.label == "folder" and folder:
            record["label"] = _shown(folder)
        content = self._content(base, path)
        if isinstance(content, Rejected):
            return Candidate(Sample(key, {}, record), content)
        record["sha256"] = _sha256(content)
        if record["sha256"] != state:
            raise SourceBroken(f"{base / shown}: it has changed since the work was planned; run the same command again")
        for other in self._near(base, path):
            record |= self._said(base, other)
        field = _field(path, content)
        if isinstance(field, Rejected):
            return Candidate(Sample(key, {}, record), field)
        return Candidate(Sample(key, {field: content}, record))

    def _said(self, base: Path, path: str) -> dict[str, str]:
        """What a sidecar says; one that cannot be understood says nothing, as it is not the sample."""
        content = self._content(base, path)
        if isinstance(content, Rejected) or len(content) > _MOST_SIDECAR:
            return {}
        text = content.decode("utf-8-sig", "replace").strip()
        if not path.endswith(".json"):
            return {"caption": text} if text else {}
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return {}
        given = found if isinstance(found, dict) else {}
        return {
            name: str(given[name]) for name in _SAID if isinstance(given.get(name), str | int) and given[name] != ""
        }


def _walk(base: Path) -> Iterator[str]:
    """All files below, without following links to folders (which come as files), nothing hidden."""
    for folder, folders, files in os.walk(base):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in links)
        for name in (*files, *links):
            if not name.startswith("."):
                yield _relative(base, Path(folder) / name)


def _relative(base: Path, path: Path) -> str:
    return path.relative_to(base).as_posix()


def _field(path: str, content: bytes) -> str | Rejected:
    """The field by the first bytes, and where these tell nothing by the name."""
    if not content:
        return Rejected("empty", "0 bytes")
    found = extension_of(content)
    if isinstance(found, str):
        return found
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in _TEXTS:
        return "txt"
    if suffix in _IMAGES or found.reason == "unsupported_format":
        return found
    return Rejected("unsupported_format", f"{suffix or 'no extension'}: neither image nor text")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _shown(path: str) -> str:
    """A path as text that can be written anywhere: bytes that are not UTF-8 as \\\\xff."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
