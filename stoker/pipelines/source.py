"""The base class of sources, what they are given and what they return."""

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
    """What a source may use. Picklable, because a partition may be read in another process.

    Args:
        root: the recipe's folder; relative paths in the recipe start there.
        web: the client for all HTTP requests.
        scratch: a folder for files that are too large for memory. The source deletes the files that it creates.
    """

    root: Path
    web: Web
    scratch: Path


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sample that a source offers, or, with ``rejected`` set, the identity of one that it could not read.

    Both are counted: for every partition, read == kept + rejected.

    The sample's record should hold, where they apply: ``url`` (of the fetched bytes), ``page_url``, ``title``,
    ``licence`` (SPDX where possible), ``author``, ``attribution``, ``sha256`` (of the fetched bytes), ``group``
    (samples of one group are never divided between splits: those of one page or video; default: the key), ``label``,
    ``caption``, ``language``. Its measures should hold ``fetched_at`` (ISO 8601, UTC).
    """

    sample: Sample
    rejected: Rejected | None = None


class Source:
    """Where candidates come from: a frozen dataclass in ``pipelines/sources/<name>.py``, its fields the options.

    Its docstring ends with an example recipe, indented, after a line ``Example::``; a test parses it.

    >>> @dataclass(frozen=True)
    ... class Numbers(Source):
    ...     count: int = 3
    ...
    ...     def partitions(self, context):
    ...         yield Partition("all", {"count": self.count})
    ...
    ...     def read(self, partition, context):
    ...         for number in range(partition.payload["count"]):
    ...             yield Candidate(Sample(f"n{number}", {"txt": str(number).encode()}))
    >>> context = Context(root=Path(), web=Web(), scratch=Path("scratch"))
    >>> [candidate.sample.key for part in Numbers().partitions(context) for candidate in Numbers().read(part, context)]
    ['n0', 'n1', 'n2']
    """

    version: ClassVar[int] = 1  # raise it when the same input gives other samples than before
    reasons: ClassVar[Mapping[str, str]] = {}  # reject reasons of its own, and what each means
    # Options that decide only which partitions there are (a list, a start page, a limit). What they say about one
    # partition is in its payload, so changing them does not read unchanged partitions again.
    planning: ClassVar[frozenset[str]] = frozenset()

    def partitions(self, context: Context) -> Iterator[Partition]:
        """The partitions, the same ones in the same order for the same input.

        When the source grows, the partitions that were there keep their order among each other.

        Raises RecipeError for options that cannot work, SourceUnavailable, SourceBroken.
        """
        raise NotImplementedError

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        """Every candidate of the partition, in the same order each time. Lazy: memory holds a bounded number.

        Raises SourceUnavailable if the whole partition should be retried, SourceBroken if a retry cannot help.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Provenance:
    """Default origin of every sample of a source; a sample's own record takes precedence.

    Args:
        licence: SPDX identifier where there is one.
        author: who made the data.
        attribution: the credit line that the licence asks for.
        extra: further columns of the record, by name.
    """

    licence: str = ""
    author: str = ""
    attribution: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
