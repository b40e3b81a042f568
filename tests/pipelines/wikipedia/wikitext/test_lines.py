"""What removed templates leave around them is mended."""

import pytest

from stoker.pipelines.wikipedia.wikitext.clean import plain_text

CASES = {
    "Verlag, 2009, {{x}}.": "Verlag, 2009.",
    "Verlag, 2009, {{x}}": "Verlag, 2009",
    "* Verlag, 2009, {{x}}\n* Other, {{x}} \nas follows: {{x}}\nx": "Verlag, 2009\nOther\nas follows:\nx",
    "See {{x}}, {{x}} and y": "See and y",
    "It has, {{x}}, and more.": "It has, and more.",
    "as follows: {{x}}.": "as follows.",
    "one; {{x}}, two": "one; two",
    "one, {{x}}; two": "one; two",
    "Smith Inc. {{x}}, which": "Smith Inc., which",
    "in 2009. {{x}}. Then": "in 2009. Then",
    "and so on {{x}}...": "and so on...",
    "錫は、{{x}}、金属である。": "錫は、金属である。",
    "錫（{{x}}、すず）は{{x}}、{{x}}、金属": "錫（すず）は、金属",
    "錫（すず、{{x}}）は金属、{{x}}。": "錫（すず）は金属。",
    "錫（{{x}}、{{y}}）は金属": "錫は金属",
    "錫，{{x}}，是金属，{{x}}。": "錫，是金属。",
    "{{x}}, a metal": "a metal",
    "Text.\n{{x}}; a metal": "Text.\na metal",
    "Tin ({{x}}, {{y}}; soft) is": "Tin (soft) is",
    "Tin (soft, {{x}}) is": "Tin (soft) is",
    "Tin, {{x}} a metal, is": "Tin, a metal, is",
}


@pytest.mark.parametrize("wikitext", CASES)
def test_punctuation_around_a_gap_is_mended(wikitext: str) -> None:
    assert plain_text(wikitext) == CASES[wikitext]


STRAY = {
    "a }} b": "a }} b",
    "a ]] b": "a ]] b",
    "{{nowrap|a]] b}} c": "a]] b c",
    "[[a|b}} c]] d": "b}} c d",
    "[[File:x.jpg|thumb|a }} b]]Tin": "Tin",
    "[[a]]]]": "a]]",
    "{{nowrap|a}}}}": "a}}",
    "{{{1|a}}} b": "a b",
}


@pytest.mark.parametrize("wikitext", STRAY)
def test_a_closing_bracket_that_closes_nothing_is_text(wikitext: str) -> None:
    assert plain_text(wikitext) == STRAY[wikitext]


def test_a_page_keeps_its_first_letter_where_markup_took_the_line_before() -> None:
    assert plain_text("|}Berlin is a city.\n{|\n|a\n|}") == "Berlin is a city."
