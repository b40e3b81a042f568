"""Near-duplicates whose texts are compared where the estimate is near the threshold: templates are no trap."""

import random
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from stoker.pipelines.text.measures import measures_of_text, shingles, word_hashes
from stoker.pipelines.text.signatures import parse_signatures
from stoker.pipelines.text.verified import NearText, near_duplicates

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnpr" for b in "aeiou" for c in ("n", "l", "s", "r", "k", "nd", "st", "ft")]


def prose(seed: int, words: int) -> list[str]:
    return random.Random(seed).choices(WORDS, k=words)


def page(template: list[str], own: int, seed: int) -> str:
    """A page of a template with ``own`` runs of words of its own, in the middle."""
    middle = len(template) // 2
    return " ".join(template[:middle] + prose(seed, own) + template[middle:])


def edited(text: str, edits: int, seed: int) -> str:
    rng, words = random.Random(seed), text.split()
    for place in rng.sample(range(len(words)), edits):
        words[place] = f"other{rng.getrandbits(40)}"
    return " ".join(words)


def jaccard(one: str, other: str) -> float:
    a, b = (set(shingles(word_hashes(text)[0]).tolist()) for text in (one, other))
    return len(a & b) / len(a | b)


class Reader:
    """Gives texts, and counts them."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts, self.read = texts, 0

    def __call__(self, rows: Sequence[int]) -> Iterator[bytes | None]:
        self.read += len(rows)
        return (self.texts[row].encode() for row in rows)


def found_in(texts: Sequence[str], similarity: float = 0.8, elders: int = 0) -> tuple[list[NearText], Reader]:
    signatures = parse_signatures([measures_of_text(text)["minhash"] for text in texts])
    reader = Reader(texts)
    return list(near_duplicates(signatures, similarity, reader, elders=elders)), reader


@pytest.mark.parametrize(("own", "low", "high"), [(54, 0.68, 0.70), (45, 0.72, 0.74)])
def test_distinct_pages_of_one_template_stay_and_their_near_duplicates_are_found(
    own: int, low: float, high: float
) -> None:
    template = prose(1, 260)
    pages = [page(template, own, 100 + number) for number in range(6000)]
    assert low < jaccard(pages[0], pages[1]) < high
    copies = [edited(pages[number * 17], 8 + number % 3, number) for number in range(300)]
    alike = sum(jaccard(copies[number], pages[number * 17]) >= 0.82 for number in range(300))
    assert alike > 200
    began = time.process_time()
    found, reader = found_in([*pages, *copies])
    seconds = time.process_time() - began
    dropped = {one.row: one for one in found}
    wrong = sum(row < len(pages) for row in dropped)
    assert wrong <= 0.002 * len(pages)
    hit = sum(jaccard(copies[n], pages[n * 17]) >= 0.82 and len(pages) + n in dropped for n in range(300))
    assert hit >= 0.99 * alike
    for one in found:
        if one.verified:
            assert one.similarity == pytest.approx(jaccard(reader.texts[one.row], reader.texts[one.older]))
            assert one.similarity >= 0.8
    assert reader.read <= len(reader.texts)
    assert seconds < 60


def test_pairs_a_little_more_similar_than_asked_for_are_found_and_a_little_less_stay() -> None:
    originals = [" ".join(prose(number, 260)) for number in range(700)]
    copies = [edited(text, 4 + number % 18, number) for number, text in enumerate(originals)]
    exact = [jaccard(*pair) for pair in zip(originals, copies, strict=True)]
    found, _ = found_in([*originals, *copies])
    dropped = {one.row - len(originals) for one in found}
    more = {number for number, value in enumerate(exact) if value >= 0.82}
    less = {number for number, value in enumerate(exact) if value < 0.8}
    assert len(more) > 150
    assert len(less) > 200
    assert len(more & dropped) >= 0.99 * len(more)
    assert not dropped & less


def test_texts_are_read_only_where_the_estimate_leaves_it_open() -> None:
    text = " ".join(prose(3, 300))
    found, reader = found_in([text, text, " ".join(prose(4, 300)), text.upper()])
    assert [(one.row, one.older, one.similarity, one.verified) for one in found] == [
        (1, 0, 1.0, False),
        (3, 0, 1.0, False),
    ]
    assert reader.read == 0
    found, reader = found_in([text, edited(text, 1, 1)], similarity=0.97)
    assert [one.verified for one in found] == [True]
    assert reader.read == 2


def test_elders_are_kept_and_compared_with() -> None:
    text = " ".join(prose(5, 300))
    near = edited(text, 5, 1)
    assert jaccard(text, near) > 0.85
    assert [one.row for one in found_in([text, near, edited(text, 4, 2)], elders=2)[0]] == [2]


def test_a_text_that_is_not_there_is_decided_by_its_estimate() -> None:
    text = " ".join(prose(6, 300))
    near = edited(text, 5, 1)
    signatures = parse_signatures([measures_of_text(one)["minhash"] for one in (text, near)])
    (one,) = near_duplicates(signatures, 0.8, lambda rows: (None for _ in rows))
    assert not one.verified
    assert one.similarity == np.mean(signatures[0] == signatures[1])
