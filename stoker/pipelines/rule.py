"""The base class of rules, what they are given and what they return: decisions that need the whole corpus."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator

from stoker.pipelines.rejected import REASONS, OutcomeClass, Reason, Rejected
from stoker.storage.versions.memory.outcomes import hashes_of
from stoker.storage.versions.version import Version

# Columns of all rows that a rule is given. A column of the records by one of these names cannot be read by a rule.
ALWAYS = ("key", "group", "split", "part", "is_elder", "age_rank")
DECISIONS = pa.schema(
    [
        ("key", pa.string()),
        ("action", pa.string()),
        ("value", pa.string()),
        ("witness", pa.string()),
        ("similarity", pa.float64()),
        ("verified", pa.bool_()),
        ("detail", pa.string()),
    ]
)
PAIRS = pa.schema(
    [("key", pa.string()), ("witness", pa.string()), ("similarity", pa.float64()), ("verified", pa.bool_())]
)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a rule decides about one sample.

    Args:
        key: the sample's key.
        action: "drop" leaves the sample out; "split" moves it to another split.
        value: the reject reason of a "drop", the name of the new split of a "split".
        witness: the key of the sample because of which this one is dropped or moved; "" if there is none.
        similarity: of the two samples, in [0, 1]; None if not measured.
        verified: whether the similarity was computed from the contents of both samples, and not estimated.
        detail: free text for people about a "drop": what else decided, such as the line of a list.
    """

    key: str
    action: Literal["drop", "split"]
    value: str
    witness: str = ""
    similarity: float | None = None
    verified: bool = False
    detail: str = ""


def decisions(made: Iterable[Decision]) -> pa.Table:
    """Decisions as the table that a rule returns.

    >>> decisions([Decision("a", "drop", "no_label")]).select(["key", "action", "value"]).to_pylist()
    [{'key': 'a', 'action': 'drop', 'value': 'no_label'}]
    """
    rows = list(made)
    columns = {name: [getattr(decision, name) for decision in rows] for name in DECISIONS.names}
    return pa.table(columns, schema=DECISIONS)


class RuleTools(Protocol):
    """What a rule may use beside its rows. More may be added; what is here stays."""

    @property
    def elders_stay(self) -> bool:
        """Whether elders are kept whatever is decided of them, since the version before was made by the same rules.

        Newcomers are to be compared with all of them then. Otherwise rules judge elders, too, oldest first.
        """

    @property
    def splits(self) -> Mapping[str, float]:
        """The recipe's splits: percent by name."""

    @property
    def bound_keys(self) -> Collection[str]:
        """Keys of newcomers that an earlier version gave a split, which they keep: who wants another drops them."""

    def split_of(self, group: str, /) -> str:
        """The split that the recipe's percentages assign to a group's name."""

    def sql(self, query: str, /, **named: object) -> pa.Table:
        """The result of one SELECT of DuckDB's SQL, in which ``rows`` is the table of the rule's rows.

        It must end in ORDER BY a unique key: without one, DuckDB may give rows in any order. Add up no floats where the
        sum decides, and call no ``random()``, ``now()`` or ``hash()``: decisions must be the same in every run and
        release. A query reads neither files nor the network, uses one thread, and what does not fit into its memory
        goes to the scratch folder.

        Args:
            named: tables by their names in the query, and the values of its parameters: ``least=3`` for ``$least``.

        Raises RecipeError in one line for a query that DuckDB refuses.
        """

    def near_duplicate_images(self, rows: pa.Table, *, distance: int = 31, min_quality: int = 50) -> pa.Table:
        """The images near an earlier row that is kept: ``key``, ``witness`` (its key), ``similarity``, ``verified``.

        In the order of ``rows``, whose order says who is kept: of the images near each other the first, and all elders
        that ``rows`` begins with where those stay (column ``is_elder``). An image is compared with kept ones alone, so
        a chain of small differences does not collapse into its first link.

        Args:
            rows: with ``key``, ``image_hash`` and ``image_hash_quality``; images without a hash are passed over.
            distance: bits, 0 to 63: the most in which two hashes of 256 bits may differ.
            min_quality: 0 to 100: images whose hash has a lower quality are passed over.
        """

    def near_duplicate_texts(self, rows: pa.Table, *, similarity: float = 0.8, verify: bool = False) -> pa.Table:
        """The texts that are similar to an earlier row that is kept: as ``near_duplicate_images``.

        The similarity is estimated, with a standard error of about 0.035. With ``verify`` texts whose estimate is near
        the least are read, and their exact similarity decides (``verified``).

        Args:
            rows: with ``key`` and ``minhash``; texts without one are passed over.
            similarity: 0.3 to 1, the least.
        """

    def contents(self, keys: Iterable[str], field: str) -> Iterator[bytes | None]:
        """The bytes of a field ("txt", "jpg") of each of the samples, in the order of ``keys``; None if it has none.

        Each is one read of a range in a raw part, compared with the record's checksum: for few samples, such as pairs
        whose estimated similarity is too near a threshold. Raises StorageError.
        """

    def version(self, reference: str, /) -> Version:
        """A version of this store that ``RuleInputs.version`` named: records, samples. Raises StorageError."""

    def path(self, name: str, sha256: str, /) -> Path:
        """A file that ``RuleInputs.files`` named, with the content that it had. Raises RecipeError if it changed."""


