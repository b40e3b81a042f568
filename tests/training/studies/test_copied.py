"""Passages of a held-out text that are in the training text are counted."""

import numpy as np
import pytest

from stoker.training.studies.copied import copied
from tests.training import corpora

DRAWN = np.random.default_rng(0).integers(0, 257, 20_000).astype(np.int64)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_it_is_the_share_of_the_text_that_was_copied(share: float) -> None:
    train, rest = DRAWN[:10_000], DRAWN[10_000:]
    count = round(share * 10_000)
    assert copied(train, np.concatenate([train[:count], rest[count:]])) == pytest.approx(share, abs=0.01)


def test_it_is_what_a_search_finds_on_a_real_text() -> None:
    tokens = np.frombuffer(b"".join(sample.fields["txt"] for sample in corpora.texts()), np.uint8).astype(np.int64)
    train, test = tokens[:200_000], tokens[220_000:223_000]
    known = train.astype(np.uint8).tobytes()
    passages = [test[place : place + 64].astype(np.uint8).tobytes() in known for place in range(len(test) - 63)]
    assert copied(train, test) == pytest.approx(np.mean(passages))
    assert 0 < np.mean(passages) < 1


def test_one_changed_token_in_each_passage_leaves_nothing_copied() -> None:
    changed = DRAWN.copy()
    changed[::60] += 1
    assert copied(DRAWN, changed) == 0
