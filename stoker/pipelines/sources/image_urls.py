"""Images of the web: from a list of URLs, or found on the pages of a site."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from glob import glob
from pathlib import Path
from threading import Event
from typing import ClassVar, Literal

from stoker.pipelines.errors import RecipeError, SourceUnavailable
from stoker.pipelines.images.formats import extension_of
from stoker.pipelines.partition import Partition, cut, digest
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.source import Candidate, Context, Source
from stoker.pipelines.tables.url_entries import Entry, entry_of_image, entry_of_row, key_of, once
from stoker.pipelines.tables.url_lists import rows
from stoker.pipelines.web.crawl import Scope, crawl
from stoker.pipelines.web.links import host_of, normalise
from stoker.pipelines.web.ordered import in_order
from stoker.pipelines.web.policy import Fetched, Transient
from stoker.storage.shards.sample import Sample

ACCEPT = "image/jpeg, image/png, image/webp, image/*;q=0.8, */*;q=0.1"
_GO_ON = 'or set unreachable = "reject" in the recipe to go on without it'


@dataclass(frozen=True)
class ImageUrls(Source):
    """Images by their URLs: from ``lists`` (txt, csv, tsv, jsonl, parquet; also .gz), or from the pages at ``start``.

    A key is a hash of the image's URL, so it stays when a list is sorted anew or grows.

    Example::

        corpus = "birds"

        [source]
        name = "image_urls"
        lists = "birds/*.csv"
        caption_column = "text"
    """

    # These only decide which rows there are, and each partition holds its own. ``unreachable`` is of this kind so
    # that going on without a dead site does not fetch all others again.
    planning: ClassVar[frozenset[str]] = frozenset(
        [
            "lists",
            "start",
            "url_column",
            "caption_column",
            "label_column",
            "licence_column",
            "author_column",
            "page_column",
            "columns",
            "follow",
            "max_pages",
            "other_hosts",
            "include",
            "exclude",
            "pages",
            "width",
            "partition_urls",
            "unreachable",
        ]
    )

    lists: str | tuple[str, ...] = ()  # paths or globs of lists of URLs, relative to the recipe
    start: str | tuple[str, ...] = ()  # pages whose images are taken and whose links are followed
    # Columns of lists. Where none is named, caption, label, licence, author and page_url are taken if they are there.
    url_column: str = "url"
    caption_column: str = ""
    label_column: str = ""
    licence_column: str = ""
    author_column: str = ""
    page_column: str = ""
    columns: tuple[str, ...] = ()  # carried along under their own names
    # Pages.
    follow: int = 1  # links away from the start pages
    max_pages: int = 1000
    other_hosts: bool = False  # also follow links to other hosts
    include: tuple[str, ...] = ()  # shell patterns of image URLs, as "*/large/*": one must match
    exclude: tuple[str, ...] = ()  # of image and page URLs: none may match
    pages: tuple[str, ...] = ()  # of page URLs that are followed: one must match
    width: int = 0  # pixels; of several sizes take the smallest that is as wide; 0: the largest
    # Both.
    label_pattern: str = ""  # regular expression whose first group, found in the caption, is the label
    label_from: Literal["caption", "url"] = "caption"
    group: Literal["url", "page", "host"] = "url"  # what must not be torn apart between splits
    max_megabytes: float = 20.0  # of one image file
    partition_urls: int = 500  # about so many in one partition
    unreachable: Literal["retry", "reject"] = "retry"  # a site that does not answer at all: fail and retry, or go on

    def __post_init__(self) -> None:
        if bool(self.lists) == bool(self.start):
            raise ValueError("expected either lists (files of URLs) or start (pages), and not both")
        for name in ("max_pages", "partition_urls"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.follow < 0 or self.width < 0 or not self.max_megabytes > 0:
            raise ValueError("follow and width must not be negative, max_megabytes must be above 0")
        try:
            re.compile(self.label_pattern)
        except re.error as error:
            raise ValueError(f"label_pattern {self.label_pattern!r} is no regular expression: {error}") from None

    def partitions(self, context: Context) -> Iterator[Partition]:
        """See Source. A crawl happens here; the images are fetched by ``read``."""
        entries = self._listed(context) if self.lists else self._found(context)
        names = Counter[str]()
        for run in cut(once(entries), lambda entry: str(entry["url"]), target=self.partition_urls):
            host = next((host_of(one["url"]) for one in run if "refused" not in one), "urls")
            name = f"{host}-{digest(run)[:10]}"
            names[name] += 1
            yield Partition(name if names[name] == 1 else f"{name}-{names[name]}", {"urls": run})

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        """See Source."""
        silent, answered, last = 0, False, ""

        def fetch(entry: Entry, cancel: Event) -> tuple[Candidate, Fetched | Rejected | None]:
            return self._fetched(entry, context, cancel)

        entries = partition.payload["urls"]
        for candidate, answer in in_order(fetch, entries, threads=context.web.threads, weigh=_size):
            if isinstance(answer, Transient):
                silent, last = silent + 1, answer.detail
                url = candidate.sample.record["url"]
                if self.unreachable == "retry" and context.web.is_down(url):
                    raise SourceUnavailable(f"{host_of(url)} stopped answering ({last}); try again later, {_GO_ON}")
            elif answer is not None:
                answered = True
            yield candidate
        if silent and not answered and self.unreachable == "retry":
            which = f"none of {silent} URLs" if silent > 1 else "not even the one URL"
            raise SourceUnavailable(f"{partition.name}: {which} answered ({last}); try again later, {_GO_ON}")

    def _listed(self, context: Context) -> Iterator[Entry]:
        named = {
            "caption": self.caption_column,
            "label": self.label_column,
            "licence": self.licence_column,
            "author": self.author_column,
            "page_url": self.page_column,
        }
        needed = [self.url_column, *(column for column in named.values() if column), *self.columns]
        wished = [*(name for name, column in named.items() if not column), "license"]
        carried = {name: column or name for name, column in named.items()} | {name: name for name in self.columns}
        for pattern in (self.lists,) if isinstance(self.lists, str) else self.lists:
            paths = sorted(glob(str(context.root / pattern), recursive=True))
            if not paths:
                raise RecipeError(f"lists: {pattern!r}: no such file in {context.root}")
            for path in map(Path, paths):
                for row in rows(path, needed=list(dict.fromkeys(needed)), wished=wished):
                    yield entry_of_row(row, self.url_column, carried)

    def _found(self, context: Context) -> Iterator[Entry]:
        try:
            starts = [normalise(one) for one in ((self.start,) if isinstance(self.start, str) else self.start)]
        except ValueError as error:
            raise RecipeError(f"start: {error}; expected http(s) URLs such as https://example.org/") from None
        scope = Scope(
            follow=self.follow,
            max_pages=self.max_pages,
            other_hosts=self.other_hosts,
            include=self.include,
            exclude=self.exclude,
            pages=self.pages,
            width=self.width,
            strict=self.unreachable == "retry",
        )
        for found in crawl(context.web, starts, scope):
            yield entry_of_image(found)

    @cached_property
    def _label(self) -> re.Pattern[str]:
        return re.compile(self.label_pattern)

    def _fetched(self, entry: Entry, context: Context, cancel: Event) -> tuple[Candidate, Fetched | Rejected | None]:
        """The candidate of a row, and the answer of the web if it was asked."""
        url = entry["url"]
        key = key_of(url)
        record = {"url": url, **entry.get("record", {})}
        if self.group == "page" and record.get("page_url"):
            record["group"] = record["page_url"]
        elif self.group == "host" and "://" in url:
            record["group"] = host_of(url)
        bare = Sample(key, {}, record)
        if "refused" in entry:
            return Candidate(bare, Rejected(*entry["refused"])), None
        if self.label_pattern:
            match = self._label.search(str(record.get("caption", "") if self.label_from == "caption" else url))
            if match is None:
                return Candidate(bare, Rejected("no_label", f"not in the {self.label_from}")), None
            record["label"] = next((group for group in match.groups() if group is not None), match[0])
        answer = context.web.get(url, max_size=int(self.max_megabytes * 1e6), accept=ACCEPT, cancel=cancel)
        if isinstance(answer, Rejected):
            return Candidate(bare, answer), answer
        record["sha256"] = answer.sha256
        measures = {"fetched_at": answer.fetched_at, "final_url": answer.final_url}
        extension = extension_of(answer.content)
        if isinstance(extension, Rejected):
            return Candidate(Sample(key, {}, record, measures), extension), answer
        return Candidate(Sample(key, {extension: answer.content}, record, measures)), answer


def _size(result: tuple[Candidate, Fetched | Rejected | None]) -> int:
    return sum(map(len, result[0].sample.fields.values()))
