"""Keep, or leave out, the samples that lists name."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import urlsplit

import pyarrow as pa

from stoker.pipelines.errors import RecipeError, SourceBroken
from stoker.pipelines.rejected import OutcomeClass, Reason
from stoker.pipelines.rule import Decision, Rule, RuleInputs, RuleTools, decisions
from stoker.pipelines.tables.url_lists import read_list
from stoker.pipelines.web.links import ascii_host, normalise_named

_COLUMNS: Mapping[str, tuple[str, ...]] = {  # of records, by what lists name
    "key": (),
    "url": ("url",),
    "host": ("url",),
    "page": ("page_url",),
    "sha256": ("sha256", "content_sha256"),
    "author": ("author",),
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_SHOWN = 100  # characters of a value in a message


@dataclass(frozen=True)
class Lists(Rule):
    """Drop the samples that a list names, or all others: by key, URL, host, page, author or SHA-256.

    `stoker why` says which line of which list decided. A list whose content changed is a changed rule: the next ingest
    judges all samples by it.

    Args:
        by: what the lists name. "url": of the fetched bytes, or ``file:cat/1.jpg`` as `stoker why` writes a file's;
            "page": the page that it stood on (``page_url``); "host": of the URL, with all hosts below it, so that
            ``example.org`` names ``img.example.org``, too; "sha256": of the fetched bytes or of the content after all
            steps; "key", "author": exactly as records have it.
        action: "exclude" or "keep", default "exclude": "exclude" drops what is listed (``excluded``), "keep" what is
            not (``not_listed``).
        files: lists in the recipe's folder, or globs: txt with a value a line (empty lines and those that begin with #
            count nothing), csv, tsv, json, jsonl or parquet, text also compressed.
        values: in the recipe itself.
        column: of csv, tsv, json and parquet, default: the name of the records' column, such as ``url``.
        digests: SHA-256 of each file, which a run fills in.

    Example::

        [[rules]]
        name = "lists"
        by = "key"
        values = ["text-1", "image-1"]
    """

    # An entry such as ``file:cat/1.jpg`` names a sample, and is never opened.
    path_options: ClassVar[frozenset[str] | None] = frozenset({"files"})
    reasons: ClassVar[Mapping[str, Reason]] = {
        "excluded": Reason("a list of the recipe excludes it", OutcomeClass.RECIPE),
        "not_listed": Reason("no list of the recipe names it", OutcomeClass.RECIPE),
    }

    by: Literal["key", "url", "host", "page", "sha256", "author"]
    action: Literal["exclude", "keep"] = "exclude"
    files: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    column: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.files and not self.values:
            raise ValueError("expected files or values")

    def needed_columns(self) -> tuple[str, ...]:
        """See Rule."""
        return _COLUMNS[self.by]

    def pinned(self, inputs: RuleInputs) -> Rule:
        """See Rule."""
        digests: dict[str, str] = {}
        for pattern in self.files:
            digests |= inputs.files(pattern)
        fixed = replace(self, digests=dict(sorted(digests.items())))
        for _ in fixed._listed(lambda name, _: inputs.path(name)):
            pass  # an entry that names nothing is refused now, not when all is read
        return fixed

    def decide(self, rows: pa.Table, tools: RuleTools) -> pa.Table:
        """See Rule."""
        listed: dict[str, str] = {}
        for entry, place in self._listed(tools.path):
            listed.setdefault(entry, place)
        return decisions(self._decide(rows, listed))

    def _decide(self, rows: pa.Table, listed: Mapping[str, str]) -> Iterator[Decision]:
        columns = [rows[name].to_pylist() for name in _COLUMNS[self.by] or ("key",)]
        for key, *values in zip(rows["key"].to_pylist(), *columns, strict=True):
            names = (name for value in values if value is not None for name in self._names(str(value)))
            place = next((listed[name] for name in names if name in listed), None)
            if place is not None and self.action == "exclude":
                yield Decision(key, "drop", "excluded", detail=place)
            elif place is None and self.action == "keep":
                yield Decision(key, "drop", "not_listed")

    def _names(self, value: str) -> Iterator[str]:
        """The entries of lists that would name a value of a record."""
        if self.by != "host":
            yield value
            return
        try:
            host = ascii_host(urlsplit(value).hostname or "")
        except ValueError:
            return
        labels = host.split(".")
        yield from (".".join(labels[first:]) for first in range(len(labels)))

    def _listed(self, path_of: Callable[[str, str], Path]) -> Iterator[tuple[str, str]]:
        """The forms of every entry, and its place. ``path_of``: a file by name and SHA-256. Raises RecipeError."""
        if self.files and not self.digests:
            raise RecipeError("rule 'lists': its files were not looked at before the run")
        for place, text in self._entries(path_of):
            try:
                forms = self._forms(text)
            except ValueError as error:
                raise RecipeError(f"rule 'lists': {place}: {text[:_MAX_SHOWN]!r}: {error}") from None
            yield from ((form, place) for form in forms)

    def _entries(self, path_of: Callable[[str, str], Path]) -> Iterator[tuple[str, str]]:
        """Every entry of the lists, with its place."""
        yield from ((f"values, entry {number}", text) for number, text in enumerate(self.values, 1))
        column = self.column or next(iter(_COLUMNS[self.by]), self.by)
        for name, sha256 in self.digests.items():
            path = path_of(name, sha256)
            try:
                for row in read_list(path, required=[column], optional=[]):
                    if row.fault:
                        raise RecipeError(f"rule 'lists': {name}, line {row.number}: {row.fault}")
                    text = str(row.values.get(column) or "").strip()
                    if text and not (text.startswith("#") and ".txt" in path.suffixes):
                        yield f"{name}, line {row.number}", text
            except SourceBroken as error:
                raise RecipeError(f"rule 'lists': {error}") from error

    def _forms(self, text: str) -> tuple[str, ...]:
        """How records may write an entry. Raises ValueError for one that names nothing."""
        if self.by in ("url", "page"):
            return (text, normalise_named(text))
        if self.by == "host":
            host = ascii_host(text.removeprefix("*.").strip("."))
            if not host or set(host) & set("/:@ *"):
                raise ValueError("expected a host, as in: example.org")
            return (host,)
        if self.by == "sha256":
            if not _SHA256.fullmatch(text.lower()):
                raise ValueError("expected a SHA-256: 64 of 0-9 and a-f")
            return (text.lower(),)
        return (text,)
