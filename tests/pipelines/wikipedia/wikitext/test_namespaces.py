"""Links to files and categories are known on every wiki, by name or by their options."""

import bz2
import html
import re

import pytest

from stoker.pipelines.wikipedia.site import read_siteinfo
from stoker.pipelines.wikipedia.wikitext.clean import WikiLocale, plain_text
from stoker.pipelines.wikipedia.wikitext.namespaces import namespaces_of
from tests.data import SHARED, needs_shared

# A language, names of its namespaces of files and one of categories: MediaWiki, languages/messages.
NAMES = {
    "et": ("Fail Pilt", "Kategooria"), "bar": ("Datei Bild", "Kategorie"), "nb": ("Fil Bilde", "Kategori"),
    "be-tarask": ("Файл Выява", "Катэгорыя"), "gsw": ("Datei Bild", "Kategorie"), "nan": ("Tóng-àn", "Lūi-pia̍t"),
    "lt": ("Vaizdas", "Kategorija"), "ro": ("Fișier Imagine", "Categorie"), "hi": ("चित्र", "श्रेणी"),
    "vi": ("Tập_tin Hình", "Thể_loại"), "eo": ("Dosiero", "Kategorio"), "zh": ("文件 檔案 圖像", "分類"),
    "sr": ("Датотека Slika", "Kategorija"), "pl": ("Plik Grafika", "Kategoria"), "eu": ("Fitxategi Irudi", "Kategoria"),
}  # fmt: skip


@pytest.mark.parametrize("language", NAMES)
def test_files_and_categories_are_left_out_on_wikis_of_every_language(language: str) -> None:
    files, category = NAMES[language]
    page = "".join(f"[[{name}:X y|a|b]]" for name in [*files.split(), "File", "image"])
    assert plain_text(f"{page}Text[[{category}:X|y]][[Category:Y]]", WikiLocale.of(language)) == "Text"


def test_names_are_known_for_more_than_three_hundred_wikis() -> None:
    from stoker.pipelines.wikipedia.wikitext.namespaces import _read_table

    assert sum(bool(names) for names, _, _ in _read_table().values()) > 300
    assert namespaces_of("zh-unknown") == namespaces_of("zh")


HIDDEN = [
    "[[Xyz:A b.JPG|260px|pisi|A [[bear]]]]", "[[Xyz:A b|thumb|upright|A]]", "[[Xyz:A|200x300px]]",
    "[[A|thumb|200px|b]]",
    "[[Xyz:A.svg]]", "[[Xyz:A.png|B]]", "[[A.jpg|120px|left|{{convert|1|m}}]]", "[[Xyz:A.webm|thumb|b]]",
    "[[Xyz:A|x100px|b]]",
]  # fmt: skip
SHOWN = {
    "[[Thumb|thumb]]": "thumb", "[[Pixel|200px]] x": "200px x", "[[Mini: One|mini]]": "mini",
    "[[:File:A.jpg|the picture]]": "the picture", "[[Media:A.ogg|sound]]": "sound", "[[A|b|c]]": "b|c",
    "[[Star Trek: A]]": "Star Trek: A", "[[A.jpg]]": "A.jpg", "[[Media:A.jpg|a large one]]": "a large one",
}  # fmt: skip


@pytest.mark.parametrize("link", HIDDEN)
def test_a_link_with_the_options_of_a_file_is_one_whatever_its_namespace_is_called(link: str) -> None:
    assert plain_text(f"Tin {link} is soft.") == "Tin is soft."


def test_options_are_known_in_the_language_of_the_wiki() -> None:
    assert plain_text("Tin [[Xyz:a|pisi|püsti|b]] is.", WikiLocale.of("et")) == "Tin is."
    assert plain_text("Олово [[Xyz:a|200пкс|b]] мягкое.", WikiLocale.of("ru")) == "Олово мягкое."


@pytest.mark.parametrize("link", SHOWN)
def test_other_links_are_shown(link: str) -> None:
    assert plain_text(link) == SHOWN[link]


@needs_shared
@pytest.mark.parametrize("wiki", ["etwiki", "barwiki"])
def test_real_pages_of_small_wikis_leak_no_files(wiki: str) -> None:
    assert SHARED is not None
    path = SHARED.parent / "cases" / "wiki" / f"{wiki}-20211001-pages-articles.xml.bz2"
    if not path.is_file():
        pytest.skip("no excerpts of small wikis")
    export = bz2.decompress(path.read_bytes())
    locale = read_siteinfo(export, path.name).locale()
    texts = re.findall(r"<text[^>]*>(.*?)</text>", export.decode("utf-8"), re.DOTALL)
    assert texts
    for text in texts:
        assert not re.findall(r"\d+px|\w+\||\[\[|\]\]", plain_text(html.unescape(text), locale))
