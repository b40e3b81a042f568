"""Errors of recipes and sources."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stoker.pipelines.partition import Partition
from stoker.storage.errors import StokerError
from stoker.storage.plain_file import NotPlain

_LONGEST_MESSAGE = 200  # characters of another library's error


class RecipeError(StokerError):
    """A wrong recipe, option or argument. The message says which, what was expected and the nearest right name."""


class OutsideRecipe(RecipeError):
    """A path of the recipe leaves the recipe's folder, and nobody said that the recipe is trusted."""


class SourceError(StokerError):
    """A source cannot be read."""


class SourceUnavailable(SourceError):
    """The source is busy or unreachable; the same partition may succeed later. Only this one is retried."""


class DecoderUnavailable(SourceUnavailable):
    """No image decoder can be started: this machine lacks files, processes or memory. No fault of an image."""


class NotAlone(SourceError):
    """A stretch of a partition may not be what it is in the whole partition, which is to be read at once."""


class NotAtOnce(SourceError):
    """A partition is better read in stretches, which were not known before its reading began; nothing of it is read.

    Args:
        stretches: all of them, as ``Source.stretches`` gives them.
    """

    def __init__(self, stretches: Sequence[Partition]) -> None:
        super().__init__(f"it is read in {len(stretches)} stretches")
        self.stretches = tuple(stretches)


class SourceBroken(SourceError):
    """The source is missing or malformed as a whole; a retry cannot help."""


@contextmanager
def as_broken_source(path: Path, what: str, *errors: type[Exception]) -> Iterator[None]:
    """Raise SourceBroken, with ``what`` is wrong, for these errors of reading a file, and for one that is not plain."""
    try:
        yield
    except NotPlain as error:
        raise SourceBroken(f"{path}: {error.strerror}") from None
    except errors as error:
        raise SourceBroken(f"{path}: {what}: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """The message of another library's error, cut; its type if it has none."""
    return " ".join(str(error).split())[:_LONGEST_MESSAGE] or type(error).__name__
