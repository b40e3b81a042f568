"""What known templates show: one small function for each way of showing arguments, and the table of templates."""

from collections.abc import Callable
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


def _first(call: TemplateCall) -> str:
    return call.arg(0)


def _second(call: TemplateCall) -> str:
    return call.arg(1)


def _last(call: TemplateCall) -> str:
    return call.args[-1].strip() if call.args else ""


def _after_language(call: TemplateCall) -> str:
    """The second argument where the first is the code of a language, as in {{IPA|de|tsɪn}}; else the first."""
    first = call.arg(0).lower()
    return call.arg(1) if call.arg(1) and (first in CODES or first in LANGUAGES) else call.arg(0)


def _joined(call: TemplateCall) -> str:
    return "".join(arg.strip() for arg in call.args)


def _spaced(call: TemplateCall) -> str:
    return " ".join(arg.strip() for arg in call.args if arg.strip())


def _listed(call: TemplateCall) -> str:
    return ", ".join(arg.strip() for arg in call.args if arg.strip())


def _lines(call: TemplateCall) -> str:
    return "\n" + "\n".join(arg.strip() for arg in call.args if arg.strip()) + "\n"


def _quote(call: TemplateCall) -> str:
    text = call.named.get("text") or call.named.get("quote") or call.arg(0)
    return f"\n{text}\n" if text else ""


def _quoted(call: TemplateCall) -> str:
    left, right = {"de": ("„", "“"), "fr": ("« ", " »"), "ru": ("«", "»")}.get(call.language, ("“", "”"))
    return f"{left}{call.arg(0)}{right}" if call.arg(0) else ""


def foreign_word(call: TemplateCall, code: str) -> str:
    """A word of another language, with that language's name before it on English wikis."""
    text = call.arg(0) or call.named.get("text", "")
    name = LANGUAGES.get(code, "") if call.language == "en" else ""
    return f"{name}: {text}" if name and text else text


def _langx(call: TemplateCall) -> str:
    return foreign_word(TemplateCall(call.name, call.args[1:], call.named, call.language), call.arg(0).lower())


def _nihongo(call: TemplateCall) -> str:
    kanji = ", ".join(arg.strip() for arg in call.args[1:4] if arg.strip())
    return f"{call.arg(0)} ({kanji})" if call.arg(0) and kanji else call.arg(0) or kanji


def _chinese(call: TemplateCall) -> str:
    forms = (("c", "Chinese"), ("s", "simplified Chinese"), ("t", "traditional Chinese"), ("p", "pinyin"))
    return "; ".join(f"{name}: {call.named[key]}" for key, name in forms if call.named.get(key))


def _ruby(call: TemplateCall) -> str:
    left, right = ("（", "）") if call.language == "ja" else ("(", ")")
    return f"{call.arg(0)}{left}{call.arg(1)}{right}" if call.arg(1) else call.arg(0)


def _date(call: TemplateCall) -> str:
    return numbers.format_date(call.args, call.named, call.language)


def _as_of(call: TemplateCall) -> str:
    if "alt" in call.named:
        return call.named["alt"]
    word = "since" if call.named.get("since") else "as of"
    word = word if call.named.get("lc") or call.named.get("since") == "lc" else word.capitalize()
    return f"{word} {numbers.format_date(call.args, {'df': 'y'}, call.language)}"


def _circa(call: TemplateCall) -> str:
    return "c. " + " – c. ".join(arg.strip() for arg in call.args if arg.strip()) if call.args else "c."


def _marriage(call: TemplateCall) -> str:
    years = "–".join(arg.strip() for arg in call.args[1:3] if arg.strip())
    return f"{call.arg(0)} (m. {years})" if years else call.arg(0)


def _height(call: TemplateCall) -> str:
    units = (("m", "m"), ("cm", "cm"), ("ft", "ft"), ("in", "in"))
    return " ".join(f"{call.named[key]} {unit}" for key, unit in units if call.named.get(key))


def _money(call: TemplateCall) -> str:
    return CURRENCIES[call.name.strip().lower()] + call.arg(0)


def _ship(call: TemplateCall) -> str:
    return f"{call.arg(0)} {call.arg(1)}".strip()


def _named_ship(call: TemplateCall) -> str:
    return f"{call.name} {call.arg(0)}"


def _ship_class(call: TemplateCall) -> str:
    return f"{call.arg(0)}-class {call.arg(1)}".strip()


def _century(call: TemplateCall) -> str:
    if call.language != "fr":
        return ""
    return f"{call.arg(0)}e siècle" + (" av. J.-C." if call.name.startswith("-") else "")


def _french_citation(call: TemplateCall) -> str:
    return _quoted(call) if call.language == "fr" else ""


