"""Writes objects of versions anew without the samples that were taken out; the old ones stay until a purge is recorded.

Only objects that hold such a sample are written. What is written depends on the old object and the rows alone, so that
a killed purge writes the same objects again.
"""

import hashlib
import itertools
import logging
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.memory.identity import IDENTITY
from stoker.pipelines.memory.originals import ORIGINAL, Place
from stoker.pipelines.stages.forgetting.matching import Forgotten
from stoker.pipelines.tables.deciding.kept_pairs import HASH
from stoker.storage.errors import CorruptObject, CorruptShard, NotFound, StorageRefused
from stoker.storage.shards import records
from stoker.storage.shards.blank import blank_key, blank_rows_of, iter_filler, with_blanks
from stoker.storage.shards.kinds import DECISIONS, INDEX, RECORDS
from stoker.storage.shards.tar import BLOCK, END
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.listed import lists
from stoker.storage.versions.listed.redirected import originals_now, part_now, shard_now
from stoker.storage.versions.lookups.building import files_of, hashes_of_file, put_lookup
from stoker.storage.versions.lookups.table import Entries, Lookup
from stoker.storage.versions.manifest import WITH_LISTS, Manifest, Part, Shard
from stoker.storage.versions.masks.mask import Masks
from stoker.storage.versions.masks.view import counted_again
from stoker.storage.versions.measured.pairs import encode as encode_pairs
from stoker.storage.versions.measured.pairs import put_pairs, read_pairs, records_in
from stoker.storage.versions.memory.withdrawn import Replaced, load_redirects
from stoker.storage.versions.verified import put, second_read, verified_table

_log = logging.getLogger(__name__)

_Flags = npt.NDArray[np.bool_]


