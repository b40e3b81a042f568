"""A version to look at: its records as Arrow, and its samples by key and in stored order.

For training use a ShardStream: it shuffles, shares and reads ahead. Here a sample is found by searching the indexes,
and read by its range. Price: a key costs reading the indexes before the one that has it. A shard whose index has no
checksums of samples, because an older release wrote it, is read and verified whole, and so is each to iterate.
"""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stoker.storage.errors import CorruptShard, NotFound, SampleNotFound
from stoker.storage.plural import plural
from stoker.storage.shards import records
from stoker.storage.shards.html import table
from stoker.storage.shards.index import ShardIndex
from stoker.storage.shards.row_checksum import CHECKSUMS
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.store import Store
from stoker.storage.stores.urls import open_store
from stoker.storage.versions import catalog
from stoker.storage.versions.manifest import Manifest, Shard, SplitTotals, list_splits, load_manifest
from stoker.storage.versions.masks.mask import BoolArray, Masks
from stoker.storage.versions.memory.taken_out import TakenOut
from stoker.storage.versions.queries.query import query as answer_of
from stoker.storage.versions.tar_store import store_of_tars
from stoker.storage.versions.verified import verified_bytes, verified_sample, verified_view

# Not in ``records()`` unless named: where a sample lies in its tar, why it was rejected (it was not), large signatures.
HIDDEN = ("start", "stop", "members", *CHECKSUMS, "reason", "detail", "step", "minhash", "image_hash")
_OPEN_SHARDS, _OPEN_INDEXES = 2, 16
_THREADS = 16  # that read the ends of indexes
_FOOTER = 2**16  # bytes at the end of an index that nearly always hold its schema
_MAX_NEAR = 2000  # keys that a wrong one is compared with
_MAX_LISTED = 10  # names in a message, rows of a table


def corpora(store: Store | str | os.PathLike[str]) -> dict[str, int]:
    """The corpora in a store and the newest version of each.

    Args:
        store: a store, its URL, or the path of a folder.

    >>> import stoker
    >>> from stoker.testing import sample_corpus
    >>> store, _ = sample_corpus(12)
    >>> stoker.corpora(store)
    {'numbers': 1}
    """
    return catalog.newest_versions(_opened(store))


def version(store: Store | str | os.PathLike[str], reference: str) -> "Version":
    """A version of a corpus, to look at its records and samples.

    Raises NotFound naming what there is, CorruptShard for an invalid manifest.

    Args:
        store: a store, its URL, or the path of a folder.
        reference: a name such as ``digits@2``, or ``digits`` for the newest version.

    >>> import stoker
    >>> from stoker.testing import sample_corpus
    >>> store, _ = sample_corpus(12)
    >>> stoker.version(store, "numbers@1")
    <Version numbers@1: 12 samples in train 12>
    """
    opened = _opened(store)
    return Version(opened, load_manifest(opened, reference))


