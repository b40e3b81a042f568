"""The contracts find what they are there to find."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.partition import Partition
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.rule import Decision, Rule, RuleTools, decisions
from stoker.pipelines.source import Candidate, Context, Source
from stoker.pipelines.step import Step
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Payload
from stoker.testing import RuleContract, SourceContract, StepContract, StoreContract
from tests.fakes import Words, context

SAMPLES = [Sample("a", {"txt": b"words"}, {"title": "A"})]
NUMBERS = count()


def fails(check: Callable[..., None], *arguments: object) -> None:
    with pytest.raises(AssertionError):
        check(*arguments)


class Overwriting(MemoryStore):
    def create(self, key: str, payload: Payload) -> None:
        self.write(key, payload)


def test_a_store_that_overwrites_does_not_pass() -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        StoreContract().test_creating_keeps_what_is_there(Overwriting())
    fails(StoreContract().test_of_racing_writers_exactly_one_creates, Overwriting())
    StoreContract().test_of_racing_writers_exactly_one_creates(MemoryStore())


@dataclass(frozen=True)
class Renaming(Step):
    def __call__(self, sample: Sample, /) -> Sample | Rejected:
        return replace(sample, key=f"{sample.key}-2")


@dataclass(frozen=True)
class Counting(Step):
    def __call__(self, sample: Sample, /) -> Sample | Rejected:
        return replace(sample, record={"number": next(NUMBERS)})


@dataclass(frozen=True)
class Altering(Step):
    def __call__(self, sample: Sample, /) -> Sample | Rejected:
        fields: Any = sample.fields  # a Mapping to all who keep to the types
        fields["txt"] = b"other"
        return sample


@dataclass(frozen=True)
class Refusing(Step):
    def __call__(self, sample: Sample, /) -> Sample | Rejected:
        return Rejected("not_to_my_taste")


@dataclass
class Thawed(Step):
    reasons = {"empty": "Stoker's own"}  # noqa: RUF012  # that is the test

    words: int = 3


@dataclass(frozen=True)
class Careless(Words):
    """Writes where it should only look, and previews what it does not read."""

    def check(self, context: Context) -> None:
        (context.root / "seen").touch()

    def preview(self, context: Context) -> Iterator[Candidate]:
        yield Candidate(Sample("other", {"txt": b"other"}))


def test_a_source_whose_check_writes_and_whose_preview_shows_something_else_does_not_pass(tmp_path: Path) -> None:
    contract, where = SourceContract(), context(tmp_path)
    fails(contract.test_its_check_passes_where_it_can_be_read_and_changes_nothing, Careless(("a",)), where, tmp_path)
    fails(contract.test_a_preview_shows_candidates_that_it_reads, Careless(("a",)), where)
    contract.test_a_preview_shows_candidates_that_it_reads(Words(("a", "b")), where)


def test_a_step_that_is_no_pure_function_does_not_pass() -> None:
    contract = StepContract()
    fails(contract.test_every_sample_is_kept_under_its_key_or_rejected_for_a_known_reason, Renaming(), SAMPLES)
    fails(contract.test_every_sample_is_kept_under_its_key_or_rejected_for_a_known_reason, Refusing(), SAMPLES)
    fails(contract.test_at_least_one_of_the_samples_is_kept, Refusing(), SAMPLES)
    for step in (Counting(), Altering()):
        fails(contract.test_the_same_sample_comes_out_the_same_and_is_left_as_it_was, step, SAMPLES)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        contract.test_it_is_a_frozen_dataclass_that_a_recipe_finds_by_the_name_of_its_file(Thawed())
    fails(contract.test_its_reasons_are_new_words_with_a_meaning, Thawed())
    fails(contract.test_the_example_in_its_docstring_is_a_recipe, Refusing())


@dataclass(frozen=True)
class Deciding(Rule):
    decided: tuple[Decision, ...] = ()

    def decide(self, rows: pa.Table, tools: RuleTools) -> pa.Table:
        return decisions(self.decided)


class Unstable(Rule):
    def decide(self, rows: pa.Table, tools: RuleTools) -> pa.Table:
        first = rows["key"].chunk(0).to_pylist()  # as if a table had one
        return decisions(Decision(key, "drop", "exact_duplicate") for key in first)


@pytest.mark.parametrize(
    ("decided", "fault"),
    [
        ((), "decides something about"),
        ((Decision("c", "drop", "exact_duplicate"),), "'c', which is not among"),
        ((Decision("a", "drop", "no_such_reason"),), "declare 'no_such_reason'"),
        ((Decision("a", "drop", "exact_duplicate"), Decision("a", "drop", "near_duplicate")), "twice, such as 'a'"),
        ((Decision("a", "split", "exam"),), "wants a split 'exam'"),
    ],
    ids=["nothing", "unknown key", "unknown reason", "dropped twice", "unknown split"],
)
def test_a_rule_that_decides_what_cannot_be_does_not_pass(decided: tuple[Decision, ...], fault: str) -> None:
    check = RuleContract().test_a_sample_is_dropped_once_for_a_known_reason_or_moved_once_to_a_split_of_the_recipe
    with pytest.raises((AssertionError, RecipeError), match=fault):
        check(Deciding(decided), pa.table({"key": ["a", "b"]}), None)


def test_a_rule_that_depends_on_chunks_or_names_a_dropped_witness_does_not_pass() -> None:
    contract, records = RuleContract(), pa.table({"key": ["a", "b"]})
    fails(contract.test_the_same_records_are_decided_the_same_however_they_are_stored, Unstable(), records, None)
    both = Deciding(tuple(Decision(key, "drop", "near_duplicate", witness=other) for key, other in ("ab", "ba")))
    fails(contract.test_a_witness_is_another_sample, both, records, None)


@dataclass(frozen=True)
class Clocked(Words):
    """A sample that differs each time it is read."""

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        yield Candidate(Sample("a", {"txt": b"%d" % next(NUMBERS)}))


@dataclass(frozen=True)
class Littering(Words):
    """It leaves a file in the scratch folder."""

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        (context.scratch / "left").touch()
        yield from super().read(partition, context)


@dataclass(frozen=True)
class Growing(Source):
    """Partitions that differ each time."""

    payload: Mapping[str, object]

    def partitions(self, context: Context) -> Iterator[Partition]:
        yield Partition(f"{next(NUMBERS)}", self.payload)


def test_a_source_that_reads_something_else_each_time_does_not_pass(tmp_path: Path) -> None:
    contract, where = SourceContract(), context(tmp_path)
    fails(contract.test_a_partition_that_is_read_again_gives_the_same_candidates, Clocked(("a",)), where)
    check = contract.test_what_is_read_is_kept_or_rejected_and_the_parts_bytes_are_the_same_each_time
    fails(check, Clocked(("a",)), where)
    names = contract.test_its_partitions_are_the_same_each_time_and_have_names_of_their_own
    fails(names, Growing({}), where)
    with pytest.raises(TypeError, match="not JSON serializable"):
        contract.test_a_payload_is_json(Growing({"set": {1}}), where)


def test_a_source_that_repeats_keys_invents_reasons_or_leaves_files_does_not_pass(tmp_path: Path) -> None:
    contract, where = SourceContract(), context(tmp_path)
    fails(contract.test_every_kept_sample_has_a_key_of_its_own_and_bytes, Words(("a", "b", "a")), where)
    fails(contract.test_every_reject_has_a_known_reason, Words(("a", "!no_such_reason")), where)
    fails(contract.test_every_candidate_can_be_written_down, Littering(("a",)), where)
    contract.test_another_process_reads_the_same(Words(("c", "!gone")), context(tmp_path / "other"))
