"""The report of a version as plain data: the terminal, the web page and their JSON show the same."""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from stoker.flows.report.columns import CategoryColumn, NumberColumn, ReadColumns, read_columns
from stoker.flows.report.masked import masked_text
from stoker.flows.report.reasons import STAGES, stage_of
from stoker.pipelines.recipe import DEFAULT_SPLITS
from stoker.pipelines.registry import reasons_of
from stoker.pipelines.rejected import UNKNOWN, OutcomeClass, Reason
from stoker.pipelines.stages.reading.omitted import MAX_NAMES, PASSED, most_omitted, samples_passed
from stoker.pipelines.stages.splits import missed_shares
from stoker.storage.plural import plural
from stoker.storage.versions.manifest import Manifest, SplitTotals

SCHEMA = 1  # of to_json(); raise it when a field changes its meaning or goes
_DUPLICATES = ("duplicate_key", "exact_duplicate", "near_duplicate", "label_conflict", "split_conflict")
_IMAGES = frozenset({"jpg", "jpeg", "png", "webp"})
_MAX_FIELD_SETS = 5  # sets of fields that are listed
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class RecipeComponent:
    """A source, step or rule of the recipe: its name and the options that the recipe gives."""

    name: str
    options: Mapping[str, Any]  # Any: TOML values


@dataclass(frozen=True, slots=True)
class FunnelStage:
    """A stage of the pipeline: how many candidates were ``lost`` in it, and how many are ``left`` after it."""

    name: str
    title: str
    lost: int
    left: int


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """A reject reason, and how many candidates it has."""

    reason: str
    meaning: str
    outcome_class: OutcomeClass
    stage: str
    count: int
    share: float  # of all candidates


@dataclass(frozen=True, slots=True)
class SplitShare:
    """The size of one split of the version."""

    name: str
    samples: int
    shards: int
    size: int  # bytes
    share: float  # of all samples
    asked: float | None = None  # share of all samples that the recipe asks for; None: it names no such split


