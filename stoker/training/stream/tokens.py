"""How a field of a sample holds tokens: the bytes of a text, or ready ids that any tokenizer made."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from stoker.training.errors import TrainingError

BOUNDARY = 256  # the token before each document of bytes
VOCABULARY = 257  # bytes and the boundary
IGNORED = -100  # a target that is none; torch's cross-entropy leaves it out

Ids = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Tokens:
    """Tokens in ``field``, each ``width`` bytes, little-endian; so their number is known from the index alone.

    The default is the bytes of a text. A tokenizer's ids go into a field of their own when the corpus is made, for
    example ``Tokens("u16", width=2, vocabulary=50_257, boundary=50_256)``.
    """

    field: str = "txt"
    width: int = 1  # bytes: 1, 2 or 4
    vocabulary: int = VOCABULARY
    boundary: int = BOUNDARY  # stands before each document; one of the vocabulary

    def __post_init__(self) -> None:
        if self.width not in (1, 2, 4) or not 0 <= self.boundary < self.vocabulary <= 2**31:
            raise TrainingError(
                f"tokens of {self.width} bytes, boundary {self.boundary}, vocabulary {self.vocabulary}: expected 1, 2 "
                "or 4 bytes, and a boundary below the vocabulary"
            )

    def read(self, payload: memoryview) -> Ids:
        """The ids in a field; a view where that is possible."""
        return np.frombuffer(payload, f"<u{self.width}")


BYTES = Tokens()


@lru_cache(maxsize=1)
def _table() -> tuple[bytes, ...]:
    """The bytes that each token of BYTES stands for; a boundary is a blank line."""
    return (*(bytes([value]) for value in range(256)), b"\n\n")


def text_of(tokens: list[int]) -> str:
    """The text of byte tokens; what is no UTF-8 becomes the replacement character.

    >>> text_of([72, 105, 256, 33])
    'Hi\\n\\n!'
    """
    table = _table()
    return b"".join(table[token] for token in tokens).decode("utf-8", "replace")
