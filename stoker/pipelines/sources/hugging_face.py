"""Rows of a data set: from the Hugging Face hub, or from local Parquet and Arrow files."""

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar

from pydantic import Field

from stoker.pipelines.errors import RecipeError, SourceBroken
from stoker.pipelines.images.formats import extension_of
from stoker.pipelines.memory.file_notes import file_notes
from stoker.pipelines.memory.unchanged import NOTHING_KNOWN, KnownSamples
from stoker.pipelines.partition import Partition, digest
from stoker.pipelines.registry import suggestion
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.source import Candidate, Context, Source
from stoker.pipelines.tables import arrow_tables
from stoker.pipelines.tables.columns import Column, ColumnChoice, choose_columns
from stoker.pipelines.tables.hub import HubTable, check_library
from stoker.pipelines.tables.record_names import MAX_VALUE, visible
from stoker.pipelines.tables.row_batches import Row, Unreadable
from stoker.pipelines.tables.url_lists import MAX_CHECKED_FILES
from stoker.pipelines.tables.values import json_value, label_of, payload_hash, text_of
from stoker.storage.plain_file import describe_missing, open_plain
from stoker.storage.shards.sample import Sample

_IDENTITY_DIGITS = 32  # hex digits: 128 bits
_STAMP_DIGITS = 16
_OF_CONTENT = "content"
_NO_CLASSES = Column("other")
_MAX_FIELD = 64 << 20  # bytes
_MAX_IMAGES = 1000  # of one row
_MAX_RECORD = 1 << 20  # characters of a record as JSON
_NAME = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?")
_STANDARD = ("attribution", "author", "caption", "group", "language", "licence", "page_url", "title")
_OTHER_TABLES = (".csv", ".json", ".jsonl", ".ndjson", ".tsv")
_SPLITS = ("train", "test", "validation", "valid", "val", "dev", "eval")


