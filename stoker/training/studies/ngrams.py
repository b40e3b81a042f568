"""Language models of counts: interpolated n-grams of bytes, smoothed by Witten and Bell's method.

Witten and Bell, "The zero-frequency problem", IEEE Transactions on Information Theory 1991: in a context h that was
seen N(h) times, before T(h) different tokens, ``p(w|h) = (count(hw) + T(h) p(w|h')) / (N(h) + T(h))``, where h' is h
without its first token; in a context that was never seen ``p(w|h')``; without any context below it 1 / vocabulary.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stoker.training.studies.data import Numbers, characters

_MAX_ORDER = 7  # 257 ** 7 is the largest power that 63 bits hold

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Order:
    """All n-grams of one length, as numbers in base ``vocabulary``, sorted; and the contexts that they begin with."""

    grams: Numbers
    counts: Numbers
    contexts: Numbers
    totals: Numbers  # N(h)
    types: Numbers  # T(h)


class NGrams:
    """An n-gram model of tokens.

    >>> model = NGrams(np.array([0, 1, 0, 1, 0, 0]), order=2, vocabulary=2)
    >>> [round(float(model.probabilities(np.array([0, token]))[1]), 3) for token in (0, 1)]
    [0.45, 0.55]

    Args:
        tokens: the text to count.
        order: n, from 1 to 7.
        vocabulary: how many tokens there are.
    """

    def __init__(self, tokens: Numbers, *, order: int, vocabulary: int) -> None:
        if not 1 <= order <= _MAX_ORDER:
            raise ValueError(f"order {order}: expected 1 to {_MAX_ORDER}")
        self._vocabulary = vocabulary
        tokens = tokens.astype(np.int64)
        self._orders = [_counted(_grams(tokens, size, vocabulary), vocabulary) for size in range(1, order + 1)]

    @property
    def parameters(self) -> int:
        """How many counts it keeps."""
        return sum(len(order.grams) for order in self._orders)

    def probabilities(self, tokens: Numbers) -> Floats:
        """The probability of each token after those before it; the first have shorter contexts."""
        tokens = tokens.astype(np.int64)
        result = np.full(len(tokens), 1 / self._vocabulary)
        for size, order in enumerate(self._orders, start=1):
            if len(tokens) < size:
                break
            grams = _grams(tokens, size, self._vocabulary)
            counts = _looked_up(order.grams, order.counts, grams)
            contexts = grams // self._vocabulary
            totals, types = (_looked_up(order.contexts, values, contexts) for values in (order.totals, order.types))
            lower, seen = result[size - 1 :], totals > 0
            result[size - 1 :] = np.where(seen, (counts + types * lower) / np.maximum(totals + types, 1), lower)
        return result

    def bits_per_character(self, tokens: Numbers) -> float:
        """The bits that it takes to tell a text, boundaries too, divided by its characters."""
        bits = -float(np.log2(self.probabilities(tokens)).sum())
        return bits / max(1, characters(tokens)) if math.isfinite(bits) else math.inf


def _grams(tokens: Numbers, size: int, vocabulary: int) -> Numbers:
    """The n-grams of a text as numbers, one for each place where one ends."""
    places = max(0, len(tokens) - size + 1)
    grams = np.zeros(places, np.int64)
    for offset in range(size):
        grams = grams * vocabulary + tokens[offset : offset + places]
    return grams


def _counted(grams: Numbers, vocabulary: int) -> _Order:
    unique, counts = np.unique(grams, return_counts=True)
    contexts, first, types = np.unique(unique // vocabulary, return_index=True, return_counts=True)
    totals = np.add.reduceat(counts, first) if len(first) else counts
    return _Order(unique, counts, contexts, totals, types)


def _looked_up(keys: Numbers, values: Numbers, wanted: Numbers) -> Numbers:
    """The value of each wanted key; 0 where there is none."""
    if not len(keys):
        return np.zeros(len(wanted), np.int64)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
