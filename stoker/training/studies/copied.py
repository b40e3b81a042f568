"""How much of a held-out text is in the training text word for word: models of counts look it up there."""

import numpy as np
import numpy.typing as npt

from stoker.training.studies.data import Numbers

_DOUBLINGS = 6  # 2 ** 6 tokens: about ten words, which nobody writes twice by chance
_FACTOR = 0x9E3779B97F4A7C15  # any large odd number: a hash of 64 bits, modulo 2 ** 64


def copied(train: Numbers, test: Numbers) -> float:
    """The share of the passages of 64 tokens in ``test``, one from each token on, that are in ``train`` too.

    >>> text = np.arange(200)
    >>> copied(text, text[50:150]), copied(text, text[::-1]), copied(text, text[:10])
    (1.0, 0.0, 0.0)
    """
    known, passages = np.sort(_hashes(train)), _hashes(test)
    if not len(known) or not len(passages):
        return 0.0
    nearest = known[np.searchsorted(known, passages).clip(max=len(known) - 1)]  # np.isin takes ten times as long
    return float((nearest == passages).mean())


def _hashes(tokens: Numbers) -> npt.NDArray[np.uint64]:
    """A hash of each passage, by joining those of two halves until they are long enough."""
    found = tokens.astype(np.uint64) + np.uint64(1)
    for doubling in range(_DOUBLINGS):
        half = 1 << doubling
        factor = np.uint64(pow(_FACTOR, half, 1 << 64))
        found = found[:-half] * factor + found[half:] if len(found) > half else found[:0]
    return found
