"""Near-duplicate texts: nobody is dropped without a kept witness, and templates are no copies."""

import random

import pyarrow as pa
import pytest

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.rule import Decision
from stoker.pipelines.rules.near_duplicate_texts import NearDuplicateTexts
from stoker.pipelines.text.measures import measures_of_text
from stoker.storage.shards.sample import Sample
from stoker.testing import decide

WORDS = [f"{a}{b}" for a in "bdfgklmnprstvz" for b in ("an", "el", "is", "or", "um", "ake", "ind", "ost", "ul", "ey")]


def decided(texts: list[str], similarity: float = 0.8) -> list[Decision]:
    table = pa.table(
        {
            "key": [f"t{place}" for place in range(len(texts))],
            "minhash": pa.array([measures_of_text(text)["minhash"] for text in texts], pa.binary()),
        }
    )
    return decide(NearDuplicateTexts(similarity=similarity), table)


def prose(seed: int, words: int = 200) -> list[str]:
    return random.Random(seed).choices(WORDS, k=words)


def edited(words: list[str], share: float, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [rng.choice(WORDS) if rng.random() < share else word for word in words]


def test_the_older_of_two_copies_stays_and_is_named() -> None:
    text = " ".join(prose(1))
    found = decided(["something else entirely here", text, text.upper() + "!"])
    assert found == [Decision("t2", "drop", "near_duplicate", witness="t1", similarity=1.0)]


def test_small_edits_are_found_and_large_ones_are_not() -> None:
    base = prose(2, 600)
    small, large = " ".join(edited(base, 0.01, 3)), " ".join(edited(base, 0.2, 4))
    found = decided([" ".join(base), small, large])
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
    found = {one.key: (one.value, one.witness) for one in decide(NearDuplicateTexts(), table)}
    assert found == {"b": ("label_conflict", "a"), "c": ("near_duplicate", "a"), "d": ("near_duplicate", "a")}


def test_texts_without_words_and_short_texts_do_not_fall_together() -> None:
    assert decided(["", "", "...", "!!!", "\n"]) == []
    assert decided(["tin", "lead", "zinc", "iron ore", "iron oxide", "gold coin here", "gold coin there"]) == []
    assert [one.key for one in decided(["tin", "Tin."])] == ["t1"]


def test_pages_that_share_a_template_all_stay() -> None:
    frame = prose(5, 170)
    pages = [" ".join(frame + prose(100 + number, 75)) for number in range(300)]
    assert decided(pages) == []


def test_a_chain_of_small_changes_does_not_drop_what_differs_from_all_that_is_kept() -> None:
    chain = [prose(6, 400)]
    for step in range(12):
        chain.append(edited(chain[-1], 0.02, step))
    texts = [" ".join(words) for words in chain]
    found = {one.key: one.witness for one in decided(texts)}
    assert found
    assert not set(found) & set(found.values())
    assert len(texts) - len(found) >= 2  # connected components would keep one


def test_records_without_signatures_are_a_recipe_error_that_says_what_to_do() -> None:
    rule = NearDuplicateTexts()
    with pytest.raises(RecipeError, match="no column 'minhash'"):
        decide(rule, pa.table({"key": ["a"]}))
    with pytest.raises(RecipeError, match="expected 512 bytes"):
        decide(rule, pa.table({"key": ["a"], "minhash": pa.array([b"x"], pa.binary())}))
    with pytest.raises(RecipeError, match="expected 512 bytes"):
        decide(rule, pa.table({"key": ["a"], "minhash": ["text"]}))
    assert decide(rule, pa.table({"key": pa.array([], pa.string())})) == []
    nothing = pa.table({"key": ["a", "b"], "minhash": pa.array([None, b""], pa.binary())})
    assert decide(rule, nothing) == []


def test_what_the_estimate_leaves_open_is_decided_by_the_texts() -> None:
    base = prose(7, 400)
    texts = [" ".join(base), " ".join(edited(base, 0.03, 1))]
    samples = [Sample(f"t{place}", {"txt": text.encode()}) for place, text in enumerate(texts)]
    table = pa.table(
        {
            "key": [sample.key for sample in samples],
            "minhash": pa.array([measures_of_text(text)["minhash"] for text in texts], pa.binary()),
        }
    )
    runs = [{tuple(text.split()[place : place + 3]) for place in range(398)} for text in texts]
    exact = len(runs[0] & runs[1]) / len(runs[0] | runs[1])
    for threshold, expected in ((exact - 0.001, 1), (exact + 0.001, 0)):
        found = decide(NearDuplicateTexts(similarity=threshold), table, samples=samples)
        assert len(found) == expected
        assert all(one.verified and one.similarity == pytest.approx(exact) for one in found)
