"""What the pipeline asks of a step: a pure function that never fails on a bad sample.

A partition that is tried again must give the same bytes, so a step may depend on its sample and options alone; an odd
sample is data that is counted, so a step rejects it and raises nothing.
"""

import copy
from collections.abc import Sequence

import pytest

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.step import Step
from stoker.storage.shards import records
from stoker.storage.shards.sample import Sample
from stoker.storage.shards.shard import record_json
from stoker.testing.contracts.component import ComponentContract, known_reasons
from stoker.testing.contracts.process import call_elsewhere

_ODD_SAMPLES = (
    Sample("nothing", {}),
    Sample("another-field", {"bin": b"\x00\x01"}),
    *(
        Sample(f"{field}-{number}", {field: payload})
        for field in ("txt", "jpg", "png")
        for number, payload in enumerate((b"", b"\x00", b"\xff\xfe", b"caf\xe9", b"<html>", b"\xff\xd8\xff\xe0"))
    ),
)


def _results(step: Step, samples: Sequence[Sample]) -> list[Sample | Rejected]:
    return [step(sample) for sample in samples]


class StepContract(ComponentContract):
    """Tests of a step. Override the fixtures ``step`` and ``samples``; at least one of the samples must be kept.

    >>> from stoker.pipelines.steps.text_length import TextLength
    >>> class TestTextLength(StepContract):
    ...     @pytest.fixture
    ...     def step(self) -> Step:
    ...         return TextLength()
    ...     @pytest.fixture
    ...     def samples(self) -> list[Sample]:
    ...         return [Sample("a", {"txt": b"Some text. " * 100})]
    """

    @pytest.fixture
    def step(self) -> Step:
        """The step."""
        raise NotImplementedError("override the fixture `step`")

    @pytest.fixture
    def samples(self) -> Sequence[Sample]:
        """Samples that the step is made for."""
        raise NotImplementedError("override the fixture `samples`")

    @pytest.fixture
    def component(self, step: Step) -> Step:
        """See ComponentContract."""
        return step

    def test_at_least_one_of_the_samples_is_kept(self, step: Step, samples: Sequence[Sample]) -> None:
        assert any(isinstance(step(sample), Sample) for sample in samples)

    def test_every_sample_is_kept_under_its_key_or_rejected_for_a_known_reason(
        self, step: Step, samples: Sequence[Sample]
    ) -> None:
        for sample in (*samples, *_ODD_SAMPLES):
            result = step(sample)
            if isinstance(result, Rejected):
                assert result.reason in known_reasons(step), f"declare {result.reason!r} in the step's `reasons`"
            else:
                assert type(result) is Sample
                assert result.key == sample.key

    def test_what_is_kept_can_be_written(self, step: Step, samples: Sequence[Sample]) -> None:
        """Fields are bytes, the record is JSON, record and measures are columns of a Parquet file."""
        for sample in (*samples, *_ODD_SAMPLES):
            result = step(sample)
            if isinstance(result, Sample):
                assert {type(payload) for payload in result.fields.values()} <= {bytes}
                record_json(result)
                records.encode([{**result.record, **result.measures, "key": result.key}])

    def test_the_same_sample_comes_out_the_same_and_is_left_as_it_was(
        self, step: Step, samples: Sequence[Sample]
    ) -> None:
        elsewhere = call_elsewhere(_results, step, [*samples, *_ODD_SAMPLES])
        for sample, there in zip((*samples, *_ODD_SAMPLES), elsewhere, strict=True):
            before = copy.deepcopy(sample)
            first = step(sample)
            assert sample == before
            assert step(copy.deepcopy(sample)) == first
            assert there == first
