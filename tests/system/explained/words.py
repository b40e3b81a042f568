"""Jaccard similarities of texts, by plain code: runs of three words, without case and punctuation."""

import re
from functools import cache


@cache
def runs_of(text: str) -> frozenset[str]:
    """The runs of three words; of a shorter text the one run that it has."""
    words = re.findall(r"[^\W_]+", text.lower())
    return frozenset(" ".join(words[start : start + 3]) for start in range(max(1, len(words) - 2)))


def jaccard(one: str, other: str) -> float:
    return len(runs_of(one) & runs_of(other)) / len(runs_of(one) | runs_of(other))
