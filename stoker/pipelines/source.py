"""The base class of sources, what they are given and what they return."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from glob import escape, glob, has_magic
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from stoker.pipelines.errors import OutsideRecipe, SourceError
from stoker.pipelines.memory.originals import Original
from stoker.pipelines.memory.rows_read import Settled, Unsettled
from stoker.pipelines.memory.unchanged import NOTHING_KNOWN, KnownSamples
from stoker.pipelines.partition import Partition
from stoker.pipelines.rejected import OutcomeClass, Reason, Rejected
from stoker.pipelines.web.client import Web
from stoker.storage.clock import Clock, utc_now
from stoker.storage.shards.sample import Sample

FORGOTTEN = Rejected("forgotten", "it was not asked for")


def nothing_finished(partition: Partition) -> bool:
    """The default of ``is_finished``: false."""
    return False


def nothing_forgotten(record: Mapping[str, Any]) -> bool:  # Any: JSON values
    """The default of ``is_forgotten``: false."""
    return False


def nothing_kept(original: Original) -> bytes | None:
    """The default of ``read_original``: None."""
    return None


@dataclass(frozen=True)
class Context:
    """What a source may use. Picklable, because a partition may be read in another process.

    Args:
        root: the recipe's folder; relative paths in the recipe start there.
        web: the client for all HTTP requests.
        scratch: a folder for files that are too large for memory. The source deletes the files that it creates, but
            for caches, of which it keeps one for each recipe.
        trusted: whether paths may leave ``root``. A recipe may come from a stranger, and what it reads is published.
        now: the clock (UTC) of every time that is written down, ``fetched_at`` of ``web`` included; a test may set it.
        is_finished: whether a partition was ingested before, for ``Source.partitions``. A source that cuts its
            partitions in another way than an earlier release still yields those of that release that are finished.
        is_forgotten: whether a candidate was taken out of the corpus (`stoker forget`), from what its record holds so
            far (``key``, ``url``, ``page_url``, ...). A source that asks servers for candidates gives FORGOTTEN in the
            place of one, and does not ask for it.
        has_samples: whether the corpus holds samples, for ``Source.partitions``.
        known: its samples, for ``Source.read`` of a source that is no ``ListedSource``: what they
            know it yields as ``Candidate.unchanged``, before any costly work. By default none is known.
            A recipe that changed leaves them as they are, unless they are made anew on demand.
        read_original: the bytes of an original that a partition's payload names under ORIGINALS, None where they are
            lost. A source that keeps originals asks for it before it asks a server.
        downloads: a folder that outlasts the run, for ``web.downloads.claim``; by default one in ``scratch``.
        notes: a folder that outlasts the run, for ``memory.file_notes``; by default one in ``scratch``.
        may_cut: whether ``Source.read`` may raise NotAtOnce: several workers read, and all see ``downloads``.

    A source reads no file of a recipe, a list or a payload but by ``path`` or ``glob``, which check that.
    """

    root: Path
    web: Web
    scratch: Path
    trusted: bool = False
    now: Clock = utc_now
    is_finished: Callable[[Partition], bool] = nothing_finished
    is_forgotten: Callable[[Mapping[str, Any]], bool] = nothing_forgotten  # Any: JSON values
    has_samples: bool = False
    known: KnownSamples = NOTHING_KNOWN
    read_original: Callable[[Original], bytes | None] = nothing_kept
    downloads: Path = Path()  # set at once
    notes: Path = Path()  # set at once
    may_cut: bool = False

    def __post_init__(self) -> None:
        if self.downloads == Path():
            object.__setattr__(self, "downloads", self.scratch / "downloads")
        if self.notes == Path():
            object.__setattr__(self, "notes", self.scratch / "notes")
        if self.web.now != self.now:
            object.__setattr__(self, "web", replace(self.web, now=self.now))

    def path(self, name: str | Path) -> Path:
        """The path that a recipe or a list names, relative to ``root``. It need not exist.

        Raises OutsideRecipe if it leaves ``root``, by "..", as an absolute path or through a symbolic link.
        """
        path = self.root / name
        self._check([path], name)
        return path

    def glob(self, pattern: str) -> list[Path]:
        """The files and folders that a path or a glob names, sorted; "**" also matches folders inside of folders.

        Raises OutsideRecipe as ``path`` does, if any of them leaves ``root``.
        """
        paths = self.matches(pattern)
        self._check(paths, pattern)
        return paths

    def matches(self, pattern: str) -> list[Path]:
        """The same with those that leave ``root`` through a symbolic link: ask ``leaves_root`` before opening one.

        Raises OutsideRecipe if the pattern itself leads out.
        """
        self.check_pattern(pattern)
        whole = self.root / pattern
        if not has_magic(pattern) or os.path.lexists(whole):
            paths = [whole] if os.path.lexists(whole) else []
        else:
            paths = sorted(map(Path, glob(str(Path(escape(str(self.root))) / pattern), recursive=True)))
        return paths

    def leaves_root(self, path: Path) -> bool:
        """Whether a path lies outside of ``root`` when links are followed; never in a recipe that is trusted."""
        try:
            self._check([path], path)
        except OutsideRecipe:
            return True
        return False

    def check_pattern(self, pattern: str) -> None:
        """Raise OutsideRecipe if the text of a path or a glob leaves ``root``: before its first wildcard, or by "..".

        Looks into no folder, however many files match: a link among them is refused by ``glob``.
        """
        path = Path(pattern)
        fixed = next((parent for parent in (path, *path.parents) if not has_magic(str(parent))), "")
        # ".." behind a wildcard leads out of whatever that matches; "**" also matches no folder.
        shortest = Path(*(part for part in path.parts if part != "**"))
        self._check([self.root / fixed, self.root / shortest], pattern)

    def _check(self, paths: Iterable[Path], name: str | Path) -> None:
        """Raise OutsideRecipe for the first path that lies outside of ``root`` when links are followed."""
        if self.trusted or "\0" in str(name):  # no file has such a name
            return
        root = os.path.realpath(self.root)
        for path in paths:
            real = os.path.realpath(path)
            if real != root and not real.startswith(os.path.join(root, "")):
                raise OutsideRecipe(
                    f"{str(name)!r} leads to {real}, outside of the recipe's folder {root}; a recipe of somebody else "
                    "could publish your files in this way. If you trust it, pass --trust (in Python: trusted=True)"
                )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sample that a source offers, or, with ``rejected`` set, the identity of one that it could not read.

    Both are counted: for every partition, read == kept + rejected + known; see ``unchanged`` for the last.

    The sample's record should hold, where they apply: ``url`` (of the fetched bytes), ``page_url``, ``title``,
    ``licence`` (SPDX where possible), ``author``, ``attribution``, ``sha256`` (of the fetched bytes), ``group``
    (samples of one group are never divided between splits: those of one page or video; default: the key), ``label``,
    ``caption``, ``language``. Its measures should hold ``fetched_at`` (ISO 8601, UTC).

    ``omitted`` counts what was read and is in no sample, by name, such as ``template coord``: for the report of the
    version, whatever becomes of the candidate. It is no part of the sample.

    ``identity`` tells the candidate from all others of its source, wherever it stands there: rows that are inserted or
    sorted anew, and files that are exported again, change none. By default it is the sample's key, which most sources
    make of a URL, a path or an id. It is recorded where it is another, beside kept and rejected ones alike.
    """

    sample: Sample
    rejected: Rejected | None = None
    omitted: Mapping[str, int] = field(default_factory=dict)
    identity: str = ""  # "": the key
    stamp: str = ""  # of all that the sample is made of: while it is the same, the sample would be
    is_unchanged: bool = False

    @classmethod
    def unchanged(
        cls,
        key: str,
        *,
        identity: str = "",
        measures: Mapping[str, Any] = MappingProxyType({}),  # Any: Parquet values
    ) -> "Candidate":
        """A candidate that is known, and is as it was: nothing of it is read, and what became of it stays.

        ``measures`` are of the raw part alone: when it was seen, and by what to ask the next time.
        """
        return cls(Sample(key, {}, measures=dict(measures)), identity=identity, is_unchanged=True)


