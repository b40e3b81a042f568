"""How a field of a sample holds tokens: the bytes of a text, or ids that a tokenizer made."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from stoker.training.errors import TrainingError

BOUNDARY = 256  # the token before each document of bytes
VOCABULARY = 257  # bytes and the boundary
IGNORED = -100  # a target that does not count: torch's cross-entropy leaves it out

Ids = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Tokens:
    """Tokens as little-endian unsigned integers in a field, so that their number is known from the index alone.

    The default is the bytes of a text. A tokenizer's ids go into a field of their own when the corpus is made.

    >>> Tokens().read(memoryview(b"Hi")).tolist()
    [72, 105]
    >>> gpt2 = Tokens("u16", width=2, vocabulary=50_257, boundary=50_256)
    >>> gpt2.read(memoryview(bytes([1, 0, 0, 1]))).tolist()
    [1, 256]

    Args:
        field: the field that holds them.
        width: bytes of a token: 1, 2 or 4.
        vocabulary: how many different tokens there are, the boundary included.
        boundary: the token that stands before each document.
    """

    field: str = "txt"
    width: int = 1
    vocabulary: int = VOCABULARY
    boundary: int = BOUNDARY

    def __post_init__(self) -> None:
        if self.width not in (1, 2, 4) or not 0 <= self.boundary < self.vocabulary <= 2**31:
            raise TrainingError(
                f"tokens of {self.width} bytes, boundary {self.boundary}, vocabulary {self.vocabulary}: expected 1, 2 "
                "or 4 bytes, and a boundary below the vocabulary"
            )

    def read(self, payload: memoryview) -> Ids:
        """The ids in a field, as a view of its bytes."""
        return np.frombuffer(payload, f"<u{self.width}")


BYTES = Tokens()


@lru_cache(maxsize=1)
def _table() -> tuple[bytes, ...]:
    """The bytes that each token of BYTES stands for; a boundary is a blank line."""
    return (*(bytes([value]) for value in range(256)), b"\n\n")


def text_of(tokens: list[int]) -> str:
    """The text of byte tokens; bytes that are not UTF-8 become the replacement character.

    >>> text_of([72, 105, 256, 33])
    'Hi\\n\\n!'
    """
    table = _table()
    return b"".join(table[token] for token in tokens).decode("utf-8", "replace")
