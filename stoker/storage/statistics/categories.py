"""Mergeable statistics of texts: counts of each, and the number of distinct ones (HyperLogLog)."""

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

MAX_CATEGORIES = 1024  # with a count of their own
MAX_LENGTH = 100  # characters of a category; longer texts are counted among the others
_EXACT = 256  # different values up to which their number is exact
_INDEX = 12  # bits: 4096 registers, standard error 1.04 / sqrt(4096) = 1.6 %


def hashes_of(texts: Iterable[str]) -> Hashes:
    """The hashes of texts, by which ``Categories`` and ``Distinct`` choose."""
    blake = hashlib.blake2b
    digests = b"".join([blake(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts])
    return np.frombuffer(digests, ">u8").astype(np.uint64)


@dataclass(frozen=True)
class Categories:
    """Exact counts of up to 1,024 distinct texts; of more, those with the least hashes are kept.

    So a kept text was kept in every part and its count is exact, and the order of merges does not matter. But what is
    kept of more texts says nothing of how frequent they are; a version lists the most frequent ones instead.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    others: int = 0  # values without a count of their own
    most_frequent: bool = False  # those with a count are the most frequent ones of a version, in all of its splits

    @classmethod
    def of(cls, counts: Mapping[str, int], hashes: Hashes | None = None) -> "Categories":
        """From texts and how often each occurs. ``hashes``: of the texts in this order, where they are known."""
        short = {text: count for text, count in counts.items() if count and len(text) <= MAX_LENGTH}
        others = sum(counts.values()) - sum(short.values())
        return _cut(short, others, hashes if len(short) == len(counts) else None)

    def most_common(self, limit: int | None = None) -> list[tuple[str, int]]:
        """Texts and their counts, the most frequent first, equal ones in order of the text."""
        return sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]

    def merge(self, other: "Categories") -> "Categories":
        """The statistics of both sets of values."""
        texts = self.counts.keys() | other.counts.keys()
        counts = {text: self.counts.get(text, 0) + other.counts.get(text, 0) for text in texts}
        if self.most_frequent and other.most_frequent:
            return Categories(counts, self.others + other.others, most_frequent=True)
        return _cut(counts, self.others + other.others)

    @property
    def is_sample(self) -> bool:
        """Whether those with a count are a part of the texts that is chosen without regard to how frequent they are."""
        return not self.most_frequent and self.others > 0 and len(self.counts) >= MAX_CATEGORIES

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """As JSON values, in order of the text."""
        content = {"counts": dict(sorted(self.counts.items())), "others": self.others}
        return content | ({"most_frequent": True} if self.most_frequent else {})

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Categories":  # Any: JSON values
        """Reverses ``to_json``."""
        counts = {str(text): int(count) for text, count in content["counts"].items()}
        return cls(counts, int(content["others"]), most_frequent=content.get("most_frequent") is True)


def _cut(counts: Mapping[str, int], others: int, hashes: Hashes | None = None) -> Categories:
    if len(counts) <= MAX_CATEGORIES:
        return Categories(counts, others)
    texts, hashes = list(counts), hashes_of(counts) if hashes is None else hashes
    limit = np.partition(hashes, MAX_CATEGORIES - 1)[MAX_CATEGORIES - 1]
    least = sorted((int(hashes[place]), texts[place]) for place in np.flatnonzero(hashes <= limit).tolist())
    kept = [text for _, text in least[:MAX_CATEGORIES]]
    return Categories(
        {text: counts[text] for text in kept}, others + sum(counts.values()) - sum(counts[text] for text in kept)
    )


@dataclass(frozen=True)
class Distinct:
    """The number of distinct texts: exact up to 256, to within a few percent above.

    Source: Flajolet, Fusy, Gandouet and Meunier, "HyperLogLog: the analysis of a near-optimal cardinality estimation
    algorithm", AofA 2007, with the linear counting of small numbers.
    """

    hashes: frozenset[int] | None = frozenset()  # None: there were more, and the registers count
    registers: bytes = b""

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Distinct":
        """From texts, repeated or not."""
        return cls.of_hashes(np.unique(hashes_of(texts)))

    @classmethod
    def of_hashes(cls, hashes: Hashes) -> "Distinct":
        """From the hashes of different texts, see ``hashes_of``."""
        return _counted(hashes, b"")

    @property
    def estimate(self) -> int:
        """The number of distinct texts, about."""
        if self.hashes is not None:
            return len(self.hashes)
        size = len(self.registers)
        raw = 0.7213 / (1 + 1.079 / size) * size * size / sum(2.0**-rank for rank in self.registers)
        empty = self.registers.count(0)
        return round(size * math.log(size / empty)) if raw <= 2.5 * size and empty else round(raw)

    def merge(self, other: "Distinct") -> "Distinct":
        """The statistics of both sets of texts."""
        both = np.array(sorted((self.hashes or frozenset()) | (other.hashes or frozenset())), np.uint64)
        if self.hashes is not None and other.hashes is not None:
            return _counted(both, b"")
        return _counted(both, _higher(self.registers, other.registers))

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """The estimate, and its hashes or registers in base64."""
        if self.hashes is not None:
            packed = b"".join(value.to_bytes(8, "big") for value in sorted(self.hashes))
            return {"estimate": self.estimate, "hashes": base64.b64encode(packed).decode()}
        return {"estimate": self.estimate, "registers": base64.b64encode(self.registers).decode()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Distinct":  # Any: JSON values
        """Reverses ``to_json``."""
        if "registers" in content:
            registers = base64.b64decode(content["registers"], validate=True)
            if len(registers) != 2**_INDEX:
                raise ValueError(f"{len(registers)} registers, expected {2**_INDEX}")
            return cls(None, registers)
        packed = base64.b64decode(content["hashes"], validate=True)
        if len(packed) % 8:
            raise ValueError(f"{len(packed)} bytes of hashes, expected a multiple of 8")
        return cls(frozenset(int.from_bytes(packed[offset : offset + 8], "big") for offset in range(0, len(packed), 8)))


def _counted(hashes: Hashes, registers: bytes) -> Distinct:
    """From different hashes, and registers of others."""
    if not registers and len(hashes) <= _EXACT:
        return Distinct(frozenset(hashes.tolist()))
    ranks = np.frombuffer(registers or bytes(2**_INDEX), np.uint8).copy()
    rest = np.uint64(64 - _INDEX)
    # The exponent of a number is the place of its first bit: exact, as 52 bits fit into a float.
    first_bit = np.frexp((hashes & np.uint64(2 ** (64 - _INDEX) - 1)).astype(np.float64))[1]
    np.maximum.at(ranks, (hashes >> rest).astype(np.intp), (64 - _INDEX - first_bit + 1).astype(np.uint8))
    return Distinct(None, ranks.tobytes())


def _higher(left: bytes, right: bytes) -> bytes:
    if not left or not right:
        return left or right
    return np.maximum(np.frombuffer(left, np.uint8), np.frombuffer(right, np.uint8)).tobytes()
