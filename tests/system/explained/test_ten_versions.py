"""`stoker why` of any candidate says what the inputs and the rules' own definitions say, in each of ten versions.

Nothing of Stoker decides here: words, similarities and lists are those of this file, and texts are out of the tars.
"""

import io
import random
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import stoker
from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.curate import Judging
from stoker.pipelines.stages.forgetting.forget import forget
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.views.curate_again import curate_again
from stoker.pipelines.stages.why import Lineage, find_lineages
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.manifest import load_manifest
from tests.site import FAST

pytestmark = pytest.mark.slow
CORPUS = "tales"
LEAST_WORDS = 5
SEED = 20260101

Row = Mapping[str, Any]  # Any: a table's values
Rules = Mapping[str, Any]  # Any: their options, by name


@cache
def runs_of(text: str) -> frozenset[str]:
    """The runs of three words."""
    words = re.findall(r"[^\W_]+", text.lower())
    return frozenset(" ".join(words[start : start + 3]) for start in range(max(1, len(words) - 2)))


def jaccard(one: str, other: str) -> float:
    return len(runs_of(one) & runs_of(other)) / len(runs_of(one) | runs_of(other))


def read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = tar.extractfile(member)
    assert file is not None
    return file.read().decode()


def rows_of(count: int, chance: random.Random) -> Iterator[Row]:
    """Texts, of which some are short, copies, or nearly those of others."""
    texts: list[str] = []
    for number in range(count):
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
        texts.append(" ".join(words))
        yield {
            "serial": f"s{number}",
            "text": texts[-1],
            "kind": f"kind{chance.randrange(4)}",
            "score": chance.randrange(100),
            "author": f"author{chance.randrange(12)}",
        }


@dataclass
class World:
    """A table that grows, and a version for each thing that happens to it."""

    folder: Path
    rows: list[Row]
    store: MemoryStore = field(default_factory=MemoryStore)
    told: dict[int, tuple[Rules, int]] = field(default_factory=dict)  # rules and rows, by version
    keys: dict[str, str] = field(default_factory=dict)  # by serial
    gone: set[str] = field(default_factory=set)  # serials

    def make(self, rules: Rules, count: int, *, by_curate: bool = False) -> None:
        table = pa.Table.from_pylist([dict(row) for row in self.rows[:count]])
        pq.write_table(table, self.folder / "rows.parquet")
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
        self.told[made.manifest.version] = rules, count

    def forget(self, kind: str, value: str) -> None:
        wanted = self.keys.get(value, value)
        assert forget(self.store, CORPUS, [(kind, wanted)]).view is not None
        rules, count = self.told[max(self.told)]
        self.told[max(self.told) + 1] = rules, count
        own = "serial" if kind == "key" else "author"
        self.gone |= {row["serial"] for row in self.rows if row[own] == value}

    def texts(self, version: int) -> dict[str, dict[str, str]]:
        """The texts by key in each tar of a version, as they are stored."""
        found: dict[str, dict[str, str]] = {}
        for shard in load_manifest(self.store, CORPUS, version).shards:
            with tarfile.open(fileobj=io.BytesIO(self.store.read(shard.key))) as tar:
                texts = [one for one in tar if one.name.endswith(".txt")]
                found[shard.key] = {one.name[:-4]: read(tar, one) for one in texts}
        return found

    def key_of(self, serial: str) -> str:
        """By the records of all raw parts; "" if it was taken out before it was read: nothing is written of it."""
        if serial not in self.keys:
            for part in load_manifest(self.store, CORPUS).parts:
                table = pq.read_table(io.BytesIO(self.store.read(part.records)), columns=["key", "row_serial"])
                pairs = zip(table["row_serial"].to_pylist(), table["key"].to_pylist(), strict=True)
                self.keys |= {serial: key for serial, key in pairs if serial is not None}
        if serial in self.gone:
            return self.keys.get(serial, "")
        return self.keys[serial]