@dataclass(frozen=True, slots=True)
class NextCommand:
    """A suggestion for what to do next: a shell command, and what it does."""

    command: str
    does: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a version contains. Counts are of samples or candidates; sizes are bytes; times are ISO 8601 in UTC."""

    reference: str
    corpus: str
    version: int
    parent: int | None
    created_at: str
    stoker: str
    recipe_digest: str
    content: str
    holds: str  # "images", "texts" or "samples"
    source: RecipeComponent
    steps: tuple[RecipeComponent, ...]
    rules: tuple[RecipeComponent, ...]
    partitions: int
    candidates: int
    samples: int
    shards: int
    size: int
    raw_size: int
    moved: int  # samples in another split than their group's name says
    leaks: int  # contents that lie in several splits
    splits: tuple[SplitShare, ...]
    funnel: tuple[FunnelStage, ...]
    refused: tuple[ReasonCount, ...]
    duplicates: Mapping[str, int]
    licences: Mapping[str, int]
    categories: tuple[CategoryColumn, ...]
    numbers: tuple[NumberColumn, ...]
    distinct: Mapping[str, int]  # distinct values by column of text; above 256 an estimate to within a few percent
    next: tuple[NextCommand, ...]
    loop: str  # Python code that reads it
    indexed: bool = False  # external tars, indexed in place: candidates are its samples, and no rejects are known
    tars: str | None = None  # URL of the store of its tars; None: the corpus's own
    omitted: Mapping[str, int] = field(default_factory=dict)  # read and in no sample: at least so often, by name
    passed: Mapping[str, int] = field(default_factory=dict)  # samples of kinds that a step does not know, by its name
    missed: tuple[str, ...] = ()  # sentences about splits that are empty or far from the size that was asked for
    nested: Mapping[str, int] = field(default_factory=dict)  # samples with a list or an object as JSON text, by column
    kinds: Mapping[str, int] = field(default_factory=dict)  # samples with an image ("images"), with a text ("texts")
    masked: int = 0  # samples in its tars that the version leaves out
    view: str = ""  # a sentence about that, with what to do; "" for a packed version
    fields: tuple[str, ...] = ()  # the fields of samples of an indexed version, the most frequent sets of them
    known: int = 0  # beside the candidates: what was read once more, and was as it was

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """The report as JSON values, documented by the dataclasses of this module."""
        return {"schema": SCHEMA} | asdict(self)

    @property
    def counted(self) -> str:
        """How many samples there are, and of a mixed corpus of what kinds: "38 samples (33 images, 5 texts)"."""
        text = plural(self.samples, self.holds[:-1])
        kinds = [plural(count, kind[:-1]) for kind, count in self.kinds.items() if count]
        return f"{text} ({', '.join(kinds)})" if self.holds == "samples" and kinds else text

    def category(self, column: str) -> CategoryColumn | None:
        """A categorical column by its name; None if there is none."""
        return next((category for category in self.categories if category.column == column), None)


def report(manifest: Manifest, existing: Collection[int] | None = None) -> Report:
    """The report of a version. Only its manifest is read. ``existing``: versions that were not deleted; None: all."""
    columns = read_columns(manifest.statistics)
    document = manifest.recipe
    steps, rules = (_components(document.get(name)) for name in ("steps", "rules"))
    source = _component(document.get("source"))
    rejected = Counter(manifest.candidates.rejected)
    dropped = Counter(manifest.decisions.dropped)
    samples = manifest.samples
    indexed = manifest.is_indexed
    candidates = samples if indexed else manifest.read
    fields = _fields(columns.categories) if indexed else ()
    known = reasons_of(document)
    omitted = most_omitted((part.omitted for part in manifest.parts), MAX_NAMES)
    kinds = _kinds(columns, indexed=indexed)
    holds = _holds(kinds, samples)
    return Report(
        reference=manifest.reference,
        corpus=manifest.corpus,
        version=manifest.version,
        parent=manifest.parent,
        created_at=manifest.created_at,
        stoker=manifest.stoker,
        recipe_digest=manifest.recipe_digest,
        content=manifest.content,
        holds=holds,
        source=source,
        steps=steps,
        rules=rules,
        partitions=len(manifest.parts),
        candidates=candidates,
        known=manifest.known,
        samples=samples,
        shards=len(manifest.shards),
        size=manifest.size,
        raw_size=sum(part.tar_size for part in manifest.parts),
        moved=manifest.decisions.moved,
        leaks=manifest.decisions.leaks,
        splits=_splits(manifest, samples),
        funnel=() if indexed else _funnel(candidates, rejected, dropped),
        refused=_refused(rejected, dropped, known, candidates),
        duplicates={name: n for name in _DUPLICATES if (n := rejected[name] + dropped[name])},
        licences=dict(sorted(manifest.licences.items(), key=lambda pair: (-pair[1], pair[0]))),
        categories=columns.categories,
        numbers=columns.numbers,
        distinct=columns.distinct,
        nested=columns.nested,
        kinds=kinds,
        next=_next_commands(manifest, kinds, columns, existing),
        loop=_python_loop(manifest),
        indexed=indexed,
        tars=manifest.tars,
        omitted={name: count for name, count in omitted.items() if not name.startswith(PASSED)},
        passed=samples_passed(omitted),
        fields=fields,
        masked=manifest.masked,
        view=masked_text(manifest),
        missed=_missed(manifest),
    )


def _missed(manifest: Manifest) -> tuple[str, ...]:
    samples = {name: one.samples for name, one in manifest.splits.items()}
    moved = manifest.decisions.moved if manifest.version > 1 else 0
    return tuple(missed_shares(_asked(manifest), samples, moved=moved))


def redacted(value: Any) -> Any:  # Any: TOML values in, the same out
    """TOML values without the passwords that a URL may carry.

    >>> redacted({"pages": ["https://me:secret@example.org/a"]})
    {'pages': ['https://…@example.org/a']}
    """
    if isinstance(value, str):
        return _USER_INFO.sub("…@", value)
    if isinstance(value, Mapping):
        return {name: redacted(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(inner) for inner in value]
    return value


def _component(table: object) -> RecipeComponent:
    options = redacted(table) if isinstance(table, Mapping) else {}
    return RecipeComponent(
        str(options.get("name", "unknown")), {name: value for name, value in options.items() if name != "name"}
    )


def _components(tables: object) -> tuple[RecipeComponent, ...]:
    return tuple(_component(table) for table in tables) if isinstance(tables, list | tuple) else ()


def _asked(manifest: Manifest) -> Mapping[str, float]:
    """The percentages that the recipe asks for, by split; none for external tars."""
    table = manifest.recipe.get("splits", {} if manifest.is_indexed else DEFAULT_SPLITS)
    if not isinstance(table, Mapping):
        return {}
    return {str(name): percent for name, percent in table.items() if isinstance(percent, int | float)}


def _splits(manifest: Manifest, samples: int) -> tuple[SplitShare, ...]:
    """The splits in the recipe's order; empty ones only if the recipe asks for them."""
    asked = _asked(manifest)
    splits = []
    for name in dict.fromkeys([*asked, *manifest.splits]):
        totals = manifest.splits.get(name, SplitTotals(0, 0, 0))
        share = totals.samples / samples if samples else 0.0
        requested = asked[name] / 100 if name in asked else None
        splits.append(SplitShare(name, totals.samples, totals.shards, totals.size, share, requested))
    return tuple(splits)


