"""Measures of a text, and its MinHash signature for finding near-duplicates.

Words are found and hashed in one vectorised pass over code points. Tables and hashes are fixed here, so a text has
the same signature under every version of Python, Unicode and numpy.
"""

import unicodedata
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

SLOTS = 128  # of a signature
SHINGLE = 3  # words
_BLOCK = 1 << 17  # code points measured at once: bounds memory to a few MiB, whatever the text's length

Hashes = npt.NDArray[np.uint64]
Signature = npt.NDArray[np.uint32]

# Kinds of code points: between words, part of a word, a word by itself.
_SEPARATOR, _WORD, _ALONE = 0, 1, 2
# Code points that separate words: punctuation, symbols, spaces. A fixed list, as unicodedata grows.
_SEPARATORS = (
    (0x00, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0xA9), (0xAB, 0xB4), (0xB6, 0xB9), (0xBB, 0xBF), (0xD7, 0xD7),
    (0xF7, 0xF7), (0x2B9, 0x2DF), (0x37E, 0x37E), (0x387, 0x387), (0x55A, 0x55F), (0x589, 0x58A), (0x5BE, 0x5BE),
    (0x5C0, 0x5C0), (0x5C3, 0x5C3), (0x5C6, 0x5C6), (0x5F3, 0x5F4), (0x600, 0x60F), (0x61B, 0x61F), (0x66A, 0x66D),
    (0x6D4, 0x6D4), (0x964, 0x965), (0x970, 0x970), (0xE2F, 0xE2F), (0xE3F, 0xE3F), (0xE4F, 0xE4F), (0xE5A, 0xE5B),
    (0x104A, 0x104F), (0x1360, 0x1368), (0x17D4, 0x17DA), (0x1680, 0x1680), (0x2000, 0x206F), (0x20A0, 0x20CF),
    (0x2190, 0x2BFF), (0x2E00, 0x2E7F), (0x3000, 0x3004), (0x3008, 0x3020), (0x3030, 0x3030), (0x303D, 0x303F),
    (0x30A0, 0x30A0), (0x30FB, 0x30FB), (0xD800, 0xDFFF), (0xFE10, 0xFE6F), (0xFEFF, 0xFEFF), (0xFF00, 0xFF0F),
    (0xFF1A, 0xFF20), (0xFF3B, 0xFF40), (0xFF5B, 0xFF65), (0xFFE0, 0xFFFF),
)  # fmt: skip
# Scripts written without spaces, where every code point counts as a word, and pictographs.
_ALONES = (
    (0xE01, 0xE2E), (0xE30, 0xE3A), (0xE40, 0xE4E), (0xE81, 0xEC6), (0x1000, 0x103F), (0x1780, 0x17D3),
    (0x3005, 0x3007), (0x3041, 0x309F), (0x30A1, 0x30FA), (0x30FC, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x1F000, 0x1FAFF), (0x20000, 0x3FFFF),
)  # fmt: skip


def measures_of_text(text: str) -> dict[str, Any]:  # Any: Parquet scalars
    """The columns that describe a text.

    ``characters``, ``words``, ``lines`` (that are not blank), ``mean_word_length`` (characters), ``digit_share`` (of
    the characters), ``repeated_share`` (share of the runs of three words that occur earlier in the text), ``minhash``
    (``SLOTS`` little-endian uint32; empty for a text without words, so that it is similar to no other). Each
    character of Chinese, Japanese, Thai and similar scripts counts as a word.

    >>> measures = measures_of_text("One tin,\\n\\ntwo tins.")
    >>> measures["characters"], measures["words"], measures["lines"], measures["mean_word_length"]
    (19, 4, 2, 3.25)
    """
    hashes, letters = word_hashes(text)
    runs = shingles(hashes)
    distinct = int(np.unique(runs).size)
    digits = sum(text.count(digit) for digit in "0123456789")
    return {
        "characters": len(text),
        "words": int(hashes.size),
        "lines": sum(1 for line in text.splitlines() if line and not line.isspace()),
        "mean_word_length": round(letters / hashes.size, 4) if hashes.size else 0.0,
        "digit_share": round(digits / len(text), 6) if text else 0.0,
        "repeated_share": round(1 - distinct / runs.size, 6) if runs.size else 0.0,
        "minhash": minhash(runs).astype("<u4").tobytes() if runs.size else b"",
    }


def word_hashes(text: str) -> tuple[Hashes, int]:
    """The hashes of the text's words in order, ignoring case, and how many characters they have together.

    Of the text in NFC, so that a letter and its accent are the same word as the letter with it. That form never changes
    for characters that Unicode has assigned.
    """
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    points = np.frombuffer(text.lower().encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32)
    blocks: list[Hashes] = []
    letters = 0
    start = 0
    while start < points.size:
        stop = _block_end(points, start)
        hashes, count = _hash_words(points[start:stop])
        blocks.append(hashes)
        letters += count
        start = stop
    return (np.concatenate(blocks) if blocks else np.empty(0, np.uint64)), letters


