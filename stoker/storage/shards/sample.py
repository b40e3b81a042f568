"""A sample: named bytes, and what is known of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_KEY = 80  # A member's name is key + "." + extension and must fit the 100 bytes of a plain tar header.
_KEY = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_KEY}}}")
_EXTENSION = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+){0,2}")
MAX_EXTENSION = 19


def is_key(text: str) -> bool:
    """Whether the text may name a sample: no dot and no slash, because WebDataset splits names there.

    >>> is_key("enwiki-0000042"), is_key("a/b.c")
    (True, False)
    """
    return _KEY.fullmatch(text) is not None


def is_extension(text: str) -> bool:
    """Whether the text may name a field.

    >>> is_extension("jpg"), is_extension("seg.png"), is_extension("JPG")
    (True, True, False)
    """
    return len(text) <= MAX_EXTENSION and _EXTENSION.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Sample:
    """One training example.

    ``fields`` maps an extension to its bytes (``jpg``, ``txt``, ``cls``). ``record`` is what the sample is and
    where it came from: JSON values that are the same in every run, written as the ``json`` member and as columns
    of the Parquet record. ``measures`` are columns of the Parquet record only: what differs between runs
    (``fetched_at``) or is too bulky to travel with each sample (signatures).

    Raises ValueError for a key or extension that a tar or WebDataset would misread.
    """

    key: str
    fields: Mapping[str, bytes]
    record: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON values
    measures: Mapping[str, Any] = field(default_factory=dict)  # Any: Parquet scalars and lists

    @classmethod
    def found(cls, key: str, fields: Mapping[str, bytes], record: Mapping[str, Any]) -> "Sample":  # Any: JSON values
        """A sample as it lies in a tar, whoever wrote that: any key and extensions. It may not be fit to be written."""
        sample = object.__new__(cls)
        for name, value in (("key", key), ("fields", fields), ("record", record), ("measures", {})):
            object.__setattr__(sample, name, value)
        return sample

    def __post_init__(self) -> None:
        if not is_key(self.key):
            raise ValueError(f"sample key {self.key!r}: expected 1 to {MAX_KEY} of A-Z a-z 0-9 _ -")
        for extension in self.fields:
            if not is_extension(extension) or extension == "json":
                raise ValueError(
                    f"sample {self.key}: field {extension!r}: expected lower-case letters and digits, "
                    "not 'json', which holds the record"
                )
