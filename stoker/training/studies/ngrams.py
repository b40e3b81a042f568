"""Language models of counts: interpolated n-grams of bytes, by modified Kneser-Ney smoothing.

Chen and Goodman, "An empirical study of smoothing techniques for language modeling", Harvard TR-10-98, 1998: after a
context h, ``p(w|h) = (c(hw) - D(c(hw)) + mass(h) p(w|h')) / sum of c(h.)``, where h' is h without its first token, and
mass(h) all that the discounts took away. The longest n-grams count how often they occur; shorter ones, after how many
different tokens. There are three discounts for each length, of counts of one, of two, and of more. After a context
that was never seen it is ``p(w|h')``; without any context below it 1 / vocabulary.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stoker.training.studies.data import Numbers, characters

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Order:
    """All n-grams of one length, each a number: the place of its first n - 1 tokens among those, and its last token."""

    grams: Numbers  # sorted
    kept: Floats  # of each, its count less the discount
    totals: Floats  # of each context, by its place: the sum of the counts after it
    masses: Floats  # of each context, the sum of the discounts


class NGrams:
    """An n-gram model of tokens.

    >>> model = NGrams(np.array([0, 1, 0, 1, 0, 0]), order=2, vocabulary=2)
    >>> [round(float(model.probabilities(np.array([0, token]))[1]), 3) for token in (0, 1)]
    [0.389, 0.611]

    Args:
        tokens: the text to count.
        order: n, at least 1.
        vocabulary: how many tokens there are.
    """

    def __init__(self, tokens: Numbers, *, order: int, vocabulary: int) -> None:
        if order < 1:
            raise ValueError(f"order {order}: expected 1 or more")
        self._vocabulary = vocabulary
        self._orders: list[_Order] = []
        tokens = tokens.astype(np.int64)
        grams, counts, contexts = np.zeros(1, np.int64), np.zeros(1, np.int64), 1
        places = np.zeros(len(tokens) + 1, np.int64)  # among ``grams``, of the one that begins at each token
        for size in range(1, min(order, len(tokens)) + 1):
            shorter, behind = grams, places[1:]
            numbers = places[:-1] * vocabulary + tokens[size - 1 :]
            grams, places, counts = np.unique(numbers, return_inverse=True, return_counts=True)
            if size > 1:
                tails = np.empty(len(grams), np.int64)  # of each, the place of what follows its first token
                tails[places] = behind
                before = np.bincount(tails, minlength=len(shorter))  # different tokens, of each shorter one
                self._orders.append(_discounted(shorter, before, contexts, vocabulary))
                contexts = len(shorter)
        if len(tokens):
            self._orders.append(_discounted(grams, counts, contexts, vocabulary))

    @property
    def parameters(self) -> int:
        """How many counts it keeps."""
        return sum(len(order.grams) for order in self._orders)

    def probabilities(self, tokens: Numbers) -> Floats:
        """The probability of each token after those before it; the first have shorter contexts."""
        tokens = tokens.astype(np.int64)
        result = np.full(len(tokens), 1 / self._vocabulary)
        places = np.zeros(len(tokens) + 1, np.int64)  # of the contexts that end before each token; -1: never seen
        for size, order in enumerate(self._orders, start=1):
            if len(tokens) < size:
                break
            contexts, lower = places[:-1], result[size - 1 :]
            places = _places(order.grams, contexts * self._vocabulary + tokens[size - 1 :], contexts >= 0)
            totals = np.where(contexts >= 0, order.totals[contexts], 0)
            share = np.where(places >= 0, order.kept[places], 0) + order.masses[contexts] * lower
            result[size - 1 :] = np.where(totals > 0, share / np.maximum(totals, 1), lower)
        return result

    def bits_per_character(self, tokens: Numbers) -> float:
        """The bits that it takes to tell a text, boundaries too, divided by its characters."""
        bits = -float(np.log2(self.probabilities(tokens)).sum())
        return bits / max(1, characters(tokens)) if math.isfinite(bits) else math.inf


def _discounted(grams: Numbers, counts: Numbers, contexts: int, vocabulary: int) -> _Order:
    discounts = _discounts(counts)[np.minimum(counts, 3)]
    before = grams // vocabulary
    totals, masses = (np.bincount(before, values, contexts).astype(float) for values in (counts, discounts))
    return _Order(grams, counts - discounts, totals, masses)


def _discounts(counts: Numbers) -> Floats:
    """What is taken from counts of 0, 1, 2, and 3 or more, by how many there are of each; a half in small texts."""
    one, two, three, four = (int((counts == number).sum()) for number in (1, 2, 3, 4))
    if not (one and two and three and four):
        return np.array([0, 0.5, 0.5, 0.5])
    share = one / (one + 2 * two)
    found = [1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three]
    return np.array([0, *np.clip(found, 0.01, (1, 2, 3))])


def _places(grams: Numbers, wanted: Numbers, possible: npt.NDArray[np.bool_]) -> Numbers:
    """The place of each wanted n-gram; -1 where there is none."""
    places = np.minimum(np.searchsorted(grams, wanted), len(grams) - 1)
    return np.where(possible & (grams[places] == wanted), places, -1)
