"""Images and text files of a folder."""

import glob
import hashlib
import os
import re
import stat
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from stoker.pipelines.errors import RecipeError, SourceBroken
from stoker.pipelines.images.formats import can_decode, extension_of, missing_library
from stoker.pipelines.partition import Partition, cut, digest
from stoker.pipelines.registry import name_of
from stoker.pipelines.rejected import OutcomeClass, Reason, Rejected
from stoker.pipelines.source import Candidate, Context, Cut, Listed, ListedSource
from stoker.pipelines.tables.list_lines import check_encoding
from stoker.pipelines.tables.record_names import KNOWN_NAMES, is_left_out
from stoker.pipelines.tables.sidecars import (
    FolderRow,
    FolderTables,
    SidecarReport,
    any_case,
    is_scalar,
    parse_sidecar,
    relative_path,
    walk,
    walk_matches,
)
from stoker.storage.plain_file import describe_missing, open_plain
from stoker.storage.shards.sample import Sample

_IMAGES = frozenset(
    f".{suffix}"
    for suffix in "jpg jpeg jpe jfif png webp gif bmp tif tiff avif jp2 heic heif hif jxl".split()  # noqa: SIM905
)
_TEXTS = frozenset((".txt", ".text", ".md", ".rst"))
_STAMP = 16  # hex digits
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_CHECKED = 10_000  # names of files that `stoker check` looks at

Row = Sequence[Any]  # Any: JSON. The place of a table's row, and its values


