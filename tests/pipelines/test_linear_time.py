"""Wikitext and web pages take time linear in their length: four times the page, about four times the seconds."""

import random
import time

import pytest

from stoker.pipelines.web.pages.html import parse_page
from stoker.pipelines.wikipedia.page_record import page_structure
from stoker.pipelines.wikipedia.wikitext.clean import WikiLocale, plain_text
from stoker.pipelines.wikipedia.wikitext.roles import renderers_of

_MAX_GROWTH = 6.0  # from n to 4n
_MAX_SECONDS_A_MEGABYTE = 4.0  # of processor time, for three passes over the page
_NOISE_S = 0.1
_LENGTH = 100_000  # characters
CHINESE = WikiLocale.of("zh")  # a wiki with variants

# What wikitext is made of: what opens, what closes, and what stands between.
OPENERS = (
    "{{a|", "{{nowrap|", "{{#if:", "{{#switch:", "{{cite book|", "\n* {{cite book|", "{{{1|", "{{", "[[a|", "[[File:x|",
    "[[Category:", "[[", "\n{|\n|", "\n{|", "<ref>", '<ref name="a ', "<ref><ref/>", "<references/>", "<nowiki>",
    "<math>", "<pre>", "<table>", "<sup>1", "<gallery>", "<!--", "<", "-{", "-{a|", "-{zh-cn:a;", "[http:x ", "[//",
    "[", "(", "(or ", "（", "__A", "&amp", "&#",
)  # fmt: skip
CLOSERS = (
    "}}", "}}}", "]]", "\n|}", "</ref>", "</nowiki>", "</math>", "</table>", "</sup>", "-->", ">", "}-", "]", ")", "）",
    "__", ";",
)  # fmt: skip
BETWEEN = (
    "''", "'''", "'''''", "'", "\n", "\n\n", "\n== ", "==", "\n= x =", "\n*#:;", "\n;a : b", "\n| a || b", "\n! a !! b",
    "\n----", "\n ", " ", "\t", "\xa0", "&nbsp;", "{{x}}", ", {{x}}", "({{x}};", "<br>", "<i>'", "|", "=", "=>", ":",
    "_A", ",", "、", "x", "word ", "zh-cn:",
)  # fmt: skip


def seconds(page: str) -> float:
    """Processor time of all that is done with a page's text, with and without tables and variants."""
    began = time.process_time()
    plain_text(page)
    plain_text(page, CHINESE, tables=True)
    page_structure(page, CHINESE)
    return time.process_time() - began


def hostile_page(chance: random.Random, length: int) -> str:
    """A unit many times, perhaps a second one after it, perhaps something at the page's ends."""
    first, second = (
        "".join(chance.choice(chance.choice((OPENERS, OPENERS, CLOSERS, BETWEEN))) for _ in range(chance.randint(1, 3)))
        for _ in range(2)
    )
    head, tail = (chance.choice(("", chance.choice(OPENERS), chance.choice(CLOSERS))) for _ in range(2))
    shape = chance.randrange(3)
    if shape == 0:
        middle = first * (length // len(first))
    elif shape == 1:  # as in deep nesting: all openers, then all closers
        middle = first * (length // 2 // len(first)) + second * (length // 2 // len(second))
    else:  # long stretches of text between few
        middle = (first + "text " * (length // 160) + second) * 32
    return head + middle + tail


def check(name: str, small: str, large: str) -> None:
    growth = len(large) / len(small)
    for _attempt in range(3):  # a busy machine may slow one of them
        before, after = seconds(small), seconds(large)
        if after <= _MAX_GROWTH * growth / 4 * before + _NOISE_S and after < _MAX_SECONDS_A_MEGABYTE * len(large) / 1e6:
            return
    pytest.fail(f"{name}: {len(small):,} characters take {before:.2f} s, {len(large):,} take {after:.2f} s")


@pytest.mark.parametrize("unit", [*OPENERS, *CLOSERS, *BETWEEN])
def test_one_thing_repeated_takes_linear_time(unit: str) -> None:
    check(repr(unit), unit * (_LENGTH // len(unit)), unit * (4 * _LENGTH // len(unit)))


def _check_random_pages(numbers: range) -> None:
    for number in numbers:
        pair = (hostile_page(random.Random(number), size) for size in (_LENGTH // 4, _LENGTH))
        check(f"page {number}", *pair)


def test_random_hostile_pages_take_linear_time() -> None:
    _check_random_pages(range(60))


@pytest.mark.nightly
def test_a_thousand_random_hostile_pages_take_linear_time() -> None:
    _check_random_pages(range(1000, 2000))


def test_no_line_of_footnotes_that_are_not_closed_is_searched_again_for_each() -> None:
    for unit in ("<ref>", "<ref>x <ref/>", "<ref>x <references/>"):
        check(unit, unit * (100_000 // len(unit)), unit * (1_000_000 // len(unit)))


@pytest.mark.parametrize("language", ["en", "de", "ja"])
def test_no_template_shows_its_arguments_more_often_than_they_are_written(language: str) -> None:
    """Else templates within each other would make a text that doubles with each level."""
    for name in renderers_of(language):
        page = f"{{{{{name}|de|" * 30 + "Tin|Tin|Tin" + "}}" * 30
        assert len(plain_text(page, WikiLocale.of(language))) < 30 * len(page), name


LONG = "http://example.com" + "/a" * 2000 + "/"  # the URL of a page; each of its links is joined with it
TAGS = (
    "<picture><source srcset='a 1w'>", "<source srcset='a 1w, b 2w'><img src=b>", "<a href=x>", "<a href=../../x>",
    "<a href=x.jpg><img src=b></a>", "<area href=x>", "<link rel=next href=x>", "<link rel=license href=x>",
    "<base href=x>", "<base href=ftp:>", "<figure><a rel=license href=x></figure>", "<figure><img src=a></figure>",
    "<figure><figcaption>x", "<meta name=robots content='a,b:c'>", "<a rel=author href=x>x", "<title>x</title>",
)  # fmt: skip


@pytest.mark.parametrize("tag", TAGS)
def test_tags_of_a_web_page_take_linear_time_whatever_its_url(tag: str) -> None:
    def taken(length: int) -> float:
        page = f"<picture>{tag * (length // len(tag))}".encode()
        began = time.process_time()
        parse_page(page, LONG)
        return time.process_time() - began

    for _attempt in range(3):  # a busy machine may slow one of them
        before, after = taken(_LENGTH // 2), taken(2 * _LENGTH)
        if after <= _MAX_GROWTH * before + _NOISE_S and after < 3:
            return
    pytest.fail(f"{_LENGTH // 2:,} characters take {before:.2f} s, {2 * _LENGTH:,} take {after:.2f} s")


def test_a_page_of_many_different_links_ends_soon_though_its_url_is_long() -> None:
    def taken(links: int) -> float:
        began = time.process_time()
        parse_page("".join(f"<a href=x{number}>" for number in range(links)).encode(), LONG)
        return time.process_time() - began

    for _attempt in range(3):  # a busy machine may slow one of them
        before, after = taken(5_000), taken(40_000)
        if after < 1.5 * 8 * before + _NOISE_S:
            return
    pytest.fail(f"5,000 links take {before:.2f} s, 40,000 take {after:.2f} s")
