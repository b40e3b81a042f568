"""Samples for tests of formats: fixed ones for golden files, and hypothesis' own."""

import math
from typing import Any

from hypothesis import strategies as st

from stoker.storage.shards.sample import Sample

GOLDEN = [
    Sample("cat-1", {"jpg": b"\xff\xd8 a picture", "cls": b"3"}, {"label": "cat", "width": 4, "url": "http://x/1"}),
    Sample("dog_2", {"png": b"\x89PNG" + bytes(509), "seg.png": b"", "txt": "Hündin\n".encode()}, {"label": "dog"}),
    Sample("Empty", {}, {}),
    Sample("k" * 80, {"e" * 19: b"x" * 1024}, {"nested": {"b": [1, 2.5, None, True], "a": "日本 \ud800"}}),
]

keys = st.from_regex(r"[A-Za-z0-9_-]{1,80}", fullmatch=True)
extensions = st.from_regex(r"[a-z0-9_]{1,6}(\.[a-z0-9_]{1,5}){0,2}", fullmatch=True).filter(lambda one: one != "json")
scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(max_size=30)
values: st.SearchStrategy[Any] = st.recursive(
    scalars | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
samples = st.builds(
    Sample,
    key=keys,
    fields=st.dictionaries(extensions, st.binary(max_size=1500), max_size=4),
    record=st.dictionaries(texts.filter(lambda name: name != "key"), values, max_size=5),
)


def same(one: Any, other: Any) -> bool:  # Any: JSON values
    """Whether two JSON values are equal, -0.0 and 0.0 being different."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return type(one) is type(other) and one == other
