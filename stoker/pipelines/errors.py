"""Errors of recipes and sources."""

from stoker.storage.errors import StokerError


class RecipeError(StokerError):
    """A wrong recipe, option or argument. The message says which, what was expected and the nearest right name."""


class OutsideRecipe(RecipeError):
    """A path of the recipe leaves the recipe's folder, and nobody said that the recipe is trusted."""


class SourceError(StokerError):
    """A source cannot be read."""


class SourceUnavailable(SourceError):
    """The source is busy or unreachable; the same partition may succeed later. Only this source error is retried."""


class SourceBroken(SourceError):
    """The source is missing or malformed as a whole; a retry cannot help."""