class RuleInputs(Protocol):
    """What a rule may look at before a run, to say what it will read beside records."""

    def files(self, pattern: str, /) -> Mapping[str, str]:
        """The files that a path or a glob in the recipe's folder names, and the SHA-256 of each. Raises RecipeError."""

    def path(self, name: str, /) -> Path:
        """A file that ``files`` named, to see whether the rule can read it. Raises RecipeError."""

    def version(self, reference: str, /) -> str:
        """The version that a reference names, as in "digits@3"; without a number the newest. Raises RecipeError."""


class Rule:
    """A decision about the whole corpus: a frozen dataclass in ``pipelines/rules/<name>.py``, its fields the options.

    Its docstring ends with an example recipe, indented, after a line ``Example::``; a test parses it.

    >>> from stoker.testing import decide
    >>> @dataclass(frozen=True)
    ... class DropUnlabelled(Rule):
    ...     columns = ("label",)
    ...     reasons = {"no_label": "it has no label"}
    ...
    ...     def decide(self, rows, tools):
    ...         keys, labels = rows["key"].to_pylist(), rows["label"].to_pylist()
    ...         return decisions(Decision(key, "drop", "no_label") for key, label in zip(keys, labels) if not label)
    >>> [decision.key for decision in decide(DropUnlabelled(), pa.table({"key": ["a", "b"], "label": ["cat", ""]}))]
    ['b']

    The same in SQL::

        return tools.sql(
            "SELECT key, 'drop' AS action, 'no_label' AS value FROM rows WHERE coalesce(label, '') = '' ORDER BY key"
        )
    """

    version: ClassVar[int] = 1  # raise it when the same records give other decisions than before
    reasons: ClassVar[Mapping[str, str | Reason]] = {}  # reject reasons of its own; a text: it depends on the recipe
    # Options whose text is a reject reason of its own, and what that means: for words that a recipe chooses.
    reason_options: ClassVar[Mapping[str, str]] = {}
    # Columns of the records without which it cannot decide: a corpus that has none of one is refused. Of the records
    # only what rules name is in memory.
    columns: ClassVar[tuple[str, ...]] = ()
    optional_columns: ClassVar[tuple[str, ...]] = ()  # those that it can do without: null where no record has one
    # Options that came later than the first release. While they have their default they do not count as part of the
    # recipe, so that an unchanged ingest publishes nothing.
    added: ClassVar[frozenset[str]] = frozenset()
    # Options that name files or folders, as those of a source: None: any whose text is the path of something counts.
    path_options: ClassVar[frozenset[str] | None] = None

    def needed_columns(self) -> tuple[str, ...]:
        """``columns``. Override it where an option names a column: ``return (self.column,)``."""
        return self.columns

    def pinned(self, inputs: RuleInputs) -> "Rule":
        """The rule with options that pin what it reads beside records: SHA-256 of files, say.

        Asked once before a run; the version is made by, and names, the rule that is returned. So a changed file is a
        changed rule, which judges elders, too. By default nothing else is read.
        """
        return self

    def decide(self, rows: pa.Table, tools: RuleTools) -> pa.Table:
        """Decisions about the rows: for each key at most one "drop" and one "split".

        It is not called where there are no rows. The same rows must give the same decisions, however they are cut into
        chunks.

        Args:
            rows: one row for each sample that earlier rules kept, oldest first: samples keep their order among each
                other as the corpus grows. It has the columns that the rule names, and those of ALWAYS: ``key``
                (unique), ``group``, ``split`` (as decided so far), ``part`` (digest of the raw part), ``is_elder`` and
                ``age_rank`` (integer, unique; 0 is the oldest). ``is_elder`` tells samples of the version before, which
                come first, from newcomers. An elder's split is final: a "split" of one is not carried out, and no
                "drop" either where ``tools.elders_stay``.
            tools: SQL, search for near-duplicates, contents.

        Returns:
            A table with the columns ``key``, ``action`` and ``value``, and as far as they are known ``witness``,
            ``similarity``, ``verified`` and ``detail``: see Decision. ``decisions`` makes one of Decision objects.

        Raises RecipeError for records that it cannot judge.
        """
        raise NotImplementedError


def reasons_given(rule: Rule) -> dict[str, str | Reason]:
    """The reject reasons that a rule declares, those that its options name among them."""
    chosen = {getattr(rule, option): meaning for option, meaning in rule.reason_options.items()}
    return {word: meaning for word, meaning in chosen.items() if word not in REASONS} | dict(rule.reasons)