def _literal_translation(call: TemplateCall) -> str:
    return f"lit. '{call.arg(0)}'" if call.arg(0) else ""


def _names(text: str) -> list[str]:
    """The names in a list that is separated by commas."""
    return [" ".join(name.split()) for name in text.split(",")]


RENDERERS: dict[str, Callable[[TemplateCall], str]] = {
    **dict.fromkeys(
        word_set("""
            abbr abbrlink bigger big bigmath birth-date bold center chem2 code death-date em flag flagcountry flagu
            flatlist gloss ill illm ipalink italic kbd key keypress larger left lien math mono mvar nastaliq
            nihongo2 nobold nobr nobreak nowrap nts num nwr overline plainlist poemquote railgauge right samp sc sc1
            sc2 sic small smallcaps smaller strike strong sub text tooltip tq tt u underline var vanchor xt
        """),
        _first,
    ),
    **dict.fromkeys(
        _names("""
            interlanguage link, interlanguage link multi, not a typo, as written, proper name, visible
            anchor, small caps, poem quote, birth year and age, death year and age, nobreak, colored link
        """),
        _first,
    ),
    **dict.fromkeys(
        _names("""
            lang, langue, m, mention, wikt-lang, wiktlang, citation étrangère, lang2, native name, script,
            longitem
        """),
        _second,
    ),
    **dict.fromkeys(
        _names("""
            transl, transliteration, translit, color, font color, colored text, resize, sort, columns-list,
            col-list, lang-transl
        """),
        _last,
    ),
    **dict.fromkeys(word_set("chem linktext gaps"), _joined),
    **dict.fromkeys(word_set("sortname date oldstyledate date-"), _spaced),
    **dict.fromkeys(_names("hlist, flat list, cslist"), _listed),
    **dict.fromkeys(
        _names("ubl, unbulleted list, bulleted list, ordered list, plain list, unbulleted, vunblist"), _lines
    ),
    **dict.fromkeys(
        _names("blockquote, quote, quotation, cquote, bquote, quote block, citation bloc, zitat, cita"),
        _quote,
    ),
    **dict.fromkeys(
        _names("""
            birth date, birth date and age, death date, death date and age, start date, end date, dob, start
            date and age, start-date, end-date, dts, bda, dda
        """),
        _date,
    ),
    **dict.fromkeys(
        word_set("convert cvt conv convertir convert/spell conversie"),
        lambda call: numbers.convert(call.args, call.named, call.language),
    ),
    **dict.fromkeys(
        ["unité", "unite", "unidad", "nombre", "nb", "unité/2", "fmtn", "число", "mål"],
        lambda call: numbers.quantity(call.args, call.named, call.language),
    ),
    **dict.fromkeys(["frac", "sfrac", "fraction", "bruch", "fract"], lambda call: numbers.fraction(call.args)),
    **dict.fromkeys(["ruby", "ruby-ja", "読み仮名", "ふりがな", "ルビ", "読み"], _ruby),
    **dict.fromkeys(word_set("circa c. ca. c"), _circa),
    **dict.fromkeys(word_set("uss hms ss rms mv ms usns hmas hmcs uscgc ins smcs sms hnlms css ijn gts"), _named_ship),
    **dict.fromkeys(word_set("sclass sclass2 sclass-"), _ship_class),
    **dict.fromkeys(word_set("s siècle -s s-"), _century),
    **dict.fromkeys(['"', "guil", "guillemets", "„"], _quoted),
    **dict.fromkeys(_names("lit, lit., literal translation"), _literal_translation),
    **dict.fromkeys(CURRENCIES, _money),
    "val": lambda call: numbers.number_with_uncertainty(call.args, call.named),
    "m": lambda call: f"{call.arg(0)} {call.named.get('u') or call.arg(1)}" if call.language == "it" else call.arg(1),
    "e": lambda call: "×10" + numbers.superscript(call.arg(0)),
    "10^": lambda call: "10" + numbers.superscript(call.arg(0)),
    "sup": lambda call: numbers.superscript(call.arg(0)) if call.arg(0).lstrip("-−").isdigit() else call.arg(0),
    "ipa": _after_language,
    "仮リンク": _first,
    "angbr": lambda call: f"⟨{call.arg(0)}⟩",
    "as of": _as_of,
    "citation": _french_citation,
    "height": _height,
    "langx": _langx,
    "marriage": _marriage,
    "nihongo": _nihongo,
    "nihongo3": lambda call: _nihongo(
        TemplateCall(call.name, [call.arg(2) or call.arg(0), call.arg(1)], {}, call.language)
    ),
    "ship": _ship,
    "zh": _chinese,
    "heure": lambda call: " h ".join(arg.strip() for arg in call.args[:2]),
}
