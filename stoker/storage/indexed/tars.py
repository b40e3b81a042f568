"""External tars: finds them at a URL and assigns each to a split."""

import fnmatch
import hashlib
import json
import os
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.storage.errors import NotFound, StorageRefused
from stoker.storage.plain_file import describe_missing
from stoker.storage.plural import plural
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.key import is_key
from stoker.storage.stores.store import Store, StoredObject
from stoker.storage.versions.manifest import TAR, Manifest
from stoker.storage.versions.tar_store import open_tars

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst", ".tar.lz4", ".tar.z")
_MAX_NAMES = 10**6  # of one pattern
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_WORDS = {word: split for split, words in _SPLITS.items() for word in words}
_SPLIT = re.compile(r"[a-z][a-z0-9_-]{0,39}")


@dataclass(frozen=True)
class Tars:
    """Tars in one store, in order of their keys."""

    store: Store
    objects: tuple[StoredObject, ...]


def find_tars(url: str, beside: Store) -> Tars:
    """The tars at a URL: all below a folder or prefix, a single one, or a pattern such as ``train-{000..127}.tar``.

    Raises NotFound when there is none or a named one is missing, StorageRefused when one is compressed.
    """
    root, names = _root_and_names(url)
    store = open_tars(root, beside)
    listed = {stored.key: stored for stored in store.list(_common_folder(names))}
    if names:
        missing = [name for name in names if name not in listed]
        if missing:
            _refuse_others(store, [missing[0]])
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise NotFound(f"{store.url}/{missing[0]}: no such object{more}; correct the pattern {url}")
    else:
        names = list(listed)
        _refuse_others(store, _unlisted(store, listed))
    compressed = next((name for name in names if name.lower().endswith(_COMPRESSED)), None)
    if compressed is not None:
        raise StorageRefused(
            f"{store.url}/{compressed}: a compressed tar, in which samples cannot be read by their offsets; decompress "
            "it (and the others like it), then index again"
        )
    tars = tuple(listed[name] for name in names if name.lower().endswith(TAR))
    if not tars:
        raise NotFound(
            f"{store.url}: no {TAR} there among {plural(len(listed), 'object')}; name the folder that holds the tars"
        )
    return Tars(store, tuple(sorted(tars, key=lambda tar: tar.key.encode())))


def _refuse_others(store: Store, keys: Iterable[str]) -> None:
    """Raise StorageRefused for what stands in the place of a tar and is no file: an index would pass over it."""
    for key in keys:
        path = store.root / key if isinstance(store, DirectoryStore) else Path()
        link = "a link to nothing" if os.path.islink(path) and not path.exists() else ""
        what = describe_missing(path, link) if isinstance(store, DirectoryStore) else ""
        if what:
            hint = "; a slash at its end indexes the tars in it" if what == "a folder" else ""
            raise StorageRefused(f"{store.url}/{key}: {what}; expected a tar; put the file back, or remove it{hint}")


def _unlisted(store: Store, listed: Collection[str]) -> Iterator[str]:
    """What is called like a tar in a folder, but is not listed; not of folders with tars in them."""
    if not isinstance(store, DirectoryStore):
        return
    for folder, folders, files in os.walk(store.root):
        folders[:] = filter(is_key, folders)
        inside = Path(folder).relative_to(store.root).as_posix() + "/" if Path(folder) != store.root else ""
        names = [name for name in (*folders, *files) if name.lower().endswith(TAR) and is_key(name)]
        yield from (
            inside + name
            for name in names
            if inside + name not in listed and not any(key.startswith(f"{inside}{name}/") for key in listed)
        )


def as_pattern(urls: Sequence[str]) -> str:
    """One pattern for several tars of one folder or prefix: undoes a shell's brace expansion.

    Raises StorageRefused for other URLs.

    >>> as_pattern(["/laion/train-000.tar", "/laion/train-001.tar"]), as_pattern(["/laion"])
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
    """The split of a tar: the first of ``chosen`` that matches, else named by a word in the tar's name or its folders.

    Without such a word it is "train".

    Args:
        key: the tar's key.
        chosen: "SPLIT" for all tars, or "SPLIT=PATTERN" for those whose key matches.
        root: URL of the tars' store. Its last folder counts only if the whole name is such a word.

    >>> [split_of(key) for key in ("train/0001.tar", "coco-val2017-03.tar", "testing/train-1.tar", "00001.tar")]
    ['train', 'validation', 'train', 'train']
    >>> split_of("b/0001.tar", ["validation=b/*", "train"]), split_of("0001.tar", root="s3://coco/val")
    ('validation', 'validation')
    """
    for option in chosen:
        split, _, pattern = option.partition("=")
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
    """A name for a corpus, from the last folder of a URL.

    >>> corpus_of("s3://laion/LAION-2B.en/train-{000..127}.tar"), corpus_of("/data/my tars/")
    ('laion-2b-en', 'my-tars')
    """
    root, _ = _root_and_names(url)
    last = root.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^a-z0-9_]+", "-", last.lower()).strip("-_")[:63] or "tars"


def recipe_digest(recipe: Mapping[str, Any]) -> str:  # Any: JSON values
    """The digest of an indexed version's recipe."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def command_again(manifest: Manifest) -> str:
    """The command that reads all tars of an indexed corpus again and makes a version of them as they are now."""
    source = manifest.recipe.get("source", {})
    words = ["stoker", "index", str(manifest.tars or source.get("tars", "URL")), "--as", manifest.corpus]
    for split in source.get("splits", ()):
        words += ["--split", str(split)]
    words += ["--key", str(source["key"])] if "key" in source else []
    return shlex.join([*words, "--again"])


def expand(pattern: str) -> Iterator[str]:
    """The names of a pattern with braces, expanded as by a shell and WebDataset.

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
    padded = any(number.startswith("0") and number != "0" for number in numbers.groups())
    width = max(len(numbers[1]), len(numbers[2])) if padded else 0
    step = 1 if last >= first else -1
    for number in range(first, last + step, step):
        yield f"{number:0{width}d}"


def _root_and_names(url: str) -> tuple[str, list[str]]:
    """The folder or prefix, and the keys named below it; no keys: all that are there."""
    opened = url.find("{")
    if opened < 0 and not url.lower().endswith((TAR, *_COMPRESSED)):
        return url, []
    cut = url.rfind("/", 0, opened if opened >= 0 else len(url))
    root, rest = (url[:cut] or "/", url[cut + 1 :]) if cut >= 0 else (".", url)
    names: list[str] = []
    for name in expand(rest):
        names.append(name)
        if len(names) > _MAX_NAMES:
            raise StorageRefused(f"{url}: stands for more than {_MAX_NAMES:,} names; index the folder instead")
    return root, list(dict.fromkeys(names))


def _common_folder(names: Sequence[str]) -> str:
    """The folder that all keys have in common, with a slash at its end."""
    if not names:
        return ""
    least, most = min(names), max(names)
    common = next((index for index, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), len(least))
    return least[: least.rfind("/", 0, common) + 1]