class Done(NamedTuple):
    """A candidate that an ingest had finished when it was killed."""

    identity: str  # see ``Candidate``
    sha256: str | None  # of the fetched bytes, where the source says it
    reason: str | None  # why the source rejected it; None: it did not
    is_passing: bool  # for a fault that may be gone a moment later

    @classmethod
    def of(cls, candidate: Candidate) -> "Done":
        """What is remembered of a candidate."""
        rejected, sha256 = candidate.rejected, candidate.sample.record.get("sha256")
        return cls(
            candidate.identity or candidate.sample.key,
            sha256 if isinstance(sha256, str) else None,
            rejected.reason if rejected else None,
            rejected is not None and rejected.outcome_class == OutcomeClass.MOMENT,
        )

    def is_of(self, candidate: Candidate) -> bool:
        """Whether the candidate is this one, of the same fetched bytes as far as the source says so."""
        now = Done.of(candidate)
        return self.identity == now.identity and (None in (self.sha256, now.sha256) or self.sha256 == now.sha256)


class Source:
    """Where candidates come from: a frozen dataclass in ``pipelines/sources/<name>.py``, its fields the options.

    Its docstring ends with an example recipe, indented, after a line ``Example::``; a test parses it.

    >>> @dataclass(frozen=True)
    ... class Numbers(Source):
    ...     count: int = 3
    ...
    ...     def partitions(self, context):
    ...         yield Partition("all", {"count": self.count})
    ...
    ...     def read(self, partition, context):
    ...         for number in range(partition.payload["count"]):
    ...             yield Candidate(Sample(f"n{number}", {"txt": str(number).encode()}))
    >>> context = Context(root=Path(), web=Web(), scratch=Path("scratch"))
    >>> [candidate.sample.key for part in Numbers().partitions(context) for candidate in Numbers().read(part, context)]
    ['n0', 'n1', 'n2']
    """

    version: ClassVar[int] = 1  # raise it when the same input gives other samples than before
    reasons: ClassVar[Mapping[str, str | Reason]] = {}  # reject reasons of its own; a text: it depends on the recipe
    # Options that decide only which partitions there are (a list, a start page, a limit). What they say about one
    # partition is in its payload, so changing them does not read unchanged partitions again.
    planning: ClassVar[frozenset[str]] = frozenset()
    # Options that came later than the first release. While they have their default they do not count as part of the
    # recipe, so that partitions read before are not read again.
    added: ClassVar[frozenset[str]] = frozenset()
    # Defaults of the first release, of options that have another default since. It counts in its place as part of the
    # recipe, so that a recipe that never named the option is the same one.
    former_defaults: ClassVar[Mapping[str, object]] = {}
    # Options that name files or folders. They are checked before anything is read, see ``Context.trusted``; None: any
    # option whose text is the path of something counts, but for mere dots and separators ("/", "..").
    path_options: ClassVar[frozenset[str] | None] = None
    # Whether all that the source has is in its partitions, one by one, once all are read: a sample that none of them
    # has any more has vanished; of a partition with a ``stamp_of_whole`` only when that is gone. Of a ``ListedSource``
    # its list tells that.
    tells_all: ClassVar[bool] = False
    # Whether ``stretches`` may cut a partition, or ``read`` may raise NotAtOnce.
    cuts_long: ClassVar[bool] = False

    @property
    def keeps_originals(self) -> bool:
        """Whether these options fetch each candidate as one file, and make it anew of ORIGINALS in a payload.

        The file is the one field of its sample then, and ``sha256`` in its record that of the file.
        """
        return False

    def partitions(self, context: Context) -> Iterator[Partition]:
        """The partitions, the same ones in the same order for the same input.

        When the source grows, the partitions that were there keep their order among each other.

        Raises RecipeError for options that cannot work, SourceUnavailable, SourceBroken.
        """
        raise NotImplementedError

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        """Every candidate of the partition, in the same order each time. Lazy: memory holds a bounded number.

        Raises SourceUnavailable if the whole partition should be retried, SourceBroken if a retry cannot help. Before
        its first candidate NotAtOnce, where the context allows it, if that is better read in stretches.
        """
        raise NotImplementedError

    def resume(self, partition: Partition, context: Context, done: Sequence[Done]) -> Iterator[Candidate | None]:
        """Every candidate of the partition, as ``read`` gives it; None in the place of one that is not read again.

        Called where an ingest was killed: ``done`` are the first candidates of the partition, which it had finished. By
        default all are read, and the first ones compared with them. A source that can pass over them, because the
        partition's payload says what they are, overrides it. Raises what ``read`` raises.
        """
        yield from self.read(partition, context)

    def stretches(self, partition: Partition, context: Context) -> Sequence[Partition]:
        """A long partition cut into stretches, which several workers read at the same time; none if it is not cut.

        Each has the partition's name, and a payload of its own. All their candidates in order are those that ``read``
        gives of the whole partition, with the same stamps. Of a stretch of which that is not sure, ``read`` raises
        NotAlone when it finds out, at its end at the latest; then the partition is read as a whole.
        """
        return ()

    def whole(self, partition: Partition, stretches: Sequence[Partition]) -> Partition:
        """The partition as ``read`` gets it where its stretches cannot be joined: it may say what is kept for them."""
        return partition

    def release(self, stretches: Sequence[Partition], context: Context) -> None:
        """Remove what was kept for these stretches of a partition: its raw part is written."""

    def share(self, partition: Partition, context: Context) -> float:
        """How much of a raw part a partition fills: small ones share one, each read and remembered by itself.

        Above 0, by its work, of which about a minute fills a part. 1: it has a part of its own, as by default. What has
        less gives a candidate at least, and raises SourceUnavailable before its first one or never.
        """
        return 1.0

    def check(self, context: Context) -> None:
        """Raise RecipeError or SourceBroken for what can be seen to be wrong before anything is read or fetched.

        Of `stoker check`, and before a run starts: whether the files and packages that the source needs are there, and
        the columns that its options name. It asks no network, writes nothing, and of a file reads the beginning at
        most. By default there is nothing to check.
        """

    def describe_input(self, context: Context) -> Iterator[str]:
        """What is read of the input and for what, a line each, for `stoker check`: columns that were chosen, say.

        Called after ``check``, within the same limits. By default nothing is said.
        """
        yield from ()

    def preview(self, context: Context) -> Iterator[Candidate]:
        """The first candidates, each as ``read`` gives it, for `stoker check --sample`. Lazy.

        By default those of the partitions in their order. A source overrides it if listing its partitions takes long.
        Raises what ``partitions`` and ``read`` raise, and TooLargeForPreview.
        """
        for partition in self.partitions(context):
            yield from self.read(partition, context)

    def stamp_of(self, record: Mapping[str, Any]) -> str | None:  # Any: Parquet values
        """The stamp of a candidate from its record in a raw part, where neither list nor ``Candidate.stamp`` told it.

        None if that does not tell; the candidate is not read again for it then.
        """
        return None

    def plans_from_files(self, context: Context) -> bool:
        """Whether ``partitions`` looks at local files alone, and reads none twice that is as it was.

        Then whether an ingest has anything to do is seen before a server is started.
        """
        return False

    def stamp_of_whole(self, partition: Partition) -> str:
        """The stamp of all candidates of a partition that are one thing together, as the frames of a video are.

        Where a part of before has it, of whatever recipe, and no reject that another recipe may decide otherwise, the
        partition is not read. "": its candidates are things of their own. What the stamp of a candidate has behind a
        ``STAMP_END`` is known by reading alone, as the bytes at a URL are, and is not looked at.
        """
        return ""

    def url_of_whole(self, partition: Partition) -> str:
        """The URL whose body a partition is, to ask whether it has changed; "": there is none.

        Its candidates have the measures that ``web.measured.measures_of`` gives.
        """
        return ""

    def is_of_list(self, record: Mapping[str, Any]) -> bool:  # Any: Parquet values
        """Whether a record of a raw part is a fault of the list itself, for which there was no identity."""
        return False

    def revision_of(self, record: Mapping[str, Any]) -> int | None:  # Any: Parquet values
        """The revision of a candidate from its record, a number that grows; None: there is none.

        Of several revisions of one candidate, in one run or over many, the newest is the sample.
        """
        return None


