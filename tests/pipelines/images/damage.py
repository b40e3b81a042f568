"""One random damage of a file: what a broken transfer, disk or program does to it."""

from collections.abc import Callable

import numpy as np


def cut(payload: bytes, random: np.random.Generator) -> bytes:
    """The end is missing, or a piece of the middle."""
    start = int(random.integers(1, len(payload)))
    if random.integers(2):
        return payload[:start]
    return payload[:start] + payload[start + int(random.integers(1, 1 + min(4096, len(payload)))) :]


def insertion(payload: bytes, random: np.random.Generator) -> bytes:
    """Random bytes stand where none belong."""
    start = int(random.integers(0, len(payload)))
    return payload[:start] + random.bytes(int(random.integers(1, 512))) + payload[start:]


def doubled(payload: bytes, random: np.random.Generator) -> bytes:
    """A piece stands twice."""
    start = int(random.integers(0, len(payload)))
    return payload[:start] + payload[start : start + int(random.integers(1, 4096))] + payload[start:]


def flipped(payload: bytes, random: np.random.Generator) -> bytes:
    """One bit is wrong."""
    bit = int(random.integers(0, 8 * len(payload)))
    damaged = bytearray(payload)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def overwritten(payload: bytes, random: np.random.Generator) -> bytes:
    """A piece holds random bytes, or zeros."""
    start, size = int(random.integers(0, len(payload))), int(random.integers(1, 4096))
    piece = random.bytes(size) if random.integers(2) else bytes(size)
    return (payload[:start] + piece + payload[start + size :])[: len(payload)]


Damage = Callable[[bytes, np.random.Generator], bytes]
DAMAGES: dict[str, Damage] = {f.__name__: f for f in (cut, insertion, doubled, flipped, overwritten)}