@dataclass
class Rewriting:
    """What is written anew, and what of it later steps need.

    Args:
        store: that holds the corpus.
        corpus: its name.
        forgotten: what was taken out.
        folder: for temporary files.
    """

    store: Store
    corpus: str
    forgotten: Forgotten
    folder: Path
    replaced: dict[str, Replaced] = field(default_factory=dict)  # by the key of the old object
    keys: set[str] = field(default_factory=set)  # of the samples and candidates that were found
    identities: set[str] = field(default_factory=set)  # of the same, in their source
    versions: Counter[int] = field(default_factory=Counter)  # samples that each version holds of them
    unreached: list[str] = field(default_factory=list)
    _rows: dict[str, _Flags] = field(default_factory=dict)  # that are blanked, by key of an index or of records
    _forgotten: dict[str, set[tuple[int, int]]] = field(default_factory=dict)  # originals, by key of their tar
    _named: dict[str, "array[int]"] = field(default_factory=dict)  # the same of all others: start, stop, start, ...
    _of_parts: set[tuple[str, str]] = field(default_factory=set)  # digest of the part and key of each

    def write(self, manifests: Iterable[Manifest], parts: Iterable[Part]) -> None:
        """Write all objects anew that hold a sample that was taken out. Raises StorageError, CorruptShard among them.

        Args:
            manifests: of all versions whose tars are the corpus' own.
            parts: all raw parts of the corpus.
        """
        manifests, parts = list(manifests), list(parts)
        for part in {part.records: part for part in parts}.values():
            self._part(part)
        self._write_originals(parts)
        for manifest in manifests:
            for shard in manifest.shards:
                self._shard(shard)
        for manifest in manifests:
            self._decisions(manifest)
            self._statistics(manifest)
        self._lookups(manifests)
        self._pairs(manifests)

    def _part(self, part: Part) -> None:
        try:
            table = verified_table(self.store, part.records, RECORDS, sha256=part.records_sha256)
        except NotFound:
            self.unreached.append(f"raw part {layout.folder_of(part.records)}, which is not there")
            return
        flags = self.forgotten.rows(table) & ~blank_rows_of(table)
        if ORIGINAL in table.column_names:
            self._note_originals(table[ORIGINAL].to_pylist(), flags)
        if not flags.any():
            return
        gone = table.filter(pa.array(flags))
        if any(self.forgotten.are_told_by(name, gone) for name in (part.partition, *part.shared)):
            self.unreached.append(
                f"the name of the partition of {layout.folder_of(part.records)}, in lists, statistics and tables: it "
                "tells a file, the end of a URL or a host that was taken out"
            )
        own = pc.coalesce(gone[IDENTITY], gone["key"]) if IDENTITY in gone.column_names else gone["key"]
        self.identities.update(own.to_pylist())
        placed = flags & np.asarray(pc.is_valid(table["start"]).to_pylist(), np.bool_)
        self._note(part.records, flags, ((part.digest, key) for key in gone["key"].to_pylist()))
        if placed.any():
            spans = _spans(table, placed)
            self._tar(part.tar, part.tar_size, spans, np.flatnonzero(placed), part.tar_sha256)
        self._table(part.records, with_blanks(table, flags), flags)

    def _shard(self, shard: Shard) -> None:
        if shard.index in self._rows:
            return
        table = verified_table(self.store, shard.index, INDEX, sha256=shard.index_sha256)
        flags = self.forgotten.rows(table) & ~blank_rows_of(table)
        gone = table.filter(pa.array(flags))
        parts = gone["part"].to_pylist() if "part" in gone.column_names else [""] * gone.num_rows
        self._note(shard.index, flags, zip(parts, gone["key"].to_pylist(), strict=True))
        if flags.any():
            self._tar(shard.key, shard.size, _spans(table, flags), np.flatnonzero(flags), shard.sha256)
            self._table(shard.index, with_blanks(table, flags), flags)

    def _note(self, key: str, flags: _Flags, samples: Iterable[tuple[str, str]]) -> None:
        self._rows[key] = flags
        samples = list(samples)
        self._of_parts.update(samples)
        self.keys.update(sample for _, sample in samples)

    def _decisions(self, manifest: Manifest) -> None:
        """The decisions about samples, without the keys of those that were taken out."""
        old = manifest.decisions
        if old.key in self.replaced or not self.keys:
            return
        table = verified_table(self.store, old.key, DECISIONS, sha256=old.sha256)
        about = np.fromiter(
            map(self._of_parts.__contains__, zip(table["part"].to_pylist(), table["key"].to_pylist(), strict=True)),
            np.bool_,
            table.num_rows,
        )
        names = pa.array(sorted(self.keys), pa.string())
        flags = pa.array(about)
        if "witness" in table.column_names:
            flags = pc.or_(flags, pc.fill_null(pc.is_in(table["witness"], value_set=names), False))
        if not pc.any(flags, min_count=0).as_py():
            return
        changed = {"key": (about, table["key"].to_pylist())}
        if "witness" in table.column_names:
            is_witness = np.asarray(pc.is_in(table["witness"], value_set=names).to_pylist(), np.bool_)
            changed["witness"] = is_witness, table["witness"].to_pylist()
        for name, (blanked, values) in changed.items():
            column = [blank_key(value) if gone else value for value, gone in zip(values, blanked, strict=True)]
            table = table.set_column(table.column_names.index(name), name, pa.array(column, pa.string()))
        if "detail" in table.column_names:
            detail = pc.if_else(flags, pa.scalar(None, pa.string()), table["detail"])
            table = table.set_column(table.column_names.index("detail"), "detail", detail)
        self._table(old.key, table, np.zeros(0, np.bool_))

    def _statistics(self, manifest: Manifest) -> None:
        """The statistics of a version, counted again where it holds a sample that was taken out."""
        masks = Masks(self.store)
        count = 0
        for shard in manifest.shards:
            masked, flags = masks.of(shard), self._rows[shard.index]
            count += int((flags if masked is None else flags & ~masked).sum())
        if not count:
            return
        self.versions[manifest.version] = count
        if manifest.schema < WITH_LISTS:
            self.unreached.append(
                f"the most frequent values that the manifest of {manifest.reference} holds itself, as earlier releases "
                f"wrote it; `stoker delete {manifest.reference}` removes them"
            )
            return
        new = counted_again(self.store, self.now(manifest))
        rows = ({"split": split, "summary": one} for split, one in new.statistics.items())
        file, payload = lists.encode_list(self.corpus, lists.STATISTICS, rows)
        old = next((one for one in manifest.lists if one.key.startswith(_STATISTICS.format(self.corpus))), None)
        if old is not None and old.key != file.key:
            put(self.store, file.key, payload, sha256=file.sha256)
            self.replaced[old.key] = Replaced(old.key, file.key, file.size, file.sha256, ())

    def _lookups(self, manifests: Sequence[Manifest]) -> None:
        """The lookups, without values that no version's records and indexes have now; damaged ones are emptied."""
        sources = {key: source for manifest in manifests for key, source in files_of(self.now(manifest)).items()}
        for file in {file.key: file for manifest in manifests for file in manifest.lookups}.values():
            lookup = Lookup.of_object(self.store, file)
            try:
                changed = [self.replaced[key].new for key in lookup.files if key in self.replaced]
                if not changed and all(key in sources for key in lookup.files):
                    continue
                entries = lookup.entries().only(sources)
            except (CorruptShard, NotFound):
                entries, changed = Entries.of(()), []
            anew = ((key, hashes_of_file(self.store, key, sources[key])) for key in changed if key in sources)
            new = put_lookup(self.store, self.corpus, entries.joined(Entries.of(anew)))
            if new.key != file.key:
                self.replaced[file.key] = Replaced(file.key, new.key, new.size, new.sha256, ())

    def _pairs(self, manifests: Sequence[Manifest]) -> None:
        """The pairs of near-duplicates, without hashes that no records have now; damaged ones are removed."""
        parts = {part.records: part for manifest in manifests for part in self.now(manifest).parts}
        for file in {file.key: file for manifest in manifests for file in manifest.pairs}.values():
            try:
                kept = read_pairs(self.store, file)
            except (CorruptShard, NotFound):
                # No other stands in its place: the next search may give the same under its key.
                self.store.delete(file.key)
                continue
            named = [(records_in(name), name) for name in kept.files]
            if kept.files and all(key in parts for key, _ in named):
                continue
            # The rows are the same, so that what is known of those that stay still holds.
            changed = {key: self.replaced[key].new for key, _ in named if key in self.replaced}
            names = [name.replace(key, changed.get(key, key), 1) for key, name in named]
            there = [name for name in names if records_in(name) in parts]
            hashes = [self._hashes(parts[key]) for key in sorted({records_in(name) for name in there})]
            kept = replace(kept, files=tuple(names)).only(there, pa.chunked_array(hashes, pa.string()))
            new, payload = encode_pairs(self.corpus, kept)
            put_pairs(self.store, [(new, payload)])
            if new.key != file.key:
                self.replaced[file.key] = Replaced(file.key, new.key, new.size, new.sha256, ())

    def _hashes(self, part: Part) -> pa.Array:
        table = verified_table(self.store, part.records, RECORDS, sha256=part.records_sha256, columns=[HASH])
        return table[HASH].drop_null().combine_chunks() if HASH in table.column_names else pa.nulls(0, pa.string())

    def now(self, manifest: Manifest) -> Manifest:
        """A version with what was written anew."""
        shards = tuple(shard_now(shard, self.replaced) for shard in manifest.shards)
        return replace(manifest, shards=shards, parts=tuple(part_now(part, self.replaced) for part in manifest.parts))

    def _table(self, key: str, table: pa.Table, blank: _Flags) -> None:
        payload = records.encode(table)
        sha256 = records.sha256(payload)
        rows = tuple(np.flatnonzero(blank).tolist())
        new = Replaced(key, layout.purged(key, sha256), len(payload), sha256, rows)
        put(self.store, new.new, payload, sha256=sha256)
        self.replaced[key] = new

    def _note_originals(self, values: Iterable[object], flags: _Flags) -> None:
        for place, is_forgotten in zip(map(Place.of, values), flags.tolist(), strict=True):
            if place is not None and is_forgotten:
                self._forgotten.setdefault(place.tar, set()).add((place.start, place.stop))
            elif place is not None:
                self._named.setdefault(place.tar, array("q")).extend((place.start, place.stop))

    def _write_originals(self, parts: Sequence[Part]) -> None:
        """Write the tars of originals anew, in whichever part they lie.

        What no record names goes too: its record went with its part, so that nobody can tell whether it was forgotten.
        """
        before = load_redirects(self.store, self.corpus)
        sizes = {stored.key: stored.size for stored in self.store.list(layout.raw(self.corpus))}
        named = self._forgotten.keys() | self._named.keys()
        unrecorded = _unrecorded(parts, {originals_now(name, before) for name in named} | named)
        tars: dict[str, list[str]] = {}  # what records and parts call a tar, by its key now
        # Those in records come first: parts may also name what a purge wrote that was killed before its record.
        of_parts = {key for part in parts for key in part.originals} - unrecorded.keys()
        for name in [*sorted(named), *sorted(of_parts)]:
            tars.setdefault(originals_now(name, before), []).append(name)
        written: set[str] = set()
        for key, names in tars.items():
            if key not in sizes or key in written:  # lost, or removed with the last part that named it
                continue
            forgotten = {span for name in names for span in self._forgotten.get(name, ())}
            kept = {span for name in names for span in _pairs(self._named.get(name, ()))} - forgotten
            end = max([sizes[key] - len(END), *(stop for _, stop in forgotten)])  # one that was cut short is damaged
            spans = list(_gaps(kept, end))
            if not all(self._is_filler(key, start, stop) for start, stop in spans):
                self._original(key, sizes[key], spans)
                written.update(one.new for one in [self.replaced.get(key)] if one is not None)
        for key, name in unrecorded.items():
            now = self.replaced.get(originals_now(name, before))
            if now is not None and now.new != key:
                self.replaced[key] = replace(now, old=key)

    def _is_filler(self, key: str, start: int, stop: int) -> bool:
        size = stop - start
        return size >= BLOCK and self.store.read(key, start=start, size=BLOCK) == next(iter_filler(size))

    def _original(self, key: str, size: int, spans: Sequence[tuple[int, int]]) -> None:
        try:
            self._tar(key, size, spans, ())
        except CorruptObject as error:
            _log.warning("%s; it is removed, and what it held is asked for again when needed", error)
            self.store.delete(key)

    def _tar(
        self, key: str, size: int, spans: Iterable[tuple[int, int]], blank: Iterable[int], sha256: str = ""
    ) -> None:
        """Write a tar anew, with a filler in each of these spans; ``blank``: the rows that hold nothing then.

        Compared with its checksum first, or with its name if none is given.
        """
        path = self.folder / "anew.tar"
        try:
            second_read(lambda: _download(self.store, key, sha256, path))
            with path.open("r+b") as file:
                for start, stop in spans:
                    file.seek(start)
                    file.writelines(iter_filler(stop - start))
            with path.open("rb") as file:
                now = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise StorageRefused(
                f"{self.folder}: {error.strerror or error}; {size:,} bytes of {key} are written there"
            ) from error
        new = Replaced(key, layout.purged(key, now), size, now, tuple(map(int, blank)))
        put(self.store, new.new, path, sha256=now)
        path.unlink()
        self.replaced[key] = new