class Listed(NamedTuple):
    """A candidate as a list names it, before anything of it is read."""

    identity: str  # see ``Candidate``; "": a fault of the list itself, which is told anew by each run
    stamp: str  # of all that the list says of it, the bytes of a file among it; another one: it is read again
    payload: Any  # Any: whatever ``cut`` makes partitions of; of a source that is crawled JSON values
    is_withheld: bool = False  # its owner does not give it: one that is kept is read again


MORE = Listed("", "", None)  # among ``identities``: there may be others, so that none counts as vanished


class Cut(NamedTuple):
    """A partition, and the stamps of the candidates in it by their identities; None: not known."""

    partition: Partition
    stamps: Mapping[str, str | None]


ORIGINALS = "originals"  # in the payload of a partition: ``Original`` by identity, of which samples are made anew
EARLIER = "earlier"  # in the payload of such a partition: responses of before by identity, see ``web.measured``
BUDGET = "budget"  # in it too: bytes that bodies of candidates in EARLIER may have; once spent, the others are left out
STAMP_END = "/"  # see ``Source.stamp_of_whole``
CHANGED = "changed"  # in the payload of a partition whose bytes changed at their URL, see ``Source.url_of_whole``
AGAIN = "again"  # in the payload of a partition whose candidates were all asked for before, see ``ListedSource``


