"""`stoker why` of any candidate says what the inputs and the rules' own definitions say, in each of ten versions.

Nothing of Stoker decides here. Texts are out of the raw parts' tars; words, similarities, ages, splits, and which of
several samples stays, are found by this file alone.
"""

import hashlib
import io
import random
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stoker
from stoker.pipelines.memory.identity import IDENTITY
from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.curate import Judging
from stoker.pipelines.stages.forgetting.forget import forget
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.views.curate_again import curate_again
from stoker.pipelines.stages.why import Lineage, Search
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.manifest import load_manifest
from tests.site import FAST
from tests.system.explained.words import jaccard, runs_of

pytestmark = pytest.mark.slow
CORPUS = "tales"
LEAST_WORDS = 5
SPLITS = {"train": 70.0, "test": 30.0}
SEED = 20260101
BARE = {"key", "partition", "reason", "step", "source", "recipe", "code", IDENTITY}  # columns without content
WITNESSED = ("exact_duplicate", "near_duplicate")

Row = Mapping[str, Any]  # Any: a table's values
Rules = Mapping[str, Any]  # Any: their options, by name


def text_of(number: int, chance: random.Random, texts: Sequence[str]) -> str:
    """A text that is short, a copy, or nearly that of another, or like none."""
    words = [f"w{chance.randrange(5000)}" for _ in range(60)]
    kind = chance.random()
    if texts and kind < 0.25:  # one to four words are others: similar by .90, .82, .74, .67 or so
        words = chance.choice(texts).split()
        for place in chance.sample(range(len(words)), min(len(words), chance.randint(1, 4))):
            words[place] = f"x{number}"
    elif texts and kind < 0.35:
        words = chance.choice(texts).split()
    elif kind < 0.42:
        words = words[: chance.randint(1, 2 * LEAST_WORDS)]
    if chance.random() < 0.15 and len(words) > LEAST_WORDS:
        words += ["end"] * 2
    return " ".join(words)


def rows_of(count: int, chance: random.Random) -> Iterator[Row]:
    texts: list[str] = []
    for number in range(count):
        texts.append(text_of(number, chance, texts))
        yield {
            "serial": f"s{number}",
            "text": texts[-1],
            "kind": f"kind{chance.randrange(4)}",
            "score": chance.randrange(100),
            "author": f"author{chance.randrange(12)}",
        }


@dataclass(frozen=True)
class Told:
    """What a version was made of."""

    rules: Rules
    rows: Mapping[str, Row]  # by serial: as the table had each last
    missing: frozenset[str]  # serials of those that it has no more
    gone: frozenset[str]  # serials of those that were forgotten
    by: str  # "ingest", "curate" or "forget"
    held: Mapping[str, str]  # texts by key, as it was published: what is forgotten later is in it


