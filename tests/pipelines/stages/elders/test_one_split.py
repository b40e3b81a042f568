import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.rule import numbered
from stoker.pipelines.stages.elders import one_split

CONTENTS = [f"{number:064x}" for number in (0, 1, 2**40, 3)]
ALIKE = f"{2**64:064x}"  # what is looked at of it is that of the first


def table(contents: list[str | None], skipped: int) -> pa.Table:
    """The contents in pieces, the first of which begins inside its memory."""
    pieces = [pa.array(["x", *contents[:2]], pa.string()).slice(1), pa.array(contents[2:], pa.string())]
    return pa.table({"content_sha256": pa.chunked_array(pieces, pa.string())}).slice(skipped)


@given(
    st.lists(
        st.tuples(st.sampled_from([*CONTENTS, ALIKE, CONTENTS[0][:-1], "", None]), st.integers(0, 2)), max_size=12
    ),
    st.lists(st.tuples(st.sampled_from(CONTENTS), st.integers(0, 2)), max_size=4),
    st.integers(0, 3),
)
def test_what_may_be_torn_is_told_of_all_that_is(
    rows: list[tuple[str | None, int]], held: list[tuple[str, int]], skipped: int
) -> None:
    samples = table([content for content, _ in rows], skipped)
    split = np.array([code for _, code in rows], np.int64)[skipped:]
    numbers, count = numbered(samples["content_sha256"])
    for parent in (
        None,
        table([content for content, _ in held], 0).append_column("code", pa.array([c for _, c in held], pa.int64())),
    ):
        is_torn = bool(one_split._torn(numbers, count, split, samples, parent).any())
        may_be = one_split._may_be_torn(samples, split, parent)
        assert may_be or not is_torn
        if all(content in CONTENTS for content in samples["content_sha256"].to_pylist()) and parent is None:
            assert may_be == is_torn


def test_contents_of_another_type_may_be_torn() -> None:
    for column in (
        pa.nulls(2),
        pa.array([1, 2]),
        pa.array(CONTENTS[:2]).dictionary_encode(),
        pa.array(CONTENTS[:2], pa.large_string()),
    ):
        assert one_split._may_be_torn(pa.table({"content_sha256": column}), np.array([0, 1]), None)
    assert not one_split._may_be_torn(pa.table({"content_sha256": CONTENTS[:2]}), np.array([0, 1]), None)