class ListedSource(Source):
    """A source that knows its candidates before it reads them: from a list, or the names in a folder.

    A corpus remembers what became of each: only those that are new, or are due to be asked for again, are cut into
    partitions. What vanished from the list stays in the corpus, unless the recipe drops it.

    Candidates that were asked for before get partitions of their own, whose payload also has ``AGAIN``: that none of
    them can be read is to be expected there.
    """

    # Whether a candidate's stamp is another one whenever it is itself another one: there is nothing to refresh then.
    stamps_tell_all: ClassVar[bool] = False

    @property
    def is_listed(self) -> bool:
        """Whether these options name a list. If not, it is as any other source, and ``partitions`` tells them all."""
        return True

    @property
    def is_crawled(self) -> bool:
        """Whether ``identities`` asks servers: it is called once in a run then, and not to see that all is known."""
        return False

    def identities(self, context: Context) -> Iterator[Listed]:
        """All candidates, in the same order for the same input. Lazy; it asks no network unless ``is_crawled``.

        Raises what ``partitions`` raises.
        """
        raise NotImplementedError

    def listing(self, context: Context) -> str:
        """A digest of all that ``identities`` reads, quicker to make: while it is the same, nothing is listed again.

        "": there is none, and the list is read each time.
        """
        return ""

    def unsettled(self, context: Context, settled: Settled) -> Unsettled[Listed] | None:
        """Those of ``identities`` that are not settled, and all of which there are several.

        For lists so long that most of their rows are only compared with what they were. None: the source cannot tell
        them, or they are too many to be held. Raises what ``identities`` raises.
        """
        return None

    def cut(self, listed: Iterator[Listed], context: Context) -> Iterator[Cut]:
        """Partitions of some of the candidates that ``identities`` gives, in their order.

        Content-defined, see ``partition.cut``: where one ends depends on the candidates since the end of the one
        before it, so that partitions that are done can be taken out, and the others stay the same.
        """
        raise NotImplementedError

    def partitions(self, context: Context) -> Iterator[Partition]:
        """See Source. Those of a corpus that remembers nothing yet."""
        for cut in self.cut(self.identities(context), context):
            yield cut.partition

    def bytes_of(self, stamp: str) -> str:
        """What a stamp tells of a candidate's own bytes, the same for the same bytes; "": nothing.

        Where it tells them, a new candidate with the bytes of one that the list does not name any more is that one
        under another name: it takes its place in the corpus.
        """
        return ""

    def owners(self, listed: Listed) -> Sequence[str]:
        """Identities of what a candidate would describe if that was there, as a caption does an image.

        Where the corpus has one of these, the candidate is not read by itself, also when that one is gone.
        """
        return ()


class TooLargeForPreview(SourceError):
    """To see one candidate, more would have to be fetched than a preview fetches."""


MAX_PREVIEW = 64 << 20  # bytes that a preview fetches of one file


@dataclass(frozen=True)
class Provenance:
    """Default origin of every sample of a source; a sample's own record takes precedence.

    Args:
        licence: SPDX identifier where there is one.
        author: who made the data.
        attribution: the credit line that the licence asks for.
        extra: further columns of the record, by name.
    """

    licence: str = ""
    author: str = ""
    attribution: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)