@dataclass
class World:
    """A table that grows and changes, and a version for each thing that happens to it."""

    folder: Path
    rows: list[Row]
    store: MemoryStore = field(default_factory=MemoryStore)
    told: dict[int, Told] = field(default_factory=dict)  # by version
    keys: dict[str, str] = field(default_factory=dict)  # by serial
    missing: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()

    def make(self, rules: Rules, count: int, *, by_curate: bool = False) -> None:
        rows = {row["serial"]: row for row in self.rows[:count]}
        table = [dict(row) for row in rows.values() if row["serial"] not in self.missing]
        pq.write_table(pa.Table.from_pylist(table), self.folder / "rows.parquet")
        source = {"name": "hugging_face", "dataset": "rows.parquet", "key": "serial", "rows_per_partition": 100}
        document = {
            "corpus": CORPUS,
            "source": source,
            "steps": [{"name": "text_length", "min_words": LEAST_WORDS}],
            "rules": [
                {"name": "where", "where": f"row_score >= {rules['least']}", "reason": "low_score"},
                {"name": "lists", "by": "author", "values": [*rules["listed"]]},
                {"name": "exact_duplicates"},
                {"name": "near_duplicate_texts", "similarity": rules["similarity"], "keep": rules["keep"]},
                {"name": "caps", "by": "row_kind", "most": rules["most"], "keep": "oldest"},
            ],
            "splits": SPLITS,
            "limits": {"rejected_percent": 100.0},
            "shards": {"samples": 60, "partitions": 2},
        }
        recipe = parse(document, root=self.folder)
        if by_curate:
            made = curate_again(recipe, self.store, self.folder, judging=Judging(elders=True)).published
        else:
            context = Context(root=self.folder, web=FAST, scratch=self.folder / "scratch")
            made = ingest(recipe, self.store, context)
        assert made.new
        by = "curate" if by_curate else "ingest"
        version = made.manifest.version
        self.told[version] = Told(rules, rows, self.missing, self.gone, by, self.held_by(version))
        self._learn_keys()

    def forget(self, kind: str, value: str) -> None:
        made = forget(self.store, CORPUS, [(kind, self.keys.get(value, value))])
        assert made.view is not None
        before = self.told[max(self.told)]
        own = "serial" if kind == "key" else "author"
        self.gone |= {row["serial"] for row in self.rows if row[own] == value}
        version = made.view.version
        self.told[version] = Told(before.rules, before.rows, self.missing, self.gone, "forget", self.held_by(version))

    def held_by(self, version: int) -> dict[str, str]:
        """The texts that a version gives now, by key."""
        return {one.key: one.fields["txt"].decode() for one in stoker.version(self.store, f"{CORPUS}@{version}")}

    def change(self, chance: random.Random, count: int) -> None:
        """Other texts in some of the first rows, and others of them leave the table."""
        texts = [row["text"] for row in self.rows]
        there = [number for number in range(count) if f"s{number}" not in self.missing]
        chosen = chance.sample(there, count // 8)
        for number in chosen[: len(chosen) // 2]:
            self.rows[number] = {**self.rows[number], "text": text_of(len(texts) + number, chance, texts)}
        self.missing |= {f"s{number}" for number in chosen[len(chosen) // 2 :]}

    def _learn_keys(self) -> None:
        """By the records of all raw parts."""
        for part in load_manifest(self.store, CORPUS).parts:
            table = pq.read_table(io.BytesIO(self.store.read(part.records)))
            if "row_serial" not in table.column_names:  # all of it were known before
                continue
            pairs = zip(table["row_serial"].to_pylist(), table["key"].to_pylist(), strict=True)
            self.keys |= {serial: key for serial, key in pairs if serial is not None}


@pytest.fixture(scope="module", params=[(160, 20), pytest.param((1500, 1000), marks=pytest.mark.nightly)])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, int]:
    """A corpus of ten versions, and how many candidates of each are looked at."""
    count, looked_at = request.param
    chance = random.Random(SEED)
    world = World(tmp_path_factory.mktemp("tales"), list(rows_of(count, chance)))
    rules: dict[str, Any] = {"least": 5, "listed": ["nobody"], "similarity": 0.8, "keep": "oldest", "most": count}
    world.make(rules, count // 2)
    world.make(rules, count * 5 // 8)
    world.make(rules := rules | {"similarity": 0.95}, count * 5 // 8, by_curate=True)
    kept = {one.key for one in stoker.version(world.store, CORPUS)}
    world.forget("key", next(row["serial"] for row in world.rows if world.keys[row["serial"]] in kept))
    world.change(chance, count // 2)
    world.make(rules, count * 6 // 8)
    world.make(rules := rules | {"listed": ["author1"]}, count * 6 // 8, by_curate=True)
    world.change(chance, count // 2)
    world.make(rules := rules | {"keep": "longest", "similarity": 0.7}, count * 7 // 8)
    world.make(rules := rules | {"most": count // 12, "least": 10}, count * 7 // 8, by_curate=True)
    world.forget("author", "author3")
    world.make(rules | {"most": count // 8}, count)
    assert sorted(world.told) == list(range(1, 11))
    return world, looked_at


def test_what_why_says_follows_from_the_inputs(world: tuple[World, int]) -> None:
    tales, looked_at = world
    reasons: Counter[str] = Counter()
    before: Judge | None = None
    for version in tales.told:
        judge = Judge(tales, version, before)
        chosen = random.Random(version).sample([row["serial"] for row in tales.rows], looked_at)
        reasons.update(judge.check(serial) for serial in chosen)
        before = judge
    assert set(reasons) == {"", "unknown", "forgotten", "too_short", "low_score", "excluded", *WITNESSED, "over_cap"}


def hash_of_key(key: str) -> bytes:
    """By which samples of one age are sorted."""
    return hashlib.sha256(b"\0" + key.encode()).digest()[:8]


def split_of(group: str) -> str:
    hashed = int.from_bytes(hashlib.sha256(b"split\0" + group.encode()).digest()[:8], "big")
    return "train" if hashed / 2**64 * 100 < SPLITS["train"] else "test"


@dataclass(frozen=True)
class Verdict:
    """What must be said of a candidate. ``witness`` is a key, ``similarity`` the exact one to it."""

    state: str
    reason: str = ""
    rejected_by: str = ""
    witness: str = ""
    similarity: float = 0.0
    split: str = ""


class Judge:
    """What one version must say. ``before``: of the version before; its verdicts were compared with what is told."""

    def __init__(self, world: World, version: int, before: "Judge | None") -> None:
        self.world, self.told, self.before = world, world.told[version], before
        self.manifest = load_manifest(world.store, CORPUS, version)
        self.search = Search(world.store, self.manifest)
        self.held = world.held_by(version)  # without what was forgotten since
        self.row_of = {world.keys[serial]: row for serial, row in self.told.rows.items() if serial in world.keys}
        # Of each key that a version held the first one, and the last split.
        self.since: dict[str, int] = dict(before.since) if before else {}
        self.splits: dict[str, str] = dict(before.splits) if before else {}
        self.verdicts = self._forgotten() if self.told.by == "forget" else self._judged()
        for key in self.told.held:
            self.since.setdefault(key, version)
            self.splits[key] = self.verdicts[key].split

    @cached_property
    def stored(self) -> dict[str, tuple[str, frozenset[str]]]:
        """The split and the stored keys of each tar, masked ones among them."""
        found = {}
        for shard in self.manifest.shards:
            with tarfile.open(fileobj=io.BytesIO(self.world.store.read(shard.key))) as tar:
                names = frozenset(name.removesuffix(".txt") for name in tar.getnames() if name.endswith(".txt"))
            found[shard.key] = shard.split, names
        return found

    def check(self, serial: str) -> str:
        """Compare what is said of a candidate; its reason."""
        key = self.world.keys.get(serial, "")
        if not key:
            assert serial in self.world.gone  # before it was read: nothing of its content is written
            return "forgotten"
        found = self.search.lineages(key)
        if serial not in self.told.rows or self._is_left_out(serial):
            assert not found
            return "unknown"
        (told,) = found
        assert (key in self.held) == (told.state == "kept" and serial not in self.world.gone)
        if serial in self.world.gone:
            if (told.state, told.reason) == ("rejected", "forgotten"):
                # It was a reject, and was offered again since: its record names no author by which to know it.
                assert (told.rejected_by, told.detail) == ("stoker", "")
                assert told.record.keys() <= BARE
            else:
                assert (bool(told.withdrawn), told.record) == (True, {})
            return "forgotten"
        verdict = self.verdicts[key]
        said = told.state, told.reason, told.rejected_by, told.split
        assert said == (verdict.state, verdict.reason, verdict.rejected_by, verdict.split), (told, verdict)
        self._check_witness(told, verdict)
        if told.state == "kept":
            assert self.held[key] == self.told.rows[serial]["text"]
            split, names = self.stored[told.shard]
            assert (split, key in names) == (told.split, True)
        return told.reason

    def _is_left_out(self, serial: str) -> bool:
        """What was rejected of a table counts no more when the table lacks it."""
        is_short = len(self.told.rows[serial]["text"].split()) < LEAST_WORDS
        return is_short and serial in self.told.missing

    def _check_witness(self, told: Lineage, verdict: Verdict) -> None:
        if verdict.reason == "exact_duplicate":
            assert (told.duplicate_of, told.similarity) == (verdict.witness, 1)
        elif verdict.reason == "near_duplicate":
            assert told.similarity is not None
            if told.verified:
                assert told.duplicate_of == verdict.witness
                assert told.similarity == pytest.approx(verdict.similarity)
            else:  # estimated, as is which one is most alike
                similarity = jaccard(self.row_of[told.key]["text"], self.row_of[told.duplicate_of]["text"])
                assert similarity >= self.told.rules["similarity"]
                assert abs(told.similarity - similarity) < 3 * 0.035
        else:
            assert not told.duplicate_of
        if told.stays:
            gone = {self.world.keys.get(serial) for serial in self.world.gone}  # since then, perhaps
            assert told.stays in self.held.keys() | gone

    def _forgotten(self) -> dict[str, Verdict]:
        """Forgetting decides about nothing else: others are as they were."""
        assert self.before is not None
        return self.before.verdicts

    def _judged(self) -> dict[str, Verdict]:
        rules, rows = self.told.rules, self.row_of
        verdicts: dict[str, Verdict] = {}
        for key, row in rows.items():
            if len(row["text"].split()) < LEAST_WORDS:
                verdicts[key] = Verdict("rejected", "too_short", "text_length")
        order = [key for key in self._read_order() if key not in verdicts]
        elders, bound = self._elders(order)
        stay = self.before is not None and self.told.by == "ingest" and rules == self.before.told.rules
        order.sort(key=lambda key: 0 if key in elders else 1 if key in bound else 2)
        if not stay:  # by age, as far as a version held them
            unknown = len(self.world.told) + 1
            since = {key: self.since.get(elders.get(key, key), unknown) for key in order}
            age = {key: (since[key], hash_of_key(key) if since[key] < unknown else b"") for key in order}
            order.sort(key=age.__getitem__)
        exempt = elders.keys() if stay else set()

        def left() -> list[str]:
            return [key for key in order if key not in verdicts]

        def drop(key: str, verdict: Verdict) -> None:
            if key not in exempt:
                verdicts[key] = verdict

        for key in left():
            if rows[key]["score"] < rules["least"]:
                drop(key, Verdict("dropped", "low_score", "where"))
        for key in left():
            if rows[key]["author"] in rules["listed"]:
                drop(key, Verdict("dropped", "excluded", "lists"))
        oldest: dict[str, str] = {}  # by text
        for key in left():
            first = oldest.setdefault(rows[key]["text"], key)
            if first != key:
                drop(key, Verdict("dropped", "exact_duplicate", "exact_duplicates", first))
        for key, (witness, similarity) in self._near(left(), elders, exempt).items():
            verdicts[key] = Verdict("dropped", "near_duplicate", "near_duplicate_texts", witness, similarity)
        counts: Counter[str] = Counter()
        for key in left():
            counts[rows[key]["kind"]] += 1
            if counts[rows[key]["kind"]] > rules["most"]:
                drop(key, Verdict("dropped", "over_cap", "caps"))
        for key in left():
            split = self.splits.get(elders.get(key, key)) or split_of(key)
            verdicts[key] = Verdict("kept", split=split)
        return verdicts

    def _read_order(self) -> list[str]:
        """The keys of what was read and not rejected, in the order of the raw parts; not what was forgotten."""
        gone = {self.world.keys.get(serial) for serial in self.told.gone}
        found: dict[str, None] = {}
        for part in self.manifest.parts:
            if part.tar:
                with tarfile.open(fileobj=io.BytesIO(self.world.store.read(part.tar))) as tar:
                    for member in tar:
                        key, _, extension = member.name.partition(".")
                        file = tar.extractfile(member)
                        assert file is not None
                        if extension == "txt" and key not in gone and file.read().decode() == self.row_of[key]["text"]:
                            found[key] = None
        return list(found)

    def _elders(self, order: Sequence[str]) -> tuple[dict[str, str], set[str]]:
        """Those that the version before held, each with its key there; and those of which it held other texts, or an
        earlier version any.

        A sample takes the place of one of the same text that is not there any more.
        """
        held: Mapping[str, str] = self.before.told.held if self.before else {}
        elders = {key: key for key in order if held.get(key) == self.row_of[key]["text"]}
        left, claims = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
        for key in sorted(held.keys() - elders.keys()):
            left[held[key]].append(key)
        for key in sorted(set(order) - elders.keys()):
            claims[self.row_of[key]["text"]].append(key)
        for text, keys in claims.items():
            elders |= dict(zip(keys, left[text], strict=False))
        return elders, {key for key in order if key in self.since and key not in elders}

    def _near(
        self,
        order: list[str],
        elders: Mapping[str, str],
        exempt: "set[str] | Any",  # Any: the keys of a dictionary
    ) -> dict[str, tuple[str, float]]:
        """Those that are near an earlier one that stays, with the most similar of these."""
        if self.told.rules["keep"] == "longest":
            newcomers = [key for key in order if key not in elders]
            newcomers.sort(key=lambda key: (-len(self.row_of[key]["text"]), hash_of_key(key)))
            order = [key for key in order if key in elders] + newcomers
        found: dict[str, tuple[str, float]] = {}
        kept_with = defaultdict[str, list[str]](list)  # by run of words
        place = {key: number for number, key in enumerate(order)}
        for key in order:
            text = self.row_of[key]["text"]
            others = {other for run in runs_of(text) for other in kept_with[run]} if key not in exempt else set()
            near = [(jaccard(text, self.row_of[other]["text"]), -place[other], other) for other in others]
            similarity, _, witness = max(near, default=(0.0, 0, ""))
            if similarity >= self.told.rules["similarity"] - 1e-9:
                found[key] = witness, similarity
                continue
            for run in runs_of(text):
                kept_with[run].append(key)
        return found
