"""Apostrophes that a reader sees stay, bold and italic marks go, by MediaWiki's rules."""

import re
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.wikipedia.wikitext.clean import plain_text
from stoker.pipelines.wikipedia.wikitext.emphasis import strip_emphasis

# The rules: MediaWiki 1.39, includes/parser/Parser.php, doQuotes.
CASES = {
    "''Ann's Tin'''s cover": "Ann's Tin's cover",  # odd bold, odd italic: the bold one after a longer word
    "the ''Beagle'''s crew and ''Tin''": "the Beagle's crew and Tin",
    "l'''eau'' de ''vie''": "l'eau de vie",  # after a word of one letter
    "a long'''word l'''eau ''x'' '''b''": "a longword l'eau x b",  # a word of one letter before a longer one
    "x '''y'' z": "x 'y z",  # only one after a space is left
    "'''''both''' italic''": "both italic",
    "'''''both'' bold'''": "both bold",
    "''''Tin'''": "'Tin",  # of four, the first is text
    "''''Tin''''": "'Tin'",
    "''''''Tin'''''": "'Tin",  # of more than five, all but five
    "'''''''": "''",
    "'' open\nnext '''line\n''third''": "open\nnext line\nthird",  # each line by itself
    "''a'''b<br>c'''d''": "ab\ncd",  # a tag's new line is none for the marks
    "it's '' empty '' don't": "it's empty don't",
    "''[[Tin|''Tin'' ore]]": "Tin ore",  # marks on both sides of a bracket are two
    "''[[Tin|''Tin'' ore]]''": "Tin ore",
    "''{{nowrap|''Tin'' ore}}''": "Tin ore",
    "''<span>''Tin''</span>''": "Tin",
    "''Tin''<ref>x</ref>''ore''": "Tinore",
    "''Tin''<nowiki />'s": "Tin's",
    "[['s-Hertogenbosch]] and ''[['t Gooi]]''": "'s-Hertogenbosch and 't Gooi",
    "'<!-- -->'Tin''": "Tin",  # a comment keeps nothing apart
}


@pytest.mark.parametrize("wikitext", CASES)
def test_apostrophes_are_paired_as_mediawiki_pairs_them(wikitext: str) -> None:
    assert plain_text(wikitext) == CASES[wikitext]


@given(st.lists(st.sampled_from(["''", "'''", "''''", "'''''", "'''''''", " a ", "word", " ", "b"])))
def test_a_line_keeps_as_many_apostrophes_as_its_runs_have_beyond_marks(parts: list[str]) -> None:
    line = "".join(parts)
    runs = [len(run) for run in re.findall("'{2,}", line)]
    bolds = sum(length != 2 for length in runs)
    italics = sum(length == 2 or length >= 5 for length in runs)
    one_is_text = bolds % 2 and italics % 2 and any(length in (3, 4) for length in runs)
    beyond = sum(length == 4 for length in runs) + sum(max(0, length - 5) for length in runs)
    assert plain_text(line).count("'") == beyond + bool(one_is_text)


def test_text_with_few_marks_costs_little_more_than_a_search_for_them() -> None:
    page = ("Tin is a chemical element with the symbol Sn, and it's soft at room temperature. " * 40 + "''Sn''\n") * 300

    def seconds(call: Callable[[], object]) -> float:
        began = time.process_time()
        call()
        return time.process_time() - began

    search = min(seconds(lambda: page.count("''")) for _ in range(15))
    assert min(seconds(lambda: strip_emphasis(page)) for _ in range(15)) < 6 * search