@dataclass(frozen=True)
class LocalFiles(ListedSource):
    """The images (jpg, png, webp, gif, bmp, tif, avif, jp2) and texts (txt, md, rst) of a folder and its subfolders.

    HEIC and JPEG XL need ``pip install "stoker[formats]"``. Files and folders whose names begin with a dot are skipped.
    Any other file is a candidate; it is rejected if it is neither image nor text, cannot be read, is too large, or is a
    symbolic link that leads out of the folder. A .txt beside an image of the same name is its caption, whatever a
    .json says; a .json there may give caption, label, title, licence, author, attribution, page_url, language and
    group, as text. Its other keys are columns of the record, too: numbers as numbers, lists and objects as JSON, under
    their own names, or with the prefix ``json_`` where Stoker has a column of that name. What has more than 10,000
    characters, keys that begin with a digit or a sign or have more than 60, and those after the 256th of a partition
    are left out, and counted.

    A table metadata.csv, metadata.jsonl or metadata.parquet, in the folder or below, does the same for the files that
    its column ``file_name`` names, relative to the table: its other columns are as keys of a .json, and what a .json or
    .txt says goes before it. A row without its file is rejected (``bad_row``).

    A file that is removed stays in the corpus, and its sidecars are no samples; one that changed, or whose sidecars
    did, is read again. One that is renamed, or moved to another folder, is the same sample under another key: it keeps
    its split and gets the label of its new folder.

    A sidecar that is no UTF-8 or no JSON is rejected by itself, with the line; its image is kept.

    Args:
        files (text): a folder, a file or a glob such as ``photos/**/*.jpg``, relative to the recipe.
        label ("" or "folder", default ""): "folder": the name of a file's folder is its label.
        sidecars (true or false, default true): read .txt and .json files beside images, and tables (metadata.csv).
        leave_out (list, default none): keys of .json files and tables that are not kept; only ``*`` is a wildcard.
        files_per_partition (number, default 256): about so many files are one partition.
        max_megabytes (number, default 64): size of one file, at most.
        encoding (text, default "utf-8"): of sidecars without a byte order mark.

    Example::

        [source]
        name = "local_files"
        files = "photos"
        label = "folder"
    """

    stamps_tell_all: ClassVar[bool] = True
    path_options: ClassVar[frozenset[str] | None] = frozenset({"files"})
    planning: ClassVar[frozenset[str]] = frozenset({"files", "files_per_partition"})
    added: ClassVar[frozenset[str]] = frozenset({"encoding", "leave_out"})
    reasons: ClassVar[Mapping[str, str | Reason]] = {
        "outside": Reason("a link that leads out of the folder", OutcomeClass.BYTES),
        "unreadable": Reason("a file that cannot be read, or is no ordinary file", OutcomeClass.MOMENT),
    }

    files: str
    label: Literal["", "folder"] = ""
    sidecars: bool = True
    leave_out: tuple[str, ...] = ()
    files_per_partition: Annotated[int, Field(ge=1, le=10**9)] = 256
    max_megabytes: Annotated[int, Field(ge=1, le=10**6)] = 64
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        try:
            check_encoding(self.encoding)
        except RecipeError as error:
            raise ValueError(str(error)) from None

    def identities(self, context: Context) -> Iterator[Listed]:
        """See ListedSource. The files are read, for their checksums."""
        base, walked, paths = self._paths(context)
        tables = self._tables(base, walked)
        paths = [path for path in paths if path not in tables.columns]
        sidecars = {path: found for path in paths if (found := self._sidecars(base, path))}
        owners: dict[str, str] = {}  # of each sidecar, the image that its reject goes with
        for path, found in sidecars.items():
            for sidecar in found:
                owners.setdefault(sidecar, path)
        candidates = [path for path in paths if path not in owners]
        if not candidates:
            raise self._no_files()
        for path in candidates:
            yield self._listed(base, path, sidecars.get(path, ()), owners, tables)
        for row in tables.bad_rows:
            yield Listed("", "", row)

    def _listed(
        self, base: Path, path: str, sidecars: Sequence[str], owners: Mapping[str, str], tables: FolderTables
    ) -> Listed:
        states, has_more = [], False
        for sidecar in sidecars:
            content = self._content(base, sidecar)
            states.append([_printable(sidecar), _state(content)])
            has_more = has_more or self._has_more(sidecar, content)
        state = _state(self._content(base, path))
        shared = [sidecar for sidecar in sidecars if owners[sidecar] != path]
        said = digest([states, row]) if (row := tables.values(path)) or states else ""
        file = _File(path, state, shared, states, has_more, tables)
        return Listed(_key(path), f"{state} {said[:_STAMP]}".strip(), file)

    def cut(self, listed: Iterator[Listed], context: Context) -> Iterator[Cut]:
        """See ListedSource."""
        bad_rows: list[FolderRow] = []

        def files() -> Iterator[Listed]:
            for candidate in listed:
                if candidate.identity:
                    yield candidate
                else:
                    bad_rows.append(candidate.payload)

        for group in cut(files(), lambda candidate: candidate.payload.path, target=self.files_per_partition):
            partition = _partition([candidate.payload for candidate in group])
            # Version 0.1.0 did not tell in payloads which sidecars another image has, too.
            told_less = {"files": [file[:2] for file in partition.payload["files"]]}
            untold = replace(partition, payload={**partition.payload, **told_less})
            if untold != partition and context.is_finished(untold):
                partition = untold
            yield Cut(partition, {candidate.identity: candidate.stamp for candidate in group})
        for start in range(0, len(bad_rows), self.files_per_partition):
            rows = [[row.line, row.fault] for row in bad_rows[start : start + self.files_per_partition]]
            yield Cut(Partition(rows[0][0], {"files": [], "bad_rows": rows}), {})

    def stamp_of(self, record: Mapping[str, Any]) -> str:
        """See ListedSource. Of a file without sidecars; others are read again, which costs no request."""
        return str(record.get("sha256") or "")

    def bytes_of(self, stamp: str) -> str:
        """See ListedSource. The file's checksum."""
        state = stamp.partition(" ")[0]
        return state if _SHA256.fullmatch(state) else ""

    def owners(self, listed: Listed) -> Sequence[str]:
        """See ListedSource. Images of the same name."""
        return [_key(name) for name in self._images_beside(listed.payload.path)]

    def is_of_list(self, record: Mapping[str, Any]) -> bool:
        """See ListedSource. Rows of tables that describe no file."""
        return record.get("step") == name_of(self) and record["reason"] == "bad_row"

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        """See Source."""
        base, _ = self._base(context)
        columns = set[str]()
        for path, state, *shared in partition.payload["files"]:
            told = {sidecar for sidecars in shared for sidecar in sidecars}
            row = partition.payload.get("rows", {}).get(path)
            yield from self._candidates(base, path, state, told, columns, row)
        for line, fault in partition.payload.get("bad_rows", ()):
            yield Candidate(Sample(_key(line), {}, _identity(line)), Rejected("bad_row", f"{line}: {fault}"))

    def check(self, context: Context) -> None:
        """See Source."""
        base, pattern = self._base(context)
        if next(walk_matches(base, pattern), None) is None:
            raise self._no_files()

    def describe_input(self, context: Context) -> Iterator[str]:
        """See Source. Which tables are read; hints if files need an extra, match in another case, or are a table."""
        base, pattern = self._base(context)
        yield from self._tables(base, walk(base)).describe(islice(walk(base), _MAX_CHECKED))
        matches = set(islice(walk_matches(base, pattern), _MAX_CHECKED))
        suffixes = {PurePosixPath(path).suffix.lower() for path in matches}
        for extension, names in (("heic", {".heic", ".heif", ".hif"}), ("jxl", {".jxl"})):
            if suffixes & names and not can_decode(extension):
                yield missing_library(extension).detail
        if pattern:
            others = sorted(set(islice(walk_matches(base, any_case(pattern)), _MAX_CHECKED)) - matches)
            if others and len(matches) < _MAX_CHECKED:
                yield (
                    f"not read: {len(others)} files that match {self.files!r} but for upper and lower case, such as "
                    f"{_printable(others[0])}"
                )

    def preview(self, context: Context) -> Iterator[Candidate]:
        """See Source. The files folder by folder, so that neither all names nor all hashes are needed."""
        base, pattern = self._base(context)
        told, columns, tables = set[str](), set[str](), self._tables(base, walk(base))
        for path in walk_matches(base, pattern):
            if path not in tables.columns and not self._is_sidecar(base, path):
                state, row = _state(self._content(base, path)), tables.typed([path]).get(path)
                yield from self._candidates(base, path, state, told, columns, row)

    def _tables(self, base: Path, files: Iterable[str]) -> FolderTables:
        """The tables that describe files of the folder; a glob need not match them, as other sidecars."""
        return FolderTables(base, files if self.sidecars else (), self.encoding)

    def _no_files(self) -> RecipeError:
        return RecipeError(f"source 'local_files': files {self.files!r}: no files there; expected images or texts")

    def _is_sidecar(self, base: Path, path: str) -> bool:
        """Whether an image of the same name lies beside a file, whose sidecar it then is."""
        return any((base / name).is_file() for name in self._images_beside(path))

    def _images_beside(self, path: str) -> list[str]:
        """The names that images have which a file describes."""
        if not self.sidecars or PurePosixPath(path).suffix not in (".json", ".txt", ".JSON", ".TXT"):
            return []
        stem = PurePosixPath(path).with_suffix("")
        return [f"{stem}{suffix}" for name in sorted(_IMAGES) for suffix in (name, name.upper())]

    def _base(self, context: Context) -> tuple[Path, str]:
        """The folder, and the glob in it; "" for the whole folder. For a single file the glob is its name, escaped."""
        parts = Path(self.files).parts
        fixed = next((index for index, part in enumerate(parts) if any(char in part for char in "*?[")), len(parts))
        base = context.path(Path(*parts[:fixed]))
        path = context.path(self.files)
        if path.is_dir():
            return path, ""
        if path.is_file():
            return path.parent, glob.escape(path.name)
        if fixed == len(parts) or not base.is_dir():
            problem = f"is {found}" if (found := describe_missing(base, "")) else "does not exist"
            raise RecipeError(
                f"source 'local_files': files {self.files!r}: {base} {problem}; expected a folder, file or glob"
            )
        return base, str(Path(*parts[fixed:]))

    def _paths(self, context: Context) -> tuple[Path, list[str], list[str]]:
        """The folder, the paths of its files relative to it, sorted, and those of them that are candidates."""
        base, pattern = self._base(context)
        files = sorted(walk(base))
        if not pattern:
            return base, files, files
        matches = {relative_path(base, path) for path in base.glob(pattern)}
        return base, files, [path for path in files if path in matches]

    def _sidecars(self, base: Path, path: str) -> list[str]:
        """The files that describe this image: same name, .json or .txt."""
        if not self.sidecars or PurePosixPath(path).suffix.lower() not in _IMAGES:
            return []
        stem = PurePosixPath(path).with_suffix("")
        names = ((f"{stem}{suffix}", f"{stem}{suffix.upper()}") for suffix in (".json", ".txt"))
        found = (next((name for name in pair if (base / name).is_file()), "") for pair in names)
        return [name for name in found if name]

    def _content(self, base: Path, path: str) -> bytes | Rejected:
        """The file's bytes, or why it cannot be used."""
        full = base / path
        try:
            if full.is_symlink():
                target = full.resolve(strict=True)
                if not target.is_relative_to(base.resolve()):
                    return Rejected("outside", "a link out of the folder")
            status = full.stat()
            if not stat.S_ISREG(status.st_mode):
                return Rejected(
                    "unreadable", "a link to a folder" if stat.S_ISDIR(status.st_mode) else "no ordinary file"
                )
            if status.st_size > self.max_megabytes << 20:
                return Rejected("too_large", f"{status.st_size} bytes, more than {self.max_megabytes} MiB")
            with open_plain(full) as file:
                return file.read((self.max_megabytes << 20) + 1)
        except (OSError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "a link to itself"
            return Rejected("unreadable", reason or type(error).__name__)

    def _candidates(
        self, base: Path, path: str, state: str, told: set[str], columns: set[str], row: Row | None
    ) -> Iterator[Candidate]:
        """The file's sample, and a reject for each of its sidecars that could not be read as a whole.

        Of a sidecar that several images have, one reject: those in ``told`` have theirs with another image. ``columns``
        collects those of the partition's records that no option names.
        """
        said = SidecarReport(columns)
        yield replace(self._candidate(base, path, state, said, row), omitted=said.omitted)
        for sidecar, rejected in said.faults.items():
            if sidecar not in told:
                told.add(sidecar)
                yield Candidate(Sample(_key(sidecar), {}, _identity(sidecar)), rejected, identity=_key(path))

    def _candidate(self, base: Path, path: str, state: str, said: SidecarReport, row: Row | None) -> Candidate:
        key, record = _key(path), _identity(path)
        folder = PurePosixPath(path).parent.name
        if self.label == "folder" and folder:
            record["label"] = _printable(folder)
        content = self._content(base, path)
        if not isinstance(content, Rejected):
            record["sha256"] = _sha256(content)
            if record["sha256"] != state:
                raise SourceBroken(
                    f"{base / _printable(path)}: it has changed since the work was planned; run the same command again"
                )
        self._describe(base, path, record, said, row)
        extension = content if isinstance(content, Rejected) else _field(path, content)
        if isinstance(extension, Rejected):
            return Candidate(Sample(key, {}, record), extension)
        assert isinstance(content, bytes)
        return Candidate(Sample(key, {extension: content}, record))

    def _describe(
        self, base: Path, path: str, record: dict[str, Any], said: SidecarReport, row: Row | None
    ) -> None:  # Any: JSON values
        """Add what its row and the image's sidecars say to its record, and what is wrong with them to ``said``."""
        names = self._sidecars(base, path)
        documents: list[Row] = [row] if row else []
        documents += [(name, self._parsed(name, self._content(base, name))) for name in names]
        for sidecar, document in documents:
            if isinstance(document, Rejected):
                said.faults[sidecar] = document
                continue
            values = {name: document[name] for name in KNOWN_NAMES if name in document}
            said.add_more(record, self._more(document))
            record |= {name: str(value) for name, value in values.items() if is_scalar(value) and value != ""}
            unfit = [name for name, value in values.items() if value is not None and not is_scalar(value)]
            if unfit:
                said.faults[sidecar] = Rejected(
                    "corrupt", f"{', '.join(unfit)}: expected text or a number; the rest was read"
                )

    def _more(self, document: Mapping[str, object]) -> dict[str, object]:
        """The values of a sidecar under keys that have no meaning of their own."""
        return {
            name: value
            for name, value in document.items()
            if name not in KNOWN_NAMES and value not in (None, "") and not is_left_out(name, self.leave_out)
        }

    def _has_more(self, sidecar: str, content: bytes | Rejected) -> bool:
        if PurePosixPath(sidecar).suffix.lower() != ".json":
            return False
        document = self._parsed(sidecar, content)
        return not isinstance(document, Rejected) and bool(self._more(document))

    def _parsed(self, sidecar: str, content: bytes | Rejected) -> Mapping[str, object] | Rejected:
        """What a sidecar says, by keys, or why it says nothing, which does not reject the image."""
        return content if isinstance(content, Rejected) else parse_sidecar(content, sidecar, self.encoding)


@dataclass(frozen=True)
class _File:
    """A file that is a candidate, with what describes it."""

    path: str
    state: str
    shared: list[str]  # sidecars whose rejects go with another image
    states: list[list[str]]  # of its sidecars: name and state
    has_more: bool  # of keys in sidecars
    tables: FolderTables


def _partition(files: Sequence[_File]) -> Partition:
    """The partition of some files."""
    listed = [[file.path, file.state, *([file.shared] if file.shared else [])] for file in files]
    # Earlier versions read only some keys of .json files. What had no others need not be read again.
    mark: dict[str, Any] = {"reading": 2} if any(file.has_more for file in files) else {}  # Any: JSON
    mark |= {"rows": rows} if (rows := files[0].tables.typed(file.path for file in files)) else {}
    states = [state for file in files for state in file.states]
    return Partition(_printable(files[0].path), {"files": listed} | mark, digest(states))


def _state(content: bytes | Rejected) -> str:
    """The content's SHA-256, or the reason for the file's reject: either way it changes when the outcome may."""
    return f"{content.reason}:{content.detail}" if isinstance(content, Rejected) else _sha256(content)


def _key(path: str) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:24]


def _identity(path: str) -> dict[str, Any]:  # Any: JSON values
    """The record of a file of which nothing but its path is known."""
    return {"url": f"file:{urllib.parse.quote(os.fsencode(path))}", "title": _printable(Path(path).stem)}


def _field(path: str, content: bytes) -> str | Rejected:
    """The field by the file's first bytes, or if these tell nothing by its name."""
    if not content:
        return Rejected("empty", "0 bytes")
    extension = extension_of(content)
    if isinstance(extension, str):
        return extension
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in _TEXTS:
        return "txt"
    if suffix in _IMAGES or extension.reason == "unsupported_format":
        return extension
    hint = "; no image of that name lies beside it (a.json describes a.jpg)" if suffix == ".json" else ""
    return Rejected("unsupported_format", f"{suffix or 'no extension'}: neither image nor text{hint}")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _printable(path: str) -> str:
    """A path as valid Unicode: bytes that are not UTF-8 as \\\\xff."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
