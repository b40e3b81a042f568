"""Verifies a version: reads every object that it names and compares every checksum, count and offset."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from stoker.storage.errors import CorruptObject, CorruptShard
from stoker.storage.plural import plural
from stoker.storage.shards import records
from stoker.storage.shards.blank import is_blank
from stoker.storage.shards.kinds import DECISIONS, PACKED_INDEX, RECORDS
from stoker.storage.shards.shard import SampleSpan
from stoker.storage.statistics.summary import Summary
from stoker.storage.stores.store import Store
from stoker.storage.verification.recount import Recount, manifest_problems
from stoker.storage.verification.reread import MAX_EXAMPLES, ObjectChecker
from stoker.storage.verification.verify_indexed import verify_indexed
from stoker.storage.verification.verify_lookups import LookupCheck
from stoker.storage.verification.verify_masks import read_masks, without_masked
from stoker.storage.verification.verify_memory import verify_memory
from stoker.storage.versions import layout
from stoker.storage.versions.content import checksum_of
from stoker.storage.versions.manifest import Manifest, Part, Shard
from stoker.storage.versions.masks.mask import BoolArray
from stoker.storage.versions.memory.outcome_class import VANISHED
from stoker.storage.versions.tar_store import store_of_tars

_Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Verified:
    """The result of ``verify``. Without problems the version is intact."""

    shards: int
    samples: int
    size: int  # bytes read
    problems: tuple[str, ...]
    lost_originals: tuple[str, ...] = ()  # keys of tars that are not there any more, which is no damage of the version

    @property
    def damaged(self) -> frozenset[str]:
        """The keys of the objects that have problems; of the manifest the version's name."""
        return frozenset(problem.partition(": ")[0] for problem in self.problems)


def verify(store: Store, manifest: Manifest, *, progress: _Progress | None = None) -> Verified:
    """Read a whole version again: shards, indexes, raw parts, records and decisions, or its external tars.

    So is what the corpus remembers beside its versions: the ledger, tombstones and purges.

    Problems are in the result, not raised. ``progress`` is called with bytes read and bytes in all. Raises
    StorageUnavailable when the store is out of reach, StorageRefused when it may not be read.
    """
    lists = ObjectChecker(store, sum(file.size for file in manifest.lists), None)
    for file in manifest.lists:
        lists.table(file.key, file.sha256, file.size, None)
    try:
        manifest = manifest if lists.problems else manifest.read_lists()
    except CorruptObject as error:
        lists.add_problem(error.key, str(error).removeprefix(f"{store.url}/{error.key}: "))
    if lists.problems:  # they say what else there is to read
        return Verified(0, 0, lists.size, tuple(lists.problems))
    if manifest.is_indexed:
        samples, objects = verify_indexed(store, store_of_tars(store, manifest), manifest, progress)
        for problem in manifest_problems(store, manifest):
            objects.add_problem(manifest.reference, problem)
        verify_memory(objects, manifest.corpus)
        return Verified(len(manifest.shards), samples, objects.size, tuple(objects.problems))
    total = sum(shard.size + shard.index_size for shard in manifest.shards)
    total += sum(part.tar_size for part in manifest.parts) + manifest.decisions.size
    total += sum(file.size for file in (*manifest.lookups, *manifest.pairs))
    objects = ObjectChecker(store, total, progress)
    check = _Check(objects, read_masks(objects, manifest))
    for shard in manifest.shards:
        check.shard(shard)
    for part in manifest.parts:
        check.part(part)
    check.decisions(manifest)
    check.markers(manifest)
    check.totals(manifest)
    check.lookups.compare(objects, manifest)
    for file in manifest.pairs:
        objects.table(file.key, file.sha256, file.size, None)
    for problem in manifest_problems(store, manifest):
        check.objects.add_problem(manifest.reference, problem)
    verify_memory(check.objects, manifest.corpus)
    problems, lost = tuple(check.objects.problems), tuple(check.lost_originals)
    return Verified(len(manifest.shards), check.samples, check.objects.size, problems, lost)


