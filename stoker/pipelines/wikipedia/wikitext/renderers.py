"""What known templates show: one small function for each way of showing arguments. ``roles`` says which has which."""

import re
from dataclasses import dataclass

from stoker.pipelines.wikipedia.wikitext import numbers
from stoker.pipelines.wikipedia.wikitext.names import CODES, CURRENCIES, LANGUAGES
from stoker.pipelines.wikipedia.wikitext.tags import word_set


@dataclass(frozen=True, slots=True)
class TemplateCall:
    """A template with its arguments, as a page uses it."""

    name: str  # as written
    args: list[str]  # by position
    named: dict[str, str]  # names in lower case
    language: str  # of the wiki

    def arg(self, index: int) -> str:
        """The argument at an index, from 0; empty if there is none."""
        return self.args[index].strip() if index < len(self.args) else ""


def first(call: TemplateCall) -> str:
    """The first argument."""
    return call.arg(0)


def second(call: TemplateCall) -> str:
    """The second argument."""
    return call.arg(1)


def last(call: TemplateCall) -> str:
    """The last argument."""
    return call.args[-1].strip() if call.args else ""


def after_language(call: TemplateCall) -> str:
    """The second argument where the first is the code of a language, as in {{IPA|de|tsɪn}}; else the first."""
    code = call.arg(0).lower()
    return call.arg(1) if call.arg(1) and (code in CODES or code in LANGUAGES or code in _ISO_639_2) else call.arg(0)


_ISO_639_2 = word_set("""
    deu ger eng fra fre lat ita spa rus ell gre ces cze slk slo pol hun ukr heb ara tur nld dut swe dan nor fin por ron
    rum srp hrv slv bul jpn zho chi kor fas per san hin
""")


def joined(call: TemplateCall) -> str:
    """All arguments, joined."""
    return "".join(arg.strip() for arg in call.args)


def spaced(call: TemplateCall) -> str:
    """All arguments, with spaces."""
    return " ".join(arg.strip() for arg in call.args if arg.strip())


def listed(call: TemplateCall) -> str:
    """All arguments, with commas."""
    return ", ".join(arg.strip() for arg in call.args if arg.strip())


def lines(call: TemplateCall) -> str:
    """All arguments, a line each."""
    return "\n" + "\n".join(arg.strip() for arg in call.args if arg.strip()) + "\n"


def quote(call: TemplateCall) -> str:
    """A block quotation, on lines of its own."""
    text = call.named.get("text") or call.named.get("quote") or call.arg(0)
    return f"\n{text}\n" if text else ""


def quoted(call: TemplateCall) -> str:
    """The first argument in the quotation marks of the wiki's language."""
    left, right = {"de": ("„", "“"), "fr": ("« ", " »"), "ru": ("«", "»")}.get(call.language, ("“", "”"))
    return f"{left}{call.arg(0)}{right}" if call.arg(0) else ""


def foreign_word(call: TemplateCall, code: str) -> str:
    """A word of another language, with that language's name before it on English wikis."""
    text = call.arg(0) or call.named.get("text", "")
    name = LANGUAGES.get(code, "") if call.language == "en" else ""
    return f"{name}: {text}" if name and text else text


def langx(call: TemplateCall) -> str:
    """``{{langx|de|Zinn}}``"""
    return foreign_word(TemplateCall(call.name, call.args[1:], call.named, call.language), call.arg(0).lower())


def nihongo(call: TemplateCall) -> str:
    """``{{nihongo|Tin|錫|suzu}}``"""
    kanji = ", ".join(arg.strip() for arg in call.args[1:4] if arg.strip())
    return f"{call.arg(0)} ({kanji})" if call.arg(0) and kanji else call.arg(0) or kanji


def chinese(call: TemplateCall) -> str:
    """``{{zh|c=錫|p=xī}}``"""
    forms = (("c", "Chinese"), ("s", "simplified Chinese"), ("t", "traditional Chinese"), ("p", "pinyin"))
    return "; ".join(f"{name}: {call.named[key]}" for key, name in forms if call.named.get(key))


