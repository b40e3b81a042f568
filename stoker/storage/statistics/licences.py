"""Samples of a version by licence."""

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

UNKNOWN_LICENCE = "unknown"
OURS = ("licence",)  # a column "license" of samples that Stoker packed is the user's own
EXTERNAL = ("licence", "license")  # of external tars


def count_licences(index: pa.Table, columns: Sequence[str] = OURS) -> Counter[str]:
    """Samples by licence, from the first of these columns that there is."""
    name = next((column for column in columns if column in index.column_names), None)
    values = [None] * index.num_rows if name is None else index[name].to_pylist()
    return Counter(str(value or UNKNOWN_LICENCE) for value in values)
