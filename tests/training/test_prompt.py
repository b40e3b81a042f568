"""A language model writes on from a prompt, or from the first words of its corpus, and again after it was trained."""

import pytest

from stoker.training.errors import TrainingError
from stoker.training.models.lstm import Lstm
from stoker.training.run.options import parse_options, run_identity
from tests.training.conftest import Small
from tests.training.run.small_runs import LSTM, equal, run, weights

SHORT = {**LSTM, "max_steps": 2}


def test_a_text_begins_with_the_first_words_of_the_corpus_or_with_the_prompt(handbook: Small) -> None:
    result = run(handbook, "lstm", SHORT)
    document = next(iter(_texts(handbook)))
    start = result.sample[:10]
    assert document.startswith(start)
    assert start.strip()
    prompted = run(handbook, "lstm", {**SHORT, "prompt": "Größe: "})
    assert prompted.sample.startswith("Größe: ")
    assert len(prompted.sample.encode()) > len("Größe: ".encode())
    assert equal(weights(handbook, result.run), weights(handbook, prompted.run))


def test_a_finished_run_writes_again_with_another_prompt_and_is_not_trained_again(handbook: Small) -> None:
    first = run(handbook, "lstm", SHORT)
    again = run(handbook, "lstm", {**SHORT, "prompt": "Return"}, resume=True)
    assert (again.run, again.resumed_at, again.metrics) == (first.run, first.step, first.metrics)
    assert again.sample.startswith("Return")
    assert run(handbook, "lstm", {**SHORT, "prompt": "Return"}, resume=True).sample == again.sample
    assert run(handbook, "lstm", SHORT, resume=True).sample == first.sample


def test_a_prompt_is_no_part_of_a_runs_identity_and_has_a_bound() -> None:
    plain, prompted = (run_identity("lstm", *parse_options("lstm", options)) for options in ({}, {"prompt": "A"}))
    assert plain == prompted
    assert "prompt" not in plain["options"]
    with pytest.raises(TrainingError, match="a prompt of 100,001 characters; at most 100,000 are read"):
        Lstm(prompt="x" * 100_001)


def _texts(small: Small) -> list[str]:
    from stoker.training import ShardStream

    stream = ShardStream(small.store, small.manifest, batch_size=1, shuffle=False, cache=small.cache)
    try:
        return [sample.fields["txt"].decode() for batch in stream for sample in batch]
    finally:
        stream.close()
