"""So many samples of one author at most."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pyarrow as pa
from pydantic import Field

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.rule import Decision, Rule


@dataclass(frozen=True)
class CapPerAuthor(Rule):
    """Keep the oldest ``samples`` of each author, so that no voice is louder than others; those of nobody all stay.

    Example::

        [[rules]]
        name = "cap_per_author"
        samples = 100
    """

    reasons: ClassVar[Mapping[str, str]] = {"author_cap": "the corpus has enough samples of its author"}

    samples: Annotated[int, Field(ge=1)] = 100

    def decide(self, records: pa.Table, split_of: Callable[[str], str]) -> Iterator[Decision]:
        """See Rule."""
        if not records.num_rows:
            return
        if "author" not in records.column_names:
            raise RecipeError(
                "rule 'cap_per_author': the records have no column 'author'; name it in the source's `columns`, or "
                "leave the rule out"
            )
        kept: dict[str, list[str]] = {}
        for key, author in zip(records["key"].to_pylist(), records["author"].to_pylist(), strict=True):
            if not author:
                continue
            elders = kept.setdefault(author, [])
            if len(elders) < self.samples:
                elders.append(key)
            else:
                yield Decision(key, "drop", "author_cap", witness=elders[0])