@dataclass
class _Check:
    """Compares objects of a version with its manifest; collects samples that must agree across objects."""

    objects: ObjectChecker
    masks: Mapping[str, BoolArray | None]  # by key of a shard: its masked rows; None where the mask cannot be read
    samples: int = 0
    packed: dict[str, tuple[str, str]] = field(default_factory=dict)  # key → digest of its part, key of its shard
    kept: dict[tuple[str, str], str] = field(default_factory=dict)  # (part, key) → partition
    originals: set[str] = field(default_factory=set)  # keys of those that were read
    lost_originals: list[str] = field(default_factory=list)
    recount: Recount = field(default_factory=Recount)
    counted: int = 0  # shards in it
    lookups: LookupCheck = field(default_factory=LookupCheck)

    def shard(self, shard: Shard) -> None:
        """The tar against its checksum, and sample by sample against its index."""
        index = self.objects.table(shard.index, shard.index_sha256, shard.index_size, PACKED_INDEX)
        samples = self.objects.tar(shard.key, shard.sha256, shard.size)
        if samples is not None and len(samples) != shard.rows:
            self.objects.add_problem(
                shard.key, f"holds {plural(len(samples), 'sample')}, but the manifest says {shard.rows}"
            )
        self.samples += max(0, len(samples or ()) - shard.masked)
        if index is None:
            return
        self.lookups.add(shard.index, index.select(["key"]))
        if index.num_rows != shard.rows:
            self.objects.add_problem(
                shard.index,
                f"has {plural(index.num_rows, 'row')}, but the manifest says {plural(shard.rows, 'sample')}",
            )
        if samples is not None:
            self._compare(shard, index, samples)
        live = without_masked(self.masks, shard, index)
        if live is None:  # its mask is damaged, which is reported
            return
        self.recount.add(shard.split, live)
        self.counted += 1
        self._note_keys(shard, live)

    def part(self, part: Part) -> None:
        """A raw part against its checksums, and its counts against its records."""
        if part.read != part.kept + sum(part.rejected.values()):
            self.objects.add_problem(
                part.records, f"read {part.read}, but kept {part.kept} and rejected {part.rejected}"
            )
        for key in part.originals:
            if key not in self.originals:
                self.originals.add(key)
                if not self.objects.originals(key):
                    self.lost_originals.append(key)
        samples = self.objects.tar(part.tar, part.tar_sha256, part.tar_size)
        table = self.objects.table(part.records, part.records_sha256, None, RECORDS)
        if table is None:
            return
        self.lookups.add(part.records, table)
        reasons = Counter(table["reason"].to_pylist())
        kept = reasons.pop(None, 0)
        if (table.num_rows, kept, dict(reasons)) != (part.read, part.kept, dict(part.rejected)):
            self.objects.add_problem(
                part.records,
                f"has {table.num_rows} rows, {kept} kept, {dict(sorted(reasons.items()))}, but the manifest says "
                f"{part.read}, {part.kept}, {dict(part.rejected)}",
            )
        for reason, gone in part.superseded.items():
            stated = "" if reason == VANISHED else reason
            if any(row >= table.num_rows or (table["reason"][row].as_py() or "") != stated for row in gone):
                self.objects.add_problem(
                    part.records, f"has other rows than the manifest says no longer count: {reason}"
                )
        rows = table.filter(pc.is_null(table["reason"]))
        if samples is not None and (wrong := _first_difference(_spans(rows), samples)):
            self.objects.add_problem(part.records, f"does not say where the samples of {part.tar} lie: {wrong}")
        no_longer = frozenset(part.left_out)
        kept_rows = pc.indices_nonzero(pc.is_null(table["reason"])).to_pylist()
        for row, key in zip(kept_rows, rows["key"].to_pylist(), strict=True):
            if row not in no_longer:
                self.kept[part.digest, key] = part.partition

    def decisions(self, manifest: Manifest) -> None:
        """The decisions against their counts; what they drop is no longer expected in a shard."""
        decisions = manifest.decisions
        table = self.objects.table(decisions.key, decisions.sha256, decisions.size, DECISIONS)
        if table is None:
            return
        dropped: Counter[str] = Counter()
        moved = 0
        for row in table.select(["key", "part", "action", "value"]).to_pylist():
            if row["action"] != "drop":
                moved += 1
                continue
            dropped[row["value"]] += 1
            self.kept.pop((row["part"], row["key"]), None)
        if (dict(dropped), moved) != (dict(decisions.dropped), decisions.moved):
            self.objects.add_problem(
                decisions.key,
                f"drops {dict(sorted(dropped.items()))} and moves {moved}, but the manifest says "
                f"{dict(decisions.dropped)} and {decisions.moved}",
            )

    def markers(self, manifest: Manifest) -> None:
        """The markers of parts and groups, where they are: a lost one costs the next ingest some work, no more."""
        for part in manifest.parts:
            key = layout.raw_part(manifest.corpus, part.digest)
            marker = self.objects.json_object(key)
            if marker is None:
                continue
            same = marker.get("tar") == part.tar and marker.get("records") == part.records
            stated = {name: value for name, value in marker.items() if name not in ("schema", "checksum")}
            # Another one is of a part that was read again since.
            if same and stated != part.as_read().to_json():
                self.objects.add_problem(key, "does not say of its part what the manifest says")
        groups: dict[str, list[dict[str, object]]] = defaultdict(list)
        for shard in manifest.shards:
            groups[shard.group].append(shard.stored().to_json())
        for group, shards in sorted(groups.items()):
            key = layout.group(manifest.corpus, group)
            marker = self.objects.json_object(key)
            if marker is None:
                continue
            if marker.get("shards") != shards:
                self.objects.add_problem(key, "does not say of its shards what the manifest says")
            elif "checksum" in marker and marker["checksum"] != checksum_of(
                {name: value for name, value in marker.items() if name != "checksum"}
            ):
                self.objects.add_problem(key, "differs from its own checksum")

    def totals(self, manifest: Manifest) -> None:
        """The manifest against itself, and kept samples against those in shards."""
        key = manifest.reference
        if manifest.read != manifest.kept + sum(manifest.rejected.values()):
            self.objects.add_problem(
                key, f"read {manifest.read}, kept {manifest.kept}, rejected {dict(manifest.rejected)}: no sum"
            )
        if manifest.kept != manifest.samples:
            self.objects.add_problem(key, f"{manifest.kept} samples were kept, but its shards hold {manifest.samples}")
        licensed = sum(manifest.licences.values())
        if licensed != manifest.samples:
            self.objects.add_problem(
                key, f"counts licences of {licensed} samples, but its shards hold {manifest.samples}"
            )
        for split, totals in manifest.splits.items():
            try:
                counted = Summary.from_json(manifest.statistics.get(split, {"samples": 0, "columns": {}})).samples
            except CorruptShard as error:
                self.objects.add_problem(key, f"split {split!r}: {error}")
                continue
            if counted != totals.samples:
                self.objects.add_problem(
                    key, f"split {split!r}: statistics of {counted} samples, but it has {totals.samples}"
                )
        if self.counted == len(manifest.shards):
            for problem in self.recount.problems(manifest, self.objects.store):
                self.objects.add_problem(key, problem)
        if self.objects.problems:
            return  # the checks below would only repeat them
        missing = [(part, key) for part, key in self.kept if self.packed.get(key, ("",))[0] != part]
        for part, sample in missing[:MAX_EXAMPLES]:
            self.objects.add_problem(
                key, f"sample {sample!r} of partition {self.kept[part, sample]!r} was kept, but is in no shard"
            )
        extra = [sample for sample, (part, _) in self.packed.items() if (part, sample) not in self.kept]
        for sample in extra[:MAX_EXAMPLES]:
            self.objects.add_problem(self.packed[sample][1], f"sample {sample!r} is in no part, or was dropped")

    def _compare(self, shard: Shard, index: pa.Table, samples: list[SampleSpan]) -> None:
        """Compare the index with the tar, row by row."""
        if wrong := _first_difference(_spans(index), samples[: index.num_rows]):
            self.objects.add_problem(shard.index, wrong)
        starts, stops = index["start"].to_pylist(), index["stop"].to_pylist()
        if starts != [0, *stops[:-1]][: len(starts)] or (stops and stops[-1] + 1024 != shard.size):
            self.objects.add_problem(shard.index, "its samples do not lie end to end in the tar")
        if set(index["split"].to_pylist()) - {shard.split}:
            self.objects.add_problem(shard.index, f"names other splits than {shard.split!r}")

    def _note_keys(self, shard: Shard, index: pa.Table) -> None:
        """Remember the samples that the version holds of a shard; one that it holds twice is a problem."""
        repeated = 0
        for key, part in zip(index["key"].to_pylist(), index["part"].to_pylist(), strict=True):
            if key in self.packed and (repeated := repeated + 1) <= MAX_EXAMPLES:
                self.objects.add_problem(shard.index, f"sample {key!r} is in {self.packed[key][1]} too")
            self.packed[key] = (part, shard.key)


def _spans(table: pa.Table) -> list[SampleSpan]:
    """Where the samples of a table lie; those of blank rows without key and members, as a tar has them."""
    return [span._replace(key="", members=()) if is_blank(span.key) else span for span in records.spans(table)]


def _first_difference(stated: list[SampleSpan], actual: list[SampleSpan]) -> str:
    """What a table says of a sample's place or checksum, and what the tar has; "" where they agree."""
    for row, (says, has) in enumerate(zip(stated, actual, strict=False)):
        if not says.agrees(has):
            checksums = says[:4] == has[:4]
            return f"row {row} says {_short(says, checksums)}, but the tar has {_short(has, checksums)}"
    return "" if len(stated) == len(actual) else f"{len(stated)} rows, but the tar has {len(actual)} samples"


def _short(sample: SampleSpan, checksum: bool) -> str:
    if checksum:
        return f"{sample.key!r} with the CRC-32C {sample.crc32c:08x}"
    members = ", ".join(f"{name} at {offset}" for name, offset, _ in sample.members) or "nothing"
    return f"{sample.key!r} with {members} in bytes {sample.start} to {sample.stop}"
