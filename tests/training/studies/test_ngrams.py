"""n-gram models are probabilities, counted by Witten and Bell's formula."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.training.studies.ngrams import NGrams
from tests.training import corpora

SYMBOLS = 4
TEXTS = st.lists(st.integers(0, SYMBOLS - 1), min_size=1, max_size=40).map(np.array)


@given(TEXTS, TEXTS, st.integers(1, 5))
def test_the_probabilities_after_any_context_sum_to_one(text: np.ndarray, context: np.ndarray, order: int) -> None:
    model = NGrams(text, order=order, vocabulary=SYMBOLS)
    total = sum(float(model.probabilities(np.append(context, symbol))[-1]) for symbol in range(SYMBOLS))
    assert total == pytest.approx(1.0)


@given(TEXTS, TEXTS, st.integers(1, 4))
def test_it_is_the_formula_counted_by_hand(text: np.ndarray, asked: np.ndarray, order: int) -> None:
    def probability(context: tuple[int, ...], symbol: int) -> float:
        lower = probability(context[1:], symbol) if context else 1 / SYMBOLS
        size = len(context)
        after = [text[i + size] for i in range(len(text) - size) if tuple(text[i : i + size]) == context]
        if not after:
            return lower
        types = len(set(after))
        return (after.count(symbol) + types * lower) / (len(after) + types)

    found = NGrams(text, order=order, vocabulary=SYMBOLS).probabilities(asked)
    for place, symbol in enumerate(asked):
        context = tuple(asked[max(0, place - order + 1) : place])
        assert float(found[place]) == pytest.approx(probability(context, symbol))


def test_longer_contexts_tell_a_real_text_in_fewer_bits() -> None:
    tokens = np.frombuffer(b"".join(sample.fields["txt"] for sample in corpora.texts()), np.uint8).astype(np.int64)
    train, test = tokens[:300_000], tokens[300_000:320_000]
    one, three, five = (NGrams(train, order=order, vocabulary=257).bits_per_character(test) for order in (1, 3, 5))
    assert one > three + 0.5 > five + 0.6
    assert 1.5 < five < 3.0