def ruby(call: TemplateCall) -> str:
    """A word, and its reading in brackets."""
    left, right = ("（", "）") if call.language == "ja" else ("(", ")")
    return f"{call.arg(0)}{left}{call.arg(1)}{right}" if call.arg(1) else call.arg(0)


def date(call: TemplateCall) -> str:
    """Year, month and day."""
    return numbers.format_date(call.args, call.named, call.language)


def as_of(call: TemplateCall) -> str:
    """``{{as of|2016|lc=y}}``"""
    if "alt" in call.named:
        return call.named["alt"]
    word = "since" if call.named.get("since") else "as of"
    word = word if call.named.get("lc") or call.named.get("since") == "lc" else word.capitalize()
    return f"{word} {numbers.format_date(call.args, {'df': 'y'}, call.language)}"


def circa(call: TemplateCall) -> str:
    """``{{circa|1500}}``"""
    return "c. " + " – c. ".join(arg.strip() for arg in call.args if arg.strip()) if call.args else "c."


def marriage(call: TemplateCall) -> str:
    """``{{marriage|Ann|1990|1999}}``"""
    years = "–".join(arg.strip() for arg in call.args[1:3] if arg.strip())
    return f"{call.arg(0)} (m. {years})" if years else call.arg(0)


def height(call: TemplateCall) -> str:
    """``{{height|m=1.8}}``"""
    units = (("m", "m"), ("cm", "cm"), ("ft", "ft"), ("in", "in"))
    return " ".join(f"{call.named[key]} {unit}" for key, unit in units if call.named.get(key))


def money(call: TemplateCall) -> str:
    """An amount in the currency that the template is named after."""
    return CURRENCIES.get(call.name.strip().lower(), "") + call.arg(0) if call.arg(0) else ""


def currency(call: TemplateCall) -> str:
    """``{{currency|5|USD}}``"""
    code = call.arg(1) or call.named.get("code", "")
    return CURRENCIES.get(code.lower(), f"{code} ".lstrip()) + (call.arg(0) or call.named.get("amount", ""))


def ship(call: TemplateCall) -> str:
    """``{{ship|HMS|Beagle}}``"""
    return f"{call.arg(0)} {call.arg(1)}".strip()


def named_ship(call: TemplateCall) -> str:
    """``{{HMS|Beagle}}``"""
    return f"{call.name} {call.arg(0)}"


def ship_class(call: TemplateCall) -> str:
    """``{{sclass|Dido|cruiser}}``"""
    return f"{call.arg(0)}-class {call.arg(1)}".strip()


def century(call: TemplateCall) -> str:
    """The French template: ``{{s|XIX}}``."""
    return f"{call.arg(0)}e siècle" + (" av. J.-C." if call.name.startswith("-") else "")


def literal_translation(call: TemplateCall) -> str:
    """``{{lit|word}}``"""
    return f"lit. '{call.arg(0)}'" if call.arg(0) else ""


def third_or_first(call: TemplateCall) -> str:
    """A link to a missing page: title, title elsewhere, label."""
    return call.arg(2) or call.arg(0)


def second_or_first(call: TemplateCall) -> str:
    """A link to a missing page: title, label, language, title elsewhere."""
    return call.arg(1) or call.arg(0)


def translated_link(call: TemplateCall) -> str:
    """A link to a missing page: language, title elsewhere, title, label."""
    return call.arg(3) or call.arg(2) or call.arg(1)


def link(call: TemplateCall) -> str:
    """A link to a missing page: its label or title where they are named, else the first argument."""
    return next((call.named[key] for key in _LABELS if call.named.get(key)), "") or call.arg(0)


# Names of a label, then of a title, in the order in which they count.
_LABELS = (
    "lt",
    "label",
    "text",
    "texte",
    "texto",
    "текст",
    "trad-text",
    "نص",
    "3",
    "fr",
    "عر",
    "título",
    "titel",
    "title",
    "تر",
)