def _as_reason(word: str) -> str:
    if REASONS.get(word, Reason("")).outcome_class is not OutcomeClass.RECIPE:
        raise ValueError("this reason stands for what no recipe decides; expected a word of your own")
    return Rejected(word).reason


ChosenReason = Annotated[str, AfterValidator(_as_reason)]  # the type of an option that names a reject reason


def labels_of(rows: pa.Table) -> list[object]:
    """The label of each row; None where there is none, which an empty text is, too.

    >>> labels_of(pa.table({"label": ["cat", "", None]}))
    ['cat', None, None]
    """
    return [None if label == "" else label for label in rows["label"].to_pylist()]


def numbered(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], int]:
    """The number of each value, those of equal values the same, and how many numbers there are; -1: null.

    >>> numbered(pa.chunked_array([["b", None], ["a", "b"]]))
    (array([ 0, -1,  1,  0]), 2)
    """
    numbers, values = encoded(column)
    return numbers, len(values)


def encoded(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """The number of each value, and the values by their numbers; -1: null. Texts are of the large type then.

    >>> encoded(pa.chunked_array([["b", None], ["a", "b"]]))[1].to_pylist()
    ['b', 'a']
    """
    if pa.types.is_string(column.type):
        column = column.cast(pa.large_string())  # of which one array holds more than 2 GiB
    found = column.combine_chunks().dictionary_encode()
    return found.indices.fill_null(-1).to_numpy().astype(np.int64), found.dictionary


def differ(label: object, other: object) -> bool:
    """Whether two labels contradict each other: no label contradicts none."""
    return label is not None and other is not None and label != other


def drop_near_duplicates(rows: pa.Table, pairs: pa.Table) -> pa.Table:
    """Decisions to drop the near-duplicates that the tools found; those of another label as a ``label_conflict``."""
    named = pa.chunked_array([*pairs["key"].chunks, *pairs["witness"].chunks], rows.schema.field("key").type)
    rows = rows.select(["key", "label"]).filter(pc.is_in(rows["key"], value_set=named))
    label_of = dict(zip(rows["key"].to_pylist(), labels_of(rows), strict=True))
    ends = zip(pairs["key"].to_pylist(), pairs["witness"].to_pylist(), strict=True)
    values = ["label_conflict" if differ(label_of[key], label_of[other]) else "near_duplicate" for key, other in ends]
    columns = {name: pairs[name] for name in PAIRS.names}
    columns |= {"action": pa.repeat("drop", len(values)), "value": pa.array(values, pa.string())}
    columns |= {"detail": pa.repeat("", len(values))}
    return pa.table({name: columns[name] for name in DECISIONS.names}, schema=DECISIONS)


READ_BY_KEEP: Mapping[str, tuple[str, ...]] = {  # columns that an option ``keep`` of a rule reads
    "oldest": (),
    "largest": ("width", "height"),
    "longest": ("characters",),
    "best_licence": ("licence",),
}
_PUBLIC_DOMAIN = re.compile(r"cc0|pdm|public.?domain|unlicense")
_ATTRIBUTION = frozenset({"by", "mit", "bsd", "isc", "apache"})


def in_order_of(keep: str, rows: pa.Table) -> pa.Table:
    """The rows in the order in which they are kept: elders as they come, then newcomers by an option ``keep``.

    Equal ones are sorted by a hash of their keys, so that the order of a source does not decide.

    Args:
        keep: "oldest" (as they come), "largest" (pixels), "longest" (characters) or "best_licence".
        rows: with the columns that READ_BY_KEEP names.
    """
    if keep == "oldest":
        return rows
    is_elder = rows["is_elder"].to_numpy()
    elders, newcomers = np.flatnonzero(is_elder), np.flatnonzero(~is_elder)
    read = rows.select(["key", *READ_BY_KEEP[keep]]).take(pa.array(newcomers))
    if keep == "best_licence":
        ranks = {licence: licence_rank(licence) for licence in read["licence"].unique().to_pylist()}
        worth = -np.array([ranks[licence] for licence in read["licence"].to_pylist()], np.int64)
    else:
        worth = np.ones(len(newcomers), np.int64)
        for name in READ_BY_KEEP[keep]:
            worth *= pc.fill_null(read[name].cast(pa.int64()), 0).to_numpy()
    order = np.lexsort((hashes_of("", read["key"].to_pylist()), -worth))
    return rows.take(pa.array(np.concatenate([elders, newcomers[order]])))


def licence_rank(licence: str | None) -> int:
    """How little a licence asks, from 0: public domain, attribution, share-alike, another, restricted use, none.

    >>> [licence_rank(name) for name in ("CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "ours", "CC-BY-NC-4.0", None)]
    [0, 1, 2, 3, 4, 5]
    """
    text = (licence or "").lower()
    words = set(re.split(r"[^a-z0-9]+", text))
    if not text.strip():
        return 5
    if _PUBLIC_DOMAIN.search(text):
        return 0
    if words & {"nc", "nd"}:
        return 4
    if "sa" in words:
        return 2
    return 1 if words & _ATTRIBUTION else 3
