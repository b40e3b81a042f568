"""Errors of recipes and sources."""

from stoker.storage.errors import StokerError


class RecipeError(StokerError):
    """A recipe, option or argument is wrong: says which, what was expected and the nearest right name."""


class SourceError(StokerError):
    """A source cannot be read."""


class SourceUnavailable(SourceError):
    """Busy or out of reach: the same partition may succeed later. The only source error that is retried."""


class SourceBroken(SourceError):
    """Gone or malformed as a whole: trying again changes nothing."""
