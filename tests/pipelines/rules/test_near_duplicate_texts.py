"""Near-duplicate texts: nobody is dropped without a kept witness, and templates are no copies."""

import random
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.rule import Decision
from stoker.pipelines.rules.near_duplicate_texts import NearDuplicateTexts, near_duplicates
from stoker.pipelines.text.measures import SLOTS, measures_of_text

WORDS = [f"{a}{b}" for a in "bdfgklmnprstvz" for b in ("an", "el", "is", "or", "um", "ake", "ind", "ost", "ul", "ey")]


def decide(texts: list[str], similarity: float = 0.8) -> list[Decision]:
    table = pa.table(
        {
            "key": [f"t{place}" for place in range(len(texts))],
            "minhash": pa.array([measures_of_text(text)["minhash"] for text in texts], pa.binary()),
        }
    )
    return list(NearDuplicateTexts(similarity=similarity).decide(table, str))


def prose(seed: int, words: int = 200) -> list[str]:
    return random.Random(seed).choices(WORDS, k=words)


def edited(words: list[str], share: float, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [rng.choice(WORDS) if rng.random() < share else word for word in words]


def test_the_older_of_two_copies_stays_and_is_named() -> None:
    text = " ".join(prose(1))
    found = decide(["something else entirely here", text, text.upper() + "!"])
    assert found == [Decision("t2", "drop", "near_duplicate", witness="t1", similarity=1.0)]


def test_small_edits_are_found_and_large_ones_are_not() -> None:
    base = prose(2, 600)
    small, large = " ".join(edited(base, 0.01, 3)), " ".join(edited(base, 0.2, 4))
    found = decide([" ".join(base), small, large])
    assert [one.key for one in found] == ["t1"]
    assert found[0].similarity is not None
    assert found[0].similarity >= 0.8


def test_near_duplicates_of_another_label_are_told_as_a_conflict() -> None:
    base = prose(2, 600)
    texts = [" ".join(edited(base, 0.005, seed)) for seed in range(4)]
    table = pa.table(
        {
            "key": ["a", "b", "c", "d"],
            "label": ["cat", "dog", None, "cat"],
            "minhash": pa.array([measures_of_text(text)["minhash"] for text in texts], pa.binary()),
        }
    )
    found = {one.key: (one.value, one.witness) for one in NearDuplicateTexts().decide(table, str)}
    assert found == {"b": ("label_conflict", "a"), "c": ("near_duplicate", "a"), "d": ("near_duplicate", "a")}


def test_texts_without_words_and_short_texts_do_not_fall_together() -> None:
    assert decide(["", "", "...", "!!!", "\n"]) == []
    assert decide(["tin", "lead", "zinc", "iron ore", "iron oxide", "gold coin here", "gold coin there"]) == []
    assert [one.key for one in decide(["tin", "Tin."])] == ["t1"]


def test_pages_that_share_a_template_all_stay() -> None:
    frame = prose(5, 170)
    pages = [" ".join(frame + prose(100 + number, 75)) for number in range(300)]
    assert decide(pages) == []


def test_a_chain_of_small_changes_does_not_drop_what_differs_from_all_that_is_kept() -> None:
    chain = [prose(6, 400)]
    for step in range(12):
        chain.append(edited(chain[-1], 0.02, step))
    texts = [" ".join(words) for words in chain]
    found = {one.key: one.witness for one in decide(texts)}
    assert found
    assert not set(found) & set(found.values())
    assert len(texts) - len(found) >= 2  # connected components would keep one


def rows(draw: st.DrawFn) -> np.ndarray:
    """Signatures with families of copies and near-copies among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    made = [rng.integers(0, 2**32, SLOTS, dtype=np.uint32)]
    for _ in range(draw(st.integers(0, 40))):
        row = made[draw(st.integers(0, len(made) - 1))].copy()
        changed = rng.permutation(SLOTS)[: draw(st.sampled_from([0, 1, 10, 24, 26, 40, 64, SLOTS]))]
        row[changed] = rng.integers(0, 2**32, changed.size, dtype=np.uint32)
        made.append(row)
    return np.array(made)


@settings(max_examples=150, deadline=None)
@given(st.composite(rows)(), st.sampled_from([0.5, 0.7, 0.8, 0.95, 1.0]))
def test_nobody_is_dropped_without_a_kept_witness_that_is_older_and_like_it(
    signatures: np.ndarray, similarity: float
) -> None:
    found = list(near_duplicates(signatures, similarity))
    dropped = {row for row, _, _ in found}
    assert [row for row, _, _ in found] == sorted(dropped)
    for place, leader, similar in found:
        assert leader < place
        assert leader not in dropped
        assert similar == (signatures[place] == signatures[leader]).mean() >= similarity - 1e-9
    kept: set[bytes] = set()
    for place in range(len(signatures)):
        if place not in dropped:
            assert signatures[place].tobytes() not in kept, "an identical signature was not found"
            kept.add(signatures[place].tobytes())
    # What is appended changes nothing about what was there.
    assert list(near_duplicates(signatures[:-1], similarity)) == [one for one in found if one[0] < len(signatures) - 1]


def test_nearly_all_pairs_of_the_asked_for_similarity_are_found() -> None:
    rng = np.random.default_rng(7)
    for similarity in (0.5, 0.8, 0.9):
        base = rng.integers(0, 2**32, (500, SLOTS), dtype=np.uint32)
        copies = base.copy()
        changed = int(SLOTS * (1 - similarity))
        for row in copies:
            row[rng.permutation(SLOTS)[:changed]] = rng.integers(0, 2**32, changed, dtype=np.uint32)
        found = {row for row, _, _ in near_duplicates(np.concatenate([base, copies]), similarity)}
        assert len(found) >= 0.98 * 500


def test_a_family_of_many_copies_takes_time_like_its_size() -> None:
    rng = np.random.default_rng(8)
    family = np.tile(rng.integers(0, 2**32, (1, SLOTS), dtype=np.uint32), (20_000, 1))
    started = time.process_time()
    assert sum(1 for _ in near_duplicates(family, 0.8)) == 19_999
    assert time.process_time() - started < 5


def pages_of_a_template(rng: np.random.Generator, count: int, jaccard: float) -> np.ndarray:
    """Signatures of pages of which each two have this Jaccard index, because they share a template."""
    share = 2 * jaccard / (1 + jaccard)  # of a page's shingles
    least_of_template = rng.exponential(1 / share, SLOTS)
    least_of_page = rng.exponential(1 / (1 - share), (count, SLOTS))
    template = rng.integers(0, 2**32, SLOTS, dtype=np.uint32)
    own = rng.integers(0, 2**32, (count, SLOTS), dtype=np.uint32)
    return np.where(least_of_page > least_of_template, template, own)


def test_pages_of_one_template_take_time_like_their_number_and_their_copies_are_found() -> None:
    rng = np.random.default_rng(9)
    pages = pages_of_a_template(rng, 12_000, 0.6)
    copies = pages[rng.permutation(len(pages))[:300]]
    for row in copies:
        row[rng.permutation(SLOTS)[:12]] = rng.integers(0, 2**32, 12, dtype=np.uint32)
    began = time.process_time()
    dropped = {row for row, _, _ in near_duplicates(np.concatenate([pages, copies]), 0.8)}
    assert time.process_time() - began < 30  # it was 2; comparing all with all took 20
    assert sum(row >= len(pages) for row in dropped) >= 294
    assert sum(row < len(pages) for row in dropped) <= 12


def test_records_without_signatures_are_a_recipe_error_that_says_what_to_do() -> None:
    rule = NearDuplicateTexts()
    with pytest.raises(RecipeError, match="no column 'minhash'"):
        list(rule.decide(pa.table({"key": ["a"]}), str))
    with pytest.raises(RecipeError, match="expected 512 bytes"):
        list(rule.decide(pa.table({"key": ["a"], "minhash": pa.array([b"x"], pa.binary())}), str))
    with pytest.raises(RecipeError, match="expected 512 bytes"):
        list(rule.decide(pa.table({"key": ["a"], "minhash": ["text"]}), str))
    assert list(rule.decide(pa.table({"key": pa.array([], pa.string())}), str)) == []
    nothing = pa.table({"key": ["a", "b"], "minhash": pa.array([None, b""], pa.binary())})
    assert list(rule.decide(nothing, str)) == []
