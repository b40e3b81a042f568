"""Errors of training."""

from stoker.storage.errors import StokerError


class TrainingError(StokerError):
    """A corpus, model or option cannot be trained with: says which, what was found and what to do."""