def _unrecorded(parts: Sequence[Part], named: Collection[str]) -> dict[str, str]:
    """The tars that a purge wrote which was killed before its record, each with the one in whose place it stands.

    Records go on to name the one before, and a part has the tars in the order in which it had those before.

    Args:
        named: the tars that records name, as they call them and by their keys now.
    """
    by_digest: dict[str, list[Part]] = {}
    for part in parts:
        by_digest.setdefault(part.digest, []).append(part)
    return {
        key: name
        for alike in by_digest.values()
        for one, other in itertools.permutations({part.originals: part for part in alike}.values(), 2)
        if len(one.originals) == len(other.originals)
        for key, name in zip(one.originals, other.originals, strict=True)
        if key not in named and name in named
    }


def _spans(table: pa.Table, rows: _Flags) -> list[tuple[int, int]]:
    chosen = table.filter(pa.array(rows))
    return list(zip(chosen["start"].to_pylist(), chosen["stop"].to_pylist(), strict=True))


def _pairs(ends: Sequence[int]) -> Iterator[tuple[int, int]]:
    return zip(ends[::2], ends[1::2], strict=True)


def _gaps(spans: Iterable[tuple[int, int]], end: int) -> Iterator[tuple[int, int]]:
    """What lies between spans, from 0 to ``end``."""
    at = 0
    for start, stop in sorted(spans):
        if start > at:
            yield at, start
        at = max(at, stop)
    if at < end:
        yield at, end


_STATISTICS = "{}/lists/" + lists.STATISTICS + "-"


def _download(store: Store, key: str, sha256: str, path: Path) -> None:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in store.iter_bytes(key):
            digest.update(chunk)
            file.write(chunk)
    if not sha256 and layout.purged(key, digest.hexdigest()) != key:
        raise CorruptObject(f"{store.url}/{key}: sha256 {digest.hexdigest()[:16]}, but its name says another one", key)
    if sha256 and digest.hexdigest() != sha256:
        raise CorruptObject(
            f"{store.url}/{key}: sha256 {digest.hexdigest()[:12]}, expected {sha256[:12]}; `stoker verify --repair` of "
            "its version heals it, and then the same purge goes on",
            key,
        )
