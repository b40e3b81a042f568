"""n-gram models are probabilities, smoothed by modified Kneser-Ney."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
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


# Pairs of symbols of each count from one to four and more: all three discounts are made of them. Then single symbols.
@example(
    np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 2, 0, 2, 0, 2, 1, 3, 1, 3, 2, 3, 3, 0]), np.array([0, 1, 3, 0, 2, 3, 3]), 2
)
@example(np.array([0] * 4 + [1] * 3 + [2] * 2 + [3]), np.array([0, 0, 1, 2, 3, 3]), 1)
@given(TEXTS, TEXTS, st.integers(1, 4))
def test_it_is_the_formula_counted_by_hand(text: np.ndarray, asked: np.ndarray, order: int) -> None:
    longest = min(order, len(text))

    def grams(size: int) -> list[tuple[int, ...]]:
        return [tuple(map(int, text[i : i + size])) for i in range(len(text) - size + 1)]

    def counts(size: int) -> Counter[tuple[int, ...]]:
        return Counter(grams(size)) if size == longest else Counter(gram[1:] for gram in set(grams(size + 1)))

    def discount(size: int, count: int) -> float:
        one, two, three, four = (sum(value == number for value in counts(size).values()) for number in (1, 2, 3, 4))
        if not count or 0 in (one, two, three, four):
            return 0.5 if count else 0.0
        share = one / (one + 2 * two)
        by_count = (1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three)
        return min(max(by_count[min(count, 3) - 1], 0.01), min(count, 3))

    def probability(context: tuple[int, ...], symbol: int) -> float:
        lower = probability(context[1:], symbol) if context else 1 / SYMBOLS
        size = len(context) + 1
        after = {gram[-1]: count for gram, count in counts(size).items() if gram[:-1] == context}
        if not after:
            return lower
        mass = sum(discount(size, count) for count in after.values())
        own = after.get(symbol, 0)
        return (own - discount(size, own) + mass * lower) / sum(after.values())

    found = NGrams(text, order=order, vocabulary=SYMBOLS).probabilities(asked)
    for place, symbol in enumerate(map(int, asked)):
        context = tuple(int(one) for one in asked[max(0, place - longest + 1) : place])
        assert float(found[place]) == pytest.approx(probability(context, symbol))


def test_longer_contexts_tell_a_real_text_in_fewer_bits() -> None:
    tokens = np.frombuffer(b"".join(sample.fields["txt"] for sample in corpora.texts()), np.uint8).astype(np.int64)
    train, test = tokens[:300_000], tokens[300_000:320_000]
    one, three, five = (NGrams(train, order=order, vocabulary=257).bits_per_character(test) for order in (1, 3, 5))
    assert one > three + 0.5 > five + 0.6
    assert 1.5 < five < 3.0
