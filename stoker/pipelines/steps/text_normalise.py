"""Normalise texts: Unicode form, line ends, invisible characters and spaces."""

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.step import Step
from stoker.storage.shards.sample import Sample

_NEWLINES = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# Control characters, soft hyphen, zero-width spaces, direction marks, byte-order marks, noncharacters. The
# zero-width (non-)joiner stays: Persian, Hindi and emoji need it.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff]"
)
_SPACES = re.compile("[\t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")


@dataclass(frozen=True)
class TextNormalise(Step):
    """Normalise Unicode and spaces, end every line with \\n and remove invisible characters.

    A text of which nothing is left is rejected as ``empty``, bytes that are not UTF-8 as ``not_utf8``.

    Args:
        form: "NFC", "NFKC" or "none", default "NFC": the Unicode normalisation form.
        spaces: default true: replace each run of spaces of any width by one space, and strip both ends of lines. With
            false only the ends of lines are stripped on the right, as code and verse need it.
        blank_lines: default 1: the most empty lines in a row that are kept.

    Example::

        [[steps]]
        name = "text_normalise"
        form = "NFC"
    """

    form: Literal["NFC", "NFKC", "none"] = "NFC"
    spaces: bool = True
    blank_lines: Annotated[int, Field(le=10**6)] = 1

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
        text = self.normalised(text)
        if not text:
            return Rejected("empty", "nothing but blanks")
        return replace(sample, fields=dict(sample.fields) | {"txt": text.encode("utf-8")})

    def normalised(self, text: str) -> str:
        """The normalised text; normalising it again changes nothing.

        >>> TextNormalise().normalised("\\ufeffTin\\u00a0 is \\r\\n\\r\\n\\r\\nsoft\\u200b. ")
        'Tin is\\n\\nsoft.'
        """
        text = _INVISIBLE.sub("", _NEWLINES.sub("\n", text))
        if self.form != "none":
            text = unicodedata.normalize(self.form, text)
        if self.spaces:
            text = _SPACES.sub(" ", text)
            while "  " in text:
                text = text.replace("  ", " ")
        lines = [line.strip(" ") if self.spaces else line.rstrip() for line in text.split("\n")]
        kept: list[str] = []
        blank = 0
        for line in lines:
            blank = 0 if line else blank + 1
            if line or (kept and blank <= self.blank_lines):
                kept.append(line)
        while kept and not kept[-1]:
            kept.pop()
        return "\n".join(kept)
