"""Windows of text that go on where the last ones ended."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.training.errors import TrainingError
from stoker.training.text import BOUNDARY, TextStream, text_of
from tests.training.conftest import Small


def stream(small: Small, **options: Any) -> TextStream:
    return TextStream(small.store, small.manifest, cache=small.cache, **options)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_size=st.integers(1, 9), window=st.integers(1, 10), shuffle=st.booleans())
def test_each_row_goes_on_where_it_ended_and_targets_are_one_place_further(
    letters: Small, batch_size: int, window: int, shuffle: bool
) -> None:
    made = stream(letters, batch_size=batch_size, window=window, shuffle=shuffle)
    batches = list(made)
    rows = np.concatenate([tokens.numpy() for tokens, _ in batches], axis=1)
    targets = np.concatenate([targets.numpy() for _, targets in batches], axis=1)
    assert (rows[:, 1:] == targets[:, :-1]).all()
    lane = made.tokens // batch_size
    assert lane - window <= rows.shape[1] < lane
    assert rows.shape[0] == batch_size


def test_every_document_is_there_behind_a_boundary(letters: Small) -> None:
    tokens = np.concatenate(
        [tokens.numpy() for tokens, _ in stream(letters, batch_size=1, window=1, shuffle=False)], axis=1
    )
    whole = tokens[0].tolist()
    assert whole[:8] == [BOUNDARY, 97, 97, 97, BOUNDARY, 98, 98, 98]
    assert len(whole) == 26 * 4 - 1


def test_ranks_share_the_rows_and_a_stop_loses_nothing(letters: Small) -> None:
    whole = [tokens for tokens, _ in stream(letters, batch_size=4, window=5)]
    shares = [
        [tokens for tokens, _ in stream(letters, batch_size=4, window=5, rank=rank, world_size=3)] for rank in range(3)
    ]
    for number, tokens in enumerate(whole):
        assert np.array_equal(np.concatenate([share[number] for share in shares]), tokens)
    first = stream(letters, batch_size=4, window=5)
    had = [tokens for (tokens, _), _ in zip(first, range(2), strict=False)]
    second = stream(letters, batch_size=4, window=5)
    state = first.state_dict()
    second.load_state_dict(state | {"delivered": len(had) * 4})
    assert all(np.array_equal(one, other) for one, other in zip(had + [t for t, _ in second], whole, strict=True))


def test_too_little_text_and_no_text_are_told(letters: Small, digits: Small) -> None:
    with pytest.raises(TrainingError, match="104 tokens, fewer than batch_size 64"):
        stream(letters, batch_size=64)
    with pytest.raises(TrainingError, match="without a field 'txt'"):
        stream(digits)


def test_tokens_become_text_whatever_they_are() -> None:
    assert text_of([0xC3, 0xA9, 0xFF]) == "é\ufffd"