def shingles(words: Hashes) -> Hashes:
    """The hashes of all runs of ``SHINGLE`` consecutive words; of all words as one run, if there are fewer.

    >>> shingles(word_hashes("a b c d")[0]).size, shingles(word_hashes("a")[0]).size, shingles(word_hashes("-")[0]).size
    (2, 1, 0)
    """
    return runs_of(words, min(SHINGLE, words.size))


def runs_of(words: Hashes, width: int) -> Hashes:
    """The hashes of all runs of ``width`` consecutive words; none of a shorter text."""
    if width == 0 or width > words.size:
        return words[:0]
    runs = words.size - width + 1
    mixed = np.full(runs, width, np.uint64)
    for offset in range(width):
        mixed = mix(mixed + words[offset : offset + runs])
    return mixed


_ROUNDS = 128
_VALUE_BITS = 24
_LAST = np.uint32(0xFF << _VALUE_BITS)


def minhash(runs: Hashes) -> Signature:
    """The signature of a set with at least one element: the share of equal slots estimates the Jaccard similarity.

    Source: Dahlgaard, Knudsen and Thorup, "Fast Similarity Sketching", FOCS 2017. One hash per element fills the
    slots of a long text; a short text needs further rounds. A slot's value begins with the number of its round, so
    later rounds never replace earlier values. It is as exact as ``SLOTS`` independent permutations and costs about
    one, without the bias towards equality that a plain one-permutation sketch has for short texts.
    """
    slots = np.full(SLOTS, 0xFFFFFFFF, np.uint32)
    done = 0
    while done < _ROUNDS and (slots == 0xFFFFFFFF).any():
        rounds = np.arange(done, min(_ROUNDS, done + max(1, 1024 // runs.size)), dtype=np.uint64)
        hashes = mix(runs[None, :] + (rounds * np.uint64(_GOLDEN))[:, None])
        values = ((hashes >> np.uint64(8)) & np.uint64((1 << _VALUE_BITS) - 1)) | (rounds << np.uint64(_VALUE_BITS))[
            :, None
        ]
        np.minimum.at(slots, (hashes >> np.uint64(57)).ravel().astype(np.intp), values.ravel().astype(np.uint32))
        done += rounds.size
    for slot in np.flatnonzero(slots == 0xFFFFFFFF):
        hashes = mix(runs ^ mix(np.array([slot + _ROUNDS], np.uint64)))
        slots[slot] = _LAST | np.uint32(hashes.min() >> np.uint64(64 - _VALUE_BITS + 1))  # never all ones
    return slots


_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: the increment of splitmix64
_BASE = 0xD6E8FEB86659FD93  # odd, so that it has an inverse modulo 2**64
_INVERSE = pow(_BASE, -1, 1 << 64)


def mix(values: Hashes) -> Hashes:
    """The last step of splitmix64 (Steele, Lea and Flood, OOPSLA 2014): scrambles 64 bits, one to one."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """The kind of every code point."""
    kinds = np.full(0x110000, _WORD, np.uint8)
    for kind, ranges in ((_SEPARATOR, _SEPARATORS), (_ALONE, _ALONES)):
        for first, last in ranges:
            kinds[first : last + 1] = kind
    return kinds


@cache
def _powers() -> tuple[Hashes, Hashes]:
    """Powers of the base and of its inverse, modulo 2**64."""
    return tuple(  # type: ignore[return-value]  # two of them
        np.concatenate([[np.uint64(1)], np.full(_BLOCK, base, np.uint64).cumprod()]) for base in (_BASE, _INVERSE)
    )


def _block_end(points: npt.NDArray[np.uint32], start: int) -> int:
    """The end of the next block: behind its last separator, so that no word is cut, unless it is one endless word."""
    stop = min(points.size, start + _BLOCK)
    if stop < points.size:
        separators = np.flatnonzero(_kinds()[points[start:stop]] != _WORD)
        if separators.size:
            stop = start + int(separators[-1]) + 1
    return stop


def _hash_words(points: npt.NDArray[np.uint32]) -> tuple[Hashes, int]:
    """The hashes of the words in a block, and how many characters they have together."""
    kinds = _kinds()[points]
    # A word begins where its first character has no word character before it, or stands alone.
    before = np.concatenate([[_SEPARATOR], kinds[:-1]])
    after = np.concatenate([kinds[1:], [_SEPARATOR]])
    starts = np.flatnonzero((kinds == _ALONE) | ((kinds == _WORD) & (before != _WORD)))
    stops = np.flatnonzero((kinds == _ALONE) | ((kinds == _WORD) & (after != _WORD))) + 1
    powers, inverses = _powers()
    # A word's hash is a polynomial in its mixed characters: differences of prefix sums give all of them at once.
    terms = mix(points.astype(np.uint64) + np.uint64(_GOLDEN)) * powers[: points.size]
    sums = np.concatenate([[np.uint64(0)], terms.cumsum()])
    hashes = (sums[stops] - sums[starts]) * inverses[starts]
    return mix(hashes + (stops - starts).astype(np.uint64)), int((stops - starts).sum())
