"""Rows of a data set: of the Hugging Face hub, or of Parquet and Arrow files here."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar

from pydantic import Field

from stoker.pipelines.errors import RecipeError, SourceBroken
from stoker.pipelines.images.formats import extension_of
from stoker.pipelines.partition import Partition, digest
from stoker.pipelines.registry import suggestion
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.source import Candidate, Context, Source
from stoker.pipelines.tables import arrow_tables
from stoker.pipelines.tables.arrow_tables import Column, Row
from stoker.pipelines.tables.hub import HubTable
from stoker.storage.shards.sample import Sample

_MAX_FIELD = 64 << 20  # bytes
_NAME = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?")
_STANDARD = ("attribution", "author", "caption", "group", "language", "licence", "page_url", "title")
_SPLITS = ("train", "test", "validation", "valid", "val", "dev", "eval")


@dataclass(frozen=True)
class HuggingFace(Source):
    """Rows of a data set with an image, a text or both; images as the bytes that are stored.

    ``dataset`` is a name on the hub, or a .parquet or .arrow file here, or a folder of them (as ``save_to_disk`` or a
    clone of the hub leaves it; files that name a split in their path are read for that split alone). ``image``,
    ``text`` and ``label`` name the columns; where one is not named, the column of that kind is taken: an Image, one
    called text, a ClassLabel or one called label. Numbers of a ClassLabel become their names. ``columns`` go to the
    record: caption, title, author and the like under their name, others as ``row_`` and their name. The hub needs
    ``pip install "stoker[huggingface]"``; ``streaming`` reads from it without storing. About ``rows_per_partition``
    are read together; a stream whose length nobody knows, all at once.

    Example::

        [source]
        name = "hugging_face"
        dataset = "ylecun/mnist"
        split = "train"
    """

    planning: ClassVar[frozenset[str]] = frozenset({"rows_per_partition"})

    dataset: str
    config: str = ""
    split: str = "train"
    revision: str = ""
    streaming: bool = False
    image: str = ""
    text: str = ""
    label: str = ""
    columns: tuple[str, ...] = ()
    licence: str = ""
    rows_per_partition: Annotated[int, Field(ge=1)] = 1000

    def partitions(self, context: Context) -> Iterator[Partition]:
        """See Source."""
        files = self._files(context)
        if files is not None:
            first = 0
            for name, path in files.items():
                self._wanted(arrow_tables.columns(path))
                rows, sha256 = arrow_tables.count(path), _sha256(path)
                for start, stop in self._ranges(rows):
                    payload = {"file": name, "start": start, "stop": stop, "first": first}
                    yield Partition(f"{name}@{start:09d}", payload, sha256)
                first += rows
            return
        table = self._hub()
        self._wanted(table.columns)
        count, fingerprint = table.count, table.fingerprint
        for begin, end in self._ranges(count) if count is not None else [(0, None)]:
            yield Partition(f"{self.split}@{begin:09d}", {"start": begin, "stop": end}, fingerprint)

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        """See Source."""
        start, stop = partition.payload["start"], partition.payload["stop"]
        files = self._files(context)
        if files is None:
            table = self._hub()
            shown = _Shown(self, self._wanted(table.columns), self.licence or table.licence, table)
            rows, first = table.rows(start, stop), 0
        else:
            path = files.get(partition.payload["file"])
            if path is None:
                raise SourceBroken(f"{partition.payload['file']}: it was there when planned, and is gone")
            shown = _Shown(self, self._wanted(arrow_tables.columns(path)), self.licence, None)
            rows, first = arrow_tables.rows(path, start, stop), partition.payload["first"]
        for place, row in enumerate(rows, start + first):
            yield shown.candidate(place, row)

    def _hub(self) -> HubTable:
        return HubTable(self.dataset, self.config, self.split, self.revision, self.streaming)

    def _ranges(self, rows: int) -> list[tuple[int, int]]:
        size = self.rows_per_partition
        return [(start, min(start + size, rows)) for start in range(0, rows, size)]

    def _files(self, context: Context) -> Mapping[str, Path] | None:
        """The local files by name, those of the split; None if the data set is one of the hub."""
        base = context.root / self.dataset
        if base.is_file():
            return {base.name: base}
        if not base.is_dir():
            if self.dataset.startswith((".", "/")) or base.suffix in (".parquet", ".arrow"):
                raise RecipeError(f"source 'hugging_face': dataset {self.dataset!r}: no such file or folder")
            if not _NAME.fullmatch(self.dataset):
                raise RecipeError(
                    f"source 'hugging_face': dataset {self.dataset!r}: expected a name like 'ylecun/mnist', a folder "
                    "or a file"
                )
            return None
        kinds = (".parquet", ".arrow")
        found = {path.relative_to(base).as_posix(): path for path in sorted(base.rglob("*")) if path.suffix in kinds}
        if not found:
            raise RecipeError(
                f"source 'hugging_face': dataset {self.dataset!r}: no .parquet or .arrow file in the folder; for a "
                "folder of images or texts use source 'local_files'"
            )
        named = {name: _split_of(name, self.split) for name in found}
        if not any(named.values()):
            return found
        chosen = {name: path for name, path in found.items() if named[name] == self.split}
        if not chosen:
            there = sorted({split for split in named.values() if split})
            raise RecipeError(f"source 'hugging_face': split {self.split!r}: {suggestion(self.split, there)}")
        return chosen

    def _wanted(self, known: Mapping[str, Column]) -> dict[str, tuple[str, Column]]:
        """The columns for image, text and label. Raises RecipeError."""
        wanted: dict[str, tuple[str, Column]] = {}
        usual = {"image": ("image", "img", "jpg", "png"), "text": ("text", "content"), "label": ("label", "labels")}
        for field, names in usual.items():
            given = getattr(self, field)
            if given and given not in known:
                raise RecipeError(f"source 'hugging_face': no column {given!r}; {suggestion(given, sorted(known))}")
            fitting = [name for name in names if name in known and (field == "label" or known[name].kind == field)]
            if field != "text":
                fitting += [name for name, column in known.items() if column.kind == field]
            name = given or next(iter(fitting), "")
            if name:
                wanted[field] = (name, known[name])
        for name in self.columns:
            if name not in known:
                raise RecipeError(f"source 'hugging_face': no column {name!r}; {suggestion(name, sorted(known))}")
        if "image" not in wanted and "text" not in wanted:
            listed = ", ".join(known)
            raise RecipeError(f"source 'hugging_face': name an image or text column; the columns are: {listed}")
        return wanted


@dataclass(frozen=True)
class _Shown:
    """How rows become candidates."""

    source: HuggingFace
    wanted: Mapping[str, tuple[str, Column]]
    licence: str
    hub: HubTable | None

    def candidate(self, place: int, row: Row) -> Candidate:
        source = self.source
        whole = f"{source.dataset}/{source.config}/{source.split}"
        key = f"{hashlib.sha256(whole.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}-{place:09d}"
        record: dict[str, Any] = {
            "url": f"{'hf' if self.hub else 'file'}:{source.dataset}/{source.config or '-'}/{source.split}#{place}",
            "dataset": source.dataset,
            "config": source.config,
            "dataset_split": source.split,
            "row": place,
        }
        if self.hub:
            record["page_url"] = f"https://huggingface.co/datasets/{source.dataset}"
        if self.licence:
            record["licence"] = self.licence
        if "label" in self.wanted and (label := _label(row, *self.wanted["label"])):
            record["label"] = label
        for name in source.columns:
            record[name if name in _STANDARD else f"row_{name}"] = _plain(row.get(name))
        fields: dict[str, bytes] = {}
        for read in (self._image, self._text):
            found = read(row, record)
            if isinstance(found, Rejected):
                return Candidate(Sample(key, {}, record), found)
            fields |= found
        payload = next(iter(fields.values()))
        return Candidate(Sample(key, fields, record | {"sha256": hashlib.sha256(payload).hexdigest()}))

    def _image(self, row: Row, record: dict[str, Any]) -> dict[str, bytes] | Rejected:
        if "image" not in self.wanted:
            return {}
        value = row.get(self.wanted["image"][0])
        content = value.get("bytes") if isinstance(value, dict) else value
        path = value.get("path") if isinstance(value, dict) else None
        if isinstance(path, str) and path:
            record["title"] = PurePosixPath(path).name
            content = content or (self.hub.content(path) if self.hub else None)
        if not isinstance(content, bytes) or not content:
            return Rejected("empty", "the row holds no image" + (", only its path" if path else ""))
        if len(content) > _MAX_FIELD:
            return Rejected("too_large", f"{len(content)} bytes, more than {_MAX_FIELD}")
        field = extension_of(content)
        return field if isinstance(field, Rejected) else {field: content}

    def _text(self, row: Row, record: dict[str, Any]) -> dict[str, bytes] | Rejected:
        if "text" not in self.wanted:
            return {}
        value = row.get(self.wanted["text"][0])
        if value is None or value == "":
            return Rejected("empty", "the row holds no text")
        content = str(value).encode("utf-8", "replace")
        return Rejected("too_large", f"{len(content)} bytes") if len(content) > _MAX_FIELD else {"txt": content}


def _label(row: Row, name: str, column: Column) -> str:
    value = row.get(name)
    if column.names and isinstance(value, int):
        return column.names[value] if 0 <= value < len(column.names) else ""
    return str(value) if isinstance(value, str | int) else ""


def _plain(value: object) -> object:
    """A value that a record may hold; anything else as text."""
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)[:1000]


def _split_of(name: str, wanted: str) -> str:
    """The split that a path names: a folder called so, or the beginning of the file's name.

    >>> _split_of("data/train-00000-of-00002.parquet", "train"), _split_of("test/a.arrow", "train")
    ('train', 'test')
    """
    *folders, file = name.split("/")
    for part in (*folders, re.split(r"[-_.]", file)[0]):
        if part in (wanted, *_SPLITS):
            return part
    return ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return digest([path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()])