@dataclass(frozen=True)
class HuggingFace(Source):
    """Rows of a data set with an image, a text or both; images as the bytes that are stored.

    Paths are relative to the recipe; a folder is what ``save_to_disk`` or a clone of the hub leaves. The hub needs
    ``pip install "stoker[huggingface]"``, local files do not. Numbers of a ClassLabel become their names. Images of a
    column with lists become the fields "0.jpg", "1.jpg" and so on. All other columns but bytes and images are kept in
    the record, lists and structs as JSON: attribution, author, caption, language, licence, page_url and title under
    their names, others with the prefix ``row_``. Left out there and counted are values of more than 10,000 characters,
    columns whose names begin with a digit or a sign or have more than 60 characters, and those after the 256th, unless
    ``columns`` names them.
    So is a column of Parquet that few bytes stand for, with more than 64 MiB in a row group, or lists of more than
    16,777,216 values: an error if an option names it, as it may fill the memory.

    Args:
        dataset (text): a name on the hub such as "ylecun/mnist", a .parquet or .arrow file, or a folder of them.
        config (text, default none): the data set's configuration on the hub.
        split (text, default "train"): the split; of a folder, the files whose paths name it, or all if none names one.
        revision (text, default none): branch, tag or commit on the hub.
        streaming (true or false, default false): read from the hub without storing the data set on disk.
        image (text, default none): column of the image; without it "image", "img", "jpg", "png" or the first.
        text (text, default none): column of the text; without it "text" or "content".
        label (text, default none): column of the label; without it "label", "labels" or the first ClassLabel.
        key (text, default none): column that tells the rows apart; keys of samples are made of it, else of row numbers.
        columns (list, default all others): columns for the record; also ``group``, which else is ``row_group``.
        leave_out (list, default none): columns that are not kept in the record; only ``*`` is a wildcard.
        licence (text, default none): licence of all samples; without it the one that the hub gives.
        rows_per_partition (number, default 1000): rows of a partition; a stream of unknown length is one partition.

    Example::

        [source]
        name = "hugging_face"
        dataset = "ylecun/mnist"
        split = "train"
    """

    path_options: ClassVar[frozenset[str] | None] = frozenset({"dataset"})
    planning: ClassVar[frozenset[str]] = frozenset({"rows_per_partition"})
    tells_all: ClassVar[bool] = True
    added: ClassVar[frozenset[str]] = frozenset({"leave_out", "key"})

    dataset: str
    config: str = ""
    split: str = "train"
    revision: str = ""
    streaming: bool = False
    image: str = ""
    text: str = ""
    label: str = ""
    key: str = ""
    columns: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    licence: str = ""
    rows_per_partition: Annotated[int, Field(ge=1, le=10**9)] = 1000

    def partitions(self, context: Context) -> Iterator[Partition]:
        """See Source."""
        files = self._files(context)
        if files is not None:
            first_row = 0
            with file_notes(
                context.notes, f"hugging_face {context.root.absolute()} {self.dataset} {self.split}"
            ) as notes:
                for name, path in files.items():
                    mark = self._choose(arrow_tables.columns(path)).mark
                    rows, fingerprint = notes.of("rows and fingerprint", [path], partial(_counted, path))
                    for start, stop in self._ranges(rows):
                        payload = {"file": name, "start": start, "stop": stop, "first": first_row} | mark
                        yield self._with_keys(Partition(f"{name}@{start:09d}", payload, fingerprint), context)
                    first_row += rows
            return
        table = self._hub()
        mark = self._choose(table.columns).mark
        count, fingerprint = table.count, table.fingerprint
        ranges: Sequence[tuple[int, int | None]] = self._ranges(count) if count is not None else [(0, None)]
        for first, end in ranges:
            partition = Partition(f"{self.split}@{first:09d}", {"start": first, "stop": end} | mark, fingerprint)
            yield self._with_keys(partition, context)

    def plans_from_files(self, context: Context) -> bool:
        """See Source. The hub is asked."""
        return self._files(context) is not None

    def _with_keys(self, partition: Partition, context: Context) -> Partition:
        """In a table that grew the rows have other numbers than before: new ones get keys of their content."""
        if self.key or not context.has_samples or context.is_finished(partition):
            return partition
        return replace(partition, payload={**partition.payload, "keys": _OF_CONTENT})

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        """See Source."""
        start, stop = partition.payload["start"], partition.payload["stop"]
        files = self._files(context)
        if files is None:
            table = self._hub()
            converter = _RowConverter(self, self._choose(table.columns), self.licence or table.licence, table)
            rows, first_row = table.rows(start, stop), 0
        else:
            path = files.get(partition.payload["file"])
            if path is None:
                raise SourceBroken(
                    f"{partition.payload['file']}: the file was there when the work was planned, and is gone"
                )
            converter = _RowConverter(self, self._choose(arrow_tables.columns(path)), self.licence, None)
            rows = _rows(path, start, stop, converter.choice)
            first_row = partition.payload["first"]
        converter = replace(converter, known=context.known, keys=partition.payload.get("keys", ""))
        for index, row in enumerate(rows, start + first_row):
            yield converter.candidate(index, row)

    def check(self, context: Context) -> None:
        """See Source."""
        files = self._files(context)
        if files is None:
            check_library()
            return
        for path in islice(files.values(), MAX_CHECKED_FILES):
            arrow_tables.check_columns(path, self._choose(arrow_tables.columns(path)).needed)

    def preview(self, context: Context) -> Iterator[Candidate]:
        """See Source. A data set of the hub is streamed, so that it is not downloaded as a whole."""
        files = self._files(context)
        if files is None:
            table = replace(self, streaming=True)._hub()
            converter = _RowConverter(self, self._choose(table.columns), self.licence or table.licence, table)
            yield from (converter.candidate(index, row) for index, row in enumerate(table.rows(0, None)))
            return
        index = 0
        for path in files.values():
            converter = _RowConverter(self, self._choose(arrow_tables.columns(path)), self.licence, None)
            for row in _rows(path, 0, sys.maxsize, converter.choice):
                yield converter.candidate(index, row)
                index += 1

    def describe_input(self, context: Context) -> Iterator[str]:
        """See Source. The columns that are read, once for files that have the same ones."""
        files = self._files(context) or {}
        said: dict[str, str] = {}
        for name, path in islice(files.items(), MAX_CHECKED_FILES):
            choice = self._choose(arrow_tables.columns(path))
            too_large = arrow_tables.left_out(path, _optional(choice))
            more = f"; left out, too large to be read: {', '.join(too_large)}" if too_large else ""
            said.setdefault(choice.describe() + more, name)
        yield from (f"{name}: {line}" for line, name in said.items())

    def _hub(self) -> HubTable:
        return HubTable(self.dataset, self.config, self.split, self.revision, self.streaming)

    def _ranges(self, rows: int) -> list[tuple[int, int]]:
        size = self.rows_per_partition
        return [(start, min(start + size, rows)) for start in range(0, rows, size)]

    def _files(self, context: Context) -> Mapping[str, Path] | None:
        """The local files by name, those of the split; None if the data set is one of the hub."""
        base = context.path(self.dataset)
        if base.is_file():
            if base.suffix.lower() in _OTHER_TABLES:
                parquet = PurePosixPath(self.dataset).with_suffix(".parquet")
                raise RecipeError(
                    f"source 'hugging_face': dataset {self.dataset!r}: expected Parquet or Arrow; write it as Parquet "
                    f"first, in Python: import duckdb; duckdb.sql(\"COPY (FROM '{self.dataset}') TO '{parquet}'\")"
                )
            return {base.name: base}
        if not base.is_dir():
            if base.exists() or self.dataset.startswith((".", "/")) or base.suffix in (".parquet", ".arrow"):
                problem = describe_missing(base, "no such file or folder")
                raise RecipeError(f"source 'hugging_face': dataset {self.dataset!r}: {problem}")
            if not _NAME.fullmatch(self.dataset):
                raise RecipeError(
                    f"source 'hugging_face': dataset {self.dataset!r}: expected a name like 'ylecun/mnist', a folder "
                    "or a file"
                )
            return None
        suffixes = (".parquet", ".arrow")
        paths = sorted(context.path(path.absolute()) for path in base.rglob("*") if path.suffix in suffixes)
        base = base.absolute()
        files = {path.relative_to(base).as_posix(): path for path in paths}
        if not files:
            raise RecipeError(
                f"source 'hugging_face': dataset {self.dataset!r}: no .parquet or .arrow file in the folder; for a "
                "folder of images or texts use source 'local_files'"
            )
        splits = {name: _split_of(name, self.split) for name in files}
        if not any(splits.values()):
            return files
        of_split = {name: path for name, path in files.items() if splits[name] == self.split}
        if not of_split:
            known = sorted({split for split in splits.values() if split})
            raise RecipeError(f"source 'hugging_face': split {self.split!r}: {suggestion(self.split, known)}")
        return of_split

    def _choose(self, known: Mapping[str, Column]) -> ColumnChoice:
        return choose_columns(
            known,
            image=self.image,
            text=self.text,
            label=self.label,
            extra=self.columns,
            leave_out=self.leave_out,
            key=self.key,
        )


