"""Measures of texts: counts that a person agrees with, and signatures that never change."""

import hashlib
import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.text.measures import SLOTS, measures_of_text, minhash, shingles, word_hashes

PROSE = "Tin is a soft metal. It melts at 232 °C, and people have used it since the Bronze Age; don't eat it."


def estimate(text: str, other: str) -> float:
    left, right = (np.frombuffer(measures_of_text(each)["minhash"], "<u4") for each in (text, other))
    return float((left == right).mean())


def test_counts_are_those_that_a_person_makes() -> None:
    measures = measures_of_text("Two words\n\n  \nand 3 more.\n")
    assert {key: measures[key] for key in ("characters", "words", "lines")} == {
        "characters": 26,
        "words": 5,
        "lines": 2,
    }
    assert measures["mean_word_length"] == 3.2


def test_a_signature_never_changes() -> None:
    signature = measures_of_text(PROSE)["minhash"]
    assert len(signature) == 4 * SLOTS
    # A golden value: corpora of years hold it. A change is a decision and breaks deduplication against them.
    assert hashlib.sha256(signature).hexdigest() == "48f5da7578d00a31162450ac15490c28e1cf9abf6078c07af8c3762dcbc5a420"


def test_a_text_without_words_has_no_signature_so_it_is_similar_to_no_other() -> None:
    for text in ("", " \n", "--- !!! ...", "\u200b"):
        assert measures_of_text(text)["minhash"] == b""
        assert measures_of_text(text)["words"] == 0


def test_short_texts_are_told_apart() -> None:
    assert estimate("tin", "lead") == 0
    assert estimate("tin", "Tin!") == 1
    assert estimate("tin lead", "lead tin") == 0


def test_case_punctuation_and_blanks_do_not_matter_but_numbers_do() -> None:
    assert estimate(PROSE, PROSE.upper().replace(" ", "  ").replace(".", " -")) == 1
    assert estimate(PROSE, PROSE.replace("232", "233")) < 1


def test_an_accent_may_be_a_character_of_its_own() -> None:
    prose = "Über die Brücke ging ein müder Bäcker, und später grüßte ihn ein Schüler. " * 3
    composed, apart = unicodedata.normalize("NFC", prose), unicodedata.normalize("NFD", prose)
    assert composed != apart
    one, other = measures_of_text(composed), measures_of_text(apart)
    assert one["minhash"] == other["minhash"]
    assert (one["words"], one["mean_word_length"]) == (other["words"], other["mean_word_length"])
    assert other["characters"] == len(apart)  # of the text as it is published


def test_each_character_of_a_script_without_blanks_is_a_word() -> None:
    assert measures_of_text("鉄塔は高い。")["words"] == 5
    assert measures_of_text("Das ist 鉄!")["words"] == 3


@pytest.mark.parametrize("words", [4, 12, 60, 400, 5000])
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_the_estimate_is_near_the_similarity_for_short_and_long_texts(words: int, share: float) -> None:
    random.seed(words)
    errors = []
    for _ in range(30):
        pool = np.array([random.getrandbits(64) for _ in range(2 * words)], np.uint64)
        both = round(2 * words * share / (1 + share))
        words_of_text, other = pool[:words], np.concatenate([pool[:both], pool[words : 2 * words - both]])
        errors.append(float((minhash(words_of_text) == minhash(other)).mean()) - both / (2 * words - both))
    assert abs(np.mean(errors)) < 0.03  # 0.5 / sqrt(128 * 30) is a hundredth
    assert np.std(errors) < 0.06


@given(st.text())
def test_any_text_can_be_measured(text: str) -> None:
    measures = measures_of_text(text)
    assert measures["characters"] == len(text)
    assert 0 <= measures["words"] <= len(text.lower())
    assert (len(measures["minhash"]) == 0) == (measures["words"] == 0)
    assert 0 <= measures["repeated_share"] <= 1


def test_a_text_longer_than_one_pass_has_the_words_it_would_have_in_pieces() -> None:
    line = "one two three four five six seven eight nine ten\n"
    whole = word_hashes(line * 8000)[0]
    assert np.array_equal(whole, np.tile(word_hashes(line)[0], 8000))
    assert shingles(whole).size == whole.size - 2


def test_one_endless_word_is_measured_too() -> None:
    assert measures_of_text("x" * 1_000_000)["words"] < 10


def test_lone_surrogates_separate_words() -> None:
    assert measures_of_text("a\ud800b")["words"] == 2
