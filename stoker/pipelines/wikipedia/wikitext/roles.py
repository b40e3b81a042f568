"""Which template has which role, by wiki: the table in ``roles.toml`` and the functions it names."""

import tomllib
from collections.abc import Callable
from functools import cache
from importlib.resources import files

from stoker.pipelines.wikipedia.wikitext import numbers, renderers
from stoker.pipelines.wikipedia.wikitext.names import CODES
from stoker.pipelines.wikipedia.wikitext.renderers import TemplateCall

Renderer = Callable[[TemplateCall], str]

# The roles of ``roles.toml``.
ROLES: dict[str, Renderer] = {
    "first": renderers.first,
    "second": renderers.second,
    "last": renderers.last,
    "joined": renderers.joined,
    "spaced": renderers.spaced,
    "first_two": lambda call: f"{call.arg(0)} {call.arg(1)}".strip(),
    "listed": renderers.listed,
    "lines": renderers.lines,
    "values": renderers.values,
    "keys": renderers.keys,
    "after_language": renderers.after_language,
    "named_language": renderers.first,
    "langx": renderers.langx,
    "link": renderers.link,
    "third_or_first": renderers.third_or_first,
    "second_or_first": renderers.second_or_first,
    "translated_link": renderers.translated_link,
    "quote": renderers.quote,
    "quoted": renderers.quoted,
    "literal": renderers.literal_translation,
    "date": renderers.date,
    "as_of": renderers.as_of,
    "circa": renderers.circa,
    "flourished": renderers.flourished,
    "reign": renderers.reign,
    "marriage": renderers.marriage,
    "century": renderers.century,
    "roman_century": renderers.roman_century,
    "birth_and_death": renderers.birth_and_death,
    "hours": lambda call: " h ".join(arg.strip() for arg in call.args[:2] if arg.strip()),
    "convert": lambda call: numbers.convert(call.args, call.named, call.language),
    "quantity": lambda call: numbers.quantity(call.args, call.named, call.language),
    "uncertain": lambda call: numbers.number_with_uncertainty(call.args, call.named),
    "fraction": lambda call: numbers.fraction(call.args),
    "power": renderers.power_of_ten,
    "power_of_number": renderers.number_times_power,
    "ten_to_the": lambda call: "10" + numbers.superscript(call.arg(0)),
    "superscript": renderers.superscript,
    "ordinal_mark": renderers.ordinal_mark,
    "height": renderers.height,
    "money": renderers.money,
    "currency": renderers.currency,
    "ruby": renderers.ruby,
    "nihongo": renderers.nihongo,
    "nihongo3": lambda call: renderers.nihongo(
        TemplateCall(call.name, [call.arg(2) or call.arg(0), call.arg(1)], {}, call.language)
    ),
    "chinese": renderers.chinese,
    "named_ship": renderers.named_ship,
    "ship": renderers.ship,
    "ship_class": renderers.ship_class,
    "isbn": renderers.isbn,
    "identifier": renderers.identifier,
    "note": renderers.musical_sign,
    "nuclide": renderers.nuclide,
    "angle": lambda call: f"⟨{call.arg(0)}⟩",
    "square": lambda call: f"[{call.arg(0)}]",
}
CITATION = "citation"  # the role of templates that cite a work: they are shown as items of lists alone
DROPPED = "dropped"  # the role of templates that show nothing in the text
_ARGUMENTS = "citation_arguments"  # the part of ``roles.toml`` with names of their arguments


@cache
def renderers_of(language: str) -> dict[str, Renderer]:
    """The renderers of a wiki's templates by name in lower case. Citations have none.

    >>> renderers_of("ja")["仮リンク"] is ROLES["link"], "仮リンク" in renderers_of("de")
    (True, False)
    """
    own: dict[str, Renderer] = {}
    common: dict[str, Renderer] = {}
    for role, names in _read_table().items():
        if role in ROLES:
            common.update(dict.fromkeys(names.get("all", ()), ROLES[role]))
            own.update(dict.fromkeys(names.get(language, ()), ROLES[role]))
    left_out = citations_of(language) | dropped_in(language)
    return {name: role for name, role in (common | own).items() if name in own or name not in left_out}


@cache
def citations_of(language: str) -> frozenset[str]:
    """The names of a wiki's templates that cite works, in lower case."""
    return _names_of(CITATION, language)


@cache
def dropped_in(language: str) -> frozenset[str]:
    """The names of a wiki's templates that are known to show nothing in the text, in lower case."""
    return _names_of(DROPPED, language)


def _names_of(role: str, language: str) -> frozenset[str]:
    names = _read_table()[role]
    return frozenset([*names["all"], *names.get(language, ())])


def cited_work(call: TemplateCall) -> str:
    """A cited work as one line: author, year, title and publisher; empty if it has no title.

    >>> cited_work(TemplateCall("cite book", [], {"last": "Lee", "year": "1999", "title": "Tin"}, "en"))
    'Lee (1999). Tin'
    """
    ranks = _citation_ranks()
    found: dict[str, tuple[int, str]] = {}
    for name, value in call.named.items():
        part, rank = ranks.get(name, ("", 0))
        if part and value and (part not in found or rank < found[part][0]):
            found[part] = rank, value
    if "title" not in found:
        return ""
    author, surname, given_name, year, title, container, publisher = (found.get(part, (0, ""))[1] for part in _PARTS)
    author = author or ", ".join(filter(None, (surname, given_name)))
    parts = (" ".join(filter(None, (author, year and f"({year})"))), title, container, publisher)
    return ". ".join(part.rstrip(".") for part in parts if part)


_PARTS = ("author", "surname", "given_name", "year", "title", "container", "publisher")


@cache
def _citation_ranks() -> dict[str, tuple[str, int]]:
    """The part of a citation that an argument's name stands for, and how many names of that part come before it."""
    ranks: dict[str, tuple[str, int]] = {}
    for part in _PARTS:
        for rank, name in enumerate(_read_table()[_ARGUMENTS][part]):
            ranks.setdefault(name, (part, rank))
    return ranks


def by_prefix(name: str) -> Renderer | None:
    """The renderer of a template whose name says what it is, such as {{lang-de|…}} or {{link-ja|…}}.

    >>> by_prefix("lang-de") is ROLES["first"], by_prefix("link-ja") is ROLES["third_or_first"], by_prefix("infobox")
    (True, True, None)
    """
    prefix, dash, code = name.partition("-")
    if dash and 2 <= len(code) <= 8 and code.replace("-", "").isalpha():
        return _PREFIXES.get(prefix)
    return ROLES["first"] if name in CODES and len(name) <= 3 else None


_PREFIXES = {
    "lang": ROLES["first"], "ny": ROLES["first"], "ipa": ROLES["first"], "zitat": ROLES["quote"],
    "jez": ROLES["first"], "јез": ROLES["first"], "link": ROLES["third_or_first"],
}  # fmt: skip


@cache
def _read_table() -> dict[str, dict[str, list[str]]]:
    """Role → language → names."""
    text = files("stoker.pipelines.wikipedia.wikitext").joinpath("roles.toml").read_text("utf-8")
    return {
        role: {
            language: [" ".join(name.split()) for name in names.split(", ") if name.strip()]
            for language, names in languages.items()
        }
        for role, languages in tomllib.loads(text.replace(",\n", ", ")).items()
    }
