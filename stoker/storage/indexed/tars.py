"""Tars that others wrote: where they lie, which there are, and the split that each belongs to."""

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from stoker.storage.errors import NotFound, StorageRefused
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.store import Store, StoredObject
from stoker.storage.stores.urls import open_store
from stoker.storage.versions.manifest import TAR, Manifest

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.lz4", ".tar.z")
_MOST = 10**6  # names that a pattern may stand for
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_WORDS = {word: split for split, words in _SPLITS.items() for word in words}
_SPLIT = re.compile(r"[a-z][a-z0-9_-]{0,39}")


@dataclass(frozen=True)
class Tars:
    """Tars below one root, in order of their keys."""

    store: Store
    found: tuple[StoredObject, ...]


def store_of_tars(store: Store, manifest: Manifest) -> Store:
    """Where the tars of a version lie: in the corpus's ``store``, or elsewhere, reached with the same settings."""
    return store if manifest.tars is None else open_tars(manifest.tars, store)


def open_tars(url: str, beside: Store) -> Store:
    """A store of tars at a URL; one in S3 is reached at the same server and with the same keys as ``beside``.

    Links to files are followed, also out of the folder: what downloads data sets (the hub of Hugging Face) links
    them. Opens no connection. Raises StorageRefused for a URL of no known kind.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3" and isinstance(beside, S3Store):
        open_store(url)  # refuses what is no such URL
        return replace(beside, bucket=parts.netloc, prefix=unquote(parts.path).strip("/"))
    way = beside.s3 if isinstance(beside, DirectoryStore) else None
    if way is None:
        found = open_store(url)
    else:
        keys = {"access_key": way.access_key, "secret_key": way.secret_key}
        found = open_store(url, endpoint=way.endpoint, region=way.region, **keys)
    return replace(found, links=True) if isinstance(found, DirectoryStore) else found


def find_tars(url: str, beside: Store) -> Tars:
    """The tars at a URL: all below a folder or prefix, one, or those of a pattern like ``train-{000..127}.tar``.

    Raises NotFound when there is none or a named one is missing, StorageRefused when one is compressed.
    """
    root, names = _named(url)
    store = open_tars(root, beside)
    listed = {one.key: one for one in store.list(_beginning(names))}
    if names:
        missing = [name for name in names if name not in listed]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise NotFound(f"{store.url}/{missing[0]}: no such object{more}; correct the pattern {url}")
    else:
        names = list(listed)
    packed = next((name for name in names if name.lower().endswith(_COMPRESSED)), None)
    if packed is not None:
        raise StorageRefused(
            f"{store.url}/{packed}: a compressed tar, in which no sample can be reached by its place; decompress it "
            "(and the others like it), then index again"
        )
    found = tuple(listed[name] for name in names if name.lower().endswith(TAR))
    if not found:
        raise NotFound(f"{store.url}: no {TAR} there among {len(listed)} objects; name the folder that holds the tars")
    return Tars(store, tuple(sorted(found, key=lambda one: one.key.encode())))


def one_of(urls: Sequence[str]) -> str:
    """The pattern that stands for several tars of one folder or prefix: what a shell made of a pattern's braces.

    Raises StorageRefused for other URLs.

    >>> one_of(["/laion/train-000.tar", "/laion/train-001.tar"]), one_of(["/laion"])
    ('/laion/{train-000.tar,train-001.tar}', '/laion')
    """
    if len(urls) == 1:
        return urls[0]
    roots = {url.rpartition("/")[0] for url in urls}
    names = [url.rpartition("/")[2] for url in urls]
    other = next((name for name in names if not name.lower().endswith((TAR, *_COMPRESSED)) or "," in name), None)
    if len(roots) != 1 or other is not None:
        what = f"{len(roots)} folders" if other is None else repr(other)
        raise StorageRefused(f"{urls[0]} and {len(urls) - 1} more: {what}; name one folder, or tars of one folder")
    inside = f"{{{','.join(names)}}}"
    return f"{roots.pop()}/{inside}" if "/" in urls[0] else inside


def split_of(key: str, chosen: Sequence[str] = (), root: str = "") -> str:
    """The split of a tar: as chosen, else by the first word of its name, or of the folders around it, that names one.

    ``chosen`` holds "SPLIT" for all tars, or "SPLIT=PATTERN" for those whose key matches; the first that fits counts.
    The folder ``root`` that all of them lie in names one only as a whole. What nothing names is of split "train".

    >>> [split_of(key) for key in ("train/0001.tar", "coco-val2017-03.tar", "testing/train-1.tar", "00001.tar")]
    ['train', 'validation', 'train', 'train']
    >>> split_of("b/0001.tar", ["validation=b/*", "train"]), split_of("0001.tar", root="s3://coco/val")
    ('validation', 'validation')
    """
    for one in chosen:
        split, _, pattern = one.partition("=")
        if not _SPLIT.fullmatch(split):
            raise StorageRefused(f"split {split!r}; expected a short lower-case word such as 'validation'")
        if not pattern or fnmatch.fnmatchcase(key, pattern):
            return split
    for part in reversed(key.removesuffix(TAR).split("/")):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _WORDS:
                return _WORDS[word]
    return _WORDS.get(root.rstrip("/").rpartition("/")[2].lower(), "train")


def corpus_of(url: str) -> str:
    """A corpus's name made of the last folder of a URL.

    >>> corpus_of("s3://laion/LAION-2B.en/train-{000..127}.tar"), corpus_of("/data/my tars/")
    ('laion-2b-en', 'my-tars')
    """
    root, _ = _named(url)
    last = root.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^a-z0-9_]+", "-", last.lower()).strip("-_")[:63] or "tars"


def expand(pattern: str) -> Iterator[str]:
    """The names that a pattern with braces stands for, as a shell and WebDataset expand it.

    >>> list(expand("{a,b}-{08..10}.tar"))
    ['a-08.tar', 'a-09.tar', 'a-10.tar', 'b-08.tar', 'b-09.tar', 'b-10.tar']
    """
    opened = re.search(r"\{([^{}]*)\}", pattern)
    if opened is None:
        yield pattern
        return
    for choice in _choices(opened[1], pattern):
        yield from expand(pattern[: opened.start()] + choice + pattern[opened.end() :])


def _choices(inside: str, pattern: str) -> Iterator[str]:
    numbers = re.fullmatch(r"([0-9]{1,12})\.\.([0-9]{1,12})", inside)
    if numbers is None:
        if "," not in inside:
            raise StorageRefused(f"{pattern}: {{{inside}}}; expected {{000..127}} or {{a,b}}")
        yield from inside.split(",")
        return
    first, last = int(numbers[1]), int(numbers[2])
    padded = any(one.startswith("0") and one != "0" for one in numbers.groups())
    width = max(len(numbers[1]), len(numbers[2])) if padded else 0
    step = 1 if last >= first else -1
    for number in range(first, last + step, step):
        yield f"{number:0{width}d}"


def _named(url: str) -> tuple[str, list[str]]:
    """The folder or prefix, and the keys that are named below it; none: all that are there."""
    opened = url.find("{")
    if opened < 0 and not url.lower().endswith((TAR, *_COMPRESSED)):
        return url, []
    cut = url.rfind("/", 0, opened if opened >= 0 else len(url))
    root, rest = (url[:cut] or "/", url[cut + 1 :]) if cut >= 0 else (".", url)
    names: list[str] = []
    for name in expand(rest):
        names.append(name)
        if len(names) > _MOST:
            raise StorageRefused(f"{url}: stands for more than {_MOST:,} names; index the folder instead")
    return root, list(dict.fromkeys(names))


def _beginning(names: Sequence[str]) -> str:
    """The folders that all keys have in common, with a slash at their end."""
    if not names:
        return ""
    least, most = min(names), max(names)
    same = next((place for place, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), len(least))
    return least[:same].rpartition("/")[0] + "/" if "/" in least[:same] else ""
