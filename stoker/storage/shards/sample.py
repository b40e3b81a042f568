"""A sample: a key, fields of bytes and a record of metadata."""

import re
import reprlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stoker.storage.shards.html import sample_html

MAX_KEY = 80  # A member's name is key + "." + extension and must fit the 100 bytes of a plain tar header.
_KEY = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_KEY}}}")
_EXTENSION = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+){0,2}")
MAX_EXTENSION = 19
_SHOWN = 8  # fields, and values of a record, in a repr
_short = reprlib.Repr()
_short.maxdict, _short.maxlevel, _short.maxstring, _short.maxother = _SHOWN, 2, MAX_KEY + 2, 40


def is_key(text: str) -> bool:
    """Whether the text is a valid sample key. Dots and slashes are not: WebDataset splits member names there.

    >>> is_key("enwiki-0000042"), is_key("a/b.c")
    (True, False)
    """
    return _KEY.fullmatch(text) is not None


def is_extension(text: str) -> bool:
    """Whether the text is a valid field name, which becomes a file extension in the tar.

    >>> is_extension("jpg"), is_extension("seg.png"), is_extension("JPG")
    (True, True, False)
    """
    return len(text) <= MAX_EXTENSION and _EXTENSION.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Sample:
    """One training example. Raises ValueError for a key or extension that a tar or WebDataset would misread.

    Attributes:
        key: names the sample in its corpus: 1 to 80 of ``A-Z a-z 0-9 _ -``.
        fields: extension → bytes, such as ``jpg``, ``txt`` or ``cls``.
        record: what the sample is and where it came from, as JSON values that are the same in every run. Written to
            the tar as the ``json`` member and to the Parquet table as columns.
        measures: columns of the Parquet table alone: values that differ between runs (``fetched_at``) or are too
            large for the tar (signatures).

    >>> from stoker import Sample
    >>> sample = Sample("cat-1", {"txt": b"a cat"}, {"label": "cat"})
    >>> sample.fields["txt"], sample.record["label"]
    (b'a cat', 'cat')
    >>> sample
    Sample('cat-1', {'txt': 5 bytes}, {'label': 'cat'})
    >>> Sample("a/b", {})
    Traceback (most recent call last):
    ValueError: sample key 'a/b': expected 1 to 80 of A-Z a-z 0-9 _ -
    """

    key: str
    fields: Mapping[str, bytes]
    record: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON values
    measures: Mapping[str, Any] = field(default_factory=dict)  # Any: Parquet scalars and lists

    @classmethod
    def unchecked(
        cls, key: str, fields: Mapping[str, bytes], record: Mapping[str, Any]
    ) -> "Sample":  # Any: JSON values
        """A sample read from an external tar: any key and extensions. It may not be valid to write."""
        sample = object.__new__(cls)
        for name, value in (("key", key), ("fields", fields), ("record", record), ("measures", {})):
            object.__setattr__(sample, name, value)
        return sample

    @classmethod
    def found(cls, key: str, fields: Mapping[str, bytes], record: Mapping[str, Any]) -> "Sample":  # Any: JSON values
        """Old name of ``unchecked``."""
        warnings.warn("Sample.found is now called Sample.unchecked", DeprecationWarning, stacklevel=2)
        return cls.unchecked(key, fields, record)

    def __repr__(self) -> str:
        """Key, the sizes of the fields and the beginning of the record: a field may be a picture of megabytes."""
        sizes = [f"{name[:MAX_EXTENSION]!r}: {len(payload):,} bytes" for name, payload in self.fields.items()]
        fields = ", ".join(sizes[:_SHOWN]) + ", ..." * (len(sizes) > _SHOWN)
        return f"Sample({_short.repr(self.key)}, {{{fields}}}, {_short.repr(dict(self.record))})"

    def _repr_html_(self) -> str:
        """What a notebook shows, see ``stoker.storage.shards.html``."""
        return sample_html(self.key, self.fields, self.record)

    def __post_init__(self) -> None:
        if not is_key(self.key):
            raise ValueError(f"sample key {self.key!r}: expected 1 to {MAX_KEY} of A-Z a-z 0-9 _ -")
        for extension in self.fields:
            if not is_extension(extension) or extension == "json":
                raise ValueError(
                    f"sample {self.key}: field {extension!r}: expected lower-case letters and digits, "
                    "not 'json', which holds the record"
                )
