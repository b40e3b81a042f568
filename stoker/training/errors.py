"""Errors of training."""

from stoker.storage.errors import StokerError


class TrainingError(StokerError):
    """A corpus, model or option cannot be trained with: says which, what was found and what to do."""


class CorruptSample(TrainingError):
    """A sample cannot be decoded. ``place``: which of its batch."""

    def __init__(self, place: int, message: str) -> None:
        super().__init__(message)
        self.place = place

    def __reduce__(self) -> tuple[type["CorruptSample"], tuple[int, str]]:
        return CorruptSample, (self.place, str(self))
