"""What a rule file offers: decisions that need the whole corpus, made from records alone."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Decision:
    """``drop``: the sample is left out for ``value``, a reason. ``split``: it goes to the split ``value``.

    ``witness`` is the key of the sample that decided it (the one kept in its place), ``similarity`` in [0, 1].
    """

    key: str
    action: Literal["drop", "split"]
    value: str
    witness: str = ""
    similarity: float | None = None


class Rule:
    """A frozen dataclass in ``pipelines/rules/<name>.py``, its fields the options.

    Its docstring ends with an example recipe, indented, after a line ``Example::``; a test parses it.
    """

    version: ClassVar[int] = 1  # raise it when the same records are decided otherwise than before
    reasons: ClassVar[Mapping[str, str]] = {}

    def decide(self, records: pa.Table, split_of: Callable[[str], str]) -> Iterator[Decision]:
        """Decisions about the records, at most one ``drop`` and one ``split`` a key.

        The records are those that earlier rules left, in an order that growth of the corpus keeps (older first),
        with unique keys and at least the columns ``key``, ``group``, ``split`` (as decided so far), ``part``.
        ``split_of`` gives the split of a group's name. Raises RecipeError when a column that the rule needs is
        missing, naming the step that makes it.
        """
        raise NotImplementedError
