"""Which samples and candidates the tombstones of a corpus mean.

==========  ================================================================================
``url``     the URL that was asked for, or the one that answered, in their normal form
``page``    the URL of the page, in its normal form
``host``    the host of any of these: with a port that one, without it any
``key``     the key, or the identity in the source
``author``  the author, as the record names it
``sha256``  the SHA-256 of the fetched bytes, or of the sample's content
==========  ================================================================================
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.memory.identity import IDENTITY
from stoker.pipelines.web.links import host_of, normalise, normalise_named
from stoker.storage.shards.kinds import INDEX
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Manifest, Shard
from stoker.storage.versions.masks.mask import Masks
from stoker.storage.versions.memory import numbered
from stoker.storage.versions.memory.tombstones import Tombstones, load_file, load_tombstones
from stoker.storage.versions.memory.witness import load_witness
from stoker.storage.versions.verified import verified_table

Flags = npt.NDArray[np.bool_]
_TAIL = 60  # characters of a video's URL or path that its partition's name begins with

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "url": ("url", "final_url"),
    "page": ("page_url",),
    "host": ("url", "final_url", "page_url"),
    "key": ("key", IDENTITY),
    "author": ("author",),
    "sha256": ("sha256", "content_sha256"),
}


def normal_form(kind: str, value: str) -> str:
    """The form of a value in which it is compared. Raises ValueError for what can be none of this kind.

    >>> normal_form("url", "HTTP://Example.org:80/a b"), normal_form("host", "Bücher.example")
    ('http://example.org/a%20b', 'xn--bcher-kva.example')
    """
    text = value.strip()
    if not text:
        raise ValueError("it is empty")
    if kind in ("url", "page"):
        return normalise_named(text)
    if kind == "host":
        if "/" in text or "@" in text:
            raise ValueError("expected a host alone, such as example.org")
        return host_of(normalise(f"http://{text}/"))
    if kind == "sha256":
        if len(text) != 64 or not set(text.lower()) <= set("0123456789abcdef"):
            raise ValueError("expected 64 hexadecimal digits")
        return text.lower()
    return text


def _of_url(value: str) -> tuple[str, ...]:
    try:
        return (normalise(value),)
    except ValueError:  # of a local file, or of no use to anybody
        return (value,)


def _hosts(value: str) -> tuple[str, ...]:
    """The host of a URL with its port, and without.

    >>> _hosts("http://[::1]:8080/a"), _hosts("https://example.org/a"), _hosts("file:a")
    (('[::1]:8080', '[::1]'), ('example.org',), ())
    """
    try:
        host = host_of(normalise(value))
    except ValueError:
        return ()
    return tuple(dict.fromkeys((host, _PORT.sub("", host))))


_PORT = re.compile(r":\d+$")
_FORMS: Mapping[str, Callable[[str], tuple[str, ...]]] = {"url": _of_url, "page": _of_url, "host": _hosts}


def _as_it_is(value: str) -> tuple[str, ...]:
    return (value,)


def values_of(kind: str, table: pa.Table) -> frozenset[str]:
    """What rows of a table of records have of a kind, in all forms in which it is compared."""
    forms = _FORMS.get(kind, _as_it_is)
    columns = [table[name] for name in COLUMNS[kind] if _has(table, name)]
    values = (value for column in columns for value in column.unique().to_pylist() if value is not None)
    return frozenset(form for value in values for form in forms(value))


def _has(table: pa.Table, name: str) -> bool:
    return name in table.column_names and pa.types.is_string(table.schema.field(name).type)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Tells samples and candidates that were taken out. Picklable."""

    tombstones: Tombstones

    @classmethod
    def load(cls, store: Store, corpus: str) -> "Forgotten":
        """What was taken out of a corpus. Raises CorruptShard: nobody may go on without; StorageError."""
        return cls(load_tombstones(store, corpus))

    def __bool__(self) -> bool:
        return len(self.tombstones) > 0

    @property
    def columns(self) -> set[str]:
        """The columns that are compared."""
        return {name for kind in self.tombstones.kinds for name in COLUMNS[kind]}

    def of_record(self, record: Mapping[str, Any]) -> bool:  # Any: JSON values
        """Whether a candidate or sample with this record was taken out; its key is among the record."""
        return any(
            bool(self._tells(kind, [value])[0])
            for kind in self.tombstones.kinds
            for name in COLUMNS[kind]
            if isinstance(value := record.get(name), str)
        )

    def rows(self, table: pa.Table) -> Flags:
        """Which rows of a table of records are of samples that were taken out."""
        result = np.zeros(table.num_rows, np.bool_)
        for kind in self.tombstones.kinds:
            for name in COLUMNS[kind]:
                if _has(table, name):
                    result |= self._of_column(kind, table[name])
        return result

    def are_told_by(self, name: str, table: pa.Table) -> bool:
        """Whether a partition's name tells a file, the end of a URL or a forgotten host of rows that were taken out."""
        urls: set[str] = set()
        for column in COLUMNS["host"]:
            if _has(table, column):
                urls.update(table[column].drop_null().to_pylist())
        hosts = {host for url in urls if self._tells("host", [url])[0] for host in _hosts(url)}
        if any(name.startswith(f"{host}-") for host in hosts):  # as lists of URLs are cut
            return True
        paths = {url.removeprefix("file:") for url in urls}
        paths |= {path.partition("#")[0].partition("?")[0].rstrip("/") for path in paths}
        tails = {tail for path in paths if (tail := path.rpartition("/")[2])}
        return name.rpartition("/")[2] in tails or any(name.startswith(f"{tail[:_TAIL]}-") for tail in tails)

    def _of_column(self, kind: str, column: pa.ChunkedArray) -> Flags:
        values = column.unique()
        told = pa.array(self._tells(kind, values.to_pylist()))
        flags: Flags = told.take(pc.index_in(column, value_set=values)).to_numpy(zero_copy_only=False)
        return flags

    def _tells(self, kind: str, values: Sequence[str | None]) -> Flags:
        if (forms := _FORMS.get(kind)) is None:
            return self.tombstones.is_withdrawn(kind, values)
        found = [() if value is None else forms(value) for value in values]
        rows = np.repeat(np.arange(len(found)), [len(one) for one in found])
        told = np.zeros(len(found), np.bool_)
        told[rows[self.tombstones.is_withdrawn(kind, [form for one in found for form in one])]] = True
        return told


