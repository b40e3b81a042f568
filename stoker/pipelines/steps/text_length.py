"""Reject texts that are too short or too long."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.step import Step
from stoker.pipelines.text.measures import word_hashes
from stoker.storage.shards.sample import Sample

Count = Annotated[int, Field(ge=0, le=10**12)]


@dataclass(frozen=True)
class TextLength(Step):
    """Reject texts that are too short (``too_short``) or too long (``too_long``).

    Words are counted as in the column ``words``: in Chinese, Japanese, Thai and similar scripts each character is one.

    Args:
        min_characters: default 1: the fewest characters; 0 is no limit.
        max_characters: default 0: the most characters; 0 is no limit.
        min_words: default 0: the fewest words; 0 is no limit.
        max_words: default 0: the most words; 0 is no limit.

    Example::

        [[steps]]
        name = "text_length"
        min_characters = 200
        max_words = 100_000
    """

    min_characters: Count = 1
    max_characters: Count = 0
    min_words: Count = 0
    max_words: Count = 0

    def __post_init__(self) -> None:
        for unit in ("characters", "words"):
            least, most = getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")
            if most and least > most:
                raise ValueError(f"min_{unit} = {least} is more than max_{unit} = {most}: no text fits")

    def applies_to(self, sample: Sample, /) -> bool:
        """See Step: to texts."""
        return "txt" in sample.fields

    def __call__(self, sample: Sample, /) -> Sample | Rejected:
        """See Step."""
        if "txt" not in sample.fields:
            return sample
        try:
            text = sample.fields["txt"].decode("utf-8")
        except UnicodeDecodeError as error:
            return Rejected("not_utf8", f"byte {error.start}")
        counts = [("characters", len(text), self.min_characters, self.max_characters)]
        if self.min_words or self.max_words:
            counts.append(("words", int(word_hashes(text)[0].size), self.min_words, self.max_words))
        for unit, count, least, most in counts:
            if count < least:
                return Rejected("too_short", f"{count} {unit}, expected at least {least}")
            if 0 < most < count:
                return Rejected("too_long", f"{count} {unit}, expected at most {most}")
        return sample
