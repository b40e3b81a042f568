"""The base class of steps: pure functions that change or reject one sample."""

from collections.abc import Mapping
from typing import ClassVar

from stoker.pipelines.rejected import Reason, Rejected
from stoker.storage.shards.sample import Sample


class Step:
    """A pure function of one sample: a frozen dataclass in ``pipelines/steps/<name>.py``, its fields the options.

    Its docstring ends with an example recipe, indented, after a line ``Example::``; a test parses it.

    >>> from dataclasses import dataclass, replace
    >>> @dataclass(frozen=True)
    ... class Uppercase(Step):
    ...     def __call__(self, sample, /):
    ...         text = sample.fields["txt"].upper()
    ...         return replace(sample, fields={"txt": text}) if text else Rejected("empty")
    >>> Uppercase()(Sample("a", {"txt": b"tin"})).fields
    {'txt': b'TIN'}
    """

    version: ClassVar[int] = 1  # raise it when the same sample gives another result than before
    reasons: ClassVar[Mapping[str, str | Reason]] = {}  # reject reasons of its own; a text: it depends on the recipe
    # Options that came later than the first release. While they have their default they do not count as part of the
    # recipe, so that partitions read before are not read again.
    added: ClassVar[frozenset[str]] = frozenset()

    def applies_to(self, sample: Sample, /) -> bool:
        """Whether the sample is of a kind that the step knows, such as an image. By default any is.

        If not, it passes unchanged, and the report of the version says how many samples did.
        """
        return True

    def __call__(self, sample: Sample, /) -> Sample | Rejected:
        """The sample, changed or unchanged, or the reason why it is rejected."""
        raise NotImplementedError
