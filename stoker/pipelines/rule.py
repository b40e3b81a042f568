"""The base class of rules: decisions that need the whole corpus, made from the records alone."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import pyarrow as pa

from stoker.pipelines.rejected import Reason


@dataclass(frozen=True, slots=True)
class Decision:
    """What a rule decides about one sample.

    Args:
        key: the sample's key.
        action: "drop" leaves the sample out; "split" moves it to another split.
        value: the reject reason of a "drop", the name of the new split of a "split".
        witness: the key of the sample because of which this one is dropped or moved; "" if there is none.
        similarity: of the two samples, in [0, 1]; None if not measured.
    """

    key: str
    action: Literal["drop", "split"]
    value: str
    witness: str = ""
    similarity: float | None = None


def labels_of(records: pa.Table) -> list[object]:
    """The label of each record; None where there is none, which an empty text is, too.

    >>> labels_of(pa.table({"label": ["cat", "", None]}))
    ['cat', None, None]
    """
    if "label" not in records.column_names:
        return [None] * records.num_rows
    return [None if label == "" else label for label in records["label"].to_pylist()]


def differ(label: object, other: object) -> bool:
    """Whether two labels contradict each other: no label contradicts none."""
    return label is not None and other is not None and label != other


class Rule:
    """A decision about the whole corpus: a frozen dataclass in ``pipelines/rules/<name>.py``, its fields the options.

    Its docstring ends with an example recipe, indented, after a line ``Example::``; a test parses it.

    >>> @dataclass(frozen=True)
    ... class DropUnlabelled(Rule):
    ...     def decide(self, records, split_of):
    ...         for record in records.to_pylist():
    ...             if not record["label"]:
    ...                 yield Decision(record["key"], "drop", "no_label")
    >>> records = pa.table({"key": ["a", "b"], "label": ["cat", ""]})
    >>> [decision.key for decision in DropUnlabelled().decide(records, lambda group: "train")]
    ['b']
    """

    version: ClassVar[int] = 1  # raise it when the same records give other decisions than before
    reasons: ClassVar[Mapping[str, str | Reason]] = {}  # reject reasons of its own; a text: it depends on the recipe

    def decide(self, records: pa.Table, split_of: Callable[[str], str]) -> Iterator[Decision]:
        """Decisions about the records: for each key at most one "drop" and one "split".

        Args:
            records: one row for each sample that earlier rules kept, oldest first: samples keep their order among
                each other as the corpus grows. Keys are unique. It has at least the columns ``key``, ``group``,
                ``split`` (as decided so far) and ``part``.
            split_of: the split that the recipe's percentages assign to a group's name.

        Raises RecipeError if a column that the rule needs is missing; the message names the step that writes it.
        """
        raise NotImplementedError
