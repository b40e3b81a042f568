"""The namespaces of files and categories on every wiki, and the options of files by which a link to one is known."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

ENGLISH_FILES = frozenset(("file", "image"))  # every wiki accepts them
ENGLISH_CATEGORIES = frozenset(("category",))
ENGLISH_OPTIONS = frozenset(("thumb", "thumbnail", "frame", "framed", "enframed", "frameless"))
# The words for pixels behind a size. Source: MediaWiki 1.39, languages/messages/Messages*.php, img_width; those of one
# letter are left out.
_PIXELS = (
    "px|piks?|piksel|piskel|pixelů|пкс|пікс|пискел|нүкте|εσ|փքս|פיקס|פיקסלים|بك|عن|عڪسلون|نۇكتە|پک|پکسل|پیکسل|پیکسڵ|पिक्सेल|"
    "अंश|अणवः|कणी|पक्ष|पिट|পিক্স|ബിന്ദു|පික්|პქ|ភស|ភីកសែល|ピクセル|像素|픽셀"
)
_SIZE = re.compile(rf"[0-9]{{0,5}}x?[0-9]{{1,5}} ?(?:{_PIXELS})")
_PICTURE = re.compile(r"\.(?:jpe?g|png|svg|gif|tiff?|webp|xcf|djvu)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Names of the namespaces of files and categories of a wiki, in lower case, and words of its files' options."""

    files: frozenset[str]
    categories: frozenset[str]
    options: frozenset[str]  # that make a thumbnail or a frame


@cache
def namespaces_of(language: str) -> Namespaces:
    """The names on wikis of a language, or with a code; those in English, which every wiki accepts, alone if unknown.

    >>> sorted(namespaces_of("et").files), sorted(namespaces_of("bar").categories)
    (['fail', 'file', 'image', 'pilt'], ['category', 'kategorie'])
    """
    table = _read_table()
    names, categories, options = table.get(language) or table.get(language.partition("-")[0]) or ((), (), ())
    return Namespaces(ENGLISH_FILES.union(names), ENGLISH_CATEGORIES.union(categories), ENGLISH_OPTIONS.union(options))


def normalise_namespace(name: str) -> str:
    """The name of a namespace as tables have it: lower case, spaces for underscores."""
    return name.strip().replace("_", " ").lower()


def is_picture(target: str) -> bool:
    """Whether a link's target is named like the file of a picture."""
    return _PICTURE.search(target.rstrip()) is not None


def has_file_option(parts: list[str], options: frozenset[str]) -> bool:
    """Whether one of a link's later parts is a size in pixels or makes a thumbnail: the link is one to a file.

    A single part that makes a thumbnail may as well be a label.

    >>> has_file_option(["thumb", "Bear"], ENGLISH_OPTIONS), has_file_option(["260px"], ENGLISH_OPTIONS)
    (True, True)
    >>> has_file_option(["thumb"], ENGLISH_OPTIONS)
    False
    """
    parts = [part.strip() for part in parts]
    return any(_SIZE.fullmatch(part) for part in parts) or (len(parts) > 1 and not options.isdisjoint(parts))


@cache
def _read_table() -> dict[str, tuple[list[str], list[str], list[str]]]:
    """The rows of ``namespaces.tsv`` by code."""
    text = files("stoker.pipelines.wikipedia.wikitext").joinpath("namespaces.tsv").read_text("utf-8")
    table = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            code, *columns = line.split("\t")
            names, categories, options = (
                [name for name in column.split(", ") if name] for column in (*columns, "", "")[:3]
            )
            table[code] = (names, categories, options)
    return table