class Version:
    """A version of a corpus, or one split of it: records as Arrow, samples by key or in stored order.

    >>> import stoker
    >>> from stoker.testing import sample_corpus
    >>> store, _ = sample_corpus(12)
    >>> numbers = stoker.version(store, "numbers")
    >>> numbers["n0003"]
    Sample('n0003', {'txt': 1 bytes}, {'label': '3'})
    >>> len(numbers), "n0003" in numbers, [sample.key for sample in numbers][:2]
    (12, True, ['n0000', 'n0001'])
    >>> numbers.records(columns=["key", "label"]).read_all().to_pylist()[1]
    {'key': 'n0001', 'label': '1'}
    >>> numbers.split("train").splits["train"].samples
    12

    All bytes are compared with their checksums before they are handed out. A sample by its key costs one read of its
    range; where an older release wrote the index, the whole shard's. To read all of them iterate: two shards at most
    are kept open. To train use ``ShardStream(version.store, version.manifest, split=...)``.

    Args:
        store: the store that holds the version.
        manifest: the version's manifest.
        only: the name of a split; None: all of them. ``version.split(name)`` checks that there is one of that name.
    """

    def __init__(self, store: Store, manifest: Manifest, only: str | None = None) -> None:
        self.store = store
        self.manifest = manifest
        self._only = only
        self._tars = store_of_tars(store, manifest)
        self._masks, self._taken_out = Masks(store), TakenOut(store)
        self._index = lru_cache(_OPEN_INDEXES)(self._read_index)
        self._view = lru_cache(_OPEN_SHARDS)(self._read_tar)

    def __reduce__(self) -> tuple[type["Version"], tuple[Store, Manifest, str | None]]:
        return Version, (self.store, self.manifest, self._only)  # another process opens shards of its own

    @property
    def splits(self) -> Mapping[str, SplitTotals]:
        """Samples, shards and bytes of each split."""
        splits = self.manifest.splits
        return {name: totals for name, totals in splits.items() if self._only in (None, name)}

    def split(self, name: str) -> "Version":
        """One split, with the same interface. Raises NotFound naming the splits there are."""
        if name not in self.splits:
            raise NotFound(f"{self._name}: no split is called {name!r}; {_hint(name, list(self.splits))}")
        return Version(self.store, self.manifest, name)

    def records(self, columns: Sequence[str] | None = None, *, split: str | None = None) -> pa.RecordBatchReader:
        """The records of all samples in stored order, read shard by shard as they are asked for.

        ``.read_pandas()`` and ``.read_all()`` hold all of them; ``for batch in reader`` holds one shard's. The schema
        is known at once: it is read from the ends of all indexes. Raises NotFound for an unknown column; CorruptShard,
        StorageError, also while it is read.

        Args:
            columns: their names; None: all but those in HIDDEN, which say where samples lie in tars, and signatures.
            split: of this split alone.
        """
        if split is not None:
            return self.split(split).records(columns)
        schema = self._schema
        if columns is None:
            names = [name for name in schema.names if name not in HIDDEN]
        else:
            names = [columns] if isinstance(columns, str) else list(columns)
            for name in names:
                if name not in schema.names:
                    raise NotFound(f"{self._name}: no column is called {name!r}; {_hint(name, schema.names)}")
        selected = pa.schema([schema.field(name) for name in names])
        return pa.RecordBatchReader.from_batches(selected, self._batches(selected))

    @property
    def columns(self) -> list[str]:
        """The names of all columns of records, those in HIDDEN among them."""
        return list(self._schema.names)

    def sql(self, query: str) -> pa.Table:
        """The result of a SELECT of DuckDB's SQL: ``.to_pandas()``, ``.to_pylist()``.

        Its tables: ``samples``, records with ``key`` and ``split``; ``rejected``: ``key``, ``reason``, ``detail``,
        ``by`` (source, step or rule), ``witness``, ``similarity``, ``url``, ``page_url``, ``partition``; ``outcomes``:
        all that the corpus remembers of each candidate. Only what the query names is read. It has no access to files or
        the network, and changes nothing. Raises BadQuery, a StokerError, in one line; CorruptShard; StorageError.

        >>> from stoker.testing import sample_corpus
        >>> store, _ = sample_corpus(12)
        >>> version(store, "numbers").sql("SELECT count(*) AS n FROM samples WHERE key > 'n0008'").to_pylist()
        [{'n': 3}]
        """
        return answer_of(self, query)

    def __getitem__(self, key: str) -> Sample:
        """The sample with a key. Raises SampleNotFound, which is a KeyError; CorruptShard; StorageError."""
        if not isinstance(key, str):
            raise TypeError(
                f"{self._name} has no [{key!r}]: a sample is named by its key, as in version['{self._first_key()}']; "
                "`for sample in version` gives them in order, and stoker.training.ShardStream gives batches"
            )
        located = self._locate(key)
        if located is None:
            raise SampleNotFound(self._not_found(key))
        return self._sample(*located)

    def __contains__(self, key: object) -> bool:
        """Whether a sample has this key."""
        return isinstance(key, str) and self._locate(key) is not None

    def __len__(self) -> int:
        """Samples, as the manifest counts them: also those that were taken out of the corpus since."""
        return sum(totals.samples for totals in self.splits.values())

    def __iter__(self) -> Iterator[Sample]:
        """The samples in stored order. Raises CorruptShard before the first sample of a shard; StorageError."""
        for shard in self._shards:
            index, view = self._index(shard), self._view(shard)
            for row in range(len(index)):
                yield index.sample(row, view[int(index.starts[row]) : int(index.stops[row])])

    def __repr__(self) -> str:
        return f"<Version {self._name}: {plural(len(self), 'sample')} in {list_splits(self.splits)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: of the manifest alone, nothing is read."""
        manifest = self.manifest
        rows: list[tuple[str, object]] = [("made", manifest.created_at), ("samples", f"{len(self):,}")]
        for name, totals in islice(self.splits.items(), _MAX_LISTED):
            rows.append(
                (f"split {name}", f"{totals.samples:,} in {plural(totals.shards, 'shard')}, {totals.size:,} bytes")
            )
        if self._only is None:
            licences = sorted(manifest.licences.items(), key=lambda item: (-item[1], item[0]))
            rows += [(f"licence {name}", f"{samples:,}") for name, samples in licences[:_MAX_LISTED]]
            rows.append(("rejected", f"{sum(manifest.rejected.values()):,} of {manifest.read:,}"))
        return table(self._name, rows)

    @cached_property
    def _shards(self) -> list[Shard]:
        return [shard for shard in self.manifest.shards if self._only in (None, shard.split)]

    @property
    def _name(self) -> str:
        return self.manifest.reference + (f" {self._only}" if self._only is not None else "")

    def _first_key(self) -> str:
        return next((str(self._index(shard).keys[0]) for shard in self._shards if len(self._index(shard))), "")

    def _sample(self, shard: Shard, row: int) -> Sample:
        index = self._index(shard)
        if index.checksums is not None:
            return index.sample(row, verified_sample(self._tars, shard.key, index, row))
        return index.sample(row, self._view(shard)[int(index.starts[row]) : int(index.stops[row])])

    def _locate(self, key: str) -> tuple[Shard, int] | None:
        """The shard that has a key, and its row there."""
        try:
            wanted = pa.scalar(key, pa.string())
        except UnicodeEncodeError:  # half a surrogate pair, which no key holds
            return None
        for shard in self._shards:
            row = pc.index(self._index(shard).keys, wanted).as_py()
            if row >= 0:
                return shard, row
        return None

    def _not_found(self, key: str) -> str:
        """The message for a key that no sample has: the nearest of those that begin alike."""
        alike: list[str] = []
        beginning = key[: len(key) // 2].encode("utf-8", "replace").decode()
        for shard in self._shards:
            keys = self._index(shard).keys
            alike += keys.filter(pc.starts_with(keys, beginning)).slice(0, _MAX_NEAR // 10).to_pylist()
            if len(alike) > _MAX_NEAR:
                break
        alike = alike or ([self._first_key()] if len(self) else [])
        return (
            f"{self._name} holds no sample {key[:100]!r} (`stoker why {self.manifest.reference} KEY` tells what became "
            f"of a candidate); {_hint(key, alike)}"
        )

    def _read_index(self, shard: Shard) -> ShardIndex:
        payload = verified_bytes(self.store, shard.index, sha256=shard.index_sha256)
        index = ShardIndex.decode(payload, f"{self.store.url}/{shard.index}", size=shard.size)
        hidden = self._hidden(shard)
        return index if hidden is None else index.take(np.flatnonzero(~hidden))

    def _hidden(self, shard: Shard) -> BoolArray | None:
        """The stored rows that are masked, or were taken out of the corpus since."""
        masked, gone = self._masks.of(shard), self._taken_out.rows(shard)
        return gone if masked is None else masked if gone is None else masked | gone

    def _read_tar(self, shard: Shard) -> memoryview:
        return verified_view(self._tars, shard.key, sha256=shard.sha256, size=shard.size)

    @cached_property
    def _schema(self) -> pa.Schema:
        """The columns of all indexes together, of the types that all values fit in."""
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="stoker-schemas") as threads:
            schemas = list(dict.fromkeys(threads.map(self._schema_of, self._shards)))
        joined = records.join([schema.empty_table() for schema in schemas]).schema
        fields = [field for field in joined if field.name not in ("key", "split")]
        return pa.schema([joined.field("key"), pa.field("split", pa.string()), *fields])

    def _schema_of(self, shard: Shard) -> pa.Schema:
        """The schema at the end of an index. Not verified: a table that has another one does not fit it later."""
        for size in (min(_FOOTER, shard.index_size), shard.index_size):
            tail = self.store.read(shard.index, start=shard.index_size - size)
            try:
                return pq.read_schema(pa.BufferReader(tail)).remove_metadata()
            except (pa.ArrowException, OSError, ValueError) as error:
                failure = error
        raise CorruptShard(f"{self.store.url}/{shard.index}: not Parquet records: {str(failure)[:200]}") from failure

    def _batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The rows of one index after the other, in this schema."""
        for shard in self._shards:
            payload = verified_bytes(self.store, shard.index, sha256=shard.index_sha256)
            rows, hidden = records.decode(payload, columns=schema.names), self._hidden(shard)
            rows = rows if hidden is None else rows.filter(pa.array(~hidden))
            if "split" in schema.names:
                if "split" in rows.column_names:
                    rows = rows.drop_columns(["split"])
                rows = rows.append_column("split", pa.array([shard.split] * rows.num_rows, pa.string()))
            typed = records.cast(rows.replace_schema_metadata(None), schema)
            yield from (batch for batch in typed.to_batches() if batch.num_rows)


def _opened(store: Store | str | os.PathLike[str]) -> Store:
    return open_store(os.fspath(store)) if isinstance(store, str | os.PathLike) else store


def _hint(name: str, known: Sequence[str]) -> str:
    """The nearest known name, or the first of them, for a message."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known[:_MAX_LISTED]) or 'none'}"
