"""Errors of recipes and sources."""

from stoker.storage.errors import StokerError


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


class SourceBroken(SourceError):
    """The source is missing or malformed as a whole; a retry cannot help."""
