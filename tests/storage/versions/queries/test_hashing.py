"""Hashes of a column's texts are those of Python's SHA-256, whether they are few or many."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.storage.versions.queries.hashing import short_hashes

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8)


@pytest.mark.parametrize("many", [0, 9])
@given(before=st.binary(max_size=8), pieces=st.lists(TEXTS, max_size=3))
def test_hashes_are_those_of_sha256(many: int, before: bytes, pieces: list[list[str]]) -> None:
    column = pa.chunked_array(pieces, pa.string())
    digests = [hashlib.sha256(before + text.encode()).digest() for piece in pieces for text in piece]
    found = short_hashes(before, column, many=many)
    assert found.dtype == np.uint64
    assert found.tolist() == [int.from_bytes(digest[:8], "big") for digest in digests]


def test_many_texts_are_in_their_order() -> None:
    texts = [f"sample-{number}" for number in range(150_000)]
    column = pa.chunked_array([texts[:70_000], texts[70_000:]])
    assert (short_hashes(b"\0", column) == short_hashes(b"\0", column, many=10**6)).all()
