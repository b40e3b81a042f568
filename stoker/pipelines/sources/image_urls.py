"""Images from the web: from lists of URLs, or from the pages of a site."""

import hashlib
import logging
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from stoker.pipelines.errors import RecipeError, SourceUnavailable
from stoker.pipelines.images.formats import extension_of
from stoker.pipelines.memory.originals import ORIGINAL, Original
from stoker.pipelines.memory.rows_read import Look, RowsRead, Settled, Unsettled, read_unsettled
from stoker.pipelines.partition import Partition, digest
from stoker.pipelines.registry import name_of, suggestion
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.source import (
    AGAIN,
    BUDGET,
    EARLIER,
    FORGOTTEN,
    MORE,
    ORIGINALS,
    Candidate,
    Context,
    Cut,
    Done,
    Listed,
    ListedSource,
)
from stoker.pipelines.tables.url_entries import (
    NO_URL,
    OF_PAGE,
    UNTYPED,
    WITHHELD,
    Entry,
    columns_for_record,
    columns_to_type,
    cut_entries,
    entry_of_result,
    entry_of_row,
    key_of,
    reject_repeats,
    stamp_of,
    typed_entries,
)
from stoker.pipelines.tables.url_lists import (
    JSON_LIST,
    MAX_CHECKED_FILES,
    ListRow,
    ListSyntax,
    column_names,
    has_types,
    json_names,
    read_list,
)
from stoker.pipelines.web.budget import Budget
from stoker.pipelines.web.crawl import CrawlReport, CrawlScope, crawl
from stoker.pipelines.web.links import host_of, normalise_listed, redact
from stoker.pipelines.web.measured import fetched_before, from_payload, measures_of, measures_of_refusal
from stoker.pipelines.web.ordered import map_in_order
from stoker.pipelines.web.policy import EarlierResponse, Fetched, Transient, Unchanged
from stoker.release import __version__
from stoker.storage.plain_file import open_plain
from stoker.storage.plural import plural
from stoker.storage.shards.sample import Sample

ACCEPT = "image/jpeg, image/png, image/webp, image/*;q=0.8, */*;q=0.1"
_log = logging.getLogger(__name__)
_MAX_NAMES = 1000  # of columns, that a suggestion is looked for in
_PREVIEWED = 2000  # entries by which a preview decides on types
_Answer = Fetched | Unchanged | Rejected
_MAX_UNSETTLED = 1_000_000  # rows of a list that are held, packed
_READING = 1  # raise it when lists are read in another way than before
_NOT_OF_LISTS = ("start", "follow", "max_pages", "other_hosts", "include", "exclude", "pages", "width", "unreachable")
_REMEDY = 'or set unreachable = "reject" in the recipe to go on without it'


