"""The corpora in a store and their versions, found by listing."""

import difflib
import re

from stoker.storage.errors import NotFound
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout

_REFERENCE = re.compile(r"([a-z0-9][a-z0-9_-]{0,62})(?:@([0-9]{1,8}))?")
_MAX_EXAMPLES = 10  # corpora or versions named in a message


def corpora(store: Store) -> list[str]:
    """The corpora that have a version, in order of their names."""
    return list(newest_versions(store))


def newest_versions(store: Store) -> dict[str, int]:
    """The newest version of each corpus that has one, in order of their names."""
    numbers = {name: versions(store, name) for name in store.folders() if _REFERENCE.fullmatch(name)}
    return {name: existing[-1] for name, existing in numbers.items() if existing}


def versions(store: Store, corpus: str) -> list[int]:
    """The versions of a corpus, oldest first; empty if there is no such corpus."""
    numbers = (layout.version_of(stored.key) for stored in store.list(layout.versions(corpus)))
    return sorted(number for number in numbers if number is not None)


def parse_reference(text: str) -> tuple[str, int | None]:
    """Corpus and version of a reference. Raises NotFound for an invalid one.

    >>> parse_reference("digits@2"), parse_reference("digits")
    (('digits', 2), ('digits', None))
    """
    match = _REFERENCE.fullmatch(text)
    if match is None or match[2] == "0":
        raise NotFound(f"{text[:80]!r} names no corpus; expected a name like 'digits', or 'digits@2' for its version 2")
    return match[1], int(match[2]) if match[2] else None


def is_ingested(store: Store, corpus: str) -> bool:
    """Whether there is anything that an ingest has read, for a version or none yet; not of indexed tars."""
    return next(iter(store.list(f"{corpus}/raw/")), None) is not None


def missing(store: Store, corpus: str, version: int | None = None) -> str:
    """The message for a corpus or version that does not exist: which do, and the nearest name."""
    existing = versions(store, corpus)
    if existing and version is not None:
        known = ", ".join(str(number) for number in existing[-_MAX_EXAMPLES:])
        return (
            f"{store.url}: {corpus} has no version {version}; it has {'…, ' * (len(existing) > _MAX_EXAMPLES)}{known}"
        )
    if is_ingested(store, corpus):
        return (
            f"{store.url}: {corpus} has no version yet: an ingest has not ended, or kept too little to publish one. "
            "What was rejected, and why: `stoker check RECIPE --sample 20`"
        )
    names = corpora(store)
    if not names:
        return f"{store.url}: no corpus is called {corpus!r}; the store holds none yet"
    near = difflib.get_close_matches(corpus, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names[:_MAX_EXAMPLES])}"
    return f"{store.url}: no corpus is called {corpus!r}; {hint}"
