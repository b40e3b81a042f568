"""What a step file offers."""

from collections.abc import Mapping
from typing import ClassVar

from stoker.pipelines.rejected import Rejected
from stoker.storage.shards.sample import Sample


class Step:
    """A pure function of one sample: a frozen dataclass in ``pipelines/steps/<name>.py``, its fields the options.

    Its docstring ends with an example recipe, indented, after a line ``Example::``; a test parses it.
    """

    version: ClassVar[int] = 1  # raise it when the same sample comes out otherwise than before
    reasons: ClassVar[Mapping[str, str]] = {}

    def __call__(self, sample: Sample, /) -> Sample | Rejected:
        """The sample, changed or not, or why it is unfit."""
        raise NotImplementedError