def values(call: TemplateCall) -> str:
    """Every argument, with commas: ``{{jpn|j=漢字|hg=かんじ}}``."""
    return ", ".join(value for value in [*(arg.strip() for arg in call.args), *call.named.values()] if value)


def keys(call: TemplateCall) -> str:
    """Keys of a keyboard: ``{{key press|Ctrl|C}}``."""
    return "+".join(arg.strip() for arg in call.args if arg.strip())


def power_of_ten(call: TemplateCall) -> str:
    """``{{e|9}}`` behind a number."""
    return f"×10{numbers.superscript(call.arg(0))}" if call.arg(0) else ""


def number_times_power(call: TemplateCall) -> str:
    """``{{ZahlExp|1,5|9|post=J}}``"""
    unit = call.named.get("post", "")
    return f"{call.arg(0)} × 10{numbers.superscript(call.arg(1))}{' ' + unit if unit else ''}"


def ordinal_mark(call: TemplateCall) -> str:
    """The French raised letters behind a number: ``XX{{e}}``."""
    return call.arg(0) or call.name.strip()


def superscript(call: TemplateCall) -> str:
    """A raised argument, in superscript digits where it is a number."""
    return numbers.superscript(call.arg(0)) if call.arg(0).lstrip("-−").isdigit() else call.arg(0)


def flourished(call: TemplateCall) -> str:
    """``{{fl.|1200}}``"""
    years = "–".join(arg.strip() for arg in call.args[:2] if arg.strip())
    return f"fl. {years}" if years else "fl."


def reign(call: TemplateCall) -> str:
    """``{{reign|1189|1199}}``"""
    years = "–".join(arg.strip() for arg in call.args[:2] if arg.strip())
    return f"r. {years}" if years else ""


def roman_century(call: TemplateCall) -> str:
    """The century of Spanish, Catalan and Portuguese wikis: ``{{siglo|XIX||s}}``."""
    word = {"ca": "segle ", "pt": "século "}.get(call.language, "siglo " if call.arg(2)[:1] == "s" else "")
    era = " a. C." if call.arg(1)[:1] == "a" else ""
    return f"{word}{call.arg(0)}{era}" if call.arg(0) else ""


def birth_and_death(call: TemplateCall) -> str:
    """``{{bd|1900年|1月1日|1980年|2月2日}}``, with brackets."""
    born, died = ("".join(call.arg(index) for index in pair) for pair in ((0, 1), (2, 3)))
    return f"（{born}－{died}）" if born or died else ""


def isbn(call: TemplateCall) -> str:
    """The numbers of books that have ten or thirteen digits; others are none."""
    known = [arg.strip() for arg in call.args if len(_NOT_ISBN.sub("", arg)) in (10, 13)]
    return f"ISBN {', '.join(known)}" if known else ""


_NOT_ISBN = re.compile(r"[^0-9Xx]")


def identifier(call: TemplateCall) -> str:
    """``{{OCLC|123}}``"""
    return f"{call.name.strip().upper()} {call.arg(0)}" if call.arg(0) else ""


def musical_sign(call: TemplateCall) -> str:
    """``{{music|flat}}``"""
    signs = {
        "flat": "♭",
        "b": "♭",
        "sharp": "♯",
        "#": "♯",
        "natural": "♮",
        "n": "♮",
        "doublesharp": "𝄪",
        "doubleflat": "𝄫",
    }
    return signs.get(call.arg(0).lower(), call.arg(0))


def nuclide(call: TemplateCall) -> str:
    """``{{nuclide|U|235}}`` or ``{{nuclide|uranium|235}}``"""
    element, mass = call.arg(0), call.arg(1)
    if not mass or len(element) > 2:
        return f"{element}-{mass}".strip("-")
    return f"{numbers.superscript(mass)}{element}"
