"""What ingest asks of a source: partitions and candidates that are the same each time.

A run that was killed finds its finished partitions by their names and payloads, and a partition that is tried again
must give the same bytes, in another process too. So everything here is read twice and compared.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from stoker.pipelines.errors import OutsideRecipe, SourceBroken
from stoker.pipelines.memory.identity import IDENTITY
from stoker.pipelines.partition import Partition, digest
from stoker.pipelines.source import Candidate, Context, Done, ListedSource, Source
from stoker.pipelines.stages.ingest import ingest_partition, plan
from stoker.pipelines.web.client import Web
from stoker.storage.shards import records
from stoker.storage.shards.sample import is_key
from stoker.storage.shards.shard import record_json
from stoker.storage.stores.memory import MemoryStore
from stoker.testing.contracts.component import ComponentContract, known_reasons, recipe_of
from stoker.testing.contracts.process import call_elsewhere


class SourceContract(ComponentContract):
    """Tests of a source. Override the fixture ``source``, and ``context`` if it needs another; it must keep something.

    Paths in the source's options are relative to ``tmp_path``, as they are to a recipe's folder.

    >>> from stoker.pipelines.sources.local_files import LocalFiles
    >>> class TestLocalFiles(SourceContract):
    ...     @pytest.fixture
    ...     def source(self, tmp_path: Path) -> Source:
    ...         (tmp_path / "a.txt").write_text("one")
    ...         return LocalFiles(files=".")
    """

    @pytest.fixture
    def source(self) -> Source:
        """The source, with something to read."""
        raise NotImplementedError("override the fixture `source`")

    @pytest.fixture
    def context(self, tmp_path: Path) -> Context:
        """What the source may use: the test's folder, and the public web."""
        return Context(root=tmp_path, web=Web(), scratch=tmp_path / "scratch")

    @pytest.fixture
    def component(self, source: Source) -> Source:
        """See ComponentContract."""
        return source

    def test_its_partitions_are_the_same_each_time_and_have_names_of_their_own(
        self, source: Source, context: Context
    ) -> None:
        partitions = plan(recipe_of(source), context)  # raises if there is none, or a name is there twice
        assert list(map(_as_json, source.partitions(context))) == list(partitions)
        assert all(partition.name for partition in partitions)

    def test_a_payload_is_json(self, source: Source, context: Context) -> None:
        for partition in source.partitions(context):
            assert digest(_as_json(partition).payload) == digest(partition.payload)

    def test_a_partition_that_is_read_again_gives_the_same_candidates(self, source: Source, context: Context) -> None:
        for partition in source.partitions(context):
            first = read(source, partition, context)
            assert [_content(candidate) for candidate in read(source, partition, context)] == list(map(_content, first))

    def test_a_partition_that_a_killed_ingest_had_begun_is_read_on(self, source: Source, context: Context) -> None:
        for partition in source.partitions(context):
            first = read(source, partition, context)
            half = len(first) // 2
            with _empty(context.scratch):
                resumed = list(source.resume(partition, context, [Done.of(candidate) for candidate in first[:half]]))
            assert len(resumed) == len(first)
            given = [(number, one) for number, one in enumerate(resumed) if one is not None]
            assert [_content(one) for _, one in given] == [_content(first[number]) for number, _ in given]
            assert {number for number, _ in given} >= set(range(half, len(first))), "None is for what is done"

    def test_another_process_reads_the_same(self, source: Source, context: Context) -> None:
        """Source, context and partition are sent to it by pickle or as JSON."""
        partitions = [_as_json(partition) for partition in source.partitions(context)]
        assert call_elsewhere(_contents, source, partitions, context) == _contents(source, partitions, context)

    def test_no_file_outside_of_the_recipes_folder_is_read(
        self, source: Source, context: Context, tmp_path: Path
    ) -> None:
        """Files that moved elsewhere, with links in their places: refused as a whole, or rejected one by one."""
        elsewhere = tmp_path / "elsewhere"
        root = tmp_path / "recipe"
        if not context.root.is_relative_to(tmp_path):
            return  # files of its author, which are not moved
        own = [path for path in context.root.iterdir() if path != context.scratch]
        if not own:
            return  # it reads no files
        elsewhere.mkdir()
        root.mkdir()
        for path in own:
            (root / path.name).symlink_to(path.rename(elsewhere / path.name))
        moved = replace(context, root=root, trusted=False)
        try:
            plan(recipe_of(source), moved)
        except (OutsideRecipe, SourceBroken):
            return
        assert not [candidate for candidate in read_all(source, moved) if candidate.rejected is None]

    def test_its_check_passes_where_it_can_be_read_and_changes_nothing(
        self, source: Source, context: Context, tmp_path: Path
    ) -> None:
        before = sorted(tmp_path.rglob("*"))
        source.check(context)  # raises if it misses something
        assert sorted(tmp_path.rglob("*")) == before

    def test_a_preview_shows_candidates_that_it_reads(self, source: Source, context: Context) -> None:
        contents = [_content(candidate) for candidate in read_all(source, context)]
        context.scratch.mkdir(parents=True, exist_ok=True)
        candidates = source.preview(context)
        shown = [_content(candidate) for candidate in islice(candidates, 5)]
        getattr(candidates, "close", lambda: None)()
        assert list(context.scratch.iterdir()) == [], "a preview that is left removes its files, too"
        assert shown
        assert [content for content in shown if content not in contents] == []

    def test_every_kept_sample_has_a_key_of_its_own_and_bytes(self, source: Source, context: Context) -> None:
        kept = [candidate.sample for candidate in read_all(source, context) if candidate.rejected is None]
        assert kept, "give the contract a source that keeps something"
        assert all(is_key(sample.key) for sample in kept)
        assert len({sample.key for sample in kept}) == len(kept)
        assert all(sample.fields for sample in kept)
        assert {type(payload) for sample in kept for payload in sample.fields.values()} == {bytes}

    def test_every_candidate_can_be_written_down(self, source: Source, context: Context) -> None:
        """The record is JSON, record and measures are columns of a Parquet file."""
        for candidate in read_all(source, context):
            sample = candidate.sample
            record_json(sample)
            records.encode([{**sample.record, **sample.measures, "key": sample.key, IDENTITY: candidate.identity}])

    def test_an_identity_is_a_text_that_only_one_kept_sample_has(self, source: Source, context: Context) -> None:
        kept = [candidate for candidate in read_all(source, context) if candidate.rejected is None]
        identities = [candidate.identity or candidate.sample.key for candidate in kept]
        assert {type(identity) for identity in identities} == {str}
        assert len(set(identities)) == len(identities), "it must tell a candidate from all others of the source"

    def test_a_source_that_lists_its_candidates_names_each_that_it_keeps_once(
        self, source: Source, context: Context
    ) -> None:
        if not isinstance(source, ListedSource) or not source.is_listed:
            return
        listed = [one.identity for one in source.identities(context) if one.identity]
        assert len(set(listed)) == len(listed)
        kept = (candidate for candidate in read_all(source, context) if candidate.rejected is None)
        assert {candidate.identity or candidate.sample.key for candidate in kept} <= set(listed)

    def test_every_reject_has_a_known_reason(self, source: Source, context: Context) -> None:
        given = {candidate.rejected.reason for candidate in read_all(source, context) if candidate.rejected}
        assert given <= known_reasons(source), "declare them in the source's `reasons`"

    def test_what_is_read_is_kept_or_rejected_and_the_parts_bytes_are_the_same_each_time(
        self, source: Source, context: Context
    ) -> None:
        recipe = recipe_of(source)
        for partition in plan(recipe, context):
            part, again = (ingest_partition(recipe, partition, MemoryStore(), context).part for _ in range(2))
            assert part.read == len(read(source, partition, context))
            assert part.read == part.kept + sum(part.rejected.values())
            assert (part.digest, part.tar_sha256) == (again.digest, again.tar_sha256)


def read(source: Source, partition: Partition, context: Context) -> list[Candidate]:
    """The partition's candidates; what the source put into the scratch folder must be gone afterwards."""
    with _empty(context.scratch):
        return list(source.read(partition, context))


def read_all(source: Source, context: Context) -> list[Candidate]:
    """The candidates of all partitions."""
    return [candidate for partition in source.partitions(context) for candidate in read(source, partition, context)]


@contextmanager
def _empty(scratch: Path) -> Iterator[None]:
    scratch.mkdir(parents=True, exist_ok=True)
    yield
    assert list(scratch.iterdir()) == [], "the source removes its files from the scratch folder"


def _as_json(partition: Partition) -> Partition:
    return replace(partition, payload=json.loads(json.dumps(dict(partition.payload), allow_nan=False)))


def _content(candidate: Candidate) -> object:
    """All of a candidate but its measures, such as the time at which it was fetched."""
    sample = candidate.sample
    return sample.key, dict(sample.fields), dict(sample.record), candidate.rejected, candidate.identity


def _contents(source: Source, partitions: list[Partition], context: Context) -> list[object]:
    return [_content(candidate) for partition in partitions for candidate in read(source, partition, context)]