def taken_out_on(store: Store, corpus: str, record: Mapping[str, Any]) -> str:  # Any: JSON values
    """The day on which a candidate with this record was taken out; "" if it was not. Raises as ``Forgotten.load``."""
    return taken_out_for(store, corpus, record)[0]


def taken_out_for(store: Store, corpus: str, record: Mapping[str, Any]) -> tuple[str, str]:  # Any: JSON values
    """The same day, and the reason if one was given."""
    keys = {stored.key for stored in store.list(layout.tombstones_folder(corpus))}
    for number in numbered.numbers(store, layout.tombstones_folder(corpus)):
        table = load_file(store, corpus, number)
        if Forgotten(Tombstones.of([table])).of_record(record):
            has_witness = layout.witness(corpus, number) in keys
            reason = load_witness(store, corpus, number).reason if has_witness else ""
            return str(min(table["at"].to_pylist()))[:10], reason
    return "", ""


def rows_of_shard(
    store: Store, shard: Shard, forgotten: Forgotten, more: Collection[str] = ()
) -> tuple[pa.Table, Flags]:
    """The stored rows of a shard, with key and ``more`` columns, and which of them were taken out. StorageError."""
    columns = sorted({"key", *more, *forgotten.columns})
    index = verified_table(store, shard.index, INDEX, sha256=shard.index_sha256, columns=columns)
    return index, forgotten.rows(index)


def holds_forgotten(store: Store, manifest: Manifest, forgotten: Forgotten) -> bool:
    """Whether a version holds a sample that was taken out. Price: reads some columns of all its indexes.

    Raises CorruptShard, StorageError.
    """
    masks = Masks(store)
    for shard in manifest.shards if forgotten else ():
        _, told = rows_of_shard(store, shard, forgotten)
        masked = masks.of(shard)
        if (told if masked is None else told & ~masked).any():
            return True
    return False