@dataclass(frozen=True)
class ImageUrls(ListedSource):
    """Images by their URLs, either from list files (``lists``) or from the pages of a web site (``start``).

    A sample's key is a hash of the image's URL, so it stays the same when a list is sorted anew or grows. Paths are
    relative to the recipe. Text lists may also end in .gz, .bz2 or .zst; in tsv quotes are characters like any other.
    Each line of a list is a candidate: an empty or malformed one is rejected. Images of a
    dead site are rejected and the others are kept; later ingests ask for them again, after waits that double. With
    ``unreachable = "retry"`` new ones fail the run, as those of a site's pages do, but for "reject". README says more
    ("What is asked again").

    What vanished from a list or a site stays in the corpus. A URL of which a list says other things than before is
    fetched again.

    In csv and tsv the values of one of ``columns`` are numbers, or true and false, where that loses nothing in any row
    of the partition, else text. Names with a meaning of their own, such as ``group``, are always text; and so is a
    column of a version that is text in one of its partitions.

    Other columns of a list are kept only if ``columns`` names them; ``stoker check`` says which are not read. (Tables
    of ``hugging_face`` are kept whole, but for what ``leave_out`` names.)

    Of ``columns``, one whose name means something else in the record is kept with ``list_`` before it: a name that
    Stoker measures or writes itself (``list_width``, ``list_final_url``), and ``caption`` where ``caption_column`` is
    another column. Samples with the same ``group`` stay in the same split, unless the option ``group`` says otherwise.

    Args:
        lists (text or list, default none): list files, paths or globs: txt, csv, tsv, json, jsonl (.gz too), parquet.
        start (text or list, default none): URLs of pages whose images are taken and whose links are followed.
        header (true or false, default true): csv and tsv begin with a line of names; if not, columns are "1", "2" ...
        encoding (text, default "utf-8"): of text without a byte order mark; lines that do not fit are rejected.
        url_column (text, default "url"): column of the lists with the URL.
        caption_column (text, default none): column with the caption; without it "caption", if there is one.
        label_column (text, default none): column with the label; without it "label".
        licence_column (text, default none): column with the licence; without it "licence" or "license".
        author_column (text, default none): column with the author; without it "author".
        page_column (text, default none): column with the page's URL; without it "page_url".
        columns (list, default none): more columns of lists for the record, some as ``list_NAME``; one list has each.
        follow (number, default 1): depth in links from the start pages up to which pages are read; 0: these alone.
        max_pages (number, default 1000): pages that are read, at most.
        other_hosts (true or false, default false): follow links to other hosts, too.
        include (list, default none): shell patterns of image URLs, such as "*/large/*"; if any, one must match.
        exclude (list, default none): shell patterns of image and page URLs; none may match.
        pages (list, default none): shell patterns of page URLs that are followed; if any, one must match.
        width (number, default 0): of an image in several sizes, the smallest so many pixels wide; 0: the largest.
        label_pattern (text, default none): regular expression whose first group is the label (no match: ``no_label``).
        label_from ("caption" or "url", default "caption"): the text that ``label_pattern`` searches.
        group ("url", "page" or "host", default "url"): images with the same one stay in the same split.
        max_megabytes (number, default 20): size of one image file, at most.
        partition_urls (number, default 500): about so many URLs are one partition.
        unreachable ("", "retry" or "reject", default ""): silent site: fail or reject its images; "": fails of a crawl.

    Example::

        corpus = "birds"

        [source]
        name = "image_urls"
        lists = "birds/*.csv"
        caption_column = "text"
    """

    added: ClassVar[frozenset[str]] = frozenset({"header", "encoding"})
    former_defaults: ClassVar[Mapping[str, object]] = {"unreachable": "retry"}
    path_options: ClassVar[frozenset[str] | None] = frozenset({"lists"})
    # These options only decide which rows there are; each partition's payload holds its own rows. ``unreachable`` is
    # among them so that continuing without a dead site does not fetch all others again.
    planning: ClassVar[frozenset[str]] = frozenset(
        [
            "lists",
            "start",
            "header",
            "encoding",
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

    lists: str | tuple[str, ...] = ()
    start: str | tuple[str, ...] = ()
    header: bool = True
    encoding: str = "utf-8"
    url_column: str = "url"
    caption_column: str = ""
    label_column: str = ""
    licence_column: str = ""
    author_column: str = ""
    page_column: str = ""
    columns: tuple[str, ...] = ()
    follow: Annotated[int, Field(le=10**6)] = 1
    max_pages: Annotated[int, Field(le=10**9)] = 1000
    other_hosts: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    width: Annotated[int, Field(le=10**6)] = 0
    label_pattern: str = ""
    label_from: Literal["caption", "url"] = "caption"
    group: Literal["url", "page", "host"] = "url"
    max_megabytes: Annotated[float, Field(le=10**6)] = 20.0
    partition_urls: Annotated[int, Field(le=10**9)] = 500
    unreachable: Literal["", "retry", "reject"] = ""

    def __post_init__(self) -> None:
        if bool(self.lists) == bool(self.start):
            raise ValueError("expected either lists (files of URLs) or start (pages), and not both")
        for name, value in {"max_pages": self.max_pages, "partition_urls": self.partition_urls}.items():
            if value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        if self.follow < 0 or self.width < 0 or not self.max_megabytes > 0:
            raise ValueError("follow and width must not be negative, max_megabytes must be above 0")
        try:
            re.compile(self.label_pattern)
        except re.error as error:
            raise ValueError(f"label_pattern {self.label_pattern!r} is not a regular expression: {error}") from None

    @property
    def is_crawled(self) -> bool:
        """See ListedSource. The pages of a site tell their images."""
        return not self.lists

    @property
    def keeps_originals(self) -> bool:
        """See Source."""
        return True

    def identities(self, context: Context) -> Iterator[Listed]:
        """See ListedSource. A crawl happens here; the images are fetched by ``read``."""
        if not self.lists:
            report = CrawlReport()
            yield from (_as_listed(entry) for entry in reject_repeats(self._crawled(context, report)))
            if report.unread:
                _log.warning(
                    "%s: %s could not be read (`stoker show --rejected` names them): while that is so, no picture of "
                    "the site counts as vanished",
                    host_of(self._starts()[0]),
                    plural(report.unread, "page"),
                )
            yield from [MORE] * report.is_cut_short
            return
        with RowsRead(self._cache(context), name_of(self)) as rows_read:
            yield from self._listed_by(rows_read, context)
            rows_read.write()

    def unsettled(self, context: Context, settled: Settled) -> Unsettled[Listed] | None:
        """See ListedSource. A line that was read before is known by its bytes, but for those of .json and Parquet."""
        read = partial(self._listed_by, context=context)
        return read_unsettled(read, Listed, self._cache(context), name_of(self), settled, most=_MAX_UNSETTLED)

    def _listed_by(self, rows_read: RowsRead, context: Context) -> Iterator[Listed]:
        """What the rows of the lists are that are not passed over, each noted."""
        written = deque[int]()

        def entries() -> Iterator[Entry]:
            for line, entry in self._listed(context, rows_read):
                written.append(line)
                yield entry

        for entry in reject_repeats(entries()):
            listed, line = _as_listed(entry), written.popleft()
            if listed.identity and rows_read.note(line, listed.identity, listed.stamp):
                continue
            yield listed

    def _cache(self, context: Context) -> Path:
        """The file of the lines of these lists that were read before."""
        return context.scratch / f"lines-{digest([str(context.root.absolute()), self.lists])[:32]}"

    def _how(self, path: Path) -> int:
        """Hash of all that tells what a line of a list means."""
        options = {name: getattr(self, name) for name in sorted(self.planning) if name not in _NOT_OF_LISTS}
        del options["lists"], options["partition_urls"]
        names = column_names(path, ListSyntax(self.header, self.encoding))
        kind = [suffix.lower() for suffix in path.suffixes[-2:]]
        return int(digest([options, names, kind, _READING, __version__])[:16], 16)

    def listing(self, context: Context) -> str:
        """See ListedSource. The bytes of the list files, and the options by which they are read."""
        if not self.lists:
            return ""
        try:
            files = [[path.name, _sha256_of(path)] for path in self._list_files(context)]
        except OSError:
            return ""  # whoever reads it says what is wrong with it
        options = {name: getattr(self, name) for name in sorted(self.planning) if name not in _NOT_OF_LISTS}
        return digest({"files": files, "options": options, "reading": _READING})

    def cut(self, listed: Iterator[Listed], context: Context) -> Iterator[Cut]:
        """See ListedSource."""
        entries: Iterator[Entry] = (candidate.payload for candidate in listed if candidate != MORE)
        target, is_finished = self.partition_urls, context.is_finished
        for partition, stamps in cut_entries(entries, self._to_type, target=target, is_finished=is_finished):
            yield Cut(partition, stamps)

    def is_of_list(self, record: Mapping[str, Any]) -> bool:
        """See ListedSource. Rows without a URL, those that cannot be read, repeated ones, and pages of a site."""
        if record.get("step") != name_of(self):
            return False
        reason, detail = record["reason"], str(record.get("detail") or "")
        is_empty = reason == "empty" and detail.endswith(NO_URL)
        return is_empty or reason in ("bad_row", "bad_url", "duplicate_key") or detail.startswith(OF_PAGE)

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        """See Source."""
        return self._read(partition, context, ())

    def resume(self, partition: Partition, context: Context, done: Sequence[Done]) -> Iterator[Candidate | None]:
        """See Source. The payload names the candidates, so none of those that are done is fetched again."""
        yield from (None for _ in done)
        yield from self._read(partition, context, done)

    def _read(self, partition: Partition, context: Context, done: Sequence[Done]) -> Iterator[Candidate]:
        """The candidates behind those that are done."""
        entries = partition.payload["urls"]
        unanswered, last_detail = sum(one.is_passing for one in done), "before"
        any_answered = any(
            not one.is_passing
            and one.reason not in ("no_label", FORGOTTEN.reason)
            and not {"refused", WITHHELD} & set(entry)
            for one, entry in zip(done, entries, strict=False)
        )
        is_strict = self._is_strict and AGAIN not in partition.payload
        earlier = {key: from_payload(texts) for key, texts in partition.payload.get(EARLIER, {}).items()}
        originals = {key: Original(*texts) for key, texts in partition.payload.get(ORIGINALS, {}).items()}

        budget = Budget(partition.payload.get(BUDGET))

        def fetch(entry: Entry, cancel: Event) -> tuple[Candidate, _Answer | None] | None:
            key = key_of(entry["url"])
            before = earlier.get(key)
            if before is not None and budget.is_spent:
                return None
            candidate, answer = self._fetch(entry, context, cancel, before, originals.get(key))
            if before is not None and isinstance(answer, Fetched | Unchanged):
                budget.spend(answer.size or 0)
            return candidate, answer

        for fetched in map_in_order(fetch, entries[len(done) :], threads=context.web.threads, size_of=_size):
            if fetched is None:
                return  # only such come behind it: the next run asks for them
            candidate, answer = fetched
            if isinstance(answer, Transient):
                unanswered, last_detail = unanswered + 1, answer.detail
                url = candidate.sample.record["url"]
                if is_strict and context.web.is_down(url):
                    raise SourceUnavailable(
                        f"{host_of(url)} stopped answering ({last_detail}); try again later, {_REMEDY}"
                    )
            elif answer is not None:
                any_answered = True
            yield candidate
        if unanswered and not any_answered and is_strict:
            which = f"none of {unanswered} URLs" if unanswered > 1 else "not even the one URL"
            raise SourceUnavailable(f"{partition.name}: {which} answered ({last_detail}); try again later, {_REMEDY}")

    def check(self, context: Context) -> None:
        """See Source."""
        self._starts()
        for path in islice(self._list_files(context), MAX_CHECKED_FILES):
            next(self._rows(path), None)
        self._check_columns(context)

    def describe_input(self, context: Context) -> Iterator[str]:
        """See Source. Which columns of the lists are read, once for lists that have the same ones."""
        said: dict[str, str] = {}
        for path in islice(self._list_files(context) if self.lists else (), MAX_CHECKED_FILES):
            columns = column_names(path, ListSyntax(self.header, self.encoding))
            uses = {"url": self.url_column} | {name: column or name for name, column in self._named_columns.items()}
            used = {use: column for use, column in uses.items() if column in columns}
            unread = [name for name in columns if name not in (*used.values(), *self.columns, "license")]
            parts = [f"{use} = {column}" for use, column in used.items()]
            more = {column: name for name, column in self._carried.items() if column in self.columns}
            parts += [
                column if more.get(column, column) == column else f"{more[column]} = {column}"
                for column in self.columns
                if column in columns
            ]
            lacking = [name for name in self.columns if name not in columns]
            parts += [f"without: {', '.join(lacking)}"] if lacking else []
            line = "; ".join([*parts, *([f"not read: {', '.join(unread)}"] if unread else [])])
            if columns:
                said.setdefault(line, path.name)
        yield from (f"{name}: {line}" for line, name in said.items())

    def preview(self, context: Context) -> Iterator[Candidate]:
        """See Source. One image after the other; of a site the pages that are needed."""
        listed = (entry for _, entry in self._listed(context)) if self.lists else self._crawled(context)
        entries = reject_repeats(listed)
        size = _PREVIEWED if self._to_type else 1
        while group := list(islice(entries, size)):
            for entry in typed_entries(group, self._to_type):
                candidate, _ = self._fetch(entry, context, Event())
                yield candidate

    def _listed(self, context: Context, rows_read: RowsRead | None = None) -> Iterator[tuple[int, Entry]]:
        """The entries of the list files, with the hashes of their lines; the values of text lists are text yet."""
        carried = self._carried
        self._check_columns(context)
        for path in self._list_files(context):
            untyped = {UNTYPED: True} if self._to_type and not has_types(path) else {}
            look = None if rows_read is None else rows_read.of_list(self._how(path))
            for row in self._rows(path, look):
                yield row.written, {**entry_of_row(row, path.name, self.url_column, carried), **untyped}

    def _rows(self, path: Path, look: Look | None = None) -> Iterator[ListRow]:
        """The rows of a list file with the columns that are used."""
        named = self._named_columns
        required = [self.url_column, *(column for column in named.values() if column)]
        optional = [*(name for name, column in named.items() if not column), "license", *self.columns]
        syntax = ListSyntax(self.header, self.encoding)
        return read_list(path, required=list(dict.fromkeys(required)), optional=optional, syntax=syntax, look=look)

    def _check_columns(self, context: Context) -> None:
        """Raise RecipeError for one of ``columns`` that no list has. Of JSON any row may have it: it is read last."""
        missing, known = set(self.columns), list[str]()
        syntax = ListSyntax(self.header, self.encoding)
        paths = sorted(self._list_files(context), key=lambda path: bool(JSON_LIST.search(path.name))) if missing else ()
        for path in paths:
            rows = json_names(path, syntax) if JSON_LIST.search(path.name) else [column_names(path, syntax)]
            for names in rows:
                missing.difference_update(names)
                if not missing:
                    return
                if len(known) < _MAX_NAMES:
                    known += names
        for name in self.columns:
            if name in missing:
                hint = suggestion(name, list(dict.fromkeys(known)))
                raise RecipeError(f"columns: no list has a column that is called {name!r}; {hint}")

    @property
    def _carried(self) -> dict[str, str]:
        """The column for each name in the record."""
        taken = [
            name for name, is_taken in {"label": self.label_pattern, "group": self.group != "url"}.items() if is_taken
        ]
        return columns_for_record(self._named_columns, self.columns, self.url_column, taken)

    @cached_property
    def _to_type(self) -> list[str]:
        """The names in the record whose values in text lists may be numbers or flags."""
        return columns_to_type(self._carried, self.columns, self.url_column)

    @property
    def _named_columns(self) -> dict[str, str]:
        """The columns that options name, by their names in the record."""
        return {
            "caption": self.caption_column,
            "label": self.label_column,
            "licence": self.licence_column,
            "author": self.author_column,
            "page_url": self.page_column,
        }

    def _list_files(self, context: Context) -> Iterator[Path]:
        """The list files. Raises RecipeError for a path or glob without one."""
        for pattern in (self.lists,) if isinstance(self.lists, str) else self.lists:
            paths = context.glob(pattern)
            if not paths:
                raise RecipeError(f"lists: {pattern!r}: no such file in {context.root}")
            yield from paths

    @property
    def _is_strict(self) -> bool:
        """Whether a silent site fails the run. What a list names is asked for again by the next run, a page never."""
        return self.unreachable == "retry" or (self.unreachable == "" and not self.lists)

    def _starts(self) -> list[str]:
        """The start pages' URLs in their normal form. Raises RecipeError."""
        urls = []
        for url in (self.start,) if isinstance(self.start, str) else self.start:
            try:
                urls.append(normalise_listed(url))
            except ValueError as error:
                where = f"start: {redact(url)!r}"
                raise RecipeError(f"{where}: {error}; expected http(s) URLs such as https://example.org/") from None
        return urls

    def _crawled(self, context: Context, report: CrawlReport | None = None) -> Iterator[Entry]:
        """The entries of the pages' images."""
        scope = CrawlScope(
            follow=self.follow,
            max_pages=self.max_pages,
            other_hosts=self.other_hosts,
            include=self.include,
            exclude=self.exclude,
            pages=self.pages,
            width=self.width,
            strict=self._is_strict,
            is_forgotten=lambda url: context.is_forgotten({"url": url, "page_url": url}),
        )
        for result in crawl(context.web, self._starts(), scope, report):
            yield entry_of_result(result)

    @cached_property
    def _label_regex(self) -> re.Pattern[str]:
        return re.compile(self.label_pattern)

    def _fetch(
        self,
        entry: Entry,
        context: Context,
        cancel: Event,
        earlier: EarlierResponse | None = None,
        original: Original | None = None,
    ) -> tuple[Candidate, _Answer | None]:
        """The candidate of an entry, and the response if its URL was fetched."""
        url = entry["url"]
        key = key_of(url)
        record = {"url": url, **entry.get("record", {})}
        if "line" in entry:
            record.setdefault("line", entry["line"])
        if self.group == "page" and record.get("page_url"):
            record["group"] = record["page_url"]
        elif self.group == "host" and "://" in url:
            record["group"] = host_of(url)
        bare = Sample(key, {}, record)
        if "refused" in entry:
            return Candidate(bare, Rejected(*entry["refused"])), None
        if self.label_pattern:
            match = self._label_regex.search(str(record.get("caption", "") if self.label_from == "caption" else url))
            if match is None:
                return Candidate(bare, Rejected("no_label", f"not in the {self.label_from}")), None
            record["label"] = next((group for group in match.groups() if group is not None), match[0])
        if context.is_forgotten({**record, "key": key}):
            return Candidate(bare, FORGOTTEN), None
        if WITHHELD in entry:
            return Candidate(bare, Rejected(*entry[WITHHELD])), None
        max_size = int(self.max_megabytes * 1e6)
        if original is not None and (content := context.read_original(original)) is not None:
            before = fetched_before(url, original, content)
            if before.size > max_size:
                return Candidate(bare, Rejected("too_large", f"{before.size} bytes")), before
            return _candidate(bare, before, {ORIGINAL: original.place}), before
        web = context.web
        get = partial(web.get, url) if earlier is None else partial(web.get_if_changed, url, earlier)
        answer: _Answer = get(max_size=max_size, accept=ACCEPT, cancel=cancel)
        if isinstance(answer, Unchanged):
            return Candidate.unchanged(key, measures=measures_of(answer)), answer
        if isinstance(answer, Rejected):
            refused = replace(bare, measures=measures_of_refusal(answer, web))
            return Candidate(refused, answer), answer
        return _candidate(bare, answer), answer


def _candidate(bare: Sample, answer: Fetched, measures: Mapping[str, str] = MappingProxyType({})) -> Candidate:
    """The candidate of a response."""
    record = {**bare.record, "sha256": answer.sha256}
    measured = {"final_url": answer.final_url, **measures_of(answer), **measures}
    extension = extension_of(answer.content)
    if isinstance(extension, Rejected):
        return Candidate(Sample(bare.key, {}, record, measured), extension)
    return Candidate(Sample(bare.key, {extension: answer.content}, record, measured))


def _as_listed(entry: Entry) -> Listed:
    if "refused" in entry:
        return Listed("", "", entry)
    return Listed(key_of(entry["url"]), stamp_of(entry), entry, is_withheld=WITHHELD in entry)


def _sha256_of(path: Path) -> str:
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(result: tuple[Candidate, _Answer | None] | None) -> int:
    return 0 if result is None else sum(map(len, result[0].sample.fields.values()))
