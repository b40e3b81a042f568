"""What a source file offers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from stoker.pipelines.partition import Partition
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.web.client import Web
from stoker.storage.shards.sample import Sample


@dataclass(frozen=True)
class Context:
    """What a source may use of the place it runs in. Picklable: a partition may be read in another process."""

    root: Path  # the recipe's folder: relative paths in the recipe are relative to it
    web: Web
    scratch: Path  # a folder for files that are too big for memory; the source removes what it puts there


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a source found: a sample, or, with ``rejected`` set, the identity of one that could not be had.

    Both count: for every partition, read == kept + rejected. The sample's record should hold, where they apply:
    ``url`` (of the fetched bytes), ``page_url``, ``title``, ``licence`` (SPDX where possible), ``author``,
    ``attribution``, ``sha256`` (of the fetched bytes), ``group`` (what must not be torn apart between splits: the
    page, the video; default: the key), ``label``, ``caption``, ``language``; and its measures ``fetched_at``
    (ISO 8601, UTC).
    """

    sample: Sample
    rejected: Rejected | None = None


class Source:
    """Where candidates come from: a frozen dataclass in ``pipelines/sources/<name>.py``, its fields the options.

    Its docstring ends with an example recipe, indented, after a line ``Example::``; a test parses it.
    """

    version: ClassVar[int] = 1  # raise it when the same input gives other samples than before
    reasons: ClassVar[Mapping[str, str]] = {}
    # Options that only decide which partitions there are (a list, a start page, a limit): all that they say about one
    # partition is in its payload, so changing them re-reads no partition that stays.
    planning: ClassVar[frozenset[str]] = frozenset()

    def partitions(self, context: Context) -> Iterator[Partition]:
        """The partitions, in an order that growth of the source keeps. Deterministic for the same input.

        Raises RecipeError for options that cannot work, SourceUnavailable, SourceBroken.
        """
        raise NotImplementedError

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        """Every candidate of the partition, in the same order each time. Lazy: a bounded number is held.

        Raises SourceUnavailable when all of the partition should be tried again, SourceBroken when that is useless.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Provenance:
    """What is true of every sample of a source, unless the sample says otherwise."""

    licence: str = ""
    author: str = ""
    attribution: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
