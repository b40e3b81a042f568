"""Errors of training."""

import warnings

from stoker.storage.errors import StokerError


class TrainingError(StokerError):
    """A corpus, model or option that cannot be used for training: says which, what was found and what to do.

    >>> from stoker.training import TrainingError, TrainOptions
    >>> try:
    ...     TrainOptions(epochs=0)
    ... except TrainingError as error:
    ...     print(error)
    option epochs = 0; expected 1 or more
    """


class CorruptSample(TrainingError):
    """A sample that cannot be decoded. ``index``: its position in the batch; ``reason``: what many have in common."""

    def __init__(self, index: int, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.index, self.reason = index, reason

    @property
    def place(self) -> int:
        """The old name of ``index``."""
        warnings.warn(
            "CorruptSample.place is now called index; the old name will be removed", DeprecationWarning, stacklevel=2
        )
        return self.index

    def __reduce__(self) -> tuple[type["CorruptSample"], tuple[int, str, str]]:
        return CorruptSample, (self.index, str(self), self.reason)
