"""What a store holds: corpora and their versions, found by listing."""

import difflib
import re

from stoker.storage.errors import NotFound
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout

_REFERENCE = re.compile(r"([a-z0-9][a-z0-9_-]{0,62})(?:@([0-9]{1,8}))?")
_NAMED = 10  # corpora named in a message


def corpora(store: Store) -> list[str]:
    """The corpora that have a version, in order of their names."""
    return [name for name in store.folders() if _REFERENCE.fullmatch(name) and versions(store, name)]


def versions(store: Store, corpus: str) -> list[int]:
    """The versions of a corpus, oldest first; empty if there is no such corpus."""
    numbers = (layout.version_of(stored.key) for stored in store.list(layout.versions(corpus)))
    return sorted(number for number in numbers if number is not None)


def parse_reference(text: str) -> tuple[str, int | None]:
    """Corpus and version. Raises NotFound for a text that can name none.

    >>> parse_reference("digits@2"), parse_reference("digits")
    (('digits', 2), ('digits', None))
    """
    found = _REFERENCE.fullmatch(text)
    if found is None or found[2] == "0":
        raise NotFound(f"{text[:80]!r} names no corpus; expected a name like 'digits', or 'digits@2' for its version 2")
    return found[1], int(found[2]) if found[2] else None


def missing(store: Store, corpus: str, version: int | None = None) -> str:
    """What to say of a corpus or version that is not there: what is, and the nearest name."""
    there = versions(store, corpus)
    if there and version is not None:
        known = ", ".join(str(number) for number in there[-_NAMED:])
        return f"{store.url}: {corpus} has no version {version}; it has {'…, ' * (len(there) > _NAMED)}{known}"
    names = corpora(store)
    if not names:
        return f"{store.url}: no corpus is called {corpus!r}; the store holds none yet"
    near = difflib.get_close_matches(corpus, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names[:_NAMED])}"
    return f"{store.url}: no corpus is called {corpus!r}; {hint}"
