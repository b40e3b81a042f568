"""Keep one of each set of near-duplicate texts."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from stoker.pipelines.rule import READ_BY_KEEP, Rule, RuleTools, drop_near_duplicates, in_order_of


@dataclass(frozen=True)
class NearDuplicateTexts(Rule):
    """Drop a text that is nearly the same as an older text that is kept.

    Similarity is the Jaccard index of the texts' runs of three words, ignoring case and punctuation. It is estimated
    from MinHash signatures with a standard error of about 0.035; where that is too near to ``similarity`` to decide,
    both texts are read and compared (`stoker why` says "verified exactly"). A text is only compared with texts that are
    kept, so a chain of small changes does not drop texts that differ. Texts without words are never dropped. The reason
    is ``near_duplicate``, or ``label_conflict`` if the two texts have different labels.

    Pages of one template, alike but not alike enough, take time linear in their number: of many texts that share a
    part of their signature only the oldest are compared through that part. About 1 in 100 of their near-duplicates
    can be missed. Each of such pages is read once, by a range of its raw part.

    Args:
        similarity: 0.3 to 1, default 0.8: the least similarity of near-duplicates.
        keep: "oldest", "longest" (characters) or "best_licence", default "oldest": which of several new texts is kept.
            A sample that the version before holds stays whatever this says; equal ones go by a hash of their keys.

    Example::

        [[rules]]
        name = "near_duplicate_texts"
        similarity = 0.8
    """

    version: ClassVar[int] = 3  # 2: of many pages of a template only some are compared; 3: verified at the threshold

    columns: ClassVar[tuple[str, ...]] = ("minhash",)
    added: ClassVar[frozenset[str]] = frozenset({"keep"})
    optional_columns: ClassVar[tuple[str, ...]] = ("label",)

    similarity: Annotated[float, Field(ge=0.3, le=1)] = 0.8

    keep: Literal["oldest", "longest", "best_licence"] = "oldest"

    def needed_columns(self) -> tuple[str, ...]:
        """See Rule."""
        return (*self.columns, *READ_BY_KEEP[self.keep])

    def decide(self, rows: pa.Table, tools: RuleTools) -> pa.Table:
        """See Rule."""
        rows = in_order_of(self.keep, rows)
        return drop_near_duplicates(rows, tools.near_duplicate_texts(rows, similarity=self.similarity, verify=True))
