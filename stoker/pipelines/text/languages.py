"""Language identification by py3langid, whose model comes in its wheel: no download, and the same answer everywhere.

The model is loaded at the first text, not when this module is imported.
"""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

_MAX_CHARACTERS = 5_000  # that are read of a text: more hardly change the result, and cost time
_NO_LANGUAGE = "zxx"  # ISO 639-2 for "no linguistic content"


def identify_language(text: str) -> tuple[str, float]:
    """The language's code (ISO 639) and a confidence in [0, 1]; ("", 0.0) for a text that is in none.

    >>> [identify_language(text)[0] for text in ("The cat sat on the mat.", "Der Hund ist nicht gegangen.", "鉄の橋")]
    ['en', 'de', 'ja']
    """
    text = text[:_MAX_CHARACTERS]
    if not any(character.isalpha() for character in text):
        return "", 0.0
    language, confidence = _identifier().classify(text)
    if language == _NO_LANGUAGE:
        return "", 0.0
    return str(language), round(min(1.0, float(confidence)), 3)


@cache
def known_languages() -> frozenset[str]:
    """The codes that ``identify_language`` may return."""
    return frozenset(str(code) for code in _identifier().labels) - {_NO_LANGUAGE}


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