@dataclass(frozen=True)
class _RowConverter:
    """Turns rows into candidates."""

    source: HuggingFace
    choice: ColumnChoice
    licence: str
    hub: HubTable | None  # None: the rows are of local files
    known: KnownSamples = NOTHING_KNOWN
    keys: str = ""  # _OF_CONTENT: keys are made of the rows' content; else of their numbers, or the column ``key``

    def candidate(self, index: int, row: Row) -> Candidate:
        """The candidate of a row; ``index`` is its number in the split."""
        identity = f"{self._prefix}-{self._row_identity(row)}"
        key = identity if self.choice.key or self.keys == _OF_CONTENT else f"{self._prefix}-{index:09d}"
        stamp = self._stamp(row)
        if self.known.path is not None and self.known.has(identity, stamp=stamp):
            return Candidate.unchanged(key, identity=identity)
        return replace(self._candidate(key, index, row), identity=identity, stamp=stamp)

    @cached_property
    def _prefix(self) -> str:
        """Tells rows of the split from those of others."""
        source = self.source
        name = f"{source.dataset}/{source.config}/{source.split}"
        return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def _row_identity(self, row: Row) -> str:
        """A hash of the value in the column ``key``; without one, of the row's image and text.

        Other columns do not count: a table that is exported again often has new times or numbers in them.
        """
        choice = self.choice
        value = row.get(choice.key) if choice.key else None
        if not isinstance(value, Unreadable) and (text := label_of(value, _NO_CLASSES)):
            return digest(["key", text])[:_IDENTITY_DIGITS]
        return payload_hash(row.get(name) for name in (choice.image, choice.text) if name)[:_IDENTITY_DIGITS]

    def _stamp(self, row: Row) -> str:
        """A hash of what a row is read for, where its identity is not of that: image, text, label, columns by name.

        Others do not count, as above: their values stay those of the first time. "" where one cannot be read.
        """
        choice = self.choice
        standard = () if choice.named else tuple(name for name in choice.extra if name in _STANDARD)
        told = () if choice.key else (choice.image, choice.text)
        values = [row.get(name) for name in dict.fromkeys((*choice.needed, *standard)) if name not in told]
        if any(isinstance(value, Unreadable) for value in values):
            return ""
        return payload_hash(values)[:_STAMP_DIGITS]

    def _candidate(self, key: str, index: int, row: Row) -> Candidate:
        source = self.source
        record: dict[str, Any] = {
            "url": f"{'hf' if self.hub else 'file'}:{source.dataset}/{source.config or '-'}/{source.split}#{index}",
            "dataset": source.dataset,
            "config": source.config,
            "dataset_split": source.split,
            "row": index,
        }
        if self.hub:
            record["page_url"] = f"https://huggingface.co/datasets/{source.dataset}"
        if self.licence:
            record["licence"] = self.licence
        choice = self.choice
        for name in choice.needed:
            value = row.get(name)
            if isinstance(value, Unreadable):
                return Candidate(Sample(key, {}, record), Rejected(value.reason, f"column {name}: {value.detail}"))
        if choice.label and (label := label_of(row.get(choice.label), choice.columns[choice.label])):
            record["label"] = label
        omitted: dict[str, int] = {}
        if choice.named:
            for name in choice.extra:
                record[name if name in _STANDARD else f"row_{name}"] = json_value(row.get(name))
        else:
            omitted = self._add_others(row, record)
        if len(json.dumps(record)) > _MAX_RECORD:
            return Candidate(Sample(key, {}, {"url": record["url"]}), Rejected("too_large", "columns for the record"))
        return replace(self._with_fields(key, row, record), omitted=omitted)

    def _add_others(self, row: Row, record: dict[str, Any]) -> dict[str, int]:  # Any: JSON
        """Add the columns that no option names, as far as they fit; those that do not."""
        omitted = {f"column {visible(name)}": 1 for name in self.choice.unfit}
        room = _MAX_RECORD // 2
        for name in self.choice.extra:
            value = row.get(name)
            as_json = None if isinstance(value, Unreadable) else json_value(value)
            size = len(text_of(as_json))
            if isinstance(value, Unreadable) or size > min(MAX_VALUE, room):
                omitted[f"column {visible(name)}"] = 1
                continue
            room -= size
            column = name if name in _STANDARD and name != "group" else f"row_{name}"
            # What the recipe says goes before a column that it does not name, and that before what the hub says of all.
            of_all = column == "page_url" or (column == "licence" and not self.source.licence)
            if column not in record or (of_all and as_json not in (None, "")):
                record[column] = as_json
        return omitted

    def _with_fields(self, key: str, row: Row, record: dict[str, Any]) -> Candidate:
        fields: dict[str, bytes] = {}
        for read in (self._image, self._text):
            result = read(row, record)
            if isinstance(result, Rejected):
                return Candidate(Sample(key, {}, record), result)
            fields |= result
        payload = next(iter(fields.values()))
        return Candidate(Sample(key, fields, record | {"sha256": hashlib.sha256(payload).hexdigest()}))

    def _image(self, row: Row, record: dict[str, Any]) -> dict[str, bytes] | Rejected:
        """The image field, or "0.jpg", "1.png" and so on of a list; puts the title of a single image in the record."""
        name = self.choice.image
        if not name:
            return {}
        value = row.get(name)
        if self.choice.columns[name].kind != "images":
            path = value.get("path") if isinstance(value, dict) else None
            if isinstance(path, str) and path:
                record["title"] = PurePosixPath(path).name
            result = self._content(value)
            return result if isinstance(result, Rejected) else {result[0]: result[1]}
        fields: dict[str, bytes] = {}
        for number, element in enumerate(value := value or []):
            result = self._content(element)
            if isinstance(result, Rejected):
                return Rejected(result.reason, f"image {number + 1} of {len(value)}: {result.detail}")
            fields[f"{number}.{result[0]}"] = result[1]
        if len(fields) > _MAX_IMAGES or sum(map(len, fields.values())) > _MAX_FIELD:
            return Rejected("too_large", f"{len(fields)} images, or more than {_MAX_FIELD} bytes")
        return fields or Rejected("empty", "the row holds no image")

    def _content(self, value: object) -> tuple[str, bytes] | Rejected:
        """The extension and the bytes of an image."""
        content = value.get("bytes") if isinstance(value, dict) else value
        path = value.get("path") if isinstance(value, dict) else None
        if not content and isinstance(path, str) and path:
            content = self.hub.read_cached_file(path) if self.hub else None
        if not isinstance(content, bytes) or not content:
            return Rejected("empty", "the row holds no image" + (", only its path" if path else ""))
        if len(content) > _MAX_FIELD:
            return Rejected("too_large", f"{len(content)} bytes, more than {_MAX_FIELD}")
        extension = extension_of(content)
        return extension if isinstance(extension, Rejected) else (extension, content)

    def _text(self, row: Row, record: dict[str, Any]) -> dict[str, bytes] | Rejected:
        if not self.choice.text:
            return {}
        value = row.get(self.choice.text)
        if value is None or value == "":
            return Rejected("empty", "the row holds no text")
        content = text_of(value).encode("utf-8", "replace")
        return Rejected("too_large", f"{len(content)} bytes") if len(content) > _MAX_FIELD else {"txt": content}


def _optional(choice: ColumnChoice) -> Sequence[str]:
    """The columns that no option names: samples are whole without them."""
    return () if choice.named else tuple(name for name in choice.extra if name not in choice.needed)


def _rows(path: Path, start: int, stop: int, choice: ColumnChoice) -> Iterator[Row]:
    return arrow_tables.read_rows(path, start, stop, choice.read, optional=_optional(choice))


def _split_of(name: str, split: str) -> str:
    """The split that a path names, by a folder or by the beginning of the file's name; "" if none.

    >>> _split_of("data/train-00000-of-00002.parquet", "train"), _split_of("test/a.arrow", "train")
    ('train', 'test')
    """
    *folders, file = name.split("/")
    for part in (*folders, re.split(r"[-_.]", file)[0]):
        if part in (split, *_SPLITS):
            return part
    return ""


def _counted(path: Path) -> tuple[int, str]:
    """The number of rows of a file, and a fingerprint that changes with its size or content."""
    rows = arrow_tables.count_rows(path)
    with open_plain(path) as file:
        return rows, digest([path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()])