@pytest.fixture(scope="module", params=[(160, 20), pytest.param((1500, 1000), marks=pytest.mark.nightly)])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, int]:
    """A corpus of ten versions, and how many candidates of each are looked at."""
    count, looked_at = request.param
    world = World(tmp_path_factory.mktemp("tales"), list(rows_of(count, random.Random(SEED))))
    rules: dict[str, Any] = {"least": 5, "listed": ["nobody"], "similarity": 0.8, "keep": "oldest", "most": count}
    world.make(rules, count // 2)
    world.make(rules, count * 5 // 8)
    world.make(rules := rules | {"similarity": 0.95}, count * 5 // 8, by_curate=True)
    kept = {one.key for one in stoker.version(world.store, CORPUS)}
    world.forget("key", next(row["serial"] for row in world.rows if world.key_of(row["serial"]) in kept))
    world.make(rules, count * 6 // 8)
    world.make(rules := rules | {"listed": ["author1"]}, count * 6 // 8, by_curate=True)
    world.make(rules := rules | {"keep": "longest", "similarity": 0.7}, count * 7 // 8)
    world.make(rules := rules | {"most": count // 12, "least": 10}, count * 7 // 8, by_curate=True)
    world.forget("author", "author3")
    world.make(rules | {"most": count // 8}, count)
    assert sorted(world.told) == list(range(1, 11))
    return world, looked_at


def test_what_why_says_follows_from_the_inputs(world: tuple[World, int]) -> None:
    tales, looked_at = world
    reasons: Counter[str] = Counter()
    for version in tales.told:
        chosen = random.Random(version).sample(tales.rows, looked_at)
        judge = Judge(tales, version)
        reasons.update(judge.check(row) for row in chosen)
    assert set(reasons) == {"", "unknown", "forgotten", "too_short", "low_score", "excluded", *WITNESSED, "over_cap"}


WITNESSED = ("exact_duplicate", "near_duplicate")


class Judge:
    """What one version must say."""

    def __init__(self, world: World, version: int) -> None:
        self.world, self.version = world, version
        self.rules, self.count = world.told[version]
        self.manifest = load_manifest(world.store, CORPUS, version)
        self.stored = world.texts(version)
        self.kept = {one.key for one in stoker.version(world.store, f"{CORPUS}@{version}")}
        self.row_of = {world.key_of(row["serial"]): row for row in world.rows}

    def check(self, row: Row) -> str:
        """Compare what is said of a candidate; its reason."""
        key, rules = self.world.key_of(row["serial"]), self.rules
        if not key:
            return "forgotten"
        found = find_lineages(self.world.store, self.manifest, key)
        if int(row["serial"][1:]) >= self.count:
            assert not found
            return "unknown"
        (told,) = found
        if row["serial"] in self.world.gone:
            assert (bool(told.withdrawn), told.record, key in self.kept) == (True, {}, False)
            return "forgotten"
        assert not told.withdrawn
        said = told.state, told.reason, told.rejected_by
        if len(row["text"].split()) < LEAST_WORDS:
            assert said == ("rejected", "too_short", "text_length")
        elif row["score"] < rules["least"]:
            assert said == ("dropped", "low_score", "where")
        elif row["author"] in rules["listed"]:
            assert said == ("dropped", "excluded", "lists")
        elif told.state == "kept":
            self.check_kept(row, told)
        elif told.reason == "over_cap":
            assert said == ("dropped", "over_cap", "caps")
            gone = {self.world.key_of(serial) for serial in self.world.gone}  # since then, perhaps
            assert sum(self.row_of[one]["kind"] == row["kind"] for one in self.kept | gone) >= rules["most"]
        else:
            self.check_copy(row, told)
        assert (told.state == "kept") == (key in self.kept)
        return told.reason

    def check_kept(self, row: Row, told: Lineage) -> None:
        """It is where it says, and the rules leave it."""
        assert self.stored[told.shard][told.key] == row["text"]
        others = [self.row_of[one]["text"] for one in self.kept - {told.key}]
        assert max(jaccard(row["text"], other) for other in others) < self.rules["similarity"] + 0.02
        kinds = Counter(self.row_of[one]["kind"] for one in self.kept)
        assert kinds[row["kind"]] <= self.rules["most"]

    def check_copy(self, row: Row, told: Lineage) -> None:
        """Its witness is alike, and no earlier rule dropped that."""
        witness = self.row_of[told.duplicate_of]
        similarity = jaccard(row["text"], witness["text"])
        if told.reason == WITNESSED[0]:
            assert (told.rejected_by, witness["text"]) == ("exact_duplicates", row["text"])
        else:
            assert (told.reason, told.rejected_by) == (WITNESSED[1], "near_duplicate_texts")
            assert told.similarity is not None
            assert abs(told.similarity - similarity) < (1e-6 if told.verified else 3 * 0.035)
            assert similarity >= self.rules["similarity"] - 1e-6
        if witness["serial"] in self.world.gone:
            return
        assert witness["score"] >= self.rules["least"]
        assert witness["author"] not in self.rules["listed"]
        assert int(witness["serial"][1:]) < self.count
        if told.stays:
            assert told.stays in self.kept | {self.world.key_of(serial) for serial in self.world.gone}
