"""Every damage that a file can suffer at one place."""

from collections.abc import Iterator


def damaged(payload: bytes, *, step: int = 1) -> Iterator[bytes]:
    """The payload with a bit flipped, cut off, or with more bytes; at every ``step``-th byte."""
    for place in range(0, len(payload), step):
        for bit in range(8):
            yield payload[:place] + bytes([payload[place] ^ 1 << bit]) + payload[place + 1 :]
        yield payload[:place]
    yield payload + b"\0"
    yield payload + b"\n"