def _funnel(candidates: int, rejected: Mapping[str, int], dropped: Mapping[str, int]) -> tuple[FunnelStage, ...]:
    lost: Counter[str] = Counter()
    for reason, count in rejected.items():
        lost[stage_of(reason)] += count
    lost["corpus"] += sum(dropped.values())
    stages = [FunnelStage("found", "candidates found", 0, candidates)]
    left = candidates
    for name, title in STAGES.items():
        left -= lost[name]
        if lost[name] or name == "corpus":
            stages.append(FunnelStage(name, title, lost[name], left))
    return tuple(stages)


def _refused(
    rejected: Mapping[str, int], dropped: Mapping[str, int], known: Mapping[str, Reason], candidates: int
) -> tuple[ReasonCount, ...]:
    total = Counter(rejected) + Counter(dropped)
    rows = [
        ReasonCount(
            reason=reason,
            meaning=known.get(reason, UNKNOWN).meaning,
            outcome_class=known.get(reason, UNKNOWN).outcome_class,
            stage="corpus" if dropped.get(reason) else stage_of(reason),
            count=count,
            share=count / candidates if candidates else 0.0,
        )
        for reason, count in total.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.count, row.reason)))


def _next_commands(
    manifest: Manifest, kinds: Mapping[str, int], columns: ReadColumns, existing: Collection[int] | None
) -> tuple[NextCommand, ...]:
    reference = manifest.reference
    labelled = any(column.column == "label" for column in columns.categories)
    commands = []
    if kinds["texts"] and not kinds["images"]:
        commands.append(NextCommand(f"stoker train lstm {reference}", "train a language model on exactly this version"))
    elif kinds["images"] and labelled:
        commands.append(NextCommand(f"stoker train cnn {reference}", "train a classifier on exactly this version"))
    commands.append(NextCommand(f"stoker verify {reference}", "read every byte again and check it"))
    if manifest.parent is not None and (existing is None or manifest.parent in existing):
        older = f"{manifest.corpus}@{manifest.parent}"
        commands.append(NextCommand(f"stoker diff {older} {reference}", "what this version changed"))
    if not manifest.is_indexed:
        commands.append(NextCommand(f"stoker why {reference} KEY-or-URL", "what became of any candidate"))
    return tuple(commands)


def _fields(categories: tuple[CategoryColumn, ...]) -> tuple[str, ...]:
    """The most frequent sets of fields that samples have."""
    column = next((column for column in categories if column.column == "fields"), None)
    return () if column is None else tuple(value.value for value in column.values[:_MAX_FIELD_SETS])


def _kinds(columns: ReadColumns, *, indexed: bool) -> dict[str, int]:
    """How many samples have an image and how many a text, by what was measured; of external tars by their fields."""
    measured = {column.column: column.count for column in columns.numbers}
    kinds = {"images": measured.get("width", 0), "texts": measured.get("characters", 0)}
    fields = next((column for column in columns.categories if column.column == "fields"), None) if indexed else None
    if fields is not None:
        sets = [(set(value.value.split()), value.count) for value in fields.values]
        kinds["images"] = sum(count for names, count in sets if names & _IMAGES)
        kinds["texts"] = sum(count for names, count in sets if "txt" in names)
    return kinds


def _holds(kinds: Mapping[str, int], samples: int) -> str:
    """What all samples are: "images", "texts" without an image, or "samples"."""
    if kinds["images"]:
        return "images" if kinds["images"] >= samples else "samples"
    return "texts" if kinds["texts"] and kinds["texts"] >= samples else "samples"


def _python_loop(manifest: Manifest) -> str:
    split = next(iter(manifest.splits), "train")
    return _PYTHON_LOOP.format(reference=manifest.reference, split=split)


_PYTHON_LOOP = """\
from stoker.flows.settings import load
from stoker.training import ShardStream

store = load().open_store()  # the one that the command `stoker` uses in this folder
stream = ShardStream(store, "{reference}", split="{split}", batch_size=64, seed=1)
for batch in stream:  # one epoch; the order is a function of version, seed and epoch
    for sample in batch:
        print(sample.key, list(sample.fields), sample.record)
"""
